"""What a call of the store gives: a result that handlers await, and threads wait for."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import Future
from typing import Any, Final, Generic, TypeVar

from wireroom.core import WireroomError, current_session

T = TypeVar("T")

PATIENCE_S: Final = 15.0  # after which who awaits gets a TimeoutError


class StoreError(WireroomError):
    """The store refuses; `code` is for an error reply."""

    code = "store_error"


class StoreAwayError(StoreError):
    """The database cannot be reached. What was asked is not done, as far as is known: ask again,
    with the same `client_id`."""

    code = "store_away"


class StoreBusyError(StoreError):
    """More is asked than the database takes; nothing was done."""

    code = "store_busy"


class Result(Future[T], Generic[T]):
    """Will have a value, or an exception of `StoreError`.

    `await result` in a handler of a session, on any transport; `result.result(timeout)` in a
    blocking handler, and in other threads. Elsewhere: `await hub.completion(result)`.
    """

    def __await__(self) -> Generator[Any, Any, T]:
        completion = current_session().hub.completion(self, timeout_s=PATIENCE_S)
        return (yield from completion.__await__())

    def cancel(self) -> bool:
        """What was asked for goes on, whoever waits for it."""
        return False

    def succeed(self, value: T) -> None:
        """It is done."""
        self.set_result(value)

    def fail(self, error: Exception) -> None:
        """It is not."""
        self.set_exception(error)

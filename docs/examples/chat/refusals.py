"""What the chat refuses becomes an error reply that says why."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Final, TypeVar

from store_results import StoreError
from wireroom.core import ErrorReply

H = TypeVar("H", bound=Callable[..., Any])


class NotJoinedError(StoreError):
    """To be done in a room, one has to be in it."""

    code = "not_joined"


_SLOW: Final = ErrorReply(
    "store_slow",
    "this takes too long: whether it was done is not known; try again, with the same client_id",
)


def refusing(handler: H) -> H:
    """A handler, `def` or `async def`, whose `StoreError` is the answer to who asked.

    Without it such an error is a failure: reported, and answered with no more than that.
    """
    if inspect.iscoroutinefunction(handler):

        @functools.wraps(handler)
        async def answering(*arguments: Any) -> Any:
            try:
                return await handler(*arguments)
            except StoreError as error:
                return ErrorReply(error.code, str(error))
            except TimeoutError:
                return _SLOW

    else:

        @functools.wraps(handler)
        def answering(*arguments: Any) -> Any:
            try:
                return handler(*arguments)
            except StoreError as error:
                return ErrorReply(error.code, str(error))
            except TimeoutError:
                return _SLOW

    return answering  # type: ignore[return-value]

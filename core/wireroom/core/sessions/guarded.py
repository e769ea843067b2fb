"""Sessions, rooms, users and the hub for application code that runs outside of the hub's inputs.

A transport that runs handlers in other threads gives the hub `enter`. Each command, and whatever
reads what the hub changes, is then run by it as a whole. What `enter` does is up to the transport.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from math import inf
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, final

from ..turn import Turn
from .completions import Completion, Future
from .rooms import Room
from .session import Session, SessionHub
from .stats import Stats
from .users import User, UserId

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S")


class _Guarded(Protocol):
    """What has the hub's turn."""

    @property
    def turn(self) -> Turn:
        """The hub's."""


G = TypeVar("G", bound=_Guarded)


def _guard(method: Callable[Concatenate[G, P], T]) -> Callable[Concatenate[G, P], T]:
    """A method that is run as an input of the hub."""

    @functools.wraps(method)
    def call(self: G, /, *arguments: P.args, **options: P.kwargs) -> T:
        return self.turn.entered(lambda: method(self, *arguments, **options))

    return call


@final
class GuardedSession(Session):
    """A session; what `receive` and `request` are made of is guarded piece by piece."""

    __slots__ = ()

    send = _guard(Session.send)
    drain = _guard(Session.drain)
    close = _guard(Session.close)
    join = _guard(Session.join)
    leave = _guard(Session.leave)
    enter = _guard(Session.enter)
    receive_nowait = _guard(Session.receive_nowait)
    begin_receiving = _guard(Session.begin_receiving)
    begin_recovering = _guard(Session.begin_recovering)
    step_recovering = _guard(Session.step_recovering)
    end_recovering = _guard(Session.end_recovering)
    end_receiving = _guard(Session.end_receiving)
    begin_request = _guard(Session.begin_request)
    end_request = _guard(Session.end_request)

    @property
    def user(self) -> Any:
        return self._user

    @user.setter
    def user(self, user: object) -> None:
        self.turn.entered(lambda: self._bind(user))

    @property
    def state(self) -> Any:
        state = self._app_state
        return self.turn.entered(self._ensure_state) if state is None else state

    @property
    def rooms(self) -> list[str]:
        return self.turn.entered(self._room_names)


@final
class GuardedRoom(Room):
    """A room."""

    __slots__ = ()

    __len__ = _guard(Room.__len__)
    __contains__ = _guard(Room.__contains__)
    presence = _guard(Room.presence)
    kept = _guard(Room.kept)
    broadcast = _guard(Room.broadcast)

    def __iter__(self) -> Iterator[Session]:
        return self.turn.entered(super().__iter__)


@final
class GuardedUser(User):
    """A user."""

    __slots__ = ()

    send = _guard(User.send)
    close = _guard(User.close)

    @property
    def sessions(self) -> list[Session]:
        return self.turn.entered(lambda: self._users.sessions(self.id))


@final
class GuardedHub:
    """The hub's commands and getters for handlers."""

    __slots__ = ("_hub", "turn")

    def __init__(self, hub: SessionHub, turn: Turn) -> None:
        self._hub = hub
        self.turn = turn

    @property
    def now(self) -> float:
        """The time of the latest input."""
        return self._hub.now

    @property
    def is_backplane_connected(self) -> bool | None:
        """Whether other nodes can be reached; None without a backplane."""
        return self._hub.is_backplane_connected

    @_guard
    def session(self, fd: int) -> Session | None:
        """The open session with this fd, or None."""
        return self._hub.session(fd)

    @_guard
    def sessions(self) -> list[Session]:
        """The open sessions."""
        return self._hub.sessions()

    def user(self, user_id: UserId) -> User:
        """The user with this id, connected or not."""
        return self._hub.user(user_id)

    @_guard
    def broadcast(
        self,
        data: object,
        *,
        to: Iterable[Session] | None = None,
        exclude: Iterable[Session] = (),
    ) -> int:
        """Send to every open session, or to those in `to`, but not to those in `exclude`."""
        return self._hub.broadcast(data, to=to, exclude=exclude)

    def service(self, service: type[S]) -> S:
        """The hub's instance of what the application provides under a type."""
        return self._hub.service(service)

    def completion(self, future: Future[T], *, timeout_s: float = inf) -> Completion[T]:
        """Let a handler await what is done elsewhere."""
        return self._hub.completion(future, timeout_s=timeout_s)

    @_guard
    def rooms(self) -> list[tuple[str, Room]]:
        """The rooms that somebody is in, each with the path of its module."""
        return self._hub.rooms()

    @_guard
    def stats(self) -> Stats:
        """The counters, as a snapshot."""
        return self._hub.stats()

    @_guard
    def settle(self, session: Session) -> None:
        """What came after the last message takes effect now; the session's own business."""
        self._hub.settle(session)

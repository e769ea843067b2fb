"""Users: identities that one or more sessions share. Pure.

A session is bound to a user by `Accept(user=...)`. The user's id is the user itself if that is a
str or an int, or else its attribute `id`; what has neither is kept as `session.user` and can not
be found by an id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias, final

from mypy_extensions import mypyc_attr

from ..errors import BackplaneAwayError
from ..turn import Turn
from ..wire.close_codes import CloseCode, check_close
from .remote_users import RemoteUsers
from .sending import send_data
from .stats import Stats

if TYPE_CHECKING:
    from .session import Session

UserId: TypeAlias = str | int
SecondSession: TypeAlias = Literal["allow", "replace", "reject"]
"""What becomes of a user's second session: both stay, the old one is closed with
`REPLACED_CODE`, or the new one is refused with 409."""

SECOND_SESSION: Final = ("allow", "replace", "reject")
REPLACED_CODE: Final = 4001  # private use (RFC 6455 section 7.4.2)
REPLACED_REASON: Final = "replaced by a newer session of the same user"


def user_id_of(user: object) -> UserId | None:
    """The id under which a user's sessions are found, or None."""
    if user is None:
        return None
    own = user if isinstance(user, str | int) else getattr(user, "id", None)
    return own if isinstance(own, str | int) else None


@final
class Users:
    """Who has which sessions."""

    __slots__ = ("_sessions", "remote", "stats", "turn")

    def __init__(self, turn: Turn, stats: Stats) -> None:
        self._sessions: dict[UserId, dict[Session, None]] = {}
        self.remote: RemoteUsers | None = None  # at other nodes
        self.stats = stats
        self.turn = turn

    def sessions(self, user_id: UserId) -> list[Session]:
        """The user's sessions, oldest first."""
        return list(self._sessions.get(user_id, ()))

    def add(self, session: Session) -> None:
        """Bind a session that has just opened to its user."""
        if session.user_id is not None:
            sessions = self._sessions.get(session.user_id)
            if sessions is None:
                sessions = self._sessions[session.user_id] = {}
                self.stats.users += 1
                if self.remote is not None:
                    self.remote.came(session.user_id, sessions)
            sessions[session] = None

    def close_elsewhere(self, user_id: UserId, code: int, reason: str) -> None:
        """Close the user's sessions at other nodes, if that can be said now."""
        if self.remote is not None:
            try:
                self.remote.close(user_id, code, reason)
            except BackplaneAwayError:
                return  # it is counted

    def remove(self, session: Session) -> None:
        """The session has begun to close."""
        if session.user_id is None:
            return
        sessions = self._sessions.get(session.user_id)
        if sessions is not None and sessions.pop(session, 0) is None and not sessions:
            del self._sessions[session.user_id]
            self.stats.users -= 1
            if self.remote is not None:
                self.remote.went(session.user_id)


@mypyc_attr(allow_interpreted_subclasses=True)  # of sessions/guarded.py
class User:
    """A user by id; may be held while the user comes and goes."""

    __slots__ = ("_users", "id")

    def __init__(self, users: Users, user_id: UserId) -> None:
        self._users = users
        self.id = user_id

    @property
    def turn(self) -> Turn:
        """The hub's."""
        return self._users.turn

    def __repr__(self) -> str:
        return f"<User {self.id!r} with {len(self.sessions)} sessions>"

    @property
    def sessions(self) -> list[Session]:
        """The open sessions, oldest first: a snapshot."""
        return self._users.sessions(self.id)

    @property
    def is_connected(self) -> bool:
        """Whether there is an open session."""
        return bool(self.sessions)

    def send(self, data: object) -> int:
        """Send to all of the user's sessions; how many they are, 0 if the user is away.

        With a backplane those at other nodes are sent it too, and not counted; while it is away it
        waits, or `BackplaneAwayError` is raised.
        """
        if self._users.remote is not None:
            self._users.remote.send(self.id, data)
        return send_data(data, self.sessions, self._users.turn, self._users.stats)

    def close(self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> int:
        """Close all of the user's sessions, at other nodes too (see `send`); how many they were
        here. See `Session.close`."""
        sessions = self.sessions
        if self._users.remote is not None:
            check_close(code, reason)
            self._users.remote.close(self.id, code, reason)
        for session in sessions:
            session.close(code, reason)
        return len(sessions)

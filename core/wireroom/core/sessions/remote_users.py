"""Users' sessions, and all sessions, at other nodes: what they are sent, and their end. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final, final

from ..backplane import Appended, HistoryRead
from ..wire.framing import Message
from .envelopes import CloseUser, Envelope, ToSessions
from .node import ALL, Node, user_channel
from .sending import by_module, send_to_all

if TYPE_CHECKING:
    from .session import Session

_ANY: Final = ""  # in place of a module's path: sessions of any module


@final
class Audience:
    """The sessions here that a channel is for, as its subscriber."""

    __slots__ = ("_node", "_sessions")

    def __init__(self, node: Node, sessions: Iterable[Session]) -> None:
        self._node = node
        self._sessions = sessions

    def receive(self, envelope: Envelope) -> None:
        sessions = [session for session in self._sessions if session.is_connected]
        if isinstance(envelope, CloseUser):
            for session in sessions:
                session.close(envelope.code, envelope.reason)
        elif isinstance(envelope, ToSessions):
            for module, group in by_module(sessions).items():
                message = envelope.messages.get(module.path, envelope.messages.get(_ANY))
                if message is not None:
                    send_to_all(group, message, (), self._node.turn, self._node.stats)

    def appended(self, event: Appended) -> None:
        """Nothing is kept of these channels."""

    def history_read(self, event: HistoryRead) -> None:
        """Nothing is kept of these channels."""

    def connected(self) -> None:
        """What came meanwhile is said again by who said it."""

    def lost(self) -> None:
        """Sessions stay where they are."""

    def node_ended(self, node: str) -> None:
        """Nothing is known of other nodes' sessions."""


@final
class RemoteUsers:
    """What is said to sessions at other nodes. `packs` has each module's `pack`, by its path."""

    __slots__ = ("_node", "_packs")

    def __init__(
        self,
        node: Node,
        packs: Mapping[str, Callable[[object], Message]],
        sessions: Iterable[Session],
    ) -> None:
        self._node = node
        self._packs = packs
        node.subscribe(ALL, Audience(node, sessions))

    def came(self, user_id: str | int, sessions: Iterable[Session]) -> None:
        """The user has a session here."""
        self._node.subscribe(user_channel(user_id), Audience(self._node, sessions))

    def went(self, user_id: str | int) -> None:
        """The user has no session here any more."""
        self._node.unsubscribe(user_channel(user_id))

    def send(self, user_id: str | int, data: object) -> None:
        """To a user's sessions at other nodes. Raises `BackplaneAwayError`, and what `pack` does
        if no module can."""
        self._say(user_channel(user_id), data)

    def broadcast(self, data: object) -> None:
        """To all sessions at other nodes."""
        self._say(ALL, data)

    def close(self, user_id: str | int, code: int, reason: str) -> None:
        """Close a user's sessions at other nodes. Raises `BackplaneAwayError`."""
        node = self._node
        node.publish_surely(
            user_channel(user_id), CloseUser(node.name, node.next_number(), code, reason)
        )

    def _say(self, channel: str, data: object) -> None:
        messages: dict[str, Message] = {}
        if isinstance(data, str | bytes):
            messages[_ANY] = data
        else:
            failed: Exception | None = None
            for path, pack in self._packs.items():
                try:
                    messages[path] = pack(data)
                except Exception as error:  # another module's message
                    failed = error
            if failed is not None and not messages:
                raise failed
            if failed is None and len(set(messages.values())) == 1:
                messages = {_ANY: next(iter(messages.values()))}
        node = self._node
        node.publish_surely(channel, ToSessions(node.name, node.next_number(), messages))

"""Sending one message to many sessions: packed once a module, encoded once a framing. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any, Final

from ..errors import LocalProtocolError
from ..turn import Turn
from ..wire.framing import Message
from ..wire.framing_engine import Framing
from ..wire.states import State
from .stats import Stats

if TYPE_CHECKING:
    from .session import Session

_OPEN: Final = State.OPEN


def by_module(sessions: Iterable[Session]) -> dict[Any, list[Session]]:
    """Sessions in groups that pack what is sent to them in the same way."""
    groups: dict[Any, list[Session]] = {}
    for session in sessions:
        groups.setdefault(session.module, []).append(session)
    return groups


def send_data(data: object, sessions: Collection[Session], turn: Turn, stats: Stats) -> int:
    """Send text, bytes, or what each session's module packs; to how many that was."""
    if isinstance(data, str | bytes):
        return send_to_all(sessions, data, (), turn, stats)
    return sum(
        send_to_all(group, module.pack(data), (), turn, stats)
        for module, group in by_module(sessions).items()
    )


def send_to_all(
    sessions: Iterable[Session],
    message: Message,
    exclude: Iterable[Session],
    turn: Turn,
    stats: Stats,
) -> int:
    """Send one message to many open sessions, encoding it once a framing that can share it."""
    if not isinstance(message, str | bytes):
        raise LocalProtocolError(f"a message is str or bytes, not {type(message).__name__}")
    excluded = set(exclude)
    dirty = turn.dirty
    shared: dict[object, bytes] = {}
    key: object = None  # of the outboxes that `frame` is for
    frame = b""
    size = 0
    above: list[Session] = []  # looked at afterwards, since closing one changes the room
    sent = 0
    for session in sessions:
        if excluded and session in excluded:
            continue
        outbox = session.outbox  # of the rest of a session as little as can be is looked at
        if outbox.sharing_key is not key or key is None:
            framing = session.framing
            if framing is None or session.phase is not _OPEN:
                continue
            key = outbox.sharing_key
            frame = _shared_frame(framing, message, shared)
            size = len(frame)
        if outbox.first is None:
            dirty[outbox.fd] = None
            outbox.first = frame
            outbox.waiting += size
        else:
            outbox.put(frame)
        sent += 1
        if outbox.waiting > outbox.mark:
            above.append(session)
    if sent:
        turn.wake_once()
    for session in above:
        session.check_outbox()
    stats.messages_sent += sent
    return sent


def _shared_frame(framing: Framing, message: Message, shared: dict[object, bytes]) -> bytes:
    """The message's frame for one framing, encoded once for all that can share it."""
    key = framing.sharing_key
    if key is None:
        return framing.encode_message(message)
    frame = shared.get(key)
    if frame is None:
        frame = shared[key] = framing.encode_message(message)
    return frame

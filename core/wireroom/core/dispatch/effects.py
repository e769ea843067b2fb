"""Effects: what a command's handler may return in place of doing it, so that it stays a function of
its message. Pure.

    return [Enter(Stage.IN_ROOM), Join("lobby"), Broadcast("lobby", Joined(ctx.user))]

A handler that returns anything else replies with it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from enum import Enum
from typing import Any, Final, TypeAlias, cast

from ..sessions.session import Session
from ..sessions.users import User
from ..wire.close_codes import CloseCode
from .context import Context


@dataclasses.dataclass(frozen=True, slots=True)
class Send:
    """Send to the message's sender (as the answer, if it was a request), or to somebody else."""

    data: Any
    to: Session | User | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Broadcast:
    """Send to a room, but not to the sender unless asked for, and only to those for whom `where`
    is true; see `Room.broadcast`. What a module with history keeps is for the sender too."""

    room: str
    data: Any
    include_sender: bool = False
    where: Callable[[Session], bool] | None = None
    in_history: bool = True


@dataclasses.dataclass(frozen=True, slots=True)
class Join:
    """Put the sender into a room."""

    room: str


@dataclasses.dataclass(frozen=True, slots=True)
class Leave:
    """Take the sender out of a room."""

    room: str


@dataclasses.dataclass(frozen=True, slots=True)
class Enter:
    """Change the sender's stage; see `Stages`."""

    stage: Enum


@dataclasses.dataclass(frozen=True, slots=True)
class Close:
    """Close the sender's session."""

    code: int = CloseCode.NORMAL_CLOSURE
    reason: str = ""


Effect: TypeAlias = Send | Broadcast | Join | Leave | Enter | Close

_EFFECTS: Final = frozenset((Send, Broadcast, Join, Leave, Enter, Close))


def are_effects(result: object) -> bool:
    """Whether a handler returned an effect, or a list of nothing but effects."""
    kind = type(result)
    if kind is list or kind is tuple:
        return bool(result) and all(type(each) in _EFFECTS for each in cast(list[object], result))
    return kind in _EFFECTS


def carry_out(result: Any, context: Context) -> None:
    """Do what a handler returned, in order. Raises what the session's own methods raise."""
    for effect in result if isinstance(result, list | tuple) else (result,):
        _carry_out_one(effect, context)


def _carry_out_one(effect: Effect, context: Context) -> None:
    session = context.session
    match effect:
        case Send():
            if effect.to is None:
                context.reply(effect.data)
            else:
                effect.to.send(effect.data)
        case Broadcast():
            exclude = () if effect.include_sender else (session,)
            room = session.room(effect.room)
            room.broadcast(
                effect.data, exclude=exclude, where=effect.where, in_history=effect.in_history
            )
        case Join():
            session.join(effect.room)
        case Leave():
            session.leave(effect.room)
        case Enter():
            session.enter(effect.stage)
        case Close():
            session.close(effect.code, effect.reason)

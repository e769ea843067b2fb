"""What clients are told of a room's history: where they stand in it. Pure values.

A file of its own, since mypyc, which compiles what uses them, makes no Structs.
"""

from __future__ import annotations

import dataclasses
from math import isfinite

import msgspec

from ..errors import ConfigurationError


@dataclasses.dataclass(frozen=True, slots=True)
class History:
    """What a module keeps of each room's messages: the newest `messages_max`, for `age_s` seconds,
    and of those so many that all together have at most `bytes_max` (in UTF-8).

    Raises `ConfigurationError` for bounds that bound nothing.
    """

    messages_max: int = 100
    age_s: float = 300.0
    bytes_max: int = 2**20

    def __post_init__(self) -> None:
        for name in ("messages_max", "bytes_max"):
            if getattr(self, name) < 1:
                raise ConfigurationError(
                    f"History.{name}", f"must be at least 1, not {getattr(self, name)!r}"
                )
        if not isfinite(self.age_s) or self.age_s <= 0:
            raise ConfigurationError(
                "History.age_s", f"must be a number of seconds, not {self.age_s!r}"
            )


class Position(msgspec.Struct, frozen=True):
    """A place in a room's history: the message's number, from 1, within an epoch.

    0 stands before the first message. Another epoch is another history.
    """

    offset: int
    epoch: str


class Recovery(msgspec.Struct, frozen=True):
    """How `Session.recover` ended: whether nothing is missing, and the newest position."""

    recovered: bool
    position: Position


class Kept(msgspec.Struct, frozen=True):
    """What a node keeps of a room: messages as they were sent, and the newest position."""

    position: Position
    messages: list[str]


class RoomPosition(msgspec.Struct, frozen=True):
    """A position as messages carry it, with its room."""

    room: str
    offset: int
    epoch: str


class MessagesMissed(msgspec.Struct, tag_field="type", tag="messages_missed", frozen=True):
    """Sent to a room's members when messages before `position` are lost to them: the history of
    other nodes does not reach back to where this node was."""

    room: str
    position: RoomPosition

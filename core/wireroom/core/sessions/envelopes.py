"""What nodes say to each other through the backplane. Pure values, in MessagePack.

`node` is who says it. What has a `number` is repeated if it may not have arrived, and done once.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import msgspec


class ToRoom(msgspec.Struct, tag="room", frozen=True):
    """A message for the members of the channel's room."""

    node: str
    message: Any  # a Message; msgspec takes no union of str and bytes


class ToSessions(msgspec.Struct, tag="sessions", frozen=True):
    """A message for the channel's user, or for all: by the path of the sessions' module, or "" for
    any."""

    node: str
    number: int
    messages: dict[str, Any]


class CloseUser(msgspec.Struct, tag="close", frozen=True):
    """Close the sessions of the channel's user."""

    node: str
    number: int
    code: int
    reason: str


class Present(msgspec.Struct, tag="member", frozen=True):
    """A member of a room, there for `age_s` seconds."""

    fd: int
    user: Any
    age_s: float


class Presence(msgspec.Struct, tag="presence", frozen=True):
    """All members of the channel's room at a node."""

    node: str
    members: list[Present]


class PresenceChange(msgspec.Struct, tag="change", frozen=True):
    """Who came and who left the channel's room at a node, which then has `count` members."""

    node: str
    joined: list[Present]
    left: list[int]
    count: int


class PresenceWanted(msgspec.Struct, tag="wanted", frozen=True):
    """Say who is in the channel's room; of one node (`of`), or each ("")."""

    node: str
    of: str


class Alive(msgspec.Struct, tag="alive", frozen=True):
    """The node lives."""

    node: str


Envelope: TypeAlias = (
    ToRoom | ToSessions | CloseUser | Presence | PresenceChange | PresenceWanted | Alive
)

encode: Final = msgspec.msgpack.Encoder().encode
decode: Final = msgspec.msgpack.Decoder(Envelope).decode

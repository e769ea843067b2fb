"""What the members of a room are told of each other. Pure values.

A file of its own, since mypyc, which compiles rooms.py, makes no Structs.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Member(msgspec.Struct, omit_defaults=True, frozen=True):
    """Somebody in a room: the fd, the user's id (if any), since when by the hub's clock, and the
    node, if it is another."""

    fd: int
    user: Any
    since: float
    node: str = ""


class PresenceChanged(msgspec.Struct, tag_field="type", tag="presence", frozen=True):
    """Who came into a room and who left it in one turn; sent to its members by a module with
    `presence=True`. Who did both is in neither list."""

    room: str
    joined: list[Member]
    left: list[Member]

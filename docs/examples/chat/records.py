"""What the store holds, what may be put into it, and how it refuses."""

from __future__ import annotations

from typing import Final

import msgspec

from store_results import StoreError

NAME_CHARACTERS_MAX: Final = 40
TEXT_CHARACTERS_MAX: Final = 4000
CLIENT_ID_CHARACTERS_MAX: Final = 64
PAGE_MAX: Final = 200  # messages, or rooms, at a time


class NotFoundError(StoreError):
    """There is no such room, message or account."""

    code = "not_found"


class TakenError(StoreError):
    """There is another of this name."""

    code = "name_taken"


class NotAllowedError(StoreError):
    """It is another's."""

    code = "not_allowed"


class BannedError(NotAllowedError):
    """Somebody was banned from a room."""

    code = "banned"


class MutedError(NotAllowedError):
    """Somebody may not write in a room for some time."""

    code = "muted"


class SlowModeError(NotAllowedError):
    """In a room in slow mode, nobody writes more often than that."""

    code = "slow_mode"


class InvalidError(StoreError):
    """A name or text that is empty, too long, or has characters that no text has."""

    code = "invalid_data"


class Account(msgspec.Struct, frozen=True):
    """Who somebody is: the user of a session, by `id`."""

    id: int
    name: str


class Room(msgspec.Struct, frozen=True):
    """A room; its newest message has the offset `last_offset`, 0 if there is none. In slow mode
    `slow_mode_s` seconds have to lie between two messages of a sender; otherwise it is 0."""

    id: int
    name: str
    created_by: int | None
    created_at: float
    last_offset: int
    slow_mode_s: float = 0.0


class Standing(msgspec.Struct, frozen=True):
    """How somebody stands in a room: `read_offset` is None who has not joined it."""

    room: Room
    read_offset: int | None
    is_banned: bool


class RoomSummary(msgspec.Struct, frozen=True):
    """A room in somebody's list: `unread` is 0 where they have not joined. `direct` is the other's
    name, if it is the room of direct messages between two."""

    name: str
    last_offset: int
    unread: int
    is_joined: bool
    direct: str | None


class Moderation(msgspec.Struct, frozen=True):
    """What a moderator did: the `id`s rise. `user` is to whom, None if to all."""

    id: int
    room: str
    action: str
    moderator: Account
    user: Account | None
    seconds: float | None
    created_at: float


class StoredMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message as it is in the database. Times are Unix seconds; a deleted one has no text."""

    room: str
    offset: int
    sender_id: int
    sender: str
    client_id: str
    text: str
    created_at: float
    edited_at: float | None = None
    deleted_at: float | None = None


class Page(msgspec.Struct, frozen=True):
    """A part of a room's history, newest first; `more` if it goes on, in the direction asked."""

    messages: list[StoredMessage]
    more: bool


def checked(what: str, value: str, characters_max: int) -> str:
    """Raises `InvalidError` for what is empty, too long, or not storable everywhere."""
    if not value.strip():
        raise InvalidError(f"{what}: is empty")
    if len(value) > characters_max:
        raise InvalidError(f"{what}: has more than {characters_max} characters")
    if "\0" in value or any("\ud800" <= each <= "\udfff" for each in value):
        raise InvalidError(f"{what}: has characters that no text has")
    return value

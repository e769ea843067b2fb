"""What the store holds, what may be put into it, and how it refuses."""

from __future__ import annotations

import unicodedata
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


class InvalidError(StoreError):
    """A name or text that is empty, too long, or has characters that no text has."""

    code = "invalid_data"


class Account(msgspec.Struct, frozen=True):
    """Who somebody is: the user of a session, by `id`."""

    id: int
    name: str


class Room(msgspec.Struct, frozen=True):
    """A room; its newest message has the offset `last_offset`, 0 if there is none."""

    id: int
    name: str
    created_by: int | None
    created_at: float
    last_offset: int


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


def name_key(name: str) -> str:
    """What two names have in common that a reader would not tell apart by case or width."""
    folded = unicodedata.normalize("NFKC", name.strip()).casefold()
    return unicodedata.normalize("NFKC", folded)

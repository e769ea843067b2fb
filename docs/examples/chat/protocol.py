"""The chat's messages: what clients ask for, and what they are told. JSON text, by `type`.

Every request may have a `request_id`, and is then answered by a `reply` or an `error` with it.
Times are Unix seconds. Bounds of texts and names are in `records.py`.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import msgspec

from records import NAME_CHARACTERS_MAX, Account, StoredMessage
from wireroom.core import Position

Seconds = Annotated[float, msgspec.Meta(gt=0, le=366 * 86400)]
SlowModeSeconds = Annotated[float, msgspec.Meta(ge=0, le=86400)]
Offset = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
# What is looked for; PostgreSQL takes no NUL.
Name = Annotated[str, msgspec.Meta(max_length=NAME_CHARACTERS_MAX, pattern=r"^[^\0]*\Z")]

# -- requests of /accounts --------------------------------------------------------------------


class Register(msgspec.Struct, tag_field="type", tag="register"):
    """Make an account; answered with `LoggedIn`."""

    name: str
    password: str


class LogIn(msgspec.Struct, tag_field="type", tag="log_in"):
    """Answered with `LoggedIn`."""

    name: Name
    password: str


class LoggedIn(msgspec.Struct, frozen=True):
    """A token for /chat."""

    token: str
    expires_at: float
    account: Account


# -- requests of /chat ------------------------------------------------------------------------


class ListRooms(msgspec.Struct, tag_field="type", tag="list_rooms"):
    """Rooms by name, those after a name; answered with `RoomList`."""

    after: Name = ""


class CreateRoom(msgspec.Struct, tag_field="type", tag="create_room"):
    """Answered with a `RoomEntry`."""

    room: str


class JoinRoom(msgspec.Struct, tag_field="type", tag="join_room"):
    """Hear what is said in a room, and first what was since a position; answered with
    `JoinedRoom`."""

    room: Name
    position: Position | None = None


class LeaveRoom(msgspec.Struct, tag_field="type", tag="leave_room"):
    """Hear no more of it, and be no member."""

    room: Name


class SendMessage(msgspec.Struct, tag_field="type", tag="chat_message"):
    """Say something in a room; answered with the `StoredMessage` once it is stored. Sent again with
    the same `client_id`, it is stored once."""

    room: Name
    text: str
    client_id: str | None = None


class SendDirectMessage(msgspec.Struct, tag_field="type", tag="direct_message"):
    """Say something to somebody; as `SendMessage`."""

    to: Name
    text: str
    client_id: str | None = None


class EditMessage(msgspec.Struct, tag_field="type", tag="edit_message"):
    """Change one's own message; answered with the `StoredMessage`."""

    room: Name
    offset: Offset
    text: str


class DeleteMessage(msgspec.Struct, tag_field="type", tag="delete_message"):
    """Take away one's own message, or, as a moderator, anybody's; as `EditMessage`."""

    room: Name
    offset: Offset


class GetHistory(msgspec.Struct, tag_field="type", tag="history"):
    """A page of a room's messages, newest first, before or after an offset: a `Page`."""

    room: Name
    before: Offset | None = None
    after: Offset | None = None
    limit: int = 50


class MarkRead(msgspec.Struct, tag_field="type", tag="mark_read"):
    """All up to an offset has been read; answered with `ReadMark`."""

    room: Name
    offset: Offset


class SetTyping(msgspec.Struct, tag_field="type", tag="typing"):
    """Others in the room are told; needs no answer."""

    room: Name
    is_typing: bool


class Kick(msgspec.Struct, tag_field="type", tag="kick"):
    """Put somebody out of a room. They may come again."""

    room: Name
    name: Name


class Ban(msgspec.Struct, tag_field="type", tag="ban"):
    """Put somebody out of a room until `unban`."""

    room: Name
    name: Name


class Unban(msgspec.Struct, tag_field="type", tag="unban"):
    """They may come again."""

    room: Name
    name: Name


class Mute(msgspec.Struct, tag_field="type", tag="mute"):
    """Let somebody write nothing in a room for some time."""

    room: Name
    name: Name
    seconds: Seconds


class Unmute(msgspec.Struct, tag_field="type", tag="unmute"):
    """They may write again."""

    room: Name
    name: Name


class SlowMode(msgspec.Struct, tag_field="type", tag="slow_mode"):
    """Let nobody write in a room more often than that; 0 ends it."""

    room: Name
    seconds: SlowModeSeconds


Request: TypeAlias = (
    ListRooms
    | CreateRoom
    | JoinRoom
    | LeaveRoom
    | SendMessage
    | SendDirectMessage
    | EditMessage
    | DeleteMessage
    | GetHistory
    | MarkRead
    | SetTyping
    | Kick
    | Ban
    | Unban
    | Mute
    | Unmute
    | SlowMode
)

# -- data of replies --------------------------------------------------------------------------


class RoomEntry(msgspec.Struct, frozen=True):
    """A room in a list. `members` are connected, at all nodes; None where that is not known, for
    nobody is in it at this one. `unread` counts for those who have joined. `direct` is the other's
    name, if it is the room of direct messages between two."""

    name: str
    last_offset: int
    unread: int
    members: int | None
    is_joined: bool
    direct: str | None = None


class RoomList(msgspec.Struct, frozen=True):
    """Rooms by name; with `more`, ask for those after the last."""

    rooms: list[RoomEntry]
    more: bool


class JoinedRoom(msgspec.Struct, frozen=True):
    """A room as it is when it was joined: see `Session.recover` for the first fields."""

    room: str
    recovered: bool
    position: Position
    members: list[Account]
    last_offset: int
    read_offset: int
    may_moderate: bool
    slow_mode_s: float


class ReadMark(msgspec.Struct, frozen=True):
    """Up to where a room has been read."""

    room: str
    offset: int


# -- events -----------------------------------------------------------------------------------


class ChatMessage(StoredMessage, tag_field="type", tag="chat_message", frozen=True):
    """Somebody has said something in a room; it is stored."""


class DirectMessage(StoredMessage, tag_field="type", tag="direct_message", frozen=True):
    """Somebody has said something to somebody; it is stored. `room` is that of the two."""

    to: str = ""


class MessageChanged(StoredMessage, tag_field="type", tag="message_changed", frozen=True):
    """A message as it is now: edited, deleted, or sent again, which changes nothing."""


class Typing(msgspec.Struct, tag_field="type", tag="typing", frozen=True):
    """Somebody in a room is writing, or not any more."""

    room: str
    name: str
    is_typing: bool


class Presence(msgspec.Struct, tag_field="type", tag="presence", frozen=True):
    """Who came into a room and who left it."""

    room: str
    joined: list[Account]
    left: list[Account]


class SystemNotification(msgspec.Struct, tag_field="type", tag="system_notification", frozen=True):
    """What the service says in a room."""

    room: str
    text: str


class Kicked(msgspec.Struct, tag_field="type", tag="kicked", frozen=True):
    """To who was put out of a room."""

    room: str
    text: str
    is_banned: bool


def fields_of(message: StoredMessage) -> dict[str, Any]:
    """What an event of a message is made of: `ChatMessage(**fields_of(message))`."""
    return {name: getattr(message, name) for name in StoredMessage.__struct_fields__}

"""Who has joined which room, what they have read, and the rooms of two: queries.

Direct messages between two are the messages of a room that is theirs: `@3.17`, by their ids. So
they have offsets, a history and unread counts as others have; what they have not is other members.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, and_, delete, func, insert, or_, select, update

import queries
from records import Account, NotFoundError, Room, RoomSummary, Standing
from schema import memberships, restrictions, rooms


def direct_room(one: int, other: int) -> str:
    """The name of the room of two accounts."""
    return f"@{min(one, other)}.{max(one, other)}"


def direct_ids(room: str) -> tuple[int, int] | None:
    """The two whose room it is, or None for one that is open to all."""
    one, dot, other = room[1:].partition(".")
    if room[:1] != "@" or not (dot and one.isdecimal() and other.isdecimal()):
        return None
    return int(one), int(other)


def standing(connection: Connection, name: str, account_id: int) -> Standing:
    """How somebody stands in a room. Raises `NotFoundError`."""
    query = (
        select(rooms, memberships.c.read_offset, restrictions.c.banned_at)
        .outerjoin(
            memberships,
            and_(memberships.c.room_id == rooms.c.id, memberships.c.user_id == account_id),
        )
        .outerjoin(
            restrictions,
            and_(restrictions.c.room_id == rooms.c.id, restrictions.c.user_id == account_id),
        )
        .where(rooms.c.name == name)
    )
    row = connection.execute(query).mappings().first()
    if row is None:
        raise NotFoundError(f"there is no room {name!r}")
    fields: dict[str, Any] = dict(row)
    read_offset, banned_at = fields.pop("read_offset"), fields.pop("banned_at")
    return Standing(Room(**fields), read_offset, banned_at is not None)


def join(connection: Connection, room: Room, account_id: int, now: float) -> int:
    """Make somebody a member, who has read all there is; what they have read, if they are one."""
    here = and_(memberships.c.user_id == account_id, memberships.c.room_id == room.id)
    found = connection.execute(select(memberships.c.read_offset).where(here)).first()
    if found is not None:
        return int(found.read_offset)
    last = connection.execute(select(rooms.c.last_offset).where(rooms.c.id == room.id)).scalar_one()
    row = {"user_id": account_id, "room_id": room.id, "joined_at": now, "read_offset": last}
    connection.execute(insert(memberships), row)
    return int(last)


def leave(connection: Connection, name: str, account_id: int) -> None:
    """Make somebody a member no more."""
    room_id = select(rooms.c.id).where(rooms.c.name == name).scalar_subquery()
    here = and_(memberships.c.user_id == account_id, memberships.c.room_id == room_id)
    connection.execute(delete(memberships).where(here))


def mark_read(connection: Connection, name: str, account_id: int, offset: int) -> int:
    """A member has read up to an offset; gives up to where that is now. Raises `NotFoundError`."""
    query = (
        select(rooms.c.id, rooms.c.last_offset, memberships.c.read_offset)
        .join(memberships, memberships.c.room_id == rooms.c.id)
        .where(rooms.c.name == name, memberships.c.user_id == account_id)
    )
    row = connection.execute(query).first()
    if row is None:
        raise NotFoundError("you have not joined this room")
    read: int = max(row.read_offset, min(offset, row.last_offset))
    if read > row.read_offset:
        here = and_(memberships.c.user_id == account_id, memberships.c.room_id == row.id)
        connection.execute(update(memberships).where(here).values(read_offset=read))
    return read


def rooms_of(
    connection: Connection, account_id: int, after: str, limit: int
) -> tuple[list[RoomSummary], bool]:
    """Rooms by name, those after a name: all that are open, and the rooms of two that are theirs;
    and whether there are more."""
    query = (
        select(rooms.c.name, rooms.c.last_offset, memberships.c.read_offset)
        .outerjoin(
            memberships,
            and_(memberships.c.room_id == rooms.c.id, memberships.c.user_id == account_id),
        )
        .where(
            rooms.c.name > after,
            or_(func.substr(rooms.c.name, 1, 1) != "@", memberships.c.user_id.is_not(None)),
        )
        .order_by(rooms.c.name)
        .limit(limit + 1)
    )
    found = connection.execute(query).all()
    pairs = {row.name: direct_ids(row.name) for row in found}
    names = queries.names_of(
        connection, {each for ids in pairs.values() if ids is not None for each in ids}
    )
    summaries = [
        RoomSummary(
            row.name,
            row.last_offset,
            0 if row.read_offset is None else row.last_offset - row.read_offset,
            row.read_offset is not None,
            _other(pairs[row.name], account_id, names),
        )
        for row in found[:limit]
    ]
    return summaries, len(found) > limit


def _other(ids: tuple[int, int] | None, account_id: int, names: dict[int, str]) -> str | None:
    if ids is None:
        return None
    return names.get(ids[1] if ids[0] == account_id else ids[0])


def find_direct(connection: Connection, sender: Account, to: str) -> tuple[Account, Room | None]:
    """Somebody by name, and the room that they and the sender have, if they have one already.
    Raises `NotFoundError`."""
    recipient = queries.find_account(connection, to)
    return recipient, queries.find_room(connection, direct_room(sender.id, recipient.id))


def open_direct(connection: Connection, one: Account, other: Account, now: float) -> Room:
    """The room of two; made, if there is none."""
    name = direct_room(one.id, other.id)
    found = queries.find_room(connection, name)
    if found is not None:
        return found
    row = {"name": name, "created_by": None, "created_at": now, "last_offset": 0}
    room = queries.create_room(connection, row)
    for account_id in {one.id, other.id}:
        join(connection, room, account_id, now)
    return room

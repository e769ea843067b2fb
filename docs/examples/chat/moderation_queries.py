"""What moderators may do in a room, how it is stored, and what was done since."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection, func, insert, select, text, update

import memberships
import queries
import restrictions
from records import Account, Moderation, NotAllowedError, NotFoundError
from schema import moderations, rooms, users

KICK: Final = "kick"
BAN: Final = "ban"
UNBAN: Final = "unban"
MUTE: Final = "mute"
UNMUTE: Final = "unmute"
SLOW_MODE: Final = "slow_mode"


def moderate(
    connection: Connection,
    room_name: str,
    action: str,
    moderator: Account,
    *,
    is_operator: bool,
    to: str | None,
    seconds: float | None,
    now: float,
) -> Moderation:
    """Do one of the above, to somebody of the name `to` if that is given, and keep a record.

    Raises `NotFoundError`, and `NotAllowedError` for who is neither the room's creator nor an
    operator, and to do it to oneself or the room's creator.
    """
    locked = select(rooms).where(rooms.c.name == room_name).with_for_update()
    room = connection.execute(locked).mappings().first()
    if room is None:
        raise NotFoundError(f"there is no room {room_name!r}")
    if not is_operator and room["created_by"] != moderator.id:
        raise NotAllowedError("only who made the room may do this")
    user = None if to is None else queries.find_account(connection, to)
    if user is not None:
        if user.id in (moderator.id, room["created_by"]):
            raise NotAllowedError("not to yourself, and not to who made the room")
        _restrict(connection, room["id"], room_name, action, user, seconds, now)
    else:
        change = update(rooms).where(rooms.c.id == room["id"]).values(slow_mode_s=seconds)
        connection.execute(change)
    row = {
        "room_id": room["id"],
        "moderator_id": moderator.id,
        "user_id": None if user is None else user.id,
        "action": action,
        "seconds": seconds,
        "created_at": now,
    }
    if connection.dialect.name == "postgresql":  # so that ids are committed in their order
        connection.execute(text("LOCK TABLE moderations IN SHARE ROW EXCLUSIVE MODE"))
    moderation_id = connection.execute(
        insert(moderations).returning(moderations.c.id), row
    ).scalar_one()
    return Moderation(moderation_id, room_name, action, moderator, user, seconds, now)


def _restrict(
    connection: Connection,
    room_id: int,
    room_name: str,
    action: str,
    user: Account,
    seconds: float | None,
    now: float,
) -> None:
    changes: dict[str, dict[str, Any]] = {
        BAN: {"banned_at": now},
        UNBAN: {"banned_at": None},
        MUTE: {"muted_until": now + (seconds or 0.0)},
        UNMUTE: {"muted_until": None},
    }
    if action in (KICK, BAN):
        memberships.leave(connection, room_name, user.id)
    if action in changes:
        key = (room_id, user.id)
        is_stored = restrictions.find(connection, [key]).is_stored(key)
        restrictions.put(connection, key, changes[action], is_stored=is_stored)


def newest(connection: Connection) -> int:
    """The id of the latest."""
    query = select(func.coalesce(func.max(moderations.c.id), 0))
    return int(connection.execute(query).scalar_one())


def after(connection: Connection, moderation_id: int, limit: int) -> list[Moderation]:
    """What was done after that, in order, at most so much of it."""
    moderator, user = users.alias(), users.alias()
    query = (
        select(
            moderations,
            rooms.c.name.label("room"),
            moderator.c.name.label("moderator"),
            user.c.name.label("user"),
        )
        .join(rooms, rooms.c.id == moderations.c.room_id)
        .join(moderator, moderator.c.id == moderations.c.moderator_id)
        .outerjoin(user, user.c.id == moderations.c.user_id)
        .where(moderations.c.id > moderation_id)
        .order_by(moderations.c.id)
        .limit(limit)
    )
    return [
        Moderation(
            row.id,
            row.room,
            row.action,
            Account(row.moderator_id, row.moderator),
            None if row.user_id is None else Account(row.user_id, row.user),
            row.seconds,
            row.created_at,
        )
        for row in connection.execute(query)
    ]

"""What the store does in a transaction; each gets the connection, and has no other state."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import Connection, Select, and_, bindparam, func, insert, select, update

import pairs
import restrictions
from names import name_key
from records import (
    Account,
    NotAllowedError,
    NotFoundError,
    Page,
    Room,
    StoredMessage,
    TakenError,
)
from schema import messages, rooms, users
from store_results import StoreError


class New(NamedTuple):
    """A message that is to be stored. One that `is_free` is not subject to slow mode."""

    room: str
    sender: Account
    text: str
    client_id: str
    created_at: float
    is_free: bool = False

    @property
    def key(self) -> tuple[int, str]:
        return self.sender.id, self.client_id


_JOINED: Final = (
    select(
        rooms.c.name.label("room"),
        messages.c.offset,
        messages.c.sender_id,
        users.c.name.label("sender"),
        messages.c.client_id,
        messages.c.text,
        messages.c.created_at,
        messages.c.edited_at,
        messages.c.deleted_at,
    )
    .join(rooms, rooms.c.id == messages.c.room_id)
    .join(users, users.c.id == messages.c.sender_id)
)
_COUNT_UP: Final = (
    update(rooms).where(rooms.c.id == bindparam("room_id")).values(last_offset=bindparam("last"))
)


def append(connection: Connection, news: Sequence[New]) -> list[Any]:
    """Store messages; for each, what is stored, and whether it was not before.

    The rooms' rows are locked, always in the same order, so that nodes give offsets one after the
    other, and commit them in their order.
    """
    names = {new.room for new in news}
    locked = select(rooms).where(rooms.c.name.in_(names)).order_by(rooms.c.id).with_for_update()
    found = {row["name"]: dict(row) for row in connection.execute(locked).mappings()}
    known = _by_key(connection, news)
    keys = {(found[new.room]["id"], new.sender.id) for new in news if new.room in found}
    against = restrictions.find(connection, keys)
    outcomes: list[Any] = []
    rows: list[dict[str, Any]] = []
    grown: dict[int, int] = {}
    for new in news:
        stored = known.get(new.key)
        room = found.get(new.room)
        if stored is not None:
            outcomes.append((stored, False))
        elif room is None:
            outcomes.append(NotFoundError(f"there is no room {new.room!r}"))
        elif (refusal := _refusal(against, room, new)) is not None:
            outcomes.append(refusal)
        else:
            room["last_offset"] += 1
            grown[room["id"]] = room["last_offset"]
            stored = known[new.key] = StoredMessage(
                new.room,
                room["last_offset"],
                new.sender.id,
                new.sender.name,
                new.client_id,
                new.text,
                new.created_at,
            )
            rows.append(
                {
                    "room_id": room["id"],
                    "offset": stored.offset,
                    "sender_id": stored.sender_id,
                    "client_id": stored.client_id,
                    "text": stored.text,
                    "created_at": stored.created_at,
                }
            )
            outcomes.append((stored, True))
    if rows:
        connection.execute(insert(messages), rows)
        connection.execute(
            _COUNT_UP, [{"room_id": room_id, "last": last} for room_id, last in grown.items()]
        )
    restrictions.keep_spoken(connection, against)
    return outcomes


def _refusal(
    against: restrictions.Restrictions, room: dict[str, Any], new: New
) -> StoreError | None:
    slow_mode_s = 0.0 if new.is_free else room["slow_mode_s"]
    return against.refusal(room["id"], new.sender.id, slow_mode_s, new.created_at)


def find(connection: Connection, news: Sequence[New]) -> list[StoredMessage | None]:
    """What is stored of messages, if anything."""
    known = _by_key(connection, news)
    return [known.get(new.key) for new in news]


def _by_key(connection: Connection, news: Sequence[New]) -> dict[tuple[int, str], StoredMessage]:
    keys = pairs.numbers_and_texts(connection)
    same = and_(messages.c.sender_id == keys.c.a, messages.c.client_id == keys.c.b)
    given = pairs.parameters({new.key for new in news})
    found = _messages(connection, _JOINED.join(keys, same), given)
    return {(message.sender_id, message.client_id): message for message in found}


def _messages(
    connection: Connection, query: Select[Any], given: dict[str, str] | None = None
) -> list[StoredMessage]:
    return [StoredMessage(**row) for row in connection.execute(query, given or {}).mappings()]


def change(
    connection: Connection,
    room: str,
    offset: int,
    sender: Account | None,
    changes: dict[str, Any],
    written_at: float | None = None,
) -> StoredMessage:
    """Change a message, of `sender` if that is not None, that is not deleted. What is `written_at`
    a time is subject to bans and mutes, as what is new is."""
    query = _JOINED.where(rooms.c.name == room, messages.c.offset == offset)
    before = next(iter(_messages(connection, query)), None)
    if before is None or before.deleted_at is not None:
        raise NotFoundError("there is no such message")
    if sender is not None and before.sender_id != sender.id:
        raise NotAllowedError("the message is another's")
    room_id = connection.execute(select(rooms.c.id).where(rooms.c.name == room)).scalar_one()
    if sender is not None and written_at is not None:
        against = restrictions.find(connection, [(room_id, sender.id)])
        refusal = against.refusal(room_id, sender.id, 0.0, written_at)
        if refusal is not None:
            raise refusal
    here = and_(messages.c.room_id == room_id, messages.c.offset == offset)
    connection.execute(update(messages).where(here).values(changes))
    return msgspec.structs.replace(before, **changes)


def history(
    connection: Connection, room: str, before: int | None, after: int | None, limit: int
) -> Page:
    found = find_room(connection, room)
    if found is None:
        raise NotFoundError(f"there is no room {room!r}")
    query = _JOINED.where(messages.c.room_id == found.id)
    if before is not None:
        query = query.where(messages.c.offset < before)
    if after is not None:
        query = query.where(messages.c.offset > after)
    forward = after is not None and before is None
    query = query.order_by(messages.c.offset if forward else messages.c.offset.desc())
    page = _messages(connection, query.limit(limit + 1))
    more = len(page) > limit
    page = page[:limit]
    return Page(page[::-1] if forward else page, more)


def find_room(connection: Connection, name: str) -> Room | None:
    row = connection.execute(select(rooms).where(rooms.c.name == name)).mappings().first()
    return None if row is None else Room(**row)


def last_offsets(connection: Connection, names: Collection[str]) -> dict[str, int]:
    """The newest messages' offsets of rooms, by name."""
    query = select(rooms.c.name, rooms.c.last_offset).where(rooms.c.name.in_(names))
    return {row.name: row.last_offset for row in connection.execute(query)}


def create_room(connection: Connection, row: dict[str, Any]) -> Room:
    if find_room(connection, row["name"]) is not None:
        raise TakenError(f"there is a room {row['name']!r} already")
    room_id = connection.execute(insert(rooms).returning(rooms.c.id), row).scalar_one()
    return Room(id=room_id, **row)


def find_account(connection: Connection, name: str) -> Account:
    """Who has a name. Raises `NotFoundError`."""
    query = select(users.c.id, users.c.name).where(users.c.name_key == name_key(name))
    row = connection.execute(query).first()
    if row is None:
        raise NotFoundError(f"there is nobody of the name {name!r}")
    return Account(row.id, row.name)


def names_of(connection: Connection, account_ids: Collection[int]) -> dict[int, str]:
    """The names of accounts by their ids."""
    query = select(users.c.id, users.c.name).where(users.c.id.in_(account_ids))
    return {row.id: row.name for row in connection.execute(query)} if account_ids else {}


def create_account(connection: Connection, row: dict[str, Any]) -> Account:
    taken = select(func.count()).select_from(users).where(users.c.name_key == row["name_key"])
    if connection.execute(taken).scalar_one():
        raise TakenError(f"the name {row['name']!r} is taken")
    account_id = connection.execute(insert(users).returning(users.c.id), row).scalar_one()
    return Account(account_id, row["name"])


def account_and_hash(connection: Connection, query: Select[Any]) -> tuple[Account, str] | None:
    row = connection.execute(query).mappings().first()
    return None if row is None else (Account(row["id"], row["name"]), row["password_hash"])

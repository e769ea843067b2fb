"""What is in force in rooms against those who write: bans, mutes and slow mode. Looked at in the
transaction that stores a message, so it holds on every node from the moment it is stored."""

from __future__ import annotations

from collections.abc import Collection
from math import ceil
from typing import Any, TypeAlias, final

from sqlalchemy import Connection, and_, insert, select, update

import pairs
from records import BannedError, MutedError, NotAllowedError, SlowModeError
from schema import restrictions

Key: TypeAlias = tuple[int, int]
"""A room's id, and an account's."""


@final
class Restrictions:
    """Those of some accounts in some rooms, as they are in a transaction."""

    def __init__(self, rows: dict[Key, dict[str, Any]]) -> None:
        self._rows = rows
        self._stored = set(rows)
        self.spoken: dict[Key, float] = {}  # who has written in slow mode, and when

    def refusal(
        self, room_id: int, account_id: int, slow_mode_s: float, now: float
    ) -> NotAllowedError | None:
        """Why somebody may not write at `now`; if they may, they have."""
        key = (room_id, account_id)
        row = self._rows.get(key)
        if row is not None:
            if row["banned_at"] is not None:
                return BannedError("you are banned from this room")
            muted_until = row["muted_until"]
            if muted_until is not None and now < muted_until:
                return MutedError(f"you are muted for {_seconds(muted_until - now)} more")
        if slow_mode_s > 0:
            spoke_at = self.spoken.get(key, None if row is None else row["spoke_at"])
            if spoke_at is not None and now < spoke_at + slow_mode_s:
                wait = _seconds(spoke_at + slow_mode_s - now)
                return SlowModeError(f"slow mode: write again in {wait}")
            self.spoken[key] = now
        return None

    def is_stored(self, key: Key) -> bool:
        """Whether there is a row."""
        return key in self._stored


def _seconds(seconds: float) -> str:
    whole = ceil(seconds)
    return "1 second" if whole == 1 else f"{whole} seconds"


def find(connection: Connection, keys: Collection[Key]) -> Restrictions:
    """Those of these rooms and accounts."""
    if not keys:
        return Restrictions({})
    wanted = pairs.numbers(connection)
    same = and_(restrictions.c.room_id == wanted.c.a, restrictions.c.user_id == wanted.c.b)
    query = select(restrictions).join(wanted, same)
    found = connection.execute(query, pairs.parameters(keys)).mappings()
    return Restrictions({(row["room_id"], row["user_id"]): dict(row) for row in found})


def keep_spoken(connection: Connection, against: Restrictions) -> None:
    """Store who has written in slow mode."""
    for key, spoke_at in against.spoken.items():
        put(connection, key, {"spoke_at": spoke_at}, is_stored=against.is_stored(key))


def put(connection: Connection, key: Key, values: dict[str, Any], *, is_stored: bool) -> None:
    """Change what is in force; the room's row has to be locked."""
    room_id, user_id = key
    if is_stored:
        here = and_(restrictions.c.room_id == room_id, restrictions.c.user_id == user_id)
        connection.execute(update(restrictions).where(here).values(values))
    else:
        connection.execute(insert(restrictions).values(room_id=room_id, user_id=user_id, **values))

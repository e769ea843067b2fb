"""The chat's tables, as they are now; `migrations` say how they came to be so.

Times are Unix seconds. A room's messages have the offsets 1, 2, 3 … without a gap, so that whoever
has seen 7 and then sees 9 knows that there is an 8 to ask for.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite counts up only what is called INTEGER, which has 64 bits there.
Number: Final = BigInteger().with_variant(Integer, "sqlite")

users: Final = Table(
    "users",
    metadata,
    Column("id", Number, primary_key=True),
    Column("name", Text, nullable=False),
    Column("name_key", Text, nullable=False),  # what two names must not have in common
    Column("password_hash", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("name_key"),
)

rooms: Final = Table(
    "rooms",
    metadata,
    Column("id", Number, primary_key=True),
    Column("name", Text, nullable=False),
    Column("created_by", Number, ForeignKey("users.id"), nullable=True),
    Column("created_at", Double, nullable=False),
    Column("last_offset", Number, nullable=False, default=0),
    Column("slow_mode_s", Double, nullable=False, server_default="0"),  # between two of a sender's
    UniqueConstraint("name"),
)

messages: Final = Table(
    "messages",
    metadata,
    Column("room_id", Number, ForeignKey("rooms.id"), primary_key=True, autoincrement=False),
    Column("offset", Number, primary_key=True, autoincrement=False),
    Column("sender_id", Number, ForeignKey("users.id"), nullable=False),
    Column("client_id", Text, nullable=False),  # the sender's own id of it: sent again, it is known
    Column("text", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("edited_at", Double, nullable=True),
    Column("deleted_at", Double, nullable=True),  # the text is empty then
    Index("uq_messages_sender_id_client_id", "sender_id", "client_id", unique=True),
)

# Who has joined which room, until leaving it (not: who is connected), and what they have read.
memberships: Final = Table(
    "memberships",
    metadata,
    Column("user_id", Number, ForeignKey("users.id"), primary_key=True, autoincrement=False),
    Column("room_id", Number, ForeignKey("rooms.id"), primary_key=True, autoincrement=False),
    Column("joined_at", Double, nullable=False),
    Column("read_offset", Number, nullable=False),
)

# What is in force in a room against somebody, and when they last wrote in slow mode.
restrictions: Final = Table(
    "restrictions",
    metadata,
    Column("room_id", Number, ForeignKey("rooms.id"), primary_key=True, autoincrement=False),
    Column("user_id", Number, ForeignKey("users.id"), primary_key=True, autoincrement=False),
    Column("banned_at", Double, nullable=True),
    Column("muted_until", Double, nullable=True),
    Column("spoke_at", Double, nullable=True),
)

# What moderators did, in order: a record, and how the other nodes learn of it.
moderations: Final = Table(
    "moderations",
    metadata,
    Column("id", Number, primary_key=True),
    Column("room_id", Number, ForeignKey("rooms.id"), nullable=False),
    Column("moderator_id", Number, ForeignKey("users.id"), nullable=False),
    Column("user_id", Number, ForeignKey("users.id"), nullable=True),  # to whom, if to anybody
    Column("action", Text, nullable=False),
    Column("seconds", Double, nullable=True),
    Column("created_at", Double, nullable=False),
)

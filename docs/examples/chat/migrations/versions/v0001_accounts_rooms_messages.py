"""Accounts, rooms and messages."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "users",
        sa.Column("id", number, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("name_key", sa.Text, nullable=False),
        sa.Column("password_hash", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("name_key", name="uq_users_name_key"),
    )
    op.create_table(
        "rooms",
        sa.Column("id", number, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("created_by", number, nullable=True),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("last_offset", number, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_rooms"),
        sa.ForeignKeyConstraint(["created_by"], ["users.id"], name="fk_rooms_created_by"),
        sa.UniqueConstraint("name", name="uq_rooms_name"),
    )
    op.create_table(
        "messages",
        sa.Column("room_id", number, nullable=False, autoincrement=False),
        sa.Column("offset", number, nullable=False, autoincrement=False),
        sa.Column("sender_id", number, nullable=False),
        sa.Column("client_id", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("edited_at", sa.Double, nullable=True),
        sa.Column("deleted_at", sa.Double, nullable=True),
        sa.PrimaryKeyConstraint("room_id", "offset", name="pk_messages"),
        sa.ForeignKeyConstraint(["room_id"], ["rooms.id"], name="fk_messages_room_id"),
        sa.ForeignKeyConstraint(["sender_id"], ["users.id"], name="fk_messages_sender_id"),
    )
    op.create_index(
        "uq_messages_sender_id_client_id", "messages", ["sender_id", "client_id"], unique=True
    )


def downgrade() -> None:
    for table in ("messages", "rooms", "users"):
        op.drop_table(table)

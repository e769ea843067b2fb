"""Members of rooms and what they have read, and moderation."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.add_column("rooms", sa.Column("slow_mode_s", sa.Double, nullable=False, server_default="0"))
    op.create_table(
        "memberships",
        sa.Column("user_id", number, nullable=False, autoincrement=False),
        sa.Column("room_id", number, nullable=False, autoincrement=False),
        sa.Column("joined_at", sa.Double, nullable=False),
        sa.Column("read_offset", number, nullable=False),
        sa.PrimaryKeyConstraint("user_id", "room_id", name="pk_memberships"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_memberships_user_id"),
        sa.ForeignKeyConstraint(["room_id"], ["rooms.id"], name="fk_memberships_room_id"),
    )
    op.create_table(
        "restrictions",
        sa.Column("room_id", number, nullable=False, autoincrement=False),
        sa.Column("user_id", number, nullable=False, autoincrement=False),
        sa.Column("banned_at", sa.Double, nullable=True),
        sa.Column("muted_until", sa.Double, nullable=True),
        sa.Column("spoke_at", sa.Double, nullable=True),
        sa.PrimaryKeyConstraint("room_id", "user_id", name="pk_restrictions"),
        sa.ForeignKeyConstraint(["room_id"], ["rooms.id"], name="fk_restrictions_room_id"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_restrictions_user_id"),
    )
    op.create_table(
        "moderations",
        sa.Column("id", number, nullable=False),
        sa.Column("room_id", number, nullable=False),
        sa.Column("moderator_id", number, nullable=False),
        sa.Column("user_id", number, nullable=True),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("seconds", sa.Double, nullable=True),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_moderations"),
        sa.ForeignKeyConstraint(["room_id"], ["rooms.id"], name="fk_moderations_room_id"),
        sa.ForeignKeyConstraint(["moderator_id"], ["users.id"], name="fk_moderations_moderator_id"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_moderations_user_id"),
    )


def downgrade() -> None:
    for table in ("moderations", "restrictions", "memberships"):
        op.drop_table(table)
    with op.batch_alter_table("rooms") as rooms:
        rooms.drop_column("slow_mode_s")

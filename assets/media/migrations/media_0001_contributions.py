"""Files per day and per hour."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from tallykeeper.installation.alembic import missing
from tallykeeper.settings import schema_of

revision = "media_0001"
down_revision = None
branch_labels = ("media",)
depends_on = None


def upgrade() -> None:
    """Create each table unless it is there: then it was adopted."""
    schema = schema_of("media")
    if missing("daily_contributions", schema):
        op.create_table(
            "daily_contributions",
            sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
            sa.Column(
                "date",
                sa.DateTime(timezone=True),
                nullable=False,
                comment="midnight UTC of the day",
            ),
            sa.Column(
                "count",
                sa.Integer(),
                server_default="0",
                nullable=False,
                comment="files taken on that day",
            ),
            sa.Column(
                "created_at",
                sa.DateTime(timezone=True),
                server_default=sa.func.now(),
                nullable=False,
            ),
            sa.Column("updated_at", sa.DateTime(timezone=True)),
            sa.PrimaryKeyConstraint("id"),
            sa.UniqueConstraint("date"),
            schema=schema,
            comment="Files per UTC day.",
        )
        op.create_index(
            "daily_contributions_date",
            "daily_contributions",
            ["date"],
            schema=schema,
        )
    if missing("hourly_contributions", schema):
        op.create_table(
            "hourly_contributions",
            sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
            sa.Column(
                "hour", sa.DateTime(timezone=True), nullable=False, comment="start of the hour, UTC"
            ),
            sa.Column(
                "count",
                sa.Integer(),
                server_default="0",
                nullable=False,
                comment="files taken in that hour",
            ),
            sa.Column(
                "created_at",
                sa.DateTime(timezone=True),
                server_default=sa.func.now(),
                nullable=False,
            ),
            sa.Column("updated_at", sa.DateTime(timezone=True)),
            sa.PrimaryKeyConstraint("id"),
            sa.UniqueConstraint("hour"),
            schema=schema,
            comment="Files per UTC hour.",
        )
        op.create_index(
            "hourly_contributions_hour",
            "hourly_contributions",
            ["hour"],
            schema=schema,
        )

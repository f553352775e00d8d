"""Reports of each user and day."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from tallykeeper.installation.alembic import missing
from tallykeeper.settings import schema_of

revision = "classroom_0004"
down_revision = "classroom_0003"
branch_labels = None
depends_on = None

TABLE = "report_daily_counts"


def upgrade() -> None:
    """Create the table unless it is there: then it was adopted."""
    schema = schema_of("classroom")
    if not missing(TABLE, schema):
        return
    zone = sa.DateTime(timezone=True)
    op.create_table(
        TABLE,
        sa.Column("user_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("day", zone, nullable=False, comment="midnight UTC of the day"),
        sa.Column(
            "reports",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="that the user asked for",
        ),
        sa.Column("updated_at", zone),
        sa.PrimaryKeyConstraint("user_id", "day"),
        schema=schema,
        comment="Reports that each user asked for on each day.",
    )
    op.create_index("report_daily_counts_day", TABLE, ["day"], schema=schema)

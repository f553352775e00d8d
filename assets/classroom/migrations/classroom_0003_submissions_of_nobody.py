"""The counts of submissions that say no assignment, course or user."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from tallykeeper.settings import schema_of

revision = "classroom_0003"
down_revision = "classroom_0002"
branch_labels = None
depends_on = None

TABLE = "submission_counts"


def upgrade() -> None:
    """Let the columns that repeat what the submission says be null, as they are there."""
    schema = schema_of("classroom")
    # One that is left out is not there.
    if sa.inspect(op.get_bind()).has_table(TABLE, schema=schema):
        for column in ("assignment_id", "course_id", "user_id"):
            op.alter_column(TABLE, column, nullable=True, schema=schema)

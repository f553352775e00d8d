"""Times between edits and between attempts; those since any event before stand beside them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from tallykeeper.settings import schema_of

revision = "classroom_0002"
down_revision = "classroom_0001"
branch_labels = None
depends_on = None

TABLE = "submission_counts"
SINCE = "the times since that event, milliseconds"
AVERAGE = "since the event before, whatever it was, seconds"


def upgrade() -> None:
    """Add the columns. What is in the others changes its meaning when the tally is rebuilt."""
    schema = schema_of("classroom")
    # One that is left out is not there.
    if not sa.inspect(op.get_bind()).has_table(TABLE, schema=schema):
        return
    for what in ("edit", "attempt"):
        gaps, total = f"before_{what}_gaps", f"before_{what}_ms"
        comment = f"{what}s that have any event before them"
        _add(schema, _number(gaps, sa.Integer(), comment))
        _add(schema, _number(total, sa.BigInteger(), SINCE))
        average = f"(coalesce({total} / (1000.0 * nullif({gaps}, 0)), 0))::float8"
        computed = sa.Computed(average, persisted=True)
        _add(
            schema,
            sa.Column(f"average_time_before_{what}", sa.Double(), computed, comment=AVERAGE),
        )
        op.alter_column(
            TABLE, f"{what}_gaps", comment=f"times from an {what} to the next {what}", schema=schema
        )


def _add(schema: str, column: sa.Column[object]) -> None:
    op.add_column(TABLE, column, schema=schema, if_not_exists=True)


def _number(name: str, kind: sa.types.TypeEngine[int], comment: str) -> sa.Column[object]:
    zero = sa.text("0")
    return sa.Column(name, kind, server_default=zero, nullable=False, comment=comment)

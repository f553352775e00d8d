"""${message}."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from tallykeeper.settings import schema_of

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    """Pass over what is there already: an adopted table may have it."""
    ${upgrades if upgrades else "pass"}

"""The shop's derived tables."""

from __future__ import annotations

from alembic import op
from sqlalchemy import inspect

from tests.catalogue.shop import SYSTEMS

revision = "shop_0001"
down_revision = None
branch_labels = ("shop",)
depends_on = None


def upgrade() -> None:
    """Create each table unless it is there, of the system that this database has."""
    connection = op.get_bind()
    for system in SYSTEMS:
        if inspect(connection).has_table(system.sources[0].name, schema="shop"):
            system.metadata.create_all(connection, tables=list(system.derived))

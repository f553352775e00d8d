"""Runs migrations on the connection, and in the transaction, that `migrate.py` hands over.

There is no way to run them beside it: what `tally migrate` does before and after them (whether
tables fit, the installation of capture) belongs to the same transaction.
"""

from __future__ import annotations

from alembic import context
from alembic.util import CommandError

VERSION_TABLE = "alembic_version"
VERSION_SCHEMA = "tallykeeper"

connection = context.config.attributes.get("connection")
if connection is None:
    raise CommandError("migrations are run by `tally migrate`, not by alembic itself")

context.configure(
    connection=connection, version_table=VERSION_TABLE, version_table_schema=VERSION_SCHEMA
)
with context.begin_transaction():
    context.run_migrations()

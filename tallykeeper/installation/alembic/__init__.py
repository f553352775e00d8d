"""The derived tables' own history: one branch per system, one file per change, forward only.

`tally migrate` runs it (see `tallykeeper/installation/migrate.py`). A file creates or alters
derived tables and nothing else: source tables are their application's, and change logs, triggers
and live views follow from the declarations. One exception: ids of the fediverse became text
everywhere at once. An existing table is adopted, so every operation passes over what is there
already: ask `missing` before a table is created, add columns with `if_not_exists=True`.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op


def missing(table: str, schema: str) -> bool:
    """Whether there is no such table, or anything else of that name, in the database yet.

    Nor shall be: one that is left out, as it refers to a table that is missing, is passed over.
    """
    if (schema, table) in context.config.attributes.get("left_out", ()):
        return False
    return not sa.inspect(op.get_bind()).has_table(table, schema=schema)

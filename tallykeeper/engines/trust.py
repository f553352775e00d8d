"""Which translations may be rebuilt by: those whose rows were once those of the derived table.

Trust is of this installation, and for one translation by one version of an engine: another SELECT,
another version of this library or of the engine has to be compared first.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.postgresql import insert

from tallykeeper.catalog import state
from tallykeeper.catalog.state import translations
from tallykeeper.declarations.tally import Tally
from tallykeeper.engines.translation.translate import Translation


def record_equal(
    connection: Connection, tally: Tally, translation: Translation, version: str, rows: int
) -> None:
    """Remember that a translation was equal; nothing before `tally migrate` made a place for it."""
    if not state.is_there(connection, translations):
        return
    values = {
        "version": version,
        "digest": translation.digest,
        "rows": rows,
        "equal_at": func.now(),
    }
    statement = insert(translations).values(tally=tally.name, engine=translation.engine, **values)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[translations.c.tally, translations.c.engine], set_=values
        )
    )


def equal_at(
    connection: Connection, tally: Tally, translation: Translation, version: str
) -> datetime | None:
    """When the same translation was equal by the same version of the engine; None: never."""
    if not state.is_there(connection, translations):
        return None
    columns = translations.c
    found: datetime | None = connection.scalar(
        select(columns.equal_at).where(
            columns.tally == tally.name,
            columns.engine == translation.engine,
            columns.version == version,
            columns.digest == translation.digest,
        )
    )
    return found

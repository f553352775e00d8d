"""The change log as a table: how it is created, and altered where its columns differ.

It is altered in place and never dropped, so that grants on it, its place in publications, and views
that somebody built on it stay. What was pending is deleted then, for it was of other columns.
"""

from __future__ import annotations

from sqlalchemy import Column, Connection, DateTime, MetaData, Table, func, text
from sqlalchemy.schema import CreateColumn, CreateTable

from tallykeeper.catalog import dependents
from tallykeeper.database import sql
from tallykeeper.declarations.tally import LOGGED_AT, Tally

# What a column of a table has itself.
OF_A_COLUMN = {"table constraint", "default value"}


def ddl(tally: Tally) -> str:
    """CREATE TABLE for the log."""
    return sql.render(CreateTable(_table(tally))).strip()


def create(connection: Connection, tally: Tally) -> None:
    """Create the log."""
    sql.execute(connection, ddl(tally))
    # A publication of all tables must not make the engine's own deletes fail.
    sql.execute(connection, f"ALTER TABLE {tally.log_name} REPLICA IDENTITY FULL")


def fits(connection: Connection, tally: Tally) -> bool:
    """Whether the log, which is there, has the columns that it should have, in any order."""
    return _present(connection, tally) == _wanted(connection, tally)


def alter(connection: Connection, tally: Tally) -> None:
    """Empty the log and give it the columns that it should have. No live view may read it now.

    Raises HasDependents where something of others depends on a column that would go.
    """
    present, wanted = _present(connection, tally), _wanted(connection, tally)
    surplus = [name for name, type_ in present.items() if wanted.get(name) != type_]
    oid = connection.scalar(text("SELECT CAST(:log AS regclass)::oid"), {"log": tally.log_name})
    found = dependents.on_relation(connection, oid, surplus)
    dependents.require_none(
        [each for each in found if each.kind not in OF_A_COLUMN],
        f"{tally.name}: the columns {', '.join(surplus)} of its change log {tally.log_name} change",
    )
    added = [c for c in _table(tally).c if c.name in surplus or c.name not in present]
    changes = [f"DROP COLUMN {sql.quote(name)}" for name in surplus]
    changes += [f"ADD COLUMN {sql.render(CreateColumn(column))}" for column in added]
    sql.execute(connection, f"TRUNCATE {tally.log_name}")
    sql.execute(connection, f"ALTER TABLE {tally.log_name} {', '.join(changes)}")


def retype(connection: Connection, tally: Tally, column: str) -> None:
    """Give one column of the log the type that it should have, which holds all that is in it."""
    wanted = _wanted(connection, tally).get(column)
    if wanted is not None and wanted != _present(connection, tally).get(column):
        alter = f"ALTER TABLE {tally.log_name} ALTER COLUMN {sql.quote(column)} TYPE {wanted}"
        sql.execute(connection, alter)


def _table(tally: Tally) -> Table:
    schema, _, name = tally.log_name.partition(".")
    logged_at = Column(
        LOGGED_AT, DateTime(timezone=True), nullable=False, server_default=func.now()
    )
    return Table(name.strip('"'), MetaData(), *tally.log_columns(), logged_at, schema=schema)


def _present(connection: Connection, tally: Tally) -> dict[str, str]:
    rows = connection.execute(
        text(
            "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute"
            " WHERE attrelid = CAST(:log AS regclass) AND attnum > 0 AND NOT attisdropped"
            " ORDER BY attnum"
        ),
        {"log": tally.log_name},
    )
    return {row[0]: row[1] for row in rows}


def _wanted(connection: Connection, tally: Tally) -> dict[str, str]:
    return {
        c.name: connection.scalar(
            text("SELECT format_type(CAST(:t AS regtype), NULL)"), {"t": sql.type_name(c.type)}
        )
        for c in _table(tally).c
    }

"""Suspending tallies while an application migrates its own tables.

A definition view keeps PostgreSQL from dropping the columns that it uses, and from changing their
types. `tallykeeper.suspend(tally)` has it, and the live view, depend on nothing; it is called in
the application's own transaction, before its DDL. `tallykeeper.resume(tally)` puts them back, and
where a column is missing that the SELECT uses it fails, and with it the whole migration.

Invariants: a suspended tally is stale, and reading its views is an error, never a wrong row. Both
functions run with the rights of the engine's owner, and nobody else may call them who was not
granted it.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, Engine, delete, text

from tallykeeper.catalog.state import suspensions
from tallykeeper.database import sql
from tallykeeper.database.sessions import begin_work
from tallykeeper.database.sql_files import sql_file

FUNCTIONS = ("refuse_suspended", "suspend", "resume")
_STATEMENTS = tuple(
    statement.strip()
    for statement in sql_file(__name__, "suspension").split("-- end")
    if statement.strip()
)


def install(connection: Connection) -> None:
    """Put the functions into the database, where they are not there as they should be."""
    found = connection.execute(
        text(
            "SELECT p.prosrc FROM pg_proc AS p WHERE p.pronamespace = to_regnamespace(:schema)"
            " AND p.proname = ANY (:names)"
        ),
        {"schema": sql.ENGINE_SCHEMA, "names": list(FUNCTIONS)},
    )
    bodies = set(found.scalars())
    for statement in _STATEMENTS:
        if statement.split("$body$")[1] not in bodies:
            sql.execute(connection, statement)


def end(connection: Connection, tallies: Collection[str]) -> None:
    """Forget that the tallies are suspended: they are installed anew."""
    connection.execute(delete(suspensions).where(suspensions.c.tally.in_(tallies)))


def suspend(engine: Engine, tally: str) -> str:
    """Suspend the tally in a transaction of its own; what was done.

    Raises SQLAlchemy's errors.
    """
    return _call(engine, "suspend", tally)


def resume(engine: Engine, tally: str) -> str:
    """Resume the tally in a transaction of its own; what was done.

    Raises SQLAlchemy's errors, where a column is missing that its SELECT uses among them.
    """
    return _call(engine, "resume", tally)


def _call(engine: Engine, function: str, tally: str) -> str:
    with engine.begin() as connection:
        begin_work(connection)
        return str(
            connection.scalar(
                text(f"SELECT {sql.in_engine_schema(function)}(:tally)"), {"tally": tally}
            )
        )

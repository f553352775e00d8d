"""What the command line says when something goes wrong: where errors become sentences.

Errors that can be expected (a setting, the database, the data, a table) get one sentence and no
traceback. Everything else is a bug, and is not explained away: `explain` knows nothing of it.
"""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError, OperationalError

from tallykeeper import TallyError
from tallykeeper.database.connections import DatabaseUnavailable
from tallykeeper.database.sql import ENGINE_SCHEMA
from tallykeeper.database.sqlstates import (
    INSUFFICIENT_PRIVILEGE,
    RAISE_EXCEPTION,
    READ_ONLY_SQL_TRANSACTION,
    UNDEFINED_TABLE,
    sqlstate_of,
)
from tallykeeper.input.loading import LoadError
from tallykeeper.settings import SettingError

EXPECTED = (TallyError, SettingError, DatabaseUnavailable, LoadError)


def explain(error: BaseException) -> str | None:
    """One sentence for an error that can be expected; None for one that is a bug."""
    if isinstance(error, EXPECTED):
        return str(error)
    if not isinstance(error, DBAPIError):
        return None
    said = _said_by_the_server(error)
    if sqlstate_of(error) == INSUFFICIENT_PRIVILEGE:
        return (
            f"the role that connects may not do this ({said}); connect as the owner of the tables,"
            " or have an administrator grant it. What was under way was undone"
        )
    if sqlstate_of(error) == READ_ONLY_SQL_TRANSACTION:
        return (
            f"the database takes no writes ({said}); name one that does in TALLY_DATABASE_URL:"
            " a standby cannot keep tallies"
        )
    if sqlstate_of(error) == UNDEFINED_TABLE and f'"{ENGINE_SCHEMA}.' in said:
        return (
            f"this database was installed by an earlier version ({said}); run `tally migrate`."
            " What was under way was undone"
        )
    if error.connection_invalidated:
        return (
            f"the database went away ({said}); what was under way was undone, so start the server"
            " and run the command again"
        )
    if isinstance(error, OperationalError) or sqlstate_of(error) == RAISE_EXCEPTION:
        return f"the database refused: {said}. What was under way was undone"
    return None


def explain_one(error: Exception, name: str) -> str:
    """One sentence for what failed of several things, where the others can go on.

    Raises the error where they cannot, for the database is away, and where it is a bug.
    """
    if isinstance(error, DBAPIError):
        if error.connection_invalidated:
            raise error
        sentence = explain(error) or f"the database refused: {_said_by_the_server(error)}"
    elif isinstance(error, TallyError):
        sentence = str(error)
    else:
        raise error
    return sentence if sentence.startswith(name) else f"{name}: {sentence}"


def _said_by_the_server(error: DBAPIError) -> str:
    """The server's message without its context: on one line, and never with the SQL."""
    lines = [line.strip() for line in str(error.orig).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error.orig).__name__

"""What the transactions of the engine set for themselves, whatever server, database or role set.

`ALTER ROLE ... SET` reaches every session of a role. Some settings change what text the server
answers with, some what a statement returns, some how long it may take. All of them are set anew in
each transaction and end with it, as one message without a snapshot: a pooler in transaction mode
passes that on as it is, where a setting of a session would be lost or reach somebody else.

Invariant: nothing here fails on a standby, for an ordinary role, or on any supported version.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from tallykeeper.database import sql

LOCK_TIMEOUT_SECONDS = 1.0
"""How long a lock is waited for: later sessions wait for the same table behind us."""
IDLE_SECONDS = 60
"""After so long without a word the server ends a transaction of the engine, and frees its locks."""

# How values are written: as the driver, and what compares texts of the catalog, expect them.
PATIENCE = "tally_patience_seconds"
"""The execution option of an engine: how long refused transactions are tried again."""

WRITTEN = {
    "datestyle": "'ISO, MDY'",
    "intervalstyle": "'postgres'",
    "bytea_output": "'hex'",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "quote_all_identifiers": "off",
}

# What else the transactions need that read sources whole and write derived tables.
WORKING = WRITTEN | {
    # Everything that compares a time with or without zone does it in UTC.
    "timezone": "'UTC'",
    "jit": "off",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "gin_fuzzy_search_limit": "0",
    "default_table_access_method": "'heap'",
    # A source of which some rows are hidden is an error instead of a smaller figure.
    "row_security": "off",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": f"'{IDLE_SECONDS}s'",
    # A client that the network lost never says that it is idle. Nothing on a socket of files.
    "tcp_user_timeout": f"'{IDLE_SECONDS}s'",
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    sql.WRITING: "'on'",
}


# Functions and operators of the application's do not take the place of the server's, whatever path
# its databases have. Not for migrations, which create things by their path.
COMPUTING = {"search_path": "pg_catalog, public"}


def set_local(settings: Mapping[str, str]) -> str:
    """Statements that set all of it until the transaction ends."""
    return "; ".join(f"SET LOCAL {name} = {value}" for name, value in settings.items())


def begin_work(connection: Connection) -> None:
    """Set what a transaction of the engine needs; no snapshot is taken by it."""
    _begin(connection, {})


def begin_computing(connection: Connection) -> None:
    """The same for a transaction that computes figures."""
    _begin(connection, COMPUTING)


def _begin(connection: Connection, more: Mapping[str, str]) -> None:
    settings = {**WORKING, **more}
    if (connection.dialect.server_version_info or ())[:1] >= (17,):
        settings["transaction_timeout"] = "0"
    sql.execute(connection, f"{set_local(settings)}; {lock_timeout_of()}")


def is_pooled(connection: Connection) -> bool:
    """Whether a pooler stands between: its transactions need not all be in one session.

    It answers with a process id of its own making, for cancelling, in place of the server's.
    """
    driver: Any = connection.connection.dbapi_connection
    return bool(
        sql.execute(connection, "SELECT pg_backend_pid()").scalar_one() != driver.info.backend_pid
    )


def lock_timeout_of(seconds: float | None = None) -> str:
    """A statement that limits how long the transaction waits for each lock from now on."""
    limit = LOCK_TIMEOUT_SECONDS if seconds is None else seconds
    return f"SET LOCAL lock_timeout = '{max(1, round(limit * 1000))}ms'"

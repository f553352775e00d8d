"""Putting systems into databases, and looking at what capture left there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, event
from sqlalchemy.schema import CreateSchema

from tallykeeper import System, install, refresh, verify
from tallykeeper.catalog import state
from tallykeeper.installation import select_plans
from tallykeeper.partitions import drops
from tests.library import system as media
from tests.oracle import DAILY, HOURLY, Oracle, look
from tests.templates import fill

DAILY_LOG = "tallykeeper.media_daily_contributions_log"
HOURLY_LOG = "tallykeeper.media_hourly_contributions_log"
FORUM_LOG = "tallykeeper.forum_tag_hours_log"

_seen: dict[int, System] = {}


def create(engine: Engine, system: System) -> None:
    """The system's schema, tables and capture, in an empty database.

    A copy, from the second time on: a system that one test alone declares is worth no template.
    """
    if id(system) in _seen:
        name = f"{system.name}_{id(system)}"
        fill(engine, name, lambda original: create_anew(original, system))
    else:
        create_anew(engine, system)
        # Kept, so that no other system comes to have its id.
        _seen[id(system)] = system


def create_anew(engine: Engine, system: System) -> None:
    """The same, step by step: for tests that change how it is done."""
    with engine.begin() as connection:
        connection.execute(CreateSchema(str(system.metadata.schema)))
        system.metadata.create_all(connection)
        if system.prepare is not None:
            state.create(connection)
            select_plans.prepare(connection, system.tallies)
            system.prepare(connection)
        for source in system.archived:
            drops.install(connection, source)
        install(connection, system.tallies)


def execute(engine: Engine, *statements: str) -> None:
    """Run the statements in one transaction, and commit it."""
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement.replace("%", "%%"))


def rows(engine: Engine, query: str) -> list[tuple[Any, ...]]:
    """All rows of a query."""
    with engine.begin() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(query.replace("%", "%%"))]


def scalar(engine: Engine, query: str) -> Any:
    """The one value of a query."""
    ((value,),) = rows(engine, query)
    return value


# The pending deltas of the daily tally, a log row each: (`03-01`, count).
LOGGED_DAYS = (
    f"SELECT to_char(date AT TIME ZONE 'UTC', 'MM-DD'), count FROM {DAILY_LOG} ORDER BY 1, 2"
)
# The pending marks of the forum's tally, a log row each: (post, tag, `22:00`).
LOGGED_MARKS = (
    "SELECT post_id, tag_id, to_char(hour AT TIME ZONE 'UTC', 'HH24:MI')"
    f" FROM {FORUM_LOG} ORDER BY 1, 2, 3"
)


def stale_reasons(engine: Engine, tally: str) -> list[str]:
    """Why the tally is stale."""
    found = rows(engine, f"SELECT reason FROM tallykeeper.stale_marks WHERE tally = '{tally}'")
    return [reason for (reason,) in found]


Cases = Mapping[str, tuple[str, list[Any]]]


def check_each(engine: Engine, cases: Cases, logged: str, oracles: Sequence[Oracle]) -> None:
    """Run each case's statement in a transaction of its own, look, and roll it back.

    `logged` is a query of the log; what it returns, in any order, is what the case expects.
    """
    for name, (statement, expected) in cases.items():
        with engine.connect() as connection, connection.begin() as transaction:
            # The joins that make a MERGE insert before it updates.
            connection.exec_driver_sql("SET LOCAL enable_hashjoin = off")
            connection.exec_driver_sql("SET LOCAL enable_mergejoin = off")
            connection.exec_driver_sql(statement.replace("%", "%%"))
            found = [tuple(row) for row in connection.exec_driver_sql(logged)]
            assert sorted(found, key=repr) == sorted(expected, key=repr), name
            for oracle in oracles:
                look(_driver(connection), oracle)
            transaction.rollback()


def judge(engine: Engine, oracles: Sequence[Oracle]) -> None:
    """Let the oracles look at one snapshot each. Raises OracleViolation."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for oracle in oracles:
            look(_driver(connection), oracle)


def _driver(connection: Connection) -> psycopg.Connection[Any]:
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


def settled_media(engine: Engine) -> None:
    """The oracle is content before and after a refresh, which leaves nothing pending."""
    judge(engine, [DAILY, HOURLY])
    for tally in media.tallies:
        refresh(engine, tally)
        assert verify(engine, tally).ok
    judge(engine, [DAILY, HOURLY])
    assert scalar(engine, f"SELECT count(*) FROM {DAILY_LOG}") == 0


@contextmanager
def scans_of(engine: Engine, *tables: str) -> Iterator[list[int]]:
    """The sequential scans of these tables, as each transaction commits."""
    names = ", ".join(f"'{name}'" for name in tables)
    query = (
        "SELECT coalesce(sum(seq_scan), 0) FROM pg_stat_xact_user_tables"
        f" WHERE relname IN ({names})"
    )
    scans: list[int] = []

    def count(connection: Connection) -> None:
        scans.append(int(connection.exec_driver_sql(query).scalar_one()))

    event.listen(engine, "commit", count)
    yield scans
    event.remove(engine, "commit", count)

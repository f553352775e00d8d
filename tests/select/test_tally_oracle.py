"""SELECTs over a store while writers change it: exact in every snapshot, stored and live.

The oracle is the SELECT itself, run in the same snapshot as the derived table or the live view.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import errors
from sqlalchemy import Engine, MetaData
from sqlalchemy.exc import OperationalError

from tallykeeper import System, refresh, status, verify
from tallykeeper.database import sql
from tallykeeper.database.sqlstates import SERIALIZATION_FAILURE, sqlstate_of
from tallykeeper.installation.migrate import migrate
from tallykeeper.select.tally import SelectTally
from tests.select import store

ROUNDS = 8
WRITERS = 3
PASSING = (
    errors.UniqueViolation,
    errors.DeadlockDetected,
    errors.SerializationFailure,
    errors.LockNotAvailable,
)


def system(*names: str) -> System:
    """The store's SELECTs of these names as tallies."""
    return System(
        "store",
        MetaData(),
        [SelectTally(f"store.{name}", select=store.SELECTS[name], schema="kept") for name in names],
    )


def wrong(engine: Engine, tally: SelectTally, relation: str) -> list[tuple[object, ...]]:
    """The rows in which the relation and the SELECT differ, in one statement."""
    columns = sql.columns([c.name for c in tally.plan.columns])
    compared = (
        f"WITH kept AS MATERIALIZED (SELECT {columns} FROM {relation}),"
        f" expected AS MATERIALIZED (SELECT {columns} FROM ({tally.text}) AS e)"
        " SELECT 'too many' AS what, k.* FROM (TABLE kept EXCEPT ALL TABLE expected) AS k"
        " UNION ALL SELECT 'missing', e.* FROM (TABLE expected EXCEPT ALL TABLE kept) AS e LIMIT 5"
    )
    while True:
        try:
            with engine.connect() as connection:
                return [tuple(row) for row in sql.execute(connection, compared)]
        except OperationalError as error:
            # A source was truncated between the snapshot and the reading.
            if sqlstate_of(error) != SERIALIZATION_FAILURE:
                raise


@contextmanager
def writing(url: str, seed: int) -> Iterator[None]:
    """Writers change all tables until the block ends."""
    ended = threading.Event()
    failed: list[BaseException] = []

    def write(number: int) -> None:
        rng = random.Random(seed * 100 + number)
        operations, weights = list(store.OPERATIONS), list(store.OPERATIONS.values())
        with psycopg.connect(url.replace("+psycopg", "")) as connection:
            while not ended.is_set():
                try:
                    with connection.transaction(), connection.cursor() as cursor:
                        for _ in range(rng.randint(1, 3)):
                            rng.choices(operations, weights)[0](cursor, rng)
                        if rng.random() < 0.1:
                            raise psycopg.Rollback
                except PASSING:
                    pass
                except Exception as error:  # noqa: BLE001 -- raised again by the test
                    failed.append(error)
                    return

    threads = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert not failed, failed


@pytest.mark.parametrize("name", store.SELECTS)
def test_exact_under_writers(engine: Engine, database_url: str, name: str) -> None:
    store.create(engine)
    kept = system(name)
    migrate(engine, [kept])
    (tally,) = kept.tallies
    assert isinstance(tally, SelectTally)
    refresh(engine, tally)
    with writing(database_url, len(name)):
        for _ in range(ROUNDS):
            assert wrong(engine, tally, tally.live_name) == []
            refresh(engine, tally)
            checked = verify(engine, tally)
            assert checked.ok or checked.stale, checked
    refresh(engine, tally)
    assert status(engine, tally).pending == 0
    assert wrong(engine, tally, str(tally.table)) == []
    assert verify(engine, tally).ok

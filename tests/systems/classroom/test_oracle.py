"""Every way to write the classroom, one connection at a time: right after every statement."""

from __future__ import annotations

import random

import psycopg
import pytest
from sqlalchemy import Engine

from assets.classroom.tallies import system
from tallykeeper import rebuild, refresh, verify
from tests.classroom import CLASSROOM
from tests.concurrency.subjects import SUBJECTS
from tests.concurrency.writers import COLLISIONS
from tests.oracle import look, settle

STATEMENTS = 150
# Enough courses, users and work that a statement has something to meet.
FIRST = (
    *("insert users", "insert courses") * 3,
    *("insert assignments", "insert groups", "give roles") * 4,
    *("put into groups", "insert submissions", "log events") * 5,
)


@pytest.mark.parametrize("seed", range(2))
def test_every_statement_is_seen_at_once_and_stays_right_over_refreshes(
    any_postgres_engine: Engine, seed: int
) -> None:
    engine, subject, rng = any_postgres_engine, SUBJECTS["classroom"], random.Random(seed)
    with engine.begin() as connection:
        subject.create(connection)
    by_name = {operation.name: operation for operation in subject.operations}
    drawn = [by_name[name] for name in FIRST]
    drawn += rng.choices(subject.operations, [o.weight for o in subject.operations], k=STATEMENTS)
    drawn += rng.sample(subject.operations, len(subject.operations))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        for number, operation in enumerate(drawn):
            try:
                with driver.transaction(), driver.cursor() as cursor:
                    if rng.random() < 0.1:
                        # References are not looked after then, and leave rows of what is deleted.
                        cursor.execute("SET LOCAL session_replication_role = replica")
                    operation.run(cursor, rng)
            except COLLISIONS:
                continue
            look(driver, rng.choice(CLASSROOM))
            if number % 5 == 4:
                tally = rng.choice(system.tallies)
                rng.choice((refresh, refresh, rebuild))(engine, tally)
                assert not verify(engine, tally).differing
        for oracle in CLASSROOM:
            look(driver, oracle)
        for tally in system.tallies:
            refresh(engine, tally)
            assert verify(engine, tally).ok
        for oracle in CLASSROOM:
            settle(driver, oracle)

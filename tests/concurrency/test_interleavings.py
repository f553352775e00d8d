"""Connections stepped by hand: what a trigger that looks things up cannot see, the oracle does.

The same steps go right with the engine's own capture, so it is the looking up that fails.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg.errors import SerializationFailure
from sqlalchemy import Engine, create_engine

from tallykeeper import refresh
from tests.concurrency.conftest import new_seed
from tests.concurrency.server import connect, for_sqlalchemy
from tests.concurrency.subjects import SUBJECTS, Subject
from tests.concurrency.writers import COLLISIONS
from tests.oracle import OracleViolation, look, settle

pytestmark = pytest.mark.concurrency

ADD = "INSERT INTO media.media_files (path, original_created_at) VALUES"
SOUND, JOINING = "tag hours", "tag hours, joined in the trigger"


@dataclass
class Stage:
    """A subject with two writers and an onlooker."""

    subject: Subject
    engine: Engine
    first: psycopg.Connection[Any]
    second: psycopg.Connection[Any]
    onlooker: psycopg.Connection[Any]

    def look(self) -> None:
        for oracle in self.subject.oracles:
            look(self.onlooker, oracle)

    def refresh(self) -> None:
        for tally in self.subject.system.tallies:
            refresh(self.engine, tally)

    def settle(self) -> None:
        self.refresh()
        for oracle in self.subject.oracles:
            settle(self.onlooker, oracle)


@pytest.fixture
def set_up(database: Callable[[str], str]) -> Iterator[Callable[[str], Stage]]:
    stages = []

    def stage(name: str) -> Stage:
        url = database("stage")
        engine = create_engine(for_sqlalchemy(url))
        with engine.begin() as connection:
            SUBJECTS[name].create(connection)
        made = Stage(SUBJECTS[name], engine, connect(url), connect(url), connect(url))
        for stepped in (made.first, made.second, made.onlooker):
            # Who waits for a step that comes later would wait for ever.
            stepped.execute("SET lock_timeout = '30s'")
        made.refresh()
        stages.append(made)
        return made

    yield stage
    for made in stages:
        made.engine.dispose()
        for connection in (made.first, made.second, made.onlooker):
            connection.close()


def _a_post_moves_while_another_connection_tags_it(stage: Stage) -> None:
    stage.first.execute("INSERT INTO forum.posts VALUES (1, 7, '2024-03-09 22:30Z')")
    stage.refresh()
    stage.first.execute("BEGIN")
    stage.first.execute("UPDATE forum.posts SET created_at = '2024-03-09 23:30Z' WHERE id = 1")
    stage.second.execute("INSERT INTO forum.post_tags VALUES (1, 5)")
    stage.look()
    stage.first.execute("COMMIT")
    stage.look()
    stage.refresh()
    stage.look()


def _a_tag_comes_while_another_connection_moves_the_post(stage: Stage) -> None:
    stage.first.execute("INSERT INTO forum.posts VALUES (1, 7, '2024-03-09 22:30Z')")
    stage.refresh()
    stage.first.execute("BEGIN")
    stage.first.execute("INSERT INTO forum.post_tags VALUES (1, 5)")
    stage.second.execute("UPDATE forum.posts SET created_at = '2024-03-09 23:30Z' WHERE id = 1")
    stage.refresh()
    stage.look()
    stage.first.execute("COMMIT")
    stage.look()
    stage.refresh()
    stage.look()


STEPS = (
    _a_post_moves_while_another_connection_tags_it,
    _a_tag_comes_while_another_connection_moves_the_post,
)


@pytest.mark.parametrize("steps", STEPS)
def test_marks_of_two_transactions_that_do_not_see_each_other_make_the_whole_key(
    steps: Callable[[Stage], None], set_up: Callable[[str], Stage]
) -> None:
    stage = set_up(SOUND)
    steps(stage)
    stage.settle()


@pytest.mark.parametrize("steps", STEPS)
def test_a_trigger_that_joins_misses_the_key(
    steps: Callable[[Stage], None], set_up: Callable[[str], Stage]
) -> None:
    with pytest.raises(OracleViolation) as violation:
        steps(set_up(JOINING))
    assert {"derived", "live"} & violation.value.kinds


def test_a_trigger_that_joins_is_right_as_long_as_writers_take_turns(
    set_up: Callable[[str], Stage],
) -> None:
    stage = set_up(JOINING)
    seed = new_seed()
    rng = random.Random(seed)
    operations = stage.subject.operations
    for _ in range(150):
        operation = rng.choices(operations, [o.weight for o in operations])[0]
        try:
            operation.run(rng.choice((stage.first, stage.second)).cursor(), rng)
        except COLLISIONS:
            continue
        if rng.random() < 0.3:
            stage.refresh()
        try:
            stage.look()
        except OracleViolation as violation:
            violation.add_note(f"seed {seed}")
            raise


def test_a_change_that_commits_during_a_refresh_stays_pending(
    set_up: Callable[[str], Stage],
) -> None:
    stage = set_up("media")
    stage.first.execute("BEGIN")
    stage.first.execute(
        "INSERT INTO media.media_files (path, original_created_at) VALUES ('a', '2024-03-01Z')"
    )
    stage.second.execute(
        "INSERT INTO media.media_files (path, original_created_at) VALUES ('b', '2024-03-01Z')"
    )
    stage.refresh()
    stage.look()
    stage.first.execute("COMMIT")
    stage.look()
    pending = stage.onlooker.execute(
        "SELECT count(*) FROM tallykeeper.media_daily_contributions_log"
    ).fetchone()
    assert pending == (1,)
    stage.settle()


def test_a_prepared_transaction_is_pending_from_its_commit_on(
    set_up: Callable[[str], Stage],
) -> None:
    stage = set_up("media")
    for gid, end in (("kept", "COMMIT PREPARED"), ("dropped", "ROLLBACK PREPARED")):
        stage.first.execute("BEGIN")
        stage.first.execute(
            "INSERT INTO media.media_files (path, original_created_at) VALUES (%s, '2024-03-01Z')",
            [gid],
        )
        stage.first.execute(f"PREPARE TRANSACTION '{gid}'")
        stage.refresh()
        stage.look()
        stage.second.execute(f"{end} '{gid}'")
        stage.look()
    stage.settle()
    kept = stage.onlooker.execute("SELECT count FROM media.daily_contributions").fetchall()
    assert kept == [(1,)]


@pytest.mark.parametrize(
    ("name", "before", "reload"),
    [
        pytest.param(
            "media",
            # Stale already, so that the live view reads the source.
            ("TRUNCATE media.media_files", f"{ADD} ('a', '2024-03-01Z')"),
            ("TRUNCATE media.media_files", f"{ADD} ('a', '2024-03-01Z'), ('b', '2024-03-02Z')"),
            id="stale",
        ),
        pytest.param(
            SOUND,
            (
                "INSERT INTO forum.posts VALUES (1, 7, '2024-03-09 22:30Z')",
                "INSERT INTO forum.post_tags VALUES (1, 5)",
            ),
            ("TRUNCATE forum.posts CASCADE",),
            id="pending",
        ),
    ],
)
def test_a_live_read_across_a_truncate_fails_rather_than_answer_what_never_was(
    name: str, before: tuple[str, ...], reload: tuple[str, ...], set_up: Callable[[str], Stage]
) -> None:
    stage = set_up(name)
    for statement in before:
        stage.first.execute(statement)
    stage.first.execute("BEGIN")
    for statement in reload:
        stage.first.execute(statement)
    live = f"SELECT * FROM {stage.subject.oracles[0].derived}_live"
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(stage.second.execute, live)
        _wait_until_it_waits(stage)
        stage.first.execute("COMMIT")
        with pytest.raises(SerializationFailure, match="truncated or rewritten"):
            reading.result(30)
    stage.look()
    stage.settle()


def test_an_older_snapshot_reads_live_what_was_then_or_fails(
    set_up: Callable[[str], Stage],
) -> None:
    stage = set_up("media")
    stage.first.execute(f"{ADD} ('a', '2024-03-01Z')")
    stage.refresh()
    stage.first.execute(f"{ADD} ('b', '2024-03-01Z')")
    live = "SELECT sum(count) FROM media.daily_contributions_live"
    stage.second.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    assert stage.second.execute(live).fetchone() == (2,)
    stage.first.execute("TRUNCATE media.media_files")
    stage.refresh()
    # Table and log as they were: the source is not asked.
    assert stage.second.execute(live).fetchone() == (2,)
    stage.second.execute("COMMIT")
    stage.first.execute("TRUNCATE media.media_files")
    stage.first.execute(f"{ADD} ('c', '2024-03-01Z')")
    stage.second.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    stage.second.execute("SELECT 1 FROM media.daily_contributions")
    stage.first.execute("TRUNCATE media.media_files")
    stage.first.execute(f"{ADD} ('d', '2024-03-01Z')")
    with pytest.raises(SerializationFailure):
        stage.second.execute(live)
    stage.second.execute("ROLLBACK")
    assert stage.second.execute(live).fetchone() == (1,)


def _wait_until_it_waits(stage: Stage) -> None:
    """Return when the second connection waits for a lock. AssertionError if it never does."""
    waiting = "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = %s"
    deadline = time.monotonic() + 30
    while stage.onlooker.execute(waiting, [stage.second.info.backend_pid]).fetchone() != (True,):
        assert time.monotonic() < deadline, "the second connection waits for nothing"
        time.sleep(0.01)

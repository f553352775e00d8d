"""Connections stepped by hand: what a trigger that looks things up cannot see, the oracle does.

The same steps go right with the engine's own capture, so it is the looking up that fails.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, create_engine

from tallies import refresh
from tests.concurrency.conftest import new_seed
from tests.concurrency.server import connect, for_sqlalchemy
from tests.concurrency.subjects import SUBJECTS, Subject
from tests.concurrency.writers import COLLISIONS
from tests.oracle import OracleViolation, look, settle

pytestmark = pytest.mark.concurrency

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

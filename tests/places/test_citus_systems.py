"""Two systems of the reference project on a real cluster, while writers change their tables."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator

import psycopg
import pytest
from sqlalchemy import Engine

from assets.classroom import tallies as classroom
from assets.fediverse import tallies as fediverse
from tallykeeper import SelectTally, System, open_engine
from tallykeeper.installation import derived_tables
from tallykeeper.places.citus import places_of
from tallykeeper.places.columns import family_of, kept_of
from tallykeeper.places.distribute import distribute, examine
from tests.places import cluster
from tests.places.race import Race
from tests.places.test_citus import require_right
from tests.places.test_distribute import do_first

SHARDS = 2
SNAPSHOTS = 2_000 if os.environ.get("TALLY_TEST_LONG") else 20
POSTS, LOG = "fediverse.mastodon_posts", "classroom.submission_log"
# The day of a tag, and who used it: a join, and a distinct count.
TAG_DAYS = """
SELECT p.instance_id, h.hashtag_id, date_trunc('day', p.created_at, 'UTC') AS day,
    count(*) AS posts, count(DISTINCT p.account_id) AS accounts
FROM fediverse.mastodon_posts AS p
JOIN fediverse.post_hashtags AS h ON h.instance_id = p.instance_id AND h.post_id = p.id
WHERE p.deleted_at IS NULL GROUP BY 1, 2, 3"""

Cursor = psycopg.Connection[tuple[object, ...]]


def _post(connection: Cursor, rng: random.Random) -> None:
    where = (rng.randint(1, 12), str(rng.randint(1, 60)))
    at = f"2026-03-0{rng.randint(1, 4)} {rng.randint(0, 23):02d}:30Z"
    match rng.randint(0, 6):
        case 0 | 1 | 2:
            connection.execute(
                f"INSERT INTO {POSTS} (instance_id, id, account_id, domain, visibility, created_at,"
                " first_seen_at, favourites_count) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"
                " ON CONFLICT (instance_id, id) DO UPDATE SET visibility = EXCLUDED.visibility,"
                " created_at = EXCLUDED.created_at, favourites_count = EXCLUDED.favourites_count",
                (
                    *where,
                    str(rng.randint(1, 9)),
                    rng.choice(["a.example", "b.example"]),
                    rng.choice(["public", "unlisted", "private"]),
                    at,
                    at,
                    rng.randint(0, 50),
                ),
            )
        case 3:
            connection.execute(
                f"UPDATE {POSTS} SET deleted_at = %s WHERE instance_id = %s AND id = %s",
                (rng.choice([at, None]), *where),
            )
        case 4:
            connection.execute(f"DELETE FROM {POSTS} WHERE instance_id = %s AND id = %s", where)
        case 5:
            connection.execute(
                "INSERT INTO fediverse.post_hashtags (instance_id, post_id, hashtag_id)"
                " VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
                (*where, rng.randint(1, 6)),
            )
        case _:
            # All of them, at all places.
            connection.execute(
                f"UPDATE {POSTS} SET favourites_count = %s WHERE id = %s",
                (rng.randint(0, 50), where[1]),
            )


def _event(connection: Cursor, rng: random.Random) -> None:
    number, course = rng.randint(1, 400), rng.randint(1, 12)
    at = f"2026-03-0{rng.randint(1, 4)} 10:00Z"
    match rng.randint(0, 3):
        case 0 | 1:
            connection.execute(
                f"INSERT INTO {LOG} (id, submission_id, course_id, event_type, date_created)"
                " VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
                (number, number % 30, course, rng.choice(["run", "edit", "submit"]), at),
            )
        case 2:
            connection.execute(
                f"UPDATE {LOG} SET event_type = 'run', date_created = %s"
                " WHERE course_id = %s AND submission_id = %s",
                (at, course, number % 30),
            )
        case _:
            connection.execute(
                f"DELETE FROM {LOG} WHERE course_id = %s AND id = %s", (course, number)
            )


def _create(engine: Engine, system: System) -> None:
    derived = {tally.table for tally in system.tallies}
    with engine.begin() as connection:
        tables = [t for t in system.metadata.sorted_tables if t not in derived and len(t.c)]
        derived_tables.create(connection, tables, "source")


@pytest.fixture
def engine() -> Iterator[Engine]:
    """An engine on the coordinator's end of an empty database of a cluster."""
    with cluster.fresh_database(SHARDS) as url:
        made = open_engine(url)
        yield made
        made.dispose()


def _fediverse() -> System:
    """The fediverse with another tally, whose table no other test has."""
    made = fediverse.system.with_tallies([SelectTally("fediverse.tag_days", select=TAG_DAYS)])
    fediverse.system.metadata.remove(made.tallies[-1].table)
    return made


@pytest.mark.timeout(3_600)
@pytest.mark.parametrize(
    ("made", "change", "left_out"),
    [
        (
            _fediverse,
            _post,
            [],
        ),
        (
            lambda: classroom.system,
            _event,
            # They have no course.
            ["classroom.user_time_spent", "classroom.report_daily_counts"],
        ),
    ],
    ids=["fediverse", "classroom"],
)
def test_exact_under_writers(
    engine: Engine,
    made: Callable[[], System],
    change: Callable[[Cursor, random.Random], None],
    left_out: list[str],
) -> None:
    system = made()
    by_hand = [t.name for t in system.tallies if not isinstance(t, SelectTally)]
    _create(engine, system)
    report = examine(engine, system, by_hand)
    assert set(report.refused) == set(left_out)
    without = [*by_hand, *left_out]
    do_first(engine, examine(engine, system, without))
    done = distribute(engine, system, without)
    assert [each.error for each in done] == [None] * SHARDS
    url = engine.url.render_as_string(hide_password=False)
    race = Race(url, kept_of(system, without), places_of(engine, family_of(system)), change)
    counted = [*(f"place {number}" for number in range(1, SHARDS + 1)), "coordinator"]
    race.run(lambda race: all(race.done[name] >= SNAPSHOTS for name in counted))
    assert race.wrong == []
    assert set(race.refused) <= {"write: DeadlockDetected"}, race.refused
    require_right(race.tallies, race.places)

"""Whatever one event holds costs that event alone: those of other instances are right at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine

from assets.fediverse.processing.batches import process
from assets.fediverse.replay import replay, verify_log
from assets.fediverse.storage.writing import Event, append
from assets.fediverse.tallies import system
from tallykeeper import refresh, verify
from tests.integration.fediverse_log import Log, created, emptied, status
from tests.integration.support import execute, rows, scalar
from tests.odd_events import EVENTS, OddEvent
from tests.servers import Servers

LAST = (
    "SELECT processed_at IS NOT NULL, process_error FROM fediverse.stream_events"
    " WHERE instance_id = 1 ORDER BY id DESC LIMIT 1"
)


@pytest.fixture(scope="module")
def log(postgres_servers: Servers) -> Iterator[Log]:
    with created(postgres_servers) as engine:
        log = emptied(engine)
        keep(engine)
        yield log


def keep(engine: Engine) -> None:
    for tally in system.tallies:
        refresh(engine, tally)


def receive(engine: Engine, odd: OddEvent) -> None:
    """Write it as the listener does: what jsonb cannot hold, as a string."""
    now = datetime.now(UTC)
    event = Event(1, now, odd.event_type, odd.payload)
    with engine.begin() as connection:
        for each, _ in append(connection, [event]):
            assert not append(connection, [replace(each, payload=json.dumps(each.payload))])


def test_the_list_of_odd_events_is_long_enough() -> None:
    assert len(EVENTS) >= 100
    assert len({event.name for event in EVENTS}) == len(EVENTS)


@pytest.mark.parametrize("odd", EVENTS, ids=lambda event: event.name)
def test_an_odd_event_costs_itself_alone(log: Log, odd: OddEvent) -> None:
    number = log.minutes + 1
    log.write("update", status(number, favourites_count=1), instance=2)
    receive(log.engine, odd)
    done = process(log.engine)
    assert (done.events, done.failed) == (2, 1 if odd.error else 0)
    ((processed, error),) = rows(log.engine, LAST)
    assert processed
    assert (error or "").startswith(odd.error or ""), error
    assert bool(error) == bool(odd.error), error
    keep(log.engine)
    healthy = "post_count, total_engagement FROM fediverse.{} WHERE instance_id = 2"
    for table in ("hourly_stats", "hourly_stats_live", "hourly_domain_stats"):
        assert rows(log.engine, f"SELECT {healthy.format(table)}") == [(number, 2 * number)], table


def test_all_of_it_is_right_in_the_end(log: Log) -> None:
    for tally in system.tallies:
        found = verify(log.engine, tally)
        assert found.ok, (tally.name, found.differences, found.quarantine)
    assert verify_log(log.engine).ok


def test_what_nobody_foresaw_is_found_by_halving_and_is_replayed_once_it_is_resolved(
    log: Log,
) -> None:
    engine = log.engine
    posts = "SELECT count(*) FROM fediverse.mastodon_posts WHERE content LIKE 'batch%'"
    constraint = "ALTER TABLE fediverse.mastodon_posts {} CONSTRAINT tame{}"
    execute(engine, constraint.format("ADD", " CHECK (content NOT LIKE '%wild%')"))
    for number in range(60):
        wild = " wild" if number in (17, 18, 41) else ""
        said = status(900_000 + number, content=f"batch {number}{wild}")
        log.write("update", said, instance=1 + number % 2)
    done = process(engine, batch_events=50)
    assert (done.events, done.failed) == (60, 3)
    assert scalar(engine, posts) == 57
    errors = rows(
        engine,
        "SELECT payload_status_id, process_error FROM fediverse.stream_events"
        " WHERE process_error LIKE 'the database refuses%' AND payload ->> 'content' LIKE 'batch%'",
    )
    assert len(errors) == 3
    assert all('check constraint "tame"' in error for _, error in errors), errors
    execute(engine, constraint.format("DROP", ""))
    assert replay(engine, log.start).retried >= 3
    assert scalar(engine, posts) == 60
    assert verify_log(engine).ok

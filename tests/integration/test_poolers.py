"""Everything through a pooler in transaction mode, where no session is one's own for long."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from sqlalchemy import Engine

from assets.gallery.tallies import content_tags
from assets.gallery.tallies import system as gallery
from assets.media.tallies import system as media
from tallykeeper import BackfillRunning, backfill, refresh, status, verify
from tallykeeper.database.connections import DatabaseUnavailable, open_engine
from tallykeeper.http.database import Snapshots
from tallykeeper.installation.migrate import migrate
from tallykeeper.maintain.backfill.lock import alone
from tests import pgbouncer
from tests.gallery import fill
from tests.integration.support import execute, rows, scalar


@pytest.fixture
def pooled(database_url: str) -> Iterator[Engine]:
    """An engine on an empty database behind a pooler with two connections."""
    with pgbouncer.in_front_of(database_url) as url:
        engine = open_engine(url)
        yield engine
        engine.dispose()


def test_all_that_is_done_with_tallies_works_side_by_side(pooled: Engine) -> None:
    migrate(pooled, [media, gallery], with_sources=True)
    fill(pooled, 60)
    snapshots = Snapshots(pooled)

    def writes() -> None:
        for number in range(40):
            execute(
                pooled,
                "INSERT INTO media.media_files (path, created_at)"
                f" VALUES ('{number}', now() - interval '1 day' * {number})",
            )

    def reads(writing: Future[None]) -> None:
        while not writing.done():
            snapshots.read(lambda c, _at: c.exec_driver_sql(LIVE).scalar_one())

    with ThreadPoolExecutor() as threads:
        writing = threads.submit(writes)
        reading = [threads.submit(reads, writing) for _ in range(2)]
        while not writing.done():
            for tally in media.tallies:
                refresh(pooled, tally)
                assert verify(pooled, tally).ok
        for each in (writing, *reading):
            each.result()
    backfill(pooled, content_tags)
    for tally in (*media.tallies, *gallery.tallies):
        refresh(pooled, tally)
        assert verify(pooled, tally).ok
        assert status(pooled, tally).pending == 0
    assert scalar(pooled, LIVE) == 40
    assert migrate(pooled, [media, gallery]).done == []


LIVE = "SELECT coalesce(sum(count), 0)::int FROM media.daily_contributions_live"


def test_a_second_backfill_is_refused_behind_a_pooler_too(pooled: Engine) -> None:
    migrate(pooled, [gallery], with_sources=True)
    with (
        alone(pooled, content_tags, lambda c, pid: AssertionError("the first is alone")),
        pytest.raises(BackfillRunning, match="is being backfilled"),
    ):
        backfill(pooled, content_tags)
    backfill(pooled, content_tags)


def test_nothing_of_a_session_is_left_to_whom_the_pooler_serves_next(pooled: Engine) -> None:
    migrate(pooled, [media], with_sources=True)
    for tally in media.tallies:
        refresh(pooled, tally)
        verify(pooled, tally)
    changed = (
        "SELECT name, setting FROM pg_settings WHERE source = 'session'"
        " AND name NOT IN ('DateStyle', 'client_encoding', 'application_name')"
    )
    plain = {"isolation_level": "AUTOCOMMIT"}
    with pooled.connect().execution_options(**plain) as connection:
        assert connection.exec_driver_sql(changed).all() == []


def test_statements_are_prepared_where_no_pooler_is_or_the_address_asks_for_it(
    engine: Engine, pooled: Engine
) -> None:
    address = pooled.url.render_as_string(hide_password=False)

    def threshold(opened: Engine) -> int | None:
        with opened.connect() as connection:
            driver = connection.connection.driver_connection
            assert driver is not None
            found: int | None = driver.prepare_threshold
        return found

    assert threshold(engine) == 5
    assert threshold(pooled) is None
    assert threshold(open_engine(f"{address}?prepare_threshold=0")) == 0
    assert threshold(open_engine(f"{address}?prepare_threshold=none")) is None


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("prepare_threshold=often", "expected a whole number or none as prepare_threshold"),
        ("autocommit=true", "'autocommit', which an address cannot set"),
        ("row_factory=dict_row", "'row_factory', which an address cannot set"),
    ],
)
def test_what_an_address_cannot_set_is_refused_in_a_sentence(query: str, said: str) -> None:
    with pytest.raises(DatabaseUnavailable, match=said):
        open_engine(f"postgresql://ann@db/app?{query}")


def test_a_pooler_that_does_not_know_options_is_named_as_the_cause(pooled: Engine) -> None:
    address = pooled.url.render_as_string(hide_password=False)
    with pytest.raises(DatabaseUnavailable, match="name the server itself instead of its pooler"):
        rows(open_engine(f"{address}?options=-cjit%3Doff"), "SELECT 1")

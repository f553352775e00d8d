"""About how long work on a tally takes: known once the same was done, and never an error."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, create_engine

from tallykeeper import SelectTally, System, migrate, rebuild, refresh, verify
from tallykeeper.maintain import durations
from tests.integration.support import create, execute
from tests.library import system as media

DAILY, HOURLY = media.tallies
ESTIMATES = (durations.of_refresh, durations.of_rebuild, durations.of_verify, durations.rows_of)


def add_files(engine: Engine, first: int, last: int) -> None:
    execute(
        engine,
        "INSERT INTO media.media_files (path, original_created_at) SELECT n::text,"
        f" '2020-01-01Z'::timestamptz + n * interval '1 day' FROM generate_series({first}, {last})"
        " AS n",
    )


@pytest.mark.parametrize("estimate", ESTIMATES)
def test_nothing_is_known_of_what_is_not_there(engine: Engine, estimate: object) -> None:
    assert callable(estimate)
    assert estimate(engine, DAILY) is None
    assert estimate(create_engine("postgresql+psycopg://nobody@127.0.0.1:1/x"), DAILY) is None


def test_of_a_select_it_is_what_changes_and_everything_took(engine: Engine) -> None:
    create(engine, media)
    counted = SelectTally(
        "media.counted", select="SELECT count(*) AS files FROM media.media_files AS f"
    )
    migrate(engine, [System("media", counted.table.metadata, [counted])])
    assert [estimate(engine, counted) for estimate in ESTIMATES] == [None] * 4, "never built"
    add_files(engine, 1, 3000)
    refresh(engine, counted)
    assert durations.of_verify(engine, counted) is None
    verify(engine, counted)
    seconds = [estimate(engine, counted) for estimate in ESTIMATES[:3]]
    assert all(each is not None and 0 < each < 60 for each in seconds)
    assert durations.rows_of(engine, counted) == 1
    everything = durations.of_rebuild(engine, counted)
    add_files(engine, 3001, 9000)
    pending = durations.of_refresh(engine, counted)
    assert everything is not None
    assert pending is not None
    assert 0 < pending <= everything, "never more than computing everything"


def test_what_was_computed_whole_took_what_it_took_until_the_next_refresh(engine: Engine) -> None:
    create(engine, media)
    add_files(engine, 1, 3000)
    rebuild(engine, DAILY)
    execute(engine, "DELETE FROM tallykeeper.refresh_costs")
    built = durations.of_rebuild(engine, DAILY)
    assert built is not None
    assert 0 < built < 60
    add_files(engine, 3001, 3100)
    refresh(engine, DAILY)
    execute(engine, "DELETE FROM tallykeeper.refresh_costs")
    assert durations.of_rebuild(engine, DAILY) is None, "what was measured last is a refresh"

"""Backfills in batches: exact, resumable, one at a time, and leaving the table as declared."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine

from assets.gallery.tallies import content_tags, gen_source_stats, system, tag_cardinality_stats
from tallykeeper import (
    BackfillRunning,
    BadLane,
    Progress,
    backfill,
    capture_faults,
    rebuild,
    refresh,
    status,
    verify,
)
from tallykeeper.database.sql import CLAIM_WRITING
from tests import gallery
from tests.gallery import JUNCTION, built, differing, require_each_batch_once
from tests.integration.support import create, execute, rows, scalar, stale_reasons

ITEMS = 300
LIVE = f"{JUNCTION}_live"
LOG = "tallykeeper.gallery_content_tags_log"
NAME = "gallery.content_tags"


class Cut(Exception):
    """What ends a backfill in the middle of a test."""


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    of_backfill = sys.modules["tallykeeper.maintain.backfill.run"]
    monkeypatch.setattr(of_backfill, "FIRST_ROWS", 100)
    monkeypatch.setattr(of_backfill, "LEAST_ROWS", 100)
    monkeypatch.setattr(of_backfill, "MOST_ROWS", 100)
    monkeypatch.setattr(sys.modules["tallykeeper.maintain.backfill.lock"], "PATIENCE_SECONDS", 0.2)


@pytest.fixture
def items(engine: Engine) -> Engine:
    """A gallery whose tallies were never built."""
    create(engine, system)
    gallery.fill(engine, ITEMS)
    execute(engine, *gallery.KEEP_HISTORY)
    return engine


@pytest.fixture
def built_gallery(items: Engine) -> Engine:
    """A gallery whose junction is built, its history empty."""
    backfill(items, content_tags)
    execute(items, CLAIM_WRITING, "TRUNCATE public.history", f"DELETE FROM {LOG}")
    return items


def after(batches: int, do: Callable[[], Any]) -> Callable[[Progress], None]:
    """Do something once, when so many batches are committed."""
    seen = []

    def on_progress(progress: Progress) -> None:
        if progress.paused is None and progress.building is None:
            seen.append(progress)
            if len(seen) == batches:
                do()

    return on_progress


def cut() -> None:
    """End the backfill here."""
    raise Cut


def settled(engine: Engine) -> None:
    """After a refresh the junction, what counts it and the declaration all say the same."""
    refresh(engine, content_tags)
    assert differing(engine) == 0
    assert verify(engine, content_tags).ok
    refresh(engine, tag_cardinality_stats)
    assert verify(engine, tag_cardinality_stats).ok
    with engine.connect() as connection:
        assert capture_faults(connection, content_tags) == []
        assert capture_faults(connection, tag_cardinality_stats) == []


def edit(engine: Engine) -> None:
    """Change items on both sides of wherever the position is, and tags."""
    execute(
        engine,
        "UPDATE gallery.content_items SET tags = tags[2:] WHERE id % 3 = 0",
        "DELETE FROM gallery.content_items WHERE id % 11 = 0",
        "DELETE FROM gallery.content_items_auto WHERE id > 290",
        "UPDATE gallery.content_items_auto SET tags = tags || (SELECT id FROM gallery.tags"
        " WHERE name = 't7') WHERE id % 5 = 0",
        "DELETE FROM gallery.tags WHERE name = 't3'",
        "INSERT INTO gallery.content_items (creator_id, tags)"
        " SELECT creator_id, tags FROM gallery.content_items WHERE id % 4 = 0",
    )


def test_an_empty_junction_is_loaded_in_batches_and_is_exact(items: Engine) -> None:
    seen: list[Progress] = []
    done = backfill(items, content_tags, on_progress=seen.append)
    assert differing(items) == 0
    total = scalar(items, f"SELECT count(*) FROM {JUNCTION}")
    assert (done.rows, done.keys_changed, done.items) == (total, total, 2 * ITEMS)
    assert (done.lanes, done.resumed) == (("regular", "auto"), False)
    assert require_each_batch_once(items) == {"regular": 13, "auto": 13}
    batches = [p for p in seen if p.building is None]
    assert len(batches) == done.batches == 26
    assert [p.items_done for p in batches] == sorted(p.items_done for p in batches)
    assert (batches[-1].items_done, batches[-1].items_total) == (2 * ITEMS, 2 * ITEMS)
    assert batches[-1].rows == sum(p.batch_rows for p in batches) == total
    assert batches[-1].eta_seconds == 0
    assert {p.building for p in seen} == {
        None,
        "content_tags_pkey",
        "content_tags_tag",
        "content_tags_tag_id_fkey",
    }
    assert scalar(items, f"SELECT count(*) FROM {LOG}") == 0
    assert (
        scalar(items, f"SELECT reltuples FROM pg_class WHERE oid = '{JUNCTION}'::regclass") == total
    )
    assert (status(items, content_tags).rows, status(items, content_tags).stale) == (total, ())
    settled(items)


def test_going_over_a_built_junction_writes_only_what_differs(built_gallery: Engine) -> None:
    execute(
        built_gallery,
        CLAIM_WRITING,
        f"DELETE FROM {JUNCTION} WHERE content_id % 9 = 0",
        f"INSERT INTO {JUNCTION} SELECT i, s, id FROM gallery.tags,"
        " (VALUES (-5, 'regular'), (40, 'regular'), (9999, 'auto'), (9999, 'regular'),"
        " (1, 'other')) AS v (i, s) ON CONFLICT DO NOTHING",
    )
    wrong = differing(built_gallery)
    done = backfill(built_gallery, content_tags)
    assert done.keys_changed == wrong > 0
    assert done.reason is None
    assert require_each_batch_once(built_gallery) == {"regular": 13, "auto": 13}
    assert backfill(built_gallery, content_tags).keys_changed == 0
    settled(built_gallery)


@pytest.mark.parametrize("batches", [1, 13, 20])
def test_an_interrupted_load_goes_on_where_it_was(items: Engine, batches: int) -> None:
    shape = built(items)
    with pytest.raises(Cut):
        backfill(items, content_tags, on_progress=after(batches, cut))
    assert differing(items, LIVE) == 0
    assert stale_reasons(items, NAME)
    done = backfill(items, content_tags)
    assert done.resumed
    assert done.batches == 26 - batches
    assert require_each_batch_once(items) == {"regular": 13, "auto": 13}
    assert built(items) == shape
    settled(items)


@pytest.mark.parametrize("batches", [13, 20])
def test_an_interrupted_replacement_goes_on_where_it_was(
    built_gallery: Engine, batches: int
) -> None:
    execute(built_gallery, CLAIM_WRITING, f"DELETE FROM {JUNCTION} WHERE content_id % 2 = 0")
    with pytest.raises(Cut):
        backfill(built_gallery, content_tags, on_progress=after(batches, cut))
    assert stale_reasons(built_gallery, NAME) == []
    done = backfill(built_gallery, content_tags)
    assert (done.resumed, done.batches) == (True, 26 - batches)
    assert require_each_batch_once(built_gallery) == {"regular": 13, "auto": 13}
    settled(built_gallery)


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5])
def test_a_load_cut_off_while_it_builds_what_it_dropped_finishes_that(
    items: Engine, step: int
) -> None:
    shape = built(items)
    seen: list[str] = []

    def cut_at(progress: Progress) -> None:
        if progress.building:
            seen.append(progress.building)
            if len(seen) == step:
                raise Cut

    with pytest.raises(Cut):
        backfill(items, content_tags, on_progress=cut_at)
    assert built(items) != shape
    done = refresh(items, content_tags)
    assert (done.how, built(items)) == ("rebuild", shape)
    assert scalar(items, "SELECT count(*) FROM tallykeeper.unbuilt") == 0
    settled(items)


def test_what_was_built_by_hand_after_a_load_was_cut_off_is_left_as_it_is(items: Engine) -> None:
    shape = built(items)
    with pytest.raises(Cut):
        backfill(items, content_tags, on_progress=after(26, cut))
    execute(
        items,
        f"ALTER TABLE {JUNCTION} ADD PRIMARY KEY (content_id, content_source, tag_id)",
        f"CREATE INDEX content_tags_tag ON {JUNCTION} (tag_id, content_source, content_id)",
    )
    backfill(items, content_tags)
    assert built(items) == shape
    settled(items)


def test_a_load_leaves_indexes_and_constraints_as_they_were(any_postgres_engine: Engine) -> None:
    engine = any_postgres_engine
    create(engine, system)
    gallery.fill(engine, 30)
    execute(
        engine,
        f"CREATE INDEX by_hand ON {JUNCTION} (content_id DESC) WHERE content_source = 'auto'",
        f'CREATE UNIQUE INDEX "By Hand" ON {JUNCTION} (tag_id, content_id, content_source)'
        " WITH (fillfactor = 70)",
        f"CREATE INDEX described ON {JUNCTION} (content_id)",
        "COMMENT ON INDEX gallery.described IS 'kept'",
        f"ALTER TABLE {JUNCTION} ADD CONSTRAINT twice UNIQUE (content_source, tag_id, content_id)",
        f"ALTER TABLE {JUNCTION} ADD CONSTRAINT unchecked FOREIGN KEY (tag_id)"
        " REFERENCES gallery.tags ON DELETE CASCADE NOT VALID",
    )
    shape = built(engine)
    during: list[list[tuple[str, ...]]] = []
    backfill(engine, content_tags, on_progress=after(1, lambda: during.append(built(engine))))
    indexes = [definition for kind, definition in during[0] if kind == "index"]
    assert len(indexes) == 1
    assert "described" in indexes[0]
    assert built(engine) == shape
    execute(engine, "SET search_path TO gallery", "DELETE FROM tags WHERE name = 't1'")
    settled(engine)


def test_writers_during_a_load_lose_nothing(items: Engine) -> None:
    def look_and_edit() -> None:
        assert differing(items, LIVE) == 0
        edit(items)
        assert differing(items, LIVE) == 0

    backfill(items, content_tags, on_progress=after(9, look_and_edit))
    assert differing(items, LIVE) == 0
    assert scalar(items, f"SELECT count(*) FROM {LOG}") > 0
    settled(items)


def test_writers_during_a_replacement_lose_nothing(built_gallery: Engine) -> None:
    def look_and_edit() -> None:
        edit(built_gallery)
        assert differing(built_gallery, LIVE) == 0

    backfill(built_gallery, content_tags, on_progress=after(9, look_and_edit))
    assert differing(built_gallery, LIVE) == 0
    settled(built_gallery)


def test_a_refresh_between_two_batches_of_a_replacement_is_no_harm(built_gallery: Engine) -> None:
    def edit_and_refresh() -> None:
        edit(built_gallery)
        assert refresh(built_gallery, content_tags).how == "refresh"
        assert differing(built_gallery) == 0

    backfill(built_gallery, content_tags, on_progress=after(9, edit_and_refresh))
    settled(built_gallery)


def test_a_tag_deleted_during_a_load_has_no_rows_left(items: Engine) -> None:
    shape = built(items)
    gone = "DELETE FROM gallery.tags WHERE name IN ('t1', 't2')"
    backfill(items, content_tags, on_progress=after(20, lambda: execute(items, gone)))
    assert built(items) == shape
    assert differing(items, LIVE) == 0
    settled(items)


def test_restart_begins_at_the_start(items: Engine) -> None:
    shape = built(items)
    with pytest.raises(Cut):
        backfill(items, content_tags, on_progress=after(7, cut))
    execute(items, "TRUNCATE public.history")
    done = backfill(items, content_tags, restart=True)
    assert not done.resumed
    assert require_each_batch_once(items) == {"regular": 13, "auto": 13}
    assert built(items) == shape
    settled(items)


def test_restart_of_a_replacement_begins_at_the_start(built_gallery: Engine) -> None:
    with pytest.raises(Cut):
        backfill(built_gallery, content_tags, on_progress=after(20, cut))
    execute(built_gallery, "TRUNCATE public.history")
    assert backfill(built_gallery, content_tags, restart=True).batches == 26
    assert require_each_batch_once(built_gallery) == {"regular": 13, "auto": 13}


def test_one_lane_at_a_time_leaves_the_other_to_be_built(items: Engine) -> None:
    done = backfill(items, content_tags, ["regular"])
    assert done.lanes == ("regular",)
    assert stale_reasons(items, NAME) == ["lane auto is not built yet"]
    assert differing(items, LIVE) == 0
    assert rows(items, f"SELECT DISTINCT content_source FROM {JUNCTION}") == [("regular",)]
    edit(items)
    assert backfill(items, content_tags).lanes == ("auto",)
    assert stale_reasons(items, NAME) == []
    assert status(items, content_tags).built_at is not None
    assert differing(items, LIVE) == 0
    settled(items)


def test_a_lane_of_a_built_junction_leaves_the_other_alone(built_gallery: Engine) -> None:
    execute(built_gallery, CLAIM_WRITING, f"DELETE FROM {JUNCTION} WHERE content_id < 50")
    backfill(built_gallery, content_tags, ["auto"])
    assert require_each_batch_once(built_gallery) == {"auto": 13}
    assert rows(
        built_gallery, f"SELECT DISTINCT content_source FROM {JUNCTION} WHERE content_id < 50"
    ) == [("auto",)]
    assert stale_reasons(built_gallery, NAME) == []


@pytest.mark.parametrize("batches", [5, 20])
def test_a_source_truncated_meanwhile_makes_the_next_refresh_start_over(
    items: Engine, batches: int
) -> None:
    shape = built(items)
    truncate = "TRUNCATE gallery.content_items"
    backfill(items, content_tags, on_progress=after(batches, lambda: execute(items, truncate)))
    assert stale_reasons(items, NAME) == ["gallery.content_items was truncated"]
    assert differing(items, LIVE) == 0
    assert refresh(items, content_tags).reason == "gallery.content_items was truncated"
    assert built(items) == shape
    settled(items)


def test_a_source_truncated_after_a_load_was_cut_off_starts_it_over(items: Engine) -> None:
    shape = built(items)
    with pytest.raises(Cut):
        backfill(items, content_tags, on_progress=after(5, cut))
    execute(items, "TRUNCATE gallery.content_items")
    refresh(items, content_tags)
    assert built(items) == shape
    settled(items)


def test_a_second_backfill_is_refused_with_how_far_the_first_is(items: Engine) -> None:
    refused: list[str] = []

    def second() -> None:
        for attempt in (backfill, refresh, rebuild):
            with pytest.raises(BackfillRunning) as error:
                attempt(items, content_tags)
            refused.append(str(error.value))

    backfill(items, content_tags, on_progress=after(13, second))
    assert all("300 of 600 items done" in sentence for sentence in refused), refused
    assert all("process id" in sentence for sentence in refused)
    assert len(refused) == 3
    settled(items)


def test_a_run_that_was_replaced_ends_by_itself(items: Engine) -> None:
    steal = "UPDATE tallykeeper.backfills SET run = gen_random_uuid()"
    with pytest.raises(BackfillRunning, match="replaced this one"):
        backfill(items, content_tags, on_progress=after(3, lambda: execute(items, steal)))
    backfill(items, content_tags)
    assert require_each_batch_once(items) == {"regular": 13, "auto": 13}


def test_refresh_builds_what_was_never_built_and_takes_what_is_pending(items: Engine) -> None:
    done = refresh(items, content_tags)
    assert (done.how, done.reason) == ("rebuild", "never built")
    assert done.rows == done.inserted == scalar(items, f"SELECT count(*) FROM {JUNCTION}")
    edit(items)
    assert refresh(items, content_tags).how == "refresh"
    settled(items)


def test_rebuild_repairs_what_was_changed_by_hand(built_gallery: Engine) -> None:
    execute(built_gallery, CLAIM_WRITING, f"DELETE FROM {JUNCTION} WHERE content_id = 8")
    edit(built_gallery)
    done = rebuild(built_gallery, content_tags)
    assert (done.how, done.reason) == ("rebuild", None)
    assert scalar(built_gallery, f"SELECT count(*) FROM {LOG}") == 0
    settled(built_gallery)


def test_a_table_in_use_is_not_stripped(items: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["tallykeeper.catalog.transactions"], "ATTEMPTS", 2)
    monkeypatch.setattr(sys.modules["tallykeeper.catalog.transactions"], "PATIENCE_SECONDS", 0.0)
    shape = built(items)
    during: list[list[tuple[str, ...]]] = []
    with items.connect() as reader:
        reader.exec_driver_sql(f"SELECT FROM {JUNCTION}")
        backfill(items, content_tags, on_progress=after(1, lambda: during.append(built(items))))
    assert during == [shape]
    settled(items)


def test_batches_grow_at_most_twofold_towards_their_target(
    items: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["tallykeeper.maintain.backfill.run"], "MOST_ROWS", 1_000_000)
    seen: list[Progress] = []
    backfill(items, content_tags, ["auto"], target_seconds=1_000, on_progress=seen.append)
    sizes = [p.batch_rows for p in seen]
    assert len(sizes) == 4
    assert all(100 * 2**n * 0.7 < size <= 100 * 2**n * 1.2 for n, size in enumerate(sizes[:3]))


def test_what_has_no_such_lane_is_reported(items: Engine) -> None:
    with pytest.raises(BadLane, match="no lane 'manual'; it has regular, auto"):
        backfill(items, content_tags, ["regular", "manual"])
    with pytest.raises(BadLane, match="not built in batches; `tally rebuild"):
        backfill(items, gen_source_stats)
    with pytest.raises(ValueError, match="longer than nothing"):
        backfill(items, content_tags, target_seconds=0)


def test_it_pauses_while_a_replica_is_behind(
    items: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(items, "CREATE TABLE public.lag (seconds numeric)", "INSERT INTO lag VALUES (14)")
    throttle = sys.modules["tallykeeper.maintain.backfill.throttle"]
    monkeypatch.setattr(throttle, "LAG", "SELECT seconds FROM public.lag")
    monkeypatch.setattr(throttle, "LOOK_AT_LAG_SECONDS", 0.1)
    paused: list[str] = []

    def on_progress(progress: Progress) -> None:
        if progress.paused:
            paused.append(progress.paused)
            if len(paused) == 3:
                execute(items, "UPDATE public.lag SET seconds = NULL")

    done = backfill(items, content_tags, on_progress=on_progress)
    assert paused == ["a replica is 14 s behind"] * 3
    assert done.paused_seconds >= 0.3


def test_it_pauses_after_it_had_to_wait_for_its_lock(items: Engine) -> None:
    paused: list[str] = []
    holder = items.connect()

    def hold() -> None:
        holder.exec_driver_sql(f"LOCK TABLE {JUNCTION} IN ROW EXCLUSIVE MODE")
        threading.Timer(0.5, holder.rollback).start()

    at_third = after(3, hold)

    def on_progress(progress: Progress) -> None:
        paused.extend([progress.paused] if progress.paused else [])
        at_third(progress)

    done = backfill(items, content_tags, on_progress=on_progress)
    holder.close()
    assert len(paused) == 1
    assert paused[0].startswith("the last batch waited 0.")
    assert done.paused_seconds > 0.1
    settled(items)


def test_it_pauses_when_others_wait_for_it(items: Engine) -> None:
    """A trigger on the junction holds one batch until a writer waits for it."""
    execute(
        items,
        "CREATE FUNCTION public.linger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " FOR i IN 1..200 LOOP EXIT WHEN EXISTS (SELECT FROM pg_locks WHERE NOT granted);"
        " PERFORM pg_sleep(0.05); END LOOP; RETURN NULL; END $$",
        f"CREATE TRIGGER linger AFTER INSERT ON {JUNCTION} EXECUTE FUNCTION public.linger()",
    )
    url = items.url
    writers: list[threading.Thread] = []

    def write() -> None:
        other = create_engine(url)
        execute(other, f"LOCK TABLE {JUNCTION} IN ROW EXCLUSIVE MODE")
        execute(other, f"DROP TRIGGER linger ON {JUNCTION}")
        other.dispose()

    paused: list[str] = []

    def on_progress(progress: Progress) -> None:
        paused.extend([progress.paused] if progress.paused else [])

    writers.append(threading.Timer(0.5, write))
    writers[0].start()
    backfill(items, content_tags, on_progress=on_progress)
    writers[0].join()
    assert "another session waited for the last batch" in paused
    settled(items)

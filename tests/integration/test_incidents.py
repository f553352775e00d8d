"""Incidents: opened, counted, resolved; what the engine itself writes down; causes; hand edits."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, text

import tallykeeper
from assets.gallery.tallies import content_tags
from assets.gallery.tallies import system as gallery
from assets.media.tallies import daily_contributions as daily
from assets.media.tallies import system as media
from tallykeeper.catalog import state
from tallykeeper.database.sql import CLAIM_WRITING
from tallykeeper.faults import incidents
from tallykeeper.operations.differences import record
from tallykeeper.operations.repair_answers import doing
from tests.integration.support import create, execute, rows, scalar

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def built(engine: Engine) -> Engine:
    create(engine, media)
    execute(
        engine,
        "INSERT INTO media.media_files (path, original_created_at) SELECT 'f' || n,"
        " timestamptz '2026-01-01 12:00Z' + n * interval '1 day' FROM generate_series(0, 4) AS n",
    )
    for tally in media.tallies:
        tallykeeper.refresh(engine, tally)
        assert tallykeeper.verify(engine, tally).ok
    return engine


def test_what_is_found_again_is_counted_and_ends_when_it_is_right(built: Engine) -> None:
    with built.begin() as connection:
        first = incidents.report(
            connection, "media.a", "differs", "2 keys", cause="a hand", differing=2, at=NOW
        )
        assert (first.times, first.is_first, first.is_open) == (1, True, True)
        later = NOW + timedelta(hours=1)
        again = incidents.report(connection, "media.a", "differs", "1 key", differing=1, at=later)
        assert (again.id, again.times, again.what) == (first.id, 2, "1 key")
        assert (again.cause, again.differing) == ("a hand", 2)
        assert (again.found_at, again.last_found_at) == (NOW, later)
        other = incidents.report(connection, "media.a", "capture", "off")
        assert other.id != first.id
        assert incidents.open_counts(connection) == {"media.a": 2}
        assert incidents.resolve(connection, "media.a", "differs", "verify", at=NOW) is None
        resolved = incidents.resolve(connection, "media.a", "differs", "verify", at=later)
        assert resolved is not None
        assert (resolved.resolved_by, resolved.is_open) == ("verify", False)
        assert incidents.resolve(connection, "media.a", "differs", "verify") is None
        anew = incidents.report(connection, "media.a", "differs", "3 keys")
        assert (anew.id != first.id, anew.times) == (True, 1)
        listed = incidents.listed(connection)
        assert [i.id for i in listed] == [anew.id, other.id, first.id]
        assert incidents.listed(connection, open_only=True, subject="media.b") == []


def test_a_rebuild_for_a_fault_is_written_down_and_one_for_want_of_rows_is_not(
    built: Engine,
) -> None:
    with built.begin() as connection:
        assert incidents.listed(connection) == [], "a first build is no fault"
        state.mark_stale(connection, daily, state.DECLARATION_CHANGED)
    tallykeeper.refresh(built, daily)
    with built.begin() as connection:
        (found,) = incidents.listed(connection)
        assert (found.subject, found.kind, found.what) == (
            "media.daily_contributions",
            "stale",
            "its declaration changed",
        )
        assert (found.resolved_by, found.is_open) == ("rebuilt", False)
    execute(built, "TRUNCATE media.media_files")
    tallykeeper.refresh(built, daily)
    assert scalar(built, "SELECT count(*) FROM tallykeeper.incidents") == 1


@pytest.mark.parametrize(
    ("statement", "operation"),
    [
        ("UPDATE media.daily_contributions SET count = 9 WHERE date = '2026-01-02Z'", "UPDATE"),
        ("DELETE FROM media.daily_contributions WHERE date = '2026-01-02Z'", "DELETE"),
        ("INSERT INTO media.daily_contributions (date, count) VALUES ('2020-01-02Z', 9)", "INSERT"),
        ("TRUNCATE media.daily_contributions", "TRUNCATE"),
    ],
)
def test_a_hand_edit_makes_the_tally_stale_at_once_and_the_next_refresh_rebuilds_it(
    built: Engine, statement: str, operation: str
) -> None:
    live = "SELECT date, count FROM media.daily_contributions_live ORDER BY date"
    before = rows(built, live)
    with built.begin() as connection:
        connection.execute(text(statement))
        assert [tuple(row) for row in connection.execute(text(live))] == before
        role = connection.scalar(text("SELECT session_user"))
    assert rows(built, live) == before
    (reason,) = tallykeeper.verify(built, daily, "touched").stale
    assert reason.startswith(f"edited by hand: {operation} by {role} through tallykeeper at 2")
    with built.begin() as connection:
        what = tallykeeper.likely_cause(connection, daily)
    assert what is not None
    assert re.sub(r" of (up to )?\d+ rows?", "", what) == reason
    done = tallykeeper.refresh(built, daily)
    assert (done.how, done.reason) == ("rebuild", reason)
    assert tallykeeper.verify(built, daily, "touched").ok
    with built.begin() as connection:
        (found,) = incidents.listed(connection)
    assert (found.subject, found.kind, found.what) == (daily.name, "edited", what)
    assert (found.is_open, found.resolved_by) == (False, "rebuilt")
    assert rows(built, "SELECT * FROM tallykeeper.hand_edits") == []
    with built.begin() as connection:
        assert tallykeeper.likely_cause(connection, daily) is None


def compare(engine: Engine) -> list[incidents.Incident]:
    """What `tally verify` does for the tally; the incidents that are open then."""
    found = tallykeeper.verify(engine, daily)
    with engine.begin() as connection:
        record(connection, daily, found)
        return incidents.listed(connection, open_only=True)


def test_verify_opens_incidents_as_the_checks_do_and_resolves_theirs(built: Engine) -> None:
    execute(built, CLAIM_WRITING, "UPDATE media.daily_contributions SET count = 9 WHERE count = 1")
    (found,) = compare(built)
    assert (found.kind, found.differing) == ("differs", 5)
    assert found.what == "5 keys differ from the sources, on 2026-01-01 to 2026-01-05."
    assert found.details["repair"]["days"] == [["2026-01-01", "2026-01-05"]]
    assert found.details["keys"][0] == {
        "date": "2026-01-01T00:00:00+00:00",
        "count (stored)": "9",
        "count (expected)": "1",
    }
    with built.begin() as connection:
        # What the check says of it, once it has found it too.
        known = {**found.details, "evaluation": 7, "answered": 7, "answer": "requested"}
        incidents.report(connection, daily.name, "differs", found.what, details=known)
    execute(built, "ALTER TABLE media.media_files DISABLE TRIGGER tallykeeper_delete")
    differs, capture = sorted(compare(built), key=lambda each: each.kind, reverse=True)
    assert (differs.times, differs.details["answer"]) == (3, "requested")
    assert (
        capture.what == "media.media_files: the delete trigger is disabled, or not enabled always"
    )
    execute(built, "ALTER TABLE media.media_files ENABLE ALWAYS TRIGGER tallykeeper_delete")
    with built.begin() as connection:
        tallykeeper.install(connection, media.tallies)
    tallykeeper.rebuild(built, daily)
    assert compare(built) == []
    with built.begin() as connection:
        resolved = {i.kind: i.resolved_by for i in incidents.listed(connection)}
    assert resolved["differs"] == resolved["capture"] == "tally verify"


def test_verify_says_who_edited_a_table_by_hand_and_that_a_key_is_in_quarantine(
    built: Engine,
) -> None:
    execute(built, "DELETE FROM media.daily_contributions")
    (edited,) = compare(built)
    assert (edited.kind, edited.what.split(" by ")[1]) == ("edited", "hand: DELETE of up to 5 rows")
    assert doing(edited).startswith("Reads answer from the sources meanwhile.")
    tallykeeper.refresh(built, daily)
    assert compare(built) == []
    execute(
        built,
        "ALTER TABLE media.daily_contributions ADD CONSTRAINT few CHECK (count < 2)",
        "INSERT INTO media.media_files (path, original_created_at) VALUES ('x', '2026-01-01Z')",
    )
    tallykeeper.refresh(built, daily)
    (found,) = compare(built)
    assert (found.kind, found.differing) == ("differs", 0)
    assert found.what.startswith("1 key is in quarantine, which the derived table cannot hold")
    execute(built, "ALTER TABLE media.daily_contributions DROP CONSTRAINT few")
    tallykeeper.refresh(built, daily)
    assert compare(built) == []


def test_what_the_engine_and_cascades_write_is_no_hand_edit(engine: Engine) -> None:
    create(engine, gallery)
    execute(
        engine,
        "INSERT INTO gallery.users (username) VALUES ('ann'), ('ben')",
        "INSERT INTO gallery.tags (name) VALUES ('a'), ('b')",
        "INSERT INTO gallery.content_items (creator_id, tags)"
        " SELECT u.id, ARRAY(SELECT id FROM gallery.tags) FROM gallery.users AS u",
    )
    for tally in gallery.tallies:
        tallykeeper.refresh(engine, tally)
    execute(engine, "DELETE FROM gallery.tags WHERE name = 'b'")
    for tally in gallery.tallies:
        tallykeeper.refresh(engine, tally)
        tallykeeper.rebuild(engine, tally)
    assert rows(engine, "SELECT * FROM tallykeeper.hand_edits") == []


def test_a_trigger_that_is_off_is_the_cause(built: Engine) -> None:
    execute(
        built,
        "ALTER TABLE media.media_files DISABLE TRIGGER tallykeeper_delete",
        "DELETE FROM media.media_files WHERE path = 'f2'",
    )
    assert tallykeeper.verify(built, daily).days == ("2026-01-03",)
    with built.begin() as connection:
        cause = tallykeeper.likely_cause(connection, daily)
    assert cause == "media.media_files: the delete trigger is disabled, or not enabled always"


def test_what_differed_is_looked_at_again_until_it_is_right(built: Engine) -> None:
    execute(
        built,
        CLAIM_WRITING,
        "UPDATE media.daily_contributions SET count = 9 WHERE date = '2026-01-04Z'",
    )
    assert tallykeeper.verify(built, daily, "touched").ok, "nobody noted it"
    assert tallykeeper.verify(built, daily).days == ("2026-01-04",)
    again = tallykeeper.verify(built, daily, "touched")
    assert (again.whole, again.days) == (False, ("2026-01-04",))
    day = datetime(2026, 1, 4, tzinfo=UTC)
    tallykeeper.rebuild(built, daily, day, day + timedelta(days=1))
    assert tallykeeper.verify(built, daily, "touched").ok
    assert tallykeeper.verify(built, daily).ok


def test_single_keys_are_rebuilt_and_no_others(engine: Engine) -> None:
    create(engine, gallery)
    execute(
        engine,
        "INSERT INTO gallery.users (username) VALUES ('ann')",
        "INSERT INTO gallery.tags (name) VALUES ('a'), ('b'), ('c')",
        "INSERT INTO gallery.content_items (creator_id, tags)"
        " SELECT u.id, ARRAY(SELECT id FROM gallery.tags ORDER BY id) FROM gallery.users AS u,"
        " generate_series(1, 4)",
    )
    tallykeeper.refresh(engine, content_tags)
    assert tallykeeper.verify(engine, content_tags).ok
    execute(
        engine,
        CLAIM_WRITING,
        "DELETE FROM gallery.content_tags WHERE tag_id ="
        " (SELECT id FROM gallery.tags WHERE name = 'b')",
    )
    found = tallykeeper.verify(engine, content_tags)
    assert found.differing == 4
    done = tallykeeper.rebuild_keys(engine, content_tags, [found.differences[0].key])
    assert (done.inserted, done.keys_changed) == (1, 1)
    left = tallykeeper.verify(engine, content_tags, "touched")
    assert (left.whole, left.differing) == (False, 3)
    tallykeeper.rebuild_keys(engine, content_tags, [d.key for d in left.differences])
    assert tallykeeper.verify(engine, content_tags, "touched").ok
    assert tallykeeper.verify(engine, content_tags).ok


def test_the_key_of_an_additive_tally_is_rebuilt_with_what_is_pending_for_it(
    built: Engine,
) -> None:
    execute(
        built,
        CLAIM_WRITING,
        "UPDATE media.daily_contributions SET count = 9 WHERE date = '2026-01-02Z'",
        "INSERT INTO media.media_files (path, original_created_at) VALUES"
        " ('late', '2026-01-02 13:00Z'), ('other', '2026-01-03 13:00Z')",
    )
    key = tallykeeper.verify(built, daily).differences[0].key
    done = tallykeeper.rebuild_keys(built, daily, [key])
    assert (done.pending_consumed, done.keys_changed) == (1, 1)
    assert tallykeeper.verify(built, daily).ok
    assert (
        scalar(built, "SELECT count FROM media.daily_contributions_live WHERE date = '2026-01-02Z'")
        == 2
    )


def test_a_lost_hand_trigger_is_repaired_without_a_rebuild(built: Engine) -> None:
    execute(built, "DROP TRIGGER tallykeeper_hand ON media.daily_contributions")
    with built.begin() as connection:
        assert tallykeeper.capture_faults(connection, daily) == [
            "media.daily_contributions: the hand edit trigger is missing"
        ]
        done = tallykeeper.install(connection, media.tallies)
    assert done == ["repaired media.daily_contributions: the hand edit trigger is missing"]
    assert tallykeeper.status(built, daily).stale == ()
    assert tallykeeper.verify(built, daily, "touched").whole, "it may have been edited meanwhile"

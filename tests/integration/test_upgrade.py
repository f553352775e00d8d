"""The database of an earlier release, brought up by `tally migrate` while applications write.

Invariants: no change is missed and no snapshot is wrong, before, while or after capture
is replaced; a tally whose declaration is the same is not rebuilt.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from sqlalchemy import Engine, Table

from tallykeeper import DoesNotFit, SelectTally, Tally
from tallykeeper.capture import trigger_bodies
from tallykeeper.discovery import all_systems
from tallykeeper.installation.migrate import migrate
from tests.classroom import ASSIGNMENT_COUNTS
from tests.integration.load import ORACLES, come_to_rest, stale, tallies, under_load
from tests.integration.releases import RELEASES, restore
from tests.integration.support import execute, judge, rows, scalar

LAST_WITH_ALEMBIC = "0.2.0"


def captures(engine: Engine) -> dict[str, str]:
    """The text of every function that capture has, by name."""
    found = rows(
        engine,
        "SELECT proname, prosrc FROM pg_proc WHERE pronamespace = 'tallykeeper'::regnamespace"
        " AND proname LIKE 'capture%'",
    )
    return dict(found)


def declared_anew(engine: Engine) -> set[str]:
    """The tallies that the release declared otherwise than this code does."""
    then = dict(rows(engine, "SELECT tally, declaration_hash FROM tallykeeper.tally_state"))
    return {tally.name for tally in tallies() if not tally.continues(then.get(tally.name, ""))}


def of_hand(engine: Engine) -> set[str]:
    """The SELECTs that do what the release did by hand, with a log of another form."""
    then = dict(rows(engine, "SELECT tally, declaration_hash FROM tallykeeper.tally_state"))
    kept = [t for t in tallies() if isinstance(t, SelectTally) and t.name in then]
    function = "SELECT to_regproc('tallykeeper.{}_{}_pending_keys')"
    return {
        t.name
        for t in kept
        if t.continues(then[t.name]) and scalar(engine, function.format(t.system, t.table.name))
    }


def with_states(names: set[str]) -> set[str]:
    """Those of the tallies that store intermediate results, which there were not before."""
    kept = [t for t in tallies() if t.name in names]
    return {t.name for t in kept if isinstance(t, SelectTally) and t.plan.nodes}


def in_other_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this code's capture be another text that does the same."""
    written = trigger_bodies.function_body

    def body(source: Table, event: str, over: Sequence[Tally], belongs: str | None = None) -> str:
        return f"-- of another release\n{written(source, event, over, belongs)}"

    monkeypatch.setattr(trigger_bodies, "function_body", body)


@pytest.fixture(params=RELEASES)
def release(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_version_of_postgresql_brings_a_release_up_and_rebuilds_what_it_must(
    release: str, any_postgres_engine: Engine
) -> None:
    url = any_postgres_engine.url.render_as_string(hide_password=False)
    url = url.replace("postgresql+psycopg", "postgresql")
    restore(release, url)
    pending = {
        tally.name: scalar(any_postgres_engine, f"SELECT count(*) FROM {tally.log_name}")
        for tally in tallies()
        if scalar(any_postgres_engine, f"SELECT to_regclass('{tally.log_name}')")
    }
    assert sum(1 for changes in pending.values() if changes) > len(ORACLES) / 2
    rebuilt, by_hand = declared_anew(any_postgres_engine), of_hand(any_postgres_engine)
    done = migrate(any_postgres_engine)
    rebuilt |= with_states(by_hand)
    assert {s.name for s in done.systems} == {s.name for s in all_systems()}
    assert stale(any_postgres_engine) == rebuilt
    assert migrate(any_postgres_engine).done == []
    judge(any_postgres_engine, ORACLES)
    for tally in tallies():
        if tally.name not in rebuilt and not tally.upstream:
            taken = scalar(any_postgres_engine, f"SELECT count(*) FROM {tally.log_name}")
            if tally.name in by_hand:
                # A mark for each key that was pending.
                assert bool(taken) == bool(pending[tally.name])
            else:
                assert taken == pending[tally.name]
    left = "SELECT count(*) FROM pg_proc WHERE proname ~ '_(pending_keys|rows_of_keys)$'"
    of_select = [t for t in tallies() if isinstance(t, SelectTally)]
    assert scalar(any_postgres_engine, left) == 2 * (len(list(tallies())) - len(of_select))
    come_to_rest(any_postgres_engine, url, rebuilt)


@pytest.mark.concurrency
@pytest.mark.slow
@pytest.mark.parametrize("other_words", [False, True], ids=["as it is", "with another capture"])
def test_no_change_is_missed_while_a_release_is_brought_up(
    other_words: bool,
    release: str,
    engine: Engine,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    restore(release, database_url)
    before, rebuilt, by_hand = captures(engine), declared_anew(engine), of_hand(engine)
    if other_words:
        in_other_words(monkeypatch)
    with under_load(database_url) as load:
        seen = load.snapshots
        done = migrate(engine).done
        rebuilt |= with_states(by_hand)
        load.wait_for(1)
    assert load.snapshots > seen
    if other_words:
        after = captures(engine)
        # Those of derived tables and change logs are other texts, which stay as they are.
        own = re.compile(r"cascade|_hand(_|$)|_log$")
        same = [n for n, text in before.items() if after[n] == text and not own.search(n)]
        assert same == []
        assert len([n for n in before if not own.search(n)]) > len(list(tallies()))
        said = {sentence.partition(" (")[0] for sentence in done}
        assert {f"installed {tally.name}" for tally in tallies()} <= said
    assert stale(engine) == rebuilt
    come_to_rest(engine, database_url, rebuilt)


def test_a_release_that_is_not_known_is_refused(engine: Engine, database_url: str) -> None:
    restore(LAST_WITH_ALEMBIC, database_url)
    execute(
        engine,
        "UPDATE tallykeeper.alembic_version SET version_num = 'media_9999'"
        " WHERE version_num LIKE 'media%'",
    )
    expected = "media_9999, which this version does not know; update Tallykeeper. Nothing was"
    with pytest.raises(DoesNotFit, match=expected):
        migrate(engine)


def test_a_release_with_alembic_refuses_what_was_upgraded(
    engine: Engine, database_url: str
) -> None:
    restore(LAST_WITH_ALEMBIC, database_url)
    execute(engine, "INSERT INTO tallykeeper.alembic_version VALUES ('mine_0002')")
    migrate(engine)
    # Those refuse a system that has a revision, of its name, which is not among their own.
    found = scalar(engine, "SELECT array_agg(version_num) FROM tallykeeper.alembic_version")
    assert set(found) == {f"{s.name}_after_0_2" for s in all_systems()} | {"mine_after_0_2"}
    assert migrate(engine).done == []


def test_what_was_pending_by_hand_and_is_deleted_next_is_not_there(
    engine: Engine, database_url: str
) -> None:
    """The image of a deleted row must not cancel the one that says that its key is pending."""
    restore(LAST_WITH_ALEMBIC, database_url)
    migrate(engine)
    log = "tallykeeper.classroom_assignment_counts_log"
    pending = scalar(engine, f'SELECT array_agg(DISTINCT "1.id") FROM {log}')
    assert pending
    listed = ", ".join(map(str, pending))
    execute(engine, f"DELETE FROM classroom.assignments WHERE id IN ({listed})")
    judge(engine, [ASSIGNMENT_COUNTS])

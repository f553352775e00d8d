"""Pruning a source: its rows go, what they count stays, in whatever order things happen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console
from sqlalchemy import Engine, MetaData

from tallykeeper import (
    CannotPrune,
    DoesNotFit,
    Pruned,
    SelectTally,
    System,
    drop,
    migrate,
    prune,
    rebuild,
    rebuild_keys,
    refresh,
    status,
    verify,
)
from tallykeeper.cli.output.explanations import in_words
from tallykeeper.cli.output.tallies import show_status
from tallykeeper.maintain.explanation.explain import explain
from tallykeeper.maintain.trial import trial
from tallykeeper.strategies import pruned_rows
from tests.integration.support import execute, rows, scalar, stale_reasons
from tests.pruned_store import install, install_with_notes, prune_sales, system, wrong

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY_20 = START + timedelta(days=20)


@pytest.fixture
def store(engine: Engine) -> System:
    return install(engine, execute)


def pruned(engine: Engine, store: System, before: datetime = DAY_20, **named: object) -> Pruned:
    """Prune the sales, by a connection whose deleted rows are kept elsewhere."""
    return prune_sales(engine, store.tallies, before, **named)


def all_right(engine: Engine, store: System, *steps: object) -> None:
    """Every tally is what it must be, live and compared, and again after each step."""
    for step in (lambda *_: None, *steps):
        for tally in store.tallies:
            step(engine, tally)  # type: ignore[operator]
            assert rows(engine, wrong(tally)) == [], (step, tally.name)
            assert verify(engine, tally).ok, (step, tally.name)


def test_rows_go_and_what_they_count_stays(any_postgres_engine: Engine) -> None:
    engine = any_postgres_engine
    store = install(engine, execute)
    was = {t: rows(engine, f"SELECT * FROM {t.live_name} ORDER BY 1, 2") for t in store.tallies}
    done = pruned(engine, store, batch_rows=100)
    assert (done.rows, done.batches, done.by) == (669, 7, "at")
    assert set(done.tallies) == {tally.name for tally in store.tallies}
    assert scalar(engine, "SELECT count(*) FROM store.sales") == 331
    assert scalar(engine, "SELECT count(*) FROM public.shadow") == 669
    all_right(engine, store, refresh, rebuild)
    for tally in store.tallies:
        assert rows(engine, f"SELECT * FROM {tally.live_name} ORDER BY 1, 2") == was[tally]
        assert status(engine, tally).pending == 0
    assert pruned(engine, store).rows == 0


def test_a_dry_run_deletes_nothing(engine: Engine, store: System) -> None:
    done = pruned(engine, store, dry_run=True)
    assert (done.rows, done.batches, done.dry_run) == (669, 0, True)
    assert scalar(engine, "SELECT count(*) FROM store.sales") == 1000
    assert status(engine, store.tallies[0]).pruned == ()


def test_changes_of_pruned_history_are_exact(engine: Engine, store: System) -> None:
    execute(engine, "UPDATE store.sales SET cents = cents + 1 WHERE id % 5 = 0")
    pruned(engine, store)
    for statement in (
        # Older than what was pruned; moved to before it, and from there; of keys pruned whole.
        "INSERT INTO store.sales VALUES (5000, 1, 'a', 7, '2026-01-03 05:00Z')",
        "UPDATE store.sales SET at = at - interval '25 days' WHERE id % 2 = 0",
        "UPDATE store.sales SET at = at + interval '25 days', kind = 'b' WHERE id % 6 = 0",
        "DELETE FROM store.sales WHERE id % 7 = 0",
        "TRUNCATE store.sales",
        "INSERT INTO store.sales SELECT n, 1, 'a', 1, '2026-01-05Z' FROM generate_series(1, 9) n",
    ):
        execute(engine, statement)
        for tally in store.tallies:
            assert rows(engine, wrong(tally)) == [], (statement, tally.name)
            # TRUNCATE leaves nothing to compare before.
            refresh(engine, tally)
        all_right(engine, store)
    pruned(engine, store, START + timedelta(days=60))
    all_right(engine, store, refresh, rebuild)


def test_a_stale_tally_is_pruned_and_read_exactly(engine: Engine, store: System) -> None:
    execute(engine, *(f"DELETE FROM {tally.table}" for tally in store.tallies))
    pruned(engine, store)
    for tally in store.tallies:
        assert rows(engine, wrong(tally)) == []
        assert refresh(engine, tally).how == "rebuild"
    all_right(engine, store)


def test_windows_and_keys_are_built_with_pruned_rows(engine: Engine, store: System) -> None:
    pruned(engine, store)
    daily = store.tallies[0]
    rebuild(engine, daily, START, START + timedelta(days=3))
    by_kind = next(t for t in store.tallies if t.table.name == "by_kind")
    rebuild_keys(engine, by_kind, [{"kind": None}, {"kind": "a"}])
    all_right(engine, store)


def test_it_is_shown(engine: Engine, store: System) -> None:
    pruned(engine, store)
    daily = store.tallies[0]
    assert isinstance(daily, SelectTally)
    (found,) = status(engine, daily).pruned
    said = "counts 669 pruned rows of store.sales, with at before 2026-01-21"
    assert found.in_words == said
    explained = explain(engine, daily)
    assert explained.pruned == (found,)
    assert said in " ".join(" ".join(in_words(explained)).split())
    console = Console(record=True, width=80)
    show_status([(daily, status(engine, daily))], {}, console)
    assert f"store.daily {said}" in console.export_text()
    assert trial(engine, daily, rows=1).ok


def test_sums_written_by_hand_are_noticed(engine: Engine, store: System) -> None:
    pruned(engine, store)
    daily = store.tallies[0]
    execute(engine, f"UPDATE {daily.pruned_name} SET n = n + 1")
    (reason,) = stale_reasons(engine, daily.name)
    assert reason.startswith("edited by hand: UPDATE of what pruned rows had added by ")


def test_rows_that_come_late_are_reported(engine: Engine, store: System) -> None:
    daily = store.tallies[0]
    assert pruned(engine, store, DAY_20 - timedelta(days=5), batch_rows=100).late == 0
    execute(
        engine,
        "INSERT INTO store.sales VALUES (5000, 1, 'a', 7, '2026-01-03 05:00Z'),"
        " (5001, 1, 'a', 7, '2026-01-04 05:00Z'), (5002, 1, 'a', 7, '2026-01-18 05:00Z')",
    )
    assert pruned(engine, store).late == 2
    (found,) = status(engine, daily).pruned
    assert found.late == 2
    assert found.in_words.endswith("with at before 2026-01-21, 2 of them late")
    all_right(engine, store)
    # What an interrupted pruning left is not late.
    execute(engine, "UPDATE tallykeeper.prunings SET finished = NULL")
    execute(engine, "INSERT INTO store.sales VALUES (5003, 1, 'a', 7, '2026-01-03 05:00Z')")
    assert pruned(engine, store).late == 0
    # As an earlier version made the table.
    execute(engine, "ALTER TABLE tallykeeper.prunings DROP COLUMN late, DROP COLUMN finished")
    assert status(engine, daily).pruned[0].late == 0
    migrate(engine, [store])
    assert pruned(engine, store, DAY_20 + timedelta(days=1)).rows > 0
    all_right(engine, store)


def refused(engine: Engine, store: System, said: str, source: str = "store.sales") -> None:
    before = scalar(engine, "SELECT count(*) FROM store.sales")
    with pytest.raises(CannotPrune, match=said):
        prune(engine, source, DAY_20, tallies=store.tallies)
    assert scalar(engine, "SELECT count(*) FROM store.sales") == before


def test_a_tally_that_needs_the_rows_refuses(engine: Engine, store: System) -> None:
    latest = SelectTally(
        "store.latest", select="SELECT shop, max(at) AS at FROM store.sales GROUP BY shop"
    )
    more = System("more", MetaData(), [])
    more = store.with_tallies([latest])
    migrate(engine, [more])
    refused(engine, more, "store.latest counts store.sales, and is not made of counts and sums")
    # Whether the project at hand declares it or not.
    refused(
        engine, system(), "store.latest counts rows of store.sales too, or what .* is not declared"
    )


def test_what_is_no_source_is_refused(engine: Engine, store: System) -> None:
    refused(engine, store, "there is no table store.nothing", "store.nothing")
    refused(engine, store, "no tally that is installed counts public.shadow", "public.shadow")
    refused(engine, store, "is the derived table of store.daily", "store.daily")


def test_the_column_that_says_the_age_has_to_be_known(engine: Engine, store: System) -> None:
    with pytest.raises(CannotPrune, match="at; 'shop' is none"):
        pruned(engine, store, by="shop")
    with pytest.raises(CannotPrune, match="has no time zone"):
        pruned(engine, store, datetime(2026, 1, 3))  # noqa: DTZ001 -- that is what is refused
    execute(engine, "ALTER TABLE store.sales ADD COLUMN paid date")
    refused(engine, store, "at, paid; name the one that says how old a row is")
    execute(engine, "UPDATE store.sales SET paid = date '2026-01-01' + id::int % 30")
    assert pruned(engine, store, by="paid", before=START + timedelta(days=3)).rows == 101
    execute(engine, "ALTER TABLE store.sales DROP COLUMN paid")
    all_right(engine, store, refresh, rebuild)


def test_broken_capture_refuses(engine: Engine, store: System) -> None:
    execute(engine, "ALTER TABLE store.sales DISABLE TRIGGER tallykeeper_delete")
    refused(engine, store, "may not see every change .*tally migrate")


def test_a_foreign_key_that_changes_what_is_counted_refuses(engine: Engine) -> None:
    store = install_with_notes(engine, execute)
    execute(
        engine,
        "ALTER TABLE store.notes DROP CONSTRAINT notes_sale_fkey,"
        " ADD FOREIGN KEY (sale) REFERENCES store.sales ON DELETE SET NULL",
    )
    refused(engine, store, "a foreign key changes rows of store.notes .*, and store.noted counts")


def test_what_goes_with_pruned_rows_stays_counted(engine: Engine) -> None:
    store = install_with_notes(engine, execute)
    refused(engine, system(), "store.noted counts rows of store.sales too, or what goes with them")
    execute(engine, "INSERT INTO store.notes VALUES (101, 1, 1), (102, 2, 999)")
    assert pruned(engine, store, batch_rows=300).rows == 669
    assert scalar(engine, "SELECT count(*) FROM store.notes") == 35
    assert scalar(engine, "SELECT count(*) FROM public.shadow_notes") == 67
    all_right(engine, store, refresh, rebuild)


def test_a_derived_table_that_a_foreign_key_empties_refuses(engine: Engine, store: System) -> None:
    execute(
        engine,
        "ALTER TABLE store.by_kind ADD COLUMN sale bigint REFERENCES store.sales ON DELETE CASCADE",
    )
    refused(engine, store, "deletes rows of store.by_kind, the derived table of store.by_kind")


def test_rows_that_are_referred_to_stay(engine: Engine, store: System) -> None:
    execute(
        engine,
        "CREATE TABLE store.notes (id int PRIMARY KEY, sale bigint REFERENCES store.sales)",
        "INSERT INTO store.notes VALUES (1, 1)",
    )
    refused(engine, store, "rows of store.sales are referred to")
    all_right(engine, store)


def test_partitions_are_pruned_by_their_table_alone(engine: Engine) -> None:
    execute(
        engine,
        "CREATE SCHEMA shop",
        "CREATE TABLE shop.events (at timestamp NOT NULL, what text) PARTITION BY RANGE (at)",
        "CREATE TABLE shop.january (what text, gap int, at timestamp NOT NULL)",
        "ALTER TABLE shop.january DROP COLUMN gap",
        "ALTER TABLE shop.events ATTACH PARTITION shop.january"
        " FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')",
        "CREATE TABLE shop.later PARTITION OF shop.events DEFAULT",
        "INSERT INTO shop.events SELECT timestamp '2026-01-01' + n * interval '1 hour', n % 3"
        " FROM generate_series(0, 2399) AS n",
    )
    tally = SelectTally(
        "shop.by_what", select="SELECT what, count(*) AS n FROM shop.events GROUP BY what"
    )
    shop = System("shop", MetaData(), [tally])
    migrate(engine, [shop])
    refresh(engine, tally)
    was = rows(engine, "SELECT * FROM shop.by_what_live ORDER BY 1")
    before = datetime(2026, 2, 10, tzinfo=UTC)
    with pytest.raises(CannotPrune, match="which shares rows with shop"):
        prune(engine, "shop.january", before, tallies=shop.tallies)
    assert prune(engine, "shop.events", before, tallies=shop.tallies).rows == 40 * 24
    assert scalar(engine, "SELECT count(*) FROM shop.events") == 1440
    for step in (refresh, rebuild):
        assert rows(engine, "SELECT * FROM shop.by_what_live ORDER BY 1") == was
        assert verify(engine, tally).ok
        step(engine, tally)
    # What is empty now may be dropped.
    execute(engine, "DROP TABLE shop.january")
    migrate(engine, [shop])
    refresh(engine, tally)
    assert rows(engine, "SELECT * FROM shop.by_what_live ORDER BY 1") == was
    assert verify(engine, tally).ok


def test_another_declaration_is_refused_until_they_are_given_up(
    engine: Engine, store: System
) -> None:
    pruned(engine, store)
    was = rows(engine, "SELECT * FROM store.by_kind_live ORDER BY 1")
    other = SelectTally(
        "store.by_kind",
        select="SELECT kind, count(*) AS n, sum(cents + 1) AS cents FROM store.sales GROUP BY kind",
    )
    others = [other if t.name == other.name else t for t in store.tallies]
    again = System("store", store.metadata, others)
    with pytest.raises(DoesNotFit, match="by another declaration than this one"):
        migrate(engine, [again])
    assert rows(engine, "SELECT * FROM store.by_kind_live ORDER BY 1") == was
    with engine.begin() as connection:
        assert pruned_rows.forget(connection, other) == 669
    assert stale_reasons(engine, other.name) == [pruned_rows.GIVEN_UP]
    migrate(engine, [again])
    refresh(engine, other)
    assert scalar(engine, "SELECT sum(n) FROM store.by_kind_live") == 331
    assert verify(engine, other).ok


def test_the_same_in_other_words_is_no_other_declaration(engine: Engine, store: System) -> None:
    pruned(engine, store)
    other = SelectTally(
        "store.by_kind",
        select="SELECT s.kind, count(*) n, sum(s.cents) AS cents FROM store.sales s GROUP BY 1",
    )
    others = [other if t.name == other.name else t for t in store.tallies]
    again = System("store", store.metadata, others)
    migrate(engine, [again])
    refresh(engine, other)
    all_right(engine, again)


def test_a_tally_that_is_dropped_takes_them_along(engine: Engine, store: System) -> None:
    pruned(engine, store)
    drop(engine, store.tallies[0].name, systems=[store])
    left = "SELECT to_regclass(%s), (SELECT count(*) FROM tallykeeper.prunings)"
    assert rows(engine, left.replace("%s", f"'{store.tallies[0].pruned_name}'")) == [(None, 3)]


def test_sums_that_are_missing_are_not_replaced_by_none(engine: Engine, store: System) -> None:
    pruned(engine, store)
    execute(engine, f"DROP TABLE {store.tallies[0].pruned_name} CASCADE")
    with pytest.raises(DoesNotFit, match="is not there; restore it from a backup"):
        migrate(engine, [store])
    with pytest.raises((CannotPrune, DoesNotFit)):
        pruned(engine, store)


def test_a_database_of_before_gets_what_it_needs(engine: Engine, store: System) -> None:
    names = [tally.pruned_name for tally in store.tallies]
    execute(engine, f"DROP TABLE {', '.join(names)}", "DROP TABLE tallykeeper.prunings")
    assert status(engine, store.tallies[0]).pruned == ()
    migrate(engine, [store])
    pruned(engine, store)
    for tally in store.tallies:
        refresh(engine, tally)
    all_right(engine, store, rebuild)

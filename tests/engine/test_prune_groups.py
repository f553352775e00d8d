"""Pruning a source of tallies that are no sums: groups that lose rows are frozen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console
from sqlalchemy import (
    Column,
    DateTime,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    func,
    select,
)

from assets.gallery.tallies import system as gallery
from tallykeeper import (
    CannotPrune,
    Capture,
    DoesNotFit,
    Pruned,
    RecomputedTally,
    SelectTally,
    System,
    Tally,
    migrate,
    prune,
    rebuild,
    rebuild_keys,
    refresh,
    status,
    verify,
)
from tallykeeper.cli.output.explanations import in_words
from tallykeeper.cli.output.tallies import show_verification
from tallykeeper.dagster.checks import verdict
from tallykeeper.maintain.explanation.explain import explain
from tallykeeper.maintain.trial import trial
from tallykeeper.strategies import pruned_rows
from tests.frozen_store import install, system, wrong
from tests.integration.support import create, execute, rows, scalar, stale_reasons
from tests.pruned_store import prune_sales

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY_20 = START + timedelta(days=20)
FREEZING = {"store.latest", "store.kinds", "store.regions", "store.best", "store.hours"}


@pytest.fixture
def store(engine: Engine) -> System:
    return install(engine, execute)


def named(store: System, name: str) -> Tally:
    return next(tally for tally in store.tallies if tally.table.name == name)


def pruned(engine: Engine, store: System, before: datetime = DAY_20, **given: object) -> Pruned:
    """Prune the sales, by a connection whose deleted rows are kept elsewhere."""
    return prune_sales(engine, store.tallies, before, **{"freeze": True, **given})


def all_right(engine: Engine, store: System, *steps: object) -> None:
    """Every tally is what it must be, live and compared, and again after each step."""
    for step in (lambda *_: None, *steps):
        for tally in store.tallies:
            step(engine, tally)  # type: ignore[operator]
            assert rows(engine, wrong(tally)) == [], (step, tally.name)
            assert verify(engine, tally).ok, (step, tally.name)


def test_groups_that_lose_rows_stay_what_they_were(any_postgres_engine: Engine) -> None:
    engine = any_postgres_engine
    store = install(engine, execute)
    was = {t: rows(engine, f"SELECT * FROM {t.live_name} ORDER BY 1, 2") for t in store.tallies}
    done = pruned(engine, store, batch_rows=100)
    assert (done.rows, done.batches) == (669, 7)
    assert done.frozen == {
        "store.latest": 4,
        "store.kinds": 20,
        "store.regions": 3,
        "store.best": 20,
        "store.hours": 480,
    }
    for tally in store.tallies:
        assert rows(engine, f"SELECT * FROM {tally.live_name} ORDER BY 1, 2") == was[tally]
        assert status(engine, tally).pending == 0
    all_right(engine, store, refresh, rebuild)
    assert pruned(engine, store).rows == 0


def test_other_groups_go_on(engine: Engine, store: System) -> None:
    execute(engine, "UPDATE store.sales SET cents = cents + 1 WHERE id % 5 = 0")
    pruned(engine, store)
    for statement in (
        "INSERT INTO store.sales VALUES (5000, 1, 'a', 700, '2026-01-03 05:00Z')",
        "INSERT INTO store.sales VALUES (5001, 9, 'new', 700, '2026-01-25 05:00Z')",
        "INSERT INTO store.shops VALUES (9, 'west')",
        "UPDATE store.sales SET at = at - interval '25 days' WHERE id % 2 = 0",
        "UPDATE store.sales SET at = at + interval '25 days', kind = 'b' WHERE id % 6 = 0",
        "UPDATE store.shops SET region = 'east' WHERE shop = 2",
        "DELETE FROM store.sales WHERE id % 7 = 0",
        "TRUNCATE store.sales",
        "INSERT INTO store.sales SELECT n, 7, 'a', 1, '2026-01-05Z' FROM generate_series(1, 9) n",
    ):
        execute(engine, statement)
        for tally in store.tallies:
            assert rows(engine, wrong(tally)) == [], (statement, tally.name)
            refresh(engine, tally)
        all_right(engine, store)
    pruned(engine, store, START + timedelta(days=60))
    all_right(engine, store, refresh, rebuild)


def test_a_group_that_shows_the_same_without_deleted_rows_is_frozen(
    engine: Engine, store: System
) -> None:
    noon = DAY_20 + timedelta(hours=12)
    kinds = f"SELECT kinds FROM store.kinds_live WHERE day = '{DAY_20}'"
    assert scalar(engine, kinds) == 2
    assert pruned(engine, store, noon).frozen["store.kinds"] == 21
    execute(engine, f"DELETE FROM store.sales WHERE kind = 'test' AND at < '{noon}'::date + 1")
    all_right(engine, store, refresh)
    assert scalar(engine, kinds) == 2


def test_windows_and_keys_are_built_with_frozen_groups(engine: Engine, store: System) -> None:
    pruned(engine, store)
    for name in ("kinds", "hours"):
        rebuild(engine, named(store, name), START, START + timedelta(days=3))
    rebuild_keys(engine, named(store, "latest"), [{"shop": None}, {"shop": 1}])
    all_right(engine, store)


def test_written_by_hand_it_is_built_as_it_was(engine: Engine, store: System) -> None:
    pruned(engine, store)
    for tally in store.tallies:
        execute(engine, f"DELETE FROM {tally.table}")
        assert rows(engine, wrong(tally)) == []
        assert refresh(engine, tally).how == "rebuild"
    all_right(engine, store)


def test_frozen_groups_written_by_hand_are_noticed(engine: Engine, store: System) -> None:
    pruned(engine, store)
    latest = named(store, "latest")
    execute(engine, f"UPDATE {latest.pruned_name} SET least = 7")
    (reason,) = stale_reasons(engine, latest.name)
    assert reason.startswith("edited by hand: UPDATE of its frozen groups by ")


def test_late_changes_are_noted(engine: Engine, store: System) -> None:
    pruned(engine, store)
    kinds = named(store, "kinds")
    (found,) = status(engine, kinds).pruned
    assert found.frozen is not None
    assert (found.frozen.groups, found.frozen.changed) == (20, 0)
    execute(
        engine,
        "INSERT INTO store.sales VALUES (5000, 1, 'z', 7, '2026-01-03 05:00Z'),"
        " (5001, 1, 'z', 7, '2026-01-04 05:00Z'), (5002, 1, 'z', 7, '2026-01-24 05:00Z')",
    )
    refresh(engine, kinds)
    (found,) = status(engine, kinds).pruned
    assert found.frozen is not None
    assert (found.frozen.groups, found.frozen.changed) == (20, 2)
    assert found.in_words == (
        "counts 669 pruned rows of store.sales, with at before 2026-01-21: 20 groups are frozen"
        f" since {found.frozen.since:%Y-%m-%d}, 2 of them changed later in vain"
    )


def test_rows_that_come_late_are_reported(engine: Engine, store: System) -> None:
    pruned(engine, store)
    execute(engine, "INSERT INTO store.sales VALUES (5000, 1, 'z', 7, '2026-01-03 05:00Z')")
    assert pruned(engine, store).late == 1
    all_right(engine, store)


def test_nothing_is_frozen_unasked(engine: Engine, store: System) -> None:
    with pytest.raises(CannotPrune, match=r"could only be frozen.*tally prune --freeze"):
        pruned(engine, store, freeze=False)
    assert scalar(engine, "SELECT count(*) FROM store.sales") == 1000


def test_a_dry_run_counts_the_groups(engine: Engine, store: System) -> None:
    done = pruned(engine, store, dry_run=True)
    assert (done.rows, done.batches, done.dry_run) == (669, 0, True)
    assert set(done.frozen) == FREEZING
    assert done.frozen["store.kinds"] == 20
    assert scalar(engine, "SELECT count(*) FROM store.sales") == 1000
    assert scalar(engine, f"SELECT count(*) FROM {named(store, 'kinds').pruned_name}") == 0
    all_right(engine, store, refresh)


@pytest.mark.parametrize(
    ("query", "is_frozen"),
    [
        ("SELECT shop, max(at) AS at FROM store.sales GROUP BY shop", True),
        ("SELECT DISTINCT shop, kind FROM store.sales", True),
        ("SELECT kind, array_agg(id ORDER BY id) AS ids FROM store.sales GROUP BY kind", True),
        ("SELECT shop, kind, count(DISTINCT id) FROM store.sales GROUP BY ROLLUP (1, 2)", False),
        ("SELECT DISTINCT ON (shop) shop, id, at FROM store.sales ORDER BY shop, at, id", True),
        ("SELECT DISTINCT ON (shop) id, at FROM store.sales ORDER BY shop, at, id", False),
        ("SELECT id, rank() OVER (PARTITION BY shop ORDER BY at, id) FROM store.sales", False),
        ("SELECT s.id, r.region FROM store.sales s JOIN store.shops r USING (shop)", False),
        ("SELECT max(at) AS at FROM store.sales", False),
        ("SELECT shop, cents FROM store.sales", False),
        ("SELECT id, at FROM store.sales ORDER BY at DESC, id LIMIT 10", False),
    ],
)
def test_only_rows_that_are_groups_are_frozen(
    engine: Engine, store: System, query: str, is_frozen: bool
) -> None:
    key = ["id"] if query.startswith("SELECT id") else None
    tally = SelectTally("more.rows", select=query, key=key)
    migrate(engine, [System("more", MetaData(), [tally])])
    refresh(engine, tally)
    assert tally.freezes == is_frozen
    everything = [*store.tallies, tally]
    if is_frozen:
        assert prune(engine, "store.sales", DAY_20, tallies=everything, freeze=True).rows == 669
        assert verify(engine, tally).ok
        return
    with pytest.raises(CannotPrune, match=r"nor is each of its rows one group"):
        prune(engine, "store.sales", DAY_20, tallies=everything, freeze=True)


def test_it_is_shown_and_given_up(engine: Engine, store: System) -> None:
    pruned(engine, store)
    kinds = named(store, "kinds")
    assert isinstance(kinds, SelectTally)
    (found,) = status(engine, kinds).pruned
    assert "20 groups are frozen since" in found.in_words
    assert explain(engine, kinds).pruned == (found,)
    assert "20 groups are frozen" in " ".join(" ".join(in_words(explain(engine, kinds))).split())
    assert trial(engine, kinds, rows=1).ok
    compared = verify(engine, kinds)
    assert compared.pruned == (found,)
    console = Console(record=True, width=200)
    show_verification(compared, console)
    assert f"store.kinds {found.in_words}" in console.export_text()
    said = verdict(kinds, compared).metadata["pruned"].value
    assert said == f"store.kinds {found.in_words}"
    with engine.begin() as connection:
        pruned_rows.forget(connection, kinds)
    assert stale_reasons(engine, kinds.name) == [pruned_rows.GIVEN_UP]
    refresh(engine, kinds)
    assert scalar(engine, "SELECT count(*) FROM store.kinds_live") == 10
    assert verify(engine, kinds).ok


def test_another_declaration_is_refused(engine: Engine, store: System) -> None:
    pruned(engine, store)
    other = SelectTally(
        "store.latest",
        select="SELECT shop, max(at) AS at, max(cents) AS least FROM store.sales GROUP BY shop",
    )
    others = [other if t.name == other.name else t for t in store.tallies]
    with pytest.raises(DoesNotFit, match="by another declaration than this one"):
        migrate(engine, [System("store", store.metadata, others)])
    all_right(engine, store)


def test_a_database_of_before_gets_what_it_needs(engine: Engine, store: System) -> None:
    names = [tally.pruned_name for tally in store.tallies]
    execute(
        engine,
        f"DROP TABLE {', '.join(names)}",
        "DROP TABLE tallykeeper.prunings",
        "DELETE FROM tallykeeper.stands_on WHERE role = 'pruned'",
        "DELETE FROM tallykeeper.dependencies WHERE name LIKE '%\\_pruned'",
        "UPDATE tallykeeper.select_plans SET plan = plan - 'losses', digest = 'other'",
    )
    latest = named(store, "latest")
    assert status(engine, latest).pruned == ()
    assert not latest.freezes
    before = system()
    with pytest.raises(CannotPrune):
        prune(engine, "store.sales", DAY_20, tallies=before.tallies, freeze=True)
    migrate(engine, [store])
    assert stale_reasons(engine, latest.name) == []
    pruned(engine, store)
    all_right(engine, store, refresh, rebuild)


def test_a_tally_that_cannot_hold_its_keys_is_not_frozen(engine: Engine, store: System) -> None:
    execute(engine, "ALTER TABLE store.kinds ADD CHECK (kinds < 2) NOT VALID")
    execute(engine, "INSERT INTO store.sales VALUES (5000, 1, 'z', 7, '2026-01-03 05:00Z')")
    refresh(engine, named(store, "kinds"))
    with pytest.raises(CannotPrune, match="cannot hold 1 of its keys"):
        pruned(engine, store)


def test_a_tally_that_is_built_in_batches_is_not_frozen(engine: Engine) -> None:
    create(engine, gallery)
    with pytest.raises(CannotPrune, match=r"content_tags counts .* and is built in batches"):
        prune(
            engine,
            "gallery.content_items",
            DAY_20,
            tallies=gallery.tallies,
            by="created_at",
            freeze=True,
        )


def test_groups_that_a_foreign_key_deletes_are_not_frozen(engine: Engine) -> None:
    metadata = MetaData(schema="yard")
    yards = Table("yards", metadata, Column("id", Integer, primary_key=True))
    cars = Table(
        "cars",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("yard", Integer, nullable=False),
        Column("at", DateTime(timezone=True), nullable=False),
    )
    latest = Table(
        "latest",
        metadata,
        Column("yard", ForeignKey(yards.c.id, ondelete="CASCADE"), primary_key=True),
        Column("at", DateTime(timezone=True)),
    )
    tally = RecomputedTally(
        system="yard",
        table=latest,
        key=["yard"],
        measures=["at"],
        captures=[Capture(source=cars, key=lambda car: {"yard": car.yard})],
        aggregate=lambda scope: (
            select(cars.c.yard, func.max(cars.c.at).label("at"))
            .where(*scope(yard=cars.c.yard))
            .group_by(cars.c.yard)
        ),
    )
    create(engine, System("yard", metadata, [tally]))
    with pytest.raises(CannotPrune, match=r"foreign key of yard.latest to yard.yards deletes"):
        prune(engine, "yard.cars", DAY_20, tallies=[tally], freeze=True)

"""What distributing takes, on a real cluster: said before anything changes, then done."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine, MetaData

from assets.classroom import tallies as classroom
from tallykeeper import (
    DoesNotFit,
    SelectTally,
    System,
    discovery,
    migrate,
    open_engine,
    refresh,
    verify,
)
from tallykeeper.cli.main import tally
from tallykeeper.installation import derived_tables
from tallykeeper.places.citus import ClusterUnfit, places_of
from tallykeeper.places.distribute import Report, distribute, examine
from tallykeeper.places.work import everywhere
from tests.integration.support import execute, rows
from tests.places import cluster

SHARDS = 3
SHOP = """
CREATE SCHEMA shop;
CREATE TABLE shop.tenants (id int PRIMARY KEY, name text);
CREATE TABLE shop.orders (id bigint PRIMARY KEY, tenant_id int, number int, cents bigint,
    UNIQUE (tenant_id, number), EXCLUDE (number WITH =));
CREATE UNIQUE INDEX orders_number ON shop.orders (number) WHERE cents > 0;
CREATE TABLE shop.lines (order_id bigint REFERENCES shop.orders, tenant_id int NOT NULL
    REFERENCES shop.tenants, n int, PRIMARY KEY (tenant_id, order_id, n));
CREATE TABLE shop.notes (order_id bigint REFERENCES shop.orders, other int REFERENCES shop.tenants);
"""
FIRST = [
    "ALTER TABLE shop.orders ALTER COLUMN tenant_id SET NOT NULL",
    "ALTER TABLE shop.lines DROP CONSTRAINT lines_order_id_fkey: it refers to shop.orders, which is"
    " divided, without tenant_id",
    "ALTER TABLE shop.notes DROP CONSTRAINT notes_order_id_fkey: it refers to shop.orders, but"
    " `distribution` says nothing of shop.notes",
    "ALTER TABLE shop.notes DROP CONSTRAINT notes_other_fkey: it refers to shop.tenants, but"
    " `distribution` says nothing of shop.notes",
    "ALTER TABLE shop.orders DROP CONSTRAINT orders_number_excl: it excludes rows without"
    " tenant_id",
    "ALTER TABLE shop.orders DROP CONSTRAINT orders_pkey, ADD PRIMARY KEY (tenant_id, id)",
    "DROP INDEX shop.orders_number: it is unique without tenant_id; make it with that",
]
SELECTS = {
    "by_tenant": "SELECT tenant_id, count(*) AS orders, sum(cents) AS cents FROM shop.orders"
    " GROUP BY 1",
    "by_number": "SELECT number, count(*) AS orders FROM shop.orders GROUP BY 1",
}


def shop(*names: str, **selects: str) -> System:
    """The shop with these tallies."""
    made = {name: SELECTS[name] for name in names} | selects
    return System(
        "shop",
        MetaData(),
        [SelectTally(f"shop.{name}", select=select) for name, select in made.items()],
        distribution={
            "shop.orders": "tenant_id",
            "shop.lines": "tenant_id",
            "shop.tenants": None,
        },
    )


def do_first(engine: Engine, report: Report) -> None:
    """Do what a report says has to be done first."""
    execute(engine, *(each.partition(":")[0].partition(";")[0] for each in report.first))


@pytest.fixture
def engine() -> Iterator[Engine]:  # type: ignore[override, unused-ignore]
    """An engine on the coordinator's end of an empty database of a cluster."""
    with cluster.fresh_database(SHARDS) as url:
        made = open_engine(url)
        yield made
        made.dispose()


def test_what_has_to_change_is_said_before_anything_does(engine: Engine) -> None:
    missing = examine(engine, shop("by_tenant"))
    assert missing.first[0] == "the table shop.orders does not exist: create it"
    execute(engine, SHOP)
    report = examine(engine, shop("by_tenant", "by_number"))
    assert sorted(report.first) == sorted(FIRST)
    assert list(report.refused) == ["shop.by_number"]
    assert "GROUP BY does not contain tenant_id" in report.refused["shop.by_number"]
    assert report.planned[:3] == [
        "distribute shop.orders by tenant_id",
        "distribute shop.lines by tenant_id",
        "distribute shop.tenants as a reference table",
    ]
    with pytest.raises(DoesNotFit, match=r"not distributed: .*Nothing was changed"):
        distribute(engine, shop("by_tenant"))
    assert rows(engine, "SELECT count(*) FROM pg_dist_partition") == [(0,)]
    do_first(engine, report)
    again = examine(engine, shop("by_tenant", "by_number"), ["shop.by_number"])
    assert (again.first, again.refused) == ([], {})
    done = distribute(engine, shop("by_tenant", "by_number"), ["shop.by_number"])
    assert [each.error for each in done] == [None] * SHARDS
    assert examine(engine, shop("by_tenant")).planned == ["install 1 tallies at each shard group"]


def test_the_command_says_what_is_to_be_done_and_does_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = shop("by_tenant", "by_number")
    monkeypatch.setattr(discovery, "all_systems", lambda: (system,))
    monkeypatch.setattr("tallykeeper.cli.selection.all_systems", lambda: (system,))
    url = engine.url.render_as_string(hide_password=False)
    monkeypatch.setenv("TALLY_DATABASE_URL", url)

    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(tally, arguments, standalone_mode=False)
        assert done.exception is None, done.exception
        return done.return_value, done.output

    execute(engine, SHOP)
    code, said = run("migrate", "--distribute")
    assert code == 1
    assert f"shop: to be done first: {FIRST[0]}" in said
    assert "shop.by_number: refused: GROUP BY does not contain tenant_id" in said
    assert rows(engine, "SELECT count(*) FROM pg_dist_partition") == [(0,)]
    do_first(engine, examine(engine, system))
    chosen = ("--distribute", "--without", "shop.by_number")
    code, said = run("migrate", *chosen, "--dry-run")
    assert (code, said.splitlines()[-1]) == (0, "nothing was changed")
    code, said = run("migrate", *chosen)
    assert code == 0
    assert "1: compiled shop.by_tenant_" in said
    execute(engine, "INSERT INTO shop.orders VALUES (1, 1, 1, 10), (2, 2, 2, 20), (3, 3, 3, 30)")
    code, said = run("places", "refresh")
    assert code == 0
    assert said.count("shop.by_tenant at ") == SHARDS
    assert run("places", "verify", "by_tenant")[0] == 0
    assert sorted(rows(engine, "SELECT tenant_id, cents FROM shop.by_tenant_live")) == [
        (1, 10),
        (2, 20),
        (3, 30),
    ]


def test_a_declaration_that_changed_gets_another_table(engine: Engine) -> None:
    execute(engine, SHOP)
    do_first(engine, examine(engine, shop("by_tenant")))
    distribute(engine, shop("by_tenant"))
    execute(
        engine,
        "INSERT INTO shop.orders SELECT i, i % 5, i, i * 10 FROM generate_series(1, 60) AS i",
    )
    other = shop(by_tenant="SELECT tenant_id, max(cents) AS most FROM shop.orders GROUP BY 1")
    places = places_of(engine, ("shop", "orders"))
    assert [type(e.error).__name__ for e in everywhere(other.tallies, places, refresh)] == [
        "NotInstalled"
    ] * SHARDS
    assert "create shop.by_tenant anew: it has other columns now" in examine(engine, other).planned
    distribute(engine, other)
    everywhere(other.tallies, places, refresh)
    assert all(e.result and e.result.ok for e in everywhere(other.tallies, places, verify))
    assert sorted(rows(engine, "SELECT tenant_id, most FROM shop.by_tenant_live")) == [
        (0, 600),
        (1, 560),
        (2, 570),
        (3, 580),
        (4, 590),
    ]


def test_capture_of_an_ordinary_installation_is_named(engine: Engine) -> None:
    execute(engine, SHOP)
    do_first(engine, examine(engine, shop("by_tenant")))
    migrate(engine, [shop("by_tenant")])
    first = examine(engine, shop("by_tenant")).first
    assert any("shop.orders has the trigger" in each for each in first)


def test_other_distributions_are_refused(engine: Engine) -> None:
    execute(engine, SHOP)
    with pytest.raises(ClusterUnfit, match="is not distributed by Citus"):
        places_of(engine, ("shop", "orders"))()
    do_first(engine, examine(engine, shop("by_tenant")))
    for statement in (
        "ALTER TABLE shop.orders DROP CONSTRAINT orders_pkey",
        "ALTER TABLE shop.orders DROP CONSTRAINT orders_tenant_id_number_key",
        "SELECT create_reference_table('shop.tenants')",
        "SELECT create_distributed_table('shop.orders', 'id')",
        "SELECT create_distributed_table('shop.lines', 'tenant_id', colocate_with => 'none')",
    ):
        execute(engine, statement)
    first = examine(engine, shop("by_tenant")).first
    assert any("distributed by id, but is declared to be so by tenant_id" in e for e in first)
    assert any("shop.lines is not colocated with shop.orders" in e for e in first)


def test_a_classroom_says_what_has_to_change(engine: Engine) -> None:
    system = classroom.system
    without = [t.name for t in system.tallies if t.name != "classroom.submission_daily_activity"]
    own = set(system.derived)
    with engine.begin() as connection:
        sources = [table for table in system.metadata.sorted_tables if table not in own]
        derived_tables.create(connection, sources, "source")
    report = examine(engine, system, without)
    assert (
        "ALTER TABLE classroom.submission_log DROP CONSTRAINT submission_log_pkey,"
        " ADD PRIMARY KEY (course_id, id)"
    ) in report.first
    do_first(engine, report)
    assert examine(engine, system, without).is_ready

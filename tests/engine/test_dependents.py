"""What others built on live views, functions and logs stays, or the installation is refused."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, Integer

from tallykeeper import HasDependents, System, install, refresh, verify
from tests.engine import shop
from tests.integration.support import create_anew, execute, rows, scalar

SALES = (
    "INSERT INTO shop.sales (id, at, customer, product, units) VALUES"
    " (1, '2025-11-20Z', 'ann', 7, 2), (2, '2025-11-21Z', 'ann', 7, 3),"
    " (3, '2025-11-21Z', 'bob', 8, 1)"
)
LIVE = "SELECT customer, units FROM shop.stock_live ORDER BY customer"
EXPECTED = [("ann", 5), ("bob", 1)]


def declare(engine: Engine, system: System) -> None:
    with engine.begin() as connection:
        install(connection, system.tallies)


def built(engine: Engine, system: System, *statements: str) -> None:
    """The system with three sales, refreshed; then the application's statements."""
    create_anew(engine, system)
    execute(engine, SALES)
    settle(engine, system)
    execute(engine, *statements)


def settle(engine: Engine, system: System) -> None:
    for tally in system.tallies:
        refresh(engine, tally)
        assert verify(engine, tally).ok


def grants_on(engine: Engine, relation: str) -> list[tuple[Any, ...]]:
    """Who may do what on a relation and its columns, apart from its owner."""
    return rows(
        engine,
        "SELECT grantee::text, privilege_type::text, column_name::text FROM"
        " information_schema.column_privileges"
        f" WHERE table_schema || '.' || table_name = '{relation}' AND grantee <> current_user"
        " ORDER BY 1, 2, 3",
    )


REPORTS = (
    "CREATE SCHEMA reports",
    "CREATE VIEW reports.customers AS SELECT customer, units FROM shop.stock_live",
    "CREATE MATERIALIZED VIEW reports.largest AS SELECT * FROM reports.customers WHERE units > 2",
    "CREATE UNIQUE INDEX largest_key ON reports.largest (customer)",
    "CREATE RULE kept AS ON INSERT TO shop.stock_live DO INSTEAD NOTHING",
    "GRANT SELECT ON shop.stock_live TO pg_monitor",
    "GRANT SELECT (customer) ON shop.stock_live TO pg_read_all_stats",
    "GRANT SELECT (units) ON tallykeeper.shop_stock_log TO pg_read_all_stats",
    "GRANT EXECUTE ON FUNCTION tallykeeper.shop_stock_from_sources() TO pg_monitor",
    "COMMENT ON VIEW shop.stock_live IS 'per customer'",
    "ALTER VIEW shop.stock_live SET (security_barrier = true)",
    "INSERT INTO shop.sales VALUES (4, '2025-11-22Z', 'eve', 7, 9)",
)
KEPT = (
    "SELECT obj_description('shop.stock_live'::regclass)"
    " || (SELECT reloptions::text FROM pg_class WHERE oid = 'shop.stock_live'::regclass)"
    " || (SELECT count(*) FROM reports.largest) || (SELECT count(*) FROM pg_rules"
    "  WHERE rulename = 'kept')"
    " || has_function_privilege('pg_monitor', 'tallykeeper.shop_stock_from_sources()', 'EXECUTE')"
)
CHANGES = {
    "a measure more": (shop.stock(measures=("lines", "units", "cents")), "cents bigint"),
    "a measure more, in between": (
        shop.stock(measures=("lines", "cents", "units")),
        "cents bigint",
    ),
    "a key column more": (shop.stock(key=("customer", "product")), "product integer"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_depends_on_a_live_view_survives_columns_that_are_added(
    any_postgres_engine: Engine, change: str
) -> None:
    engine = any_postgres_engine
    built(engine, shop.stock(), *REPORTS)
    before = {name: grants_on(engine, name) for name in ("shop.stock_live",)}
    kept = scalar(engine, KEPT)
    assert kept == "per customer{security_barrier=true}11true"
    changed, column = CHANGES[change]
    execute(engine, f"ALTER TABLE shop.stock ADD {column}")
    if "product" in column:
        execute(
            engine,
            "UPDATE shop.stock SET product = 0",
            "ALTER TABLE shop.stock DROP CONSTRAINT stock_pkey",
            "ALTER TABLE shop.stock ADD PRIMARY KEY (customer, product)",
        )
    declare(engine, changed)
    per_customer = "SELECT customer, sum(units) FROM shop.stock_live GROUP BY 1 ORDER BY 1"
    assert rows(engine, per_customer) == [*EXPECTED, ("eve", 9)]
    assert rows(engine, "SELECT * FROM reports.customers ORDER BY 1") == [*EXPECTED, ("eve", 9)]
    settle(engine, changed)
    assert scalar(engine, KEPT) == kept
    for name, found in before.items():
        added = [
            (role, right, column.split()[0])
            for role, right, of in found
            if of == "units" and role == "pg_monitor"
        ]
        assert grants_on(engine, name) == sorted([*found, *added])
    assert ("pg_read_all_stats", "SELECT", "units") in grants_on(
        engine, "tallykeeper.shop_stock_log"
    )
    execute(engine, "REFRESH MATERIALIZED VIEW CONCURRENTLY reports.largest")
    assert scalar(engine, "SELECT count(*) FROM reports.largest") == 2
    declare(engine, changed)


def test_columns_of_a_log_change_without_its_live_view(any_postgres_engine: Engine) -> None:
    # As an older release left it: another type, and a column that nobody needs now.
    engine = any_postgres_engine
    system = shop.stock()
    built(engine, system, *REPORTS)
    execute(
        engine,
        "DROP VIEW shop.stock_live CASCADE",
        "ALTER TABLE tallykeeper.shop_stock_log ALTER units TYPE numeric, ADD surplus text",
    )
    declare(engine, system)
    execute(engine, *REPORTS[1:3], "GRANT SELECT ON tallykeeper.shop_stock_log TO pg_monitor")
    execute(engine, "UPDATE tallykeeper.tally_state SET capture_hash = 'old'")
    execute(engine, "ALTER TABLE tallykeeper.shop_stock_log ADD surplus text")
    log = "SELECT 'tallykeeper.shop_stock_log'::regclass::oid"
    before = scalar(engine, log)
    declare(engine, system)
    assert scalar(engine, log) == before
    assert ("pg_monitor", "SELECT", "units") in grants_on(engine, "tallykeeper.shop_stock_log")
    assert rows(engine, LIVE) == [*EXPECTED, ("eve", 9)]
    settle(engine, system)
    assert scalar(engine, "SELECT count(*) FROM reports.largest") == 2


def test_a_live_view_without_dependents_keeps_its_grants_when_its_columns_change(
    any_postgres_engine: Engine,
) -> None:
    engine = any_postgres_engine
    built(engine, shop.stock(), *REPORTS[5:], "COMMENT ON COLUMN shop.stock_live.units IS 'pieces'")
    changed = shop.stock(measures=("lines", "units"), derived_types={"units": Integer()})
    before = grants_on(engine, "shop.stock_live")
    assert ("pg_read_all_stats", "SELECT", "customer") in before
    declare(engine, changed)
    assert grants_on(engine, "shop.stock_live") == before
    settle(engine, changed)


DEPENDENTS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "a view": ((REPORTS[0], REPORTS[1]), ("view reports.customers",)),
    "a materialized view on a view": (
        REPORTS[:4],
        ("view reports.customers, materialized view reports.largest", "largest_key"),
    ),
    "a rule": ((REPORTS[4],), ("rule kept on shop.stock_live",)),
    "a trigger": (
        (
            "CREATE FUNCTION shop.nothing() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN RETURN NULL; END'",
            "CREATE TRIGGER written INSTEAD OF INSERT ON shop.stock_live FOR EACH ROW"
            " EXECUTE FUNCTION shop.nothing()",
        ),
        ("trigger written on shop.stock_live",),
    ),
    "a function": (
        (
            "CREATE FUNCTION shop.total() RETURNS numeric BEGIN ATOMIC"
            " SELECT sum(units) FROM shop.stock_live; END",
        ),
        ("function shop.total()",),
    ),
    "a column of its row type": (
        ("CREATE TABLE shop.copies (kept shop.stock_live)",),
        ("table column shop.copies.kept",),
    ),
    "a default": (
        ("ALTER VIEW shop.stock_live ALTER units SET DEFAULT 1",),
        ("default value for shop.stock_live.units",),
    ),
    "a view on a function": (
        ("CREATE VIEW shop.computed AS SELECT * FROM tallykeeper.shop_stock_from_sources()",),
        ("view shop.computed",),
    ),
}


@pytest.mark.parametrize("name", DEPENDENTS)
def test_columns_are_not_changed_under_what_depends_on_them(engine: Engine, name: str) -> None:
    made, named = DEPENDENTS[name]
    built(engine, shop.stock(), *made)
    state = "SELECT declaration_hash, capture_hash FROM tallykeeper.tally_state"
    before = rows(engine, state)
    changed = shop.stock(derived_types={"units": Integer()})
    with pytest.raises(HasDependents) as caught:
        declare(engine, changed)
    said = str(caught.value)
    assert "DROP TABLE" not in said
    assert all(each in said for each in named), said
    assert rows(engine, state) == before
    execute(engine, "INSERT INTO shop.sales VALUES (4, '2025-11-22Z', 'eve', 7, 9)")
    assert rows(engine, LIVE) == [*EXPECTED, ("eve", 9)]
    settle(engine, shop.stock())


def test_the_statements_that_a_refusal_names_lead_through(engine: Engine) -> None:
    built(engine, shop.stock(), *REPORTS[:4], "GRANT SELECT ON reports.largest TO pg_monitor")
    changed = shop.stock(derived_types={"units": Integer()})
    with pytest.raises(HasDependents) as caught:
        declare(engine, changed)
    _, statements = str(caught.value).split(":\n", 1)
    drops, creations = statements.split("-- run `tally migrate` here\n")
    execute(engine, drops)
    declare(engine, changed)
    execute(engine, creations)
    settle(engine, changed)
    assert rows(engine, "SELECT * FROM reports.customers ORDER BY 1") == EXPECTED
    assert rows(engine, "SELECT * FROM reports.largest") == [("ann", 5)]
    assert scalar(engine, "SELECT has_table_privilege('pg_monitor', 'reports.largest', 'SELECT')")


@pytest.mark.parametrize("counted", [False, True])
def test_a_recomputed_tally_gets_a_measure_more_under_a_view(
    any_postgres_engine: Engine, counted: bool
) -> None:
    engine = any_postgres_engine
    built(
        engine,
        shop.latest(counted=counted),
        "CREATE VIEW shop.newest AS SELECT customer, latest FROM shop.latest_live",
        "GRANT SELECT ON shop.newest TO pg_monitor",
        "GRANT EXECUTE ON FUNCTION tallykeeper.shop_latest_pending_rows() TO pg_monitor",
        "ALTER TABLE shop.latest ADD units bigint NOT NULL DEFAULT 0",
    )
    changed = shop.latest(measures=("latest", "units"), counted=counted)
    declare(engine, changed)
    assert scalar(engine, "SELECT sum(units) FROM shop.latest_live") == 6
    settle(engine, changed)
    assert scalar(engine, "SELECT count(*) FROM shop.newest") == 2
    assert scalar(
        engine,
        "SELECT has_function_privilege('pg_monitor',"
        " 'tallykeeper.shop_latest_pending_rows()', 'EXECUTE')",
    )


def test_a_column_of_a_log_that_a_view_shows_is_not_dropped(engine: Engine) -> None:
    system = shop.stock()
    built(engine, system)
    execute(
        engine,
        "ALTER TABLE tallykeeper.shop_stock_log ADD surplus text",
        "CREATE VIEW shop.pending AS SELECT surplus, units FROM tallykeeper.shop_stock_log",
        "UPDATE tallykeeper.tally_state SET capture_hash = 'old'",
    )
    with pytest.raises(HasDependents, match=r"view shop\.pending"):
        declare(engine, system)
    settle(engine, system)


def test_what_hangs_on_the_derived_table_stays(engine: Engine) -> None:
    built(
        engine,
        shop.stock(),
        "CREATE TABLE shop.notes (customer text REFERENCES shop.stock, note text)",
        "CREATE PUBLICATION counts FOR TABLE shop.stock",
        "GRANT SELECT (units) ON shop.stock TO pg_monitor",
        "CREATE POLICY everybody ON shop.stock USING (true)",
        "ALTER TABLE shop.stock ADD cents bigint",
    )
    of_derived = (
        "SELECT count(*) FROM pg_depend WHERE refclassid = 'pg_class'::regclass"
        " AND refobjid = 'shop.stock'::regclass AND classid IN ('pg_constraint'::regclass,"
        " 'pg_publication_rel'::regclass, 'pg_policy'::regclass)"
    )
    before = scalar(engine, of_derived)
    changed = shop.stock(measures=("lines", "units", "cents"))
    declare(engine, changed)
    settle(engine, changed)
    assert scalar(engine, of_derived) == before
    assert ("pg_monitor", "SELECT", "units") in grants_on(engine, "shop.stock")


def test_what_belongs_to_others_is_named_to_a_role_that_may_not_touch_it(engine: Engine) -> None:
    built(
        engine,
        shop.stock(),
        "CREATE ROLE reporting_of_dependents",
        "CREATE SCHEMA reports AUTHORIZATION reporting_of_dependents",
        "GRANT USAGE ON SCHEMA shop TO reporting_of_dependents",
        "GRANT SELECT ON shop.stock_live TO reporting_of_dependents",
        "SET LOCAL ROLE reporting_of_dependents",
        "CREATE VIEW reports.theirs AS SELECT customer FROM shop.stock_live",
    )
    try:
        with pytest.raises(HasDependents) as caught:
            declare(engine, shop.stock(derived_types={"units": Integer()}))
        assert "view reports.theirs" in str(caught.value)
        assert "ALTER VIEW reports.theirs OWNER TO reporting_of_dependents;" in str(caught.value)
    finally:
        execute(
            engine, "DROP OWNED BY reporting_of_dependents", "DROP ROLE reporting_of_dependents"
        )


def test_no_statement_of_the_product_drops_with_cascade() -> None:
    root = Path(__file__).parents[2]
    folders = ("tallykeeper", "assets", "pipelines", "resources")
    sources = [path for folder in folders for path in (root / folder).rglob("*.py")]
    assert len(sources) > 100
    # What a foreign key says of deleted rows is no drop.
    dropping = re.compile(r"(drop|truncate)[^\n]*cascade", re.IGNORECASE)
    lines = [line for path in sources for line in path.read_text("utf-8").splitlines()]
    found = [line for line in lines if dropping.search(line)]
    assert [line for line in found if not line.strip().startswith("#")] == []

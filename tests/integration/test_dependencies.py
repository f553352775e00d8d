"""What tallies depend on: each kind of difference is named, and what matters to no figure is not.

Each case changes the database in a transaction, asks, and rolls back; the transaction is the
`tally`'s record against the catalog as that transaction sees it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import (
    BigInteger,
    Column,
    Computed,
    Connection,
    Engine,
    MetaData,
    Numeric,
    Table,
    Text,
    cast,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import ENUM

from assets.gallery.tallies import content_tags
from assets.gallery.tallies import system as gallery
from tallykeeper import (
    Capture,
    DoesNotFit,
    RecomputedTally,
    SelectTally,
    System,
    Tally,
    install,
    refresh,
    status,
    verify,
)
from tallykeeper.capture import derived_triggers
from tallykeeper.capture.trigger_names import own_function_name
from tallykeeper.database.sql import quote
from tallykeeper.drift import catalog_rows, dependencies, facts
from tallykeeper.drift.differences import Consequence
from tests.integration.support import create, execute, rows, scalar, stale_reasons
from tests.templates import fill

INFORMATION, STALE, REINSTALL, REFUSE = Consequence

metadata = MetaData(schema="shop")


def source(name: str) -> Table:
    return Table(
        name,
        metadata,
        Column("id", BigInteger, primary_key=True),
        Column("region", Text),
        Column("amount", Numeric(12, 2)),
        Column("doubled", Numeric, Computed("amount * 2", persisted=True)),
    )


def _derived(name: str) -> Table:
    return Table(
        name,
        metadata,
        Column("region", Text, primary_key=True),
        Column("sales", BigInteger, nullable=False),
        Column("amount", Numeric, nullable=False),
    )


def by_region(name: str, of: Table) -> SelectTally:
    region = func.shop.plain(of.c.region, type_=Text).label("region")
    amount = func.coalesce(func.sum(cast(of.c.doubled, BigInteger)), 0).label("amount")
    found = select(region, func.count().label("sales"), amount)
    of_regions: Any = found.where(region.is_not(None)).group_by(region)
    return SelectTally(f"shop.{name}", select=of_regions, table=_derived(name))


def by_hand(name: str, of: Table) -> RecomputedTally:
    """The same, recomputed: no view keeps the columns of its source as they are."""
    derived = _derived(name)
    region = func.shop.plain(of.c.region, type_=Text).label("region")
    amount = func.coalesce(func.sum(of.c.doubled), 0).label("amount")
    found = select(region, func.count().label("sales"), amount).where(region.is_not(None))
    return RecomputedTally(
        system="shop",
        table=derived,
        key=["region"],
        measures=["sales", "amount"],
        captures=[Capture(of, key=lambda row: {"region": func.shop.plain(row.region, type_=Text)})],
        aggregate=lambda scope: found.where(*scope(region=region)).group_by(region),
    )


sales, orders, returns = source("sales"), source("orders"), source("returns")
per_region = by_region("per_region", sales)
ordered = by_region("ordered", orders)
returned = by_hand("returned", returns)
shop = System("shop", metadata, [per_region, ordered, returned])

MAKE = (
    "CREATE SCHEMA shop",
    "CREATE FUNCTION shop.plain(text) RETURNS text LANGUAGE sql IMMUTABLE RETURN $1",
    "CREATE TABLE shop.all_orders (id bigint NOT NULL, region text, amount numeric(12, 2), doubled"
    " numeric GENERATED ALWAYS AS (amount * 2) STORED) PARTITION BY LIST (region)",
    "CREATE TABLE shop.orders PARTITION OF shop.all_orders DEFAULT PARTITION BY RANGE (id)",
    "CREATE TABLE shop.orders_1 PARTITION OF shop.orders FOR VALUES FROM (0) TO (1000)",
    "CREATE TABLE shop.orders_2 PARTITION OF shop.orders FOR VALUES FROM (1000) TO (2000)",
)
ADD = "INSERT INTO shop.{} (id, region, amount) VALUES (1, 'north', 1.5), (2, 'south', 2)"


def build(engine: Engine) -> Engine:
    execute(engine, *MAKE)
    with engine.begin() as connection:
        metadata.create_all(connection)
        install(connection, shop.tallies)
    execute(engine, *(ADD.format(name) for name in ("sales", "orders", "returns")))
    for tally in shop.tallies:
        refresh(engine, tally)
        assert verify(engine, tally).ok
    return engine


@pytest.fixture
def market(any_postgres_engine: Engine) -> Engine:
    fill(any_postgres_engine, "market", build)
    return any_postgres_engine


@pytest.fixture
def changed(market: Engine) -> Iterator[Connection]:
    """A connection whose changes are rolled back."""
    with market.connect() as connection:
        yield connection


def say(connection: Connection, tally: Tally) -> list[tuple[str, Consequence]]:
    found = dependencies.drifts_of(connection, tally)
    return [(str(d), d.consequence) for d in found if d.consequence > INFORMATION]


def is_same(connection: Connection, tally: Tally) -> bool:
    """Whether a refresh would not compare what the tally depends on."""
    looked = catalog_rows.look(connection, tally, facts.FORMAT)
    return looked is not None and looked.is_same


def has_icu(connection: Connection) -> bool:
    """Whether the server was built with ICU, of which alone such collations are."""
    found = "SELECT EXISTS (SELECT FROM pg_collation WHERE collname = 'en-US-x-icu')"
    return bool(connection.exec_driver_sql(found).scalar())


CAPTURE = "tallykeeper.capture_shop_sales_insert"
LIVE = "tallykeeper.shop_per_region_from_sources"
LOG = "tallykeeper.shop_per_region_log"
PARTED = "was captured with the source, but does not belong to it any more"
JOINED = "belongs to the source now, and is not captured with it"
BACK = "was changed and changed back; changes in between may be missing"
HIDES = (
    "row security hides rows of it from the role {}, so no figure can be proven; ALTER ROLE ..."
    " BYPASSRLS, or disable row security on it"
)

Case = tuple[Tally, Sequence[str], str, Consequence]
CASES: dict[str, Case] = {
    "trigger disabled": (
        per_region,
        ["ALTER TABLE shop.sales DISABLE TRIGGER tallykeeper_insert"],
        "shop.sales: the insert trigger is disabled, or not enabled always",
        REINSTALL,
    ),
    "trigger disabled and enabled again": (
        per_region,
        [
            "ALTER TABLE shop.sales DISABLE TRIGGER tallykeeper_insert",
            "ALTER TABLE shop.sales ENABLE ALWAYS TRIGGER tallykeeper_insert",
        ],
        f"shop.sales: the insert trigger {BACK}",
        STALE,
    ),
    "trigger dropped": (
        per_region,
        ["DROP TRIGGER tallykeeper_delete ON shop.sales"],
        "shop.sales: the delete trigger is missing",
        REINSTALL,
    ),
    "trigger renamed": (
        per_region,
        ["ALTER TRIGGER tallykeeper_delete ON shop.sales RENAME TO tallykeeper_other"],
        "shop.sales: the delete trigger is missing",
        REINSTALL,
    ),
    "trigger never fires": (
        per_region,
        [
            "CREATE OR REPLACE TRIGGER tallykeeper_truncate AFTER TRUNCATE ON shop.sales"
            " FOR EACH STATEMENT WHEN (false)"
            " EXECUTE FUNCTION tallykeeper.capture_shop_sales_truncate()",
            "ALTER TABLE shop.sales ENABLE ALWAYS TRIGGER tallykeeper_truncate",
        ],
        "shop.sales: the truncate trigger has other events, columns or another condition",
        REINSTALL,
    ),
    "trigger of another function": (
        per_region,
        [
            "CREATE OR REPLACE TRIGGER tallykeeper_truncate AFTER TRUNCATE ON shop.sales"
            " FOR EACH STATEMENT EXECUTE FUNCTION tallykeeper.capture_shop_orders_truncate()",
            "ALTER TABLE shop.sales ENABLE ALWAYS TRIGGER tallykeeper_truncate",
        ],
        "shop.sales: the truncate trigger calls another function",
        REINSTALL,
    ),
    "captured twice": (
        per_region,
        [
            "CREATE TRIGGER once_more AFTER INSERT ON shop.sales REFERENCING NEW TABLE AS new_rows"
            f" FOR EACH STATEMENT EXECUTE FUNCTION {CAPTURE}()"
        ],
        "shop.sales: the trigger once_more captures its changes once more",
        REINSTALL,
    ),
    "capture on another table": (
        per_region,
        [
            "CREATE TABLE shop.copied (LIKE shop.sales)",
            "CREATE TRIGGER x AFTER INSERT ON shop.copied REFERENCING NEW TABLE AS new_rows"
            f" FOR EACH STATEMENT EXECUTE FUNCTION {CAPTURE}()",
        ],
        f"shop.copied: {PARTED}",
        REINSTALL,
    ),
    "note of manual writes lost": (
        per_region,
        ["DROP TRIGGER tallykeeper_hand ON shop.per_region"],
        "shop.per_region: the hand edit trigger is missing",
        REINSTALL,
    ),
    "function replaced": (
        per_region,
        [
            f"CREATE OR REPLACE FUNCTION {CAPTURE}() RETURNS trigger LANGUAGE plpgsql"
            " SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC'"
            " AS 'BEGIN RETURN NULL; END'"
        ],
        f"{CAPTURE}: the capture function is not the one that the declarations make",
        REINSTALL,
    ),
    "function without its rights": (
        per_region,
        [f"ALTER FUNCTION {CAPTURE}() SECURITY INVOKER"],
        f"{CAPTURE}: the capture function lost SECURITY DEFINER",
        REINSTALL,
    ),
    "function in another time zone": (
        per_region,
        [f"ALTER FUNCTION {CAPTURE}() RESET timezone"],
        f"{CAPTURE}: the capture function was altered: settings search_path=pg_catalog, pg_temp,"
        " not TimeZone=UTC search_path=pg_catalog, pg_temp",
        REINSTALL,
    ),
    "function granted": (
        per_region,
        [f"GRANT EXECUTE ON FUNCTION {CAPTURE}() TO PUBLIC"],
        f"{CAPTURE}: the capture function may be executed by others than its owner",
        REINSTALL,
    ),
    "function granted to one": (
        per_region,
        ["CREATE ROLE drift_one", f"GRANT EXECUTE ON FUNCTION {CAPTURE}() TO drift_one"],
        f"{CAPTURE}: the capture function may be executed by others than its owner",
        REINSTALL,
    ),
    "function of another owner": (
        per_region,
        ["CREATE ROLE drift_one", f"ALTER FUNCTION {CAPTURE}() OWNER TO drift_one"],
        f"{CAPTURE}: the capture function belongs to drift_one now, not to postgres",
        REINSTALL,
    ),
    "function changed and changed back": (
        per_region,
        [
            f"ALTER FUNCTION {CAPTURE}() SECURITY INVOKER",
            f"ALTER FUNCTION {CAPTURE}() SECURITY DEFINER",
        ],
        f"{CAPTURE}: the capture function {BACK}",
        STALE,
    ),
    "function of the live view replaced": (
        per_region,
        [
            f"CREATE OR REPLACE FUNCTION {LIVE}() RETURNS TABLE (region text, sales bigint, amount"
            " numeric) LANGUAGE sql STABLE SECURITY DEFINER SET search_path TO pg_catalog, pg_temp"
            " SET timezone TO 'UTC' SET jit TO off AS 'SELECT ''x'', 1, 1.0'"
        ],
        f"{LIVE}: the function is not the one that the declarations make",
        REINSTALL,
    ),
    "a function of the application": (
        per_region,
        [
            "CREATE OR REPLACE FUNCTION shop.plain(text) RETURNS text LANGUAGE sql IMMUTABLE"
            " AS 'SELECT lower($1)'"
        ],
        "shop.plain(text): the function was replaced",
        STALE,
    ),
    "live view replaced": (
        per_region,
        [
            "CREATE OR REPLACE VIEW shop.per_region_live AS SELECT region, sales, amount"
            " FROM shop.per_region"
        ],
        "shop.per_region_live: the live view is not the one that was installed: another text",
        REINSTALL,
    ),
    "live view with a renamed column": (
        per_region,
        ["ALTER VIEW shop.per_region_live RENAME COLUMN sales TO number"],
        "shop.per_region_live: the live view is not the one that was installed: columns"
        " region number amount, not region sales amount",
        REINSTALL,
    ),
    "live view with the reader's rights": (
        per_region,
        ["ALTER VIEW shop.per_region_live SET (security_invoker = true)"],
        "shop.per_region_live: the live view is not the one that was installed: options"
        " security_invoker=true, not none",
        REINSTALL,
    ),
    "live view renamed": (
        per_region,
        ["ALTER VIEW shop.per_region_live RENAME TO something"],
        "shop.per_region_live: was renamed to shop.something",
        REINSTALL,
    ),
    "log unlogged": (
        per_region,
        [f"ALTER TABLE {LOG} SET UNLOGGED"],
        f"{LOG}: is UNLOGGED now: a crash would empty it",
        REINSTALL,
    ),
    "log with a column less": (
        per_region,
        ["DROP VIEW shop.per_region_live", f"ALTER TABLE {LOG} DROP COLUMN amount"],
        f"{LOG}: the column amount does not exist any more",
        REINSTALL,
    ),
    "log with a rule": (
        per_region,
        [f"CREATE RULE none AS ON INSERT TO {LOG} DO INSTEAD NOTHING"],
        f"{LOG}: has a rule that keeps writes from it (none); drop it",
        REFUSE,
    ),
    "log with a trigger": (
        per_region,
        [
            "CREATE FUNCTION shop.none() RETURNS trigger LANGUAGE plpgsql"
            " AS 'BEGIN RETURN NULL; END'",
            f"CREATE TRIGGER none BEFORE INSERT ON {LOG} FOR EACH ROW EXECUTE FUNCTION shop.none()",
        ],
        f"{LOG}: has a trigger that is not Tallykeeper's (none) and may keep changes from it;"
        " drop it",
        REFUSE,
    ),
    "log replaced": (
        per_region,
        [f"ALTER TABLE {LOG} RENAME TO other", f"CREATE TABLE {LOG} (LIKE tallykeeper.other)"],
        f"{LOG}: is another table than the one that was installed, which is tallykeeper.other now",
        REINSTALL,
    ),
    "marks that a crash would empty": (
        per_region,
        ["ALTER TABLE tallykeeper.stale_marks SET UNLOGGED"],
        "tallykeeper.stale_marks: is UNLOGGED now: a crash would empty it",
        REINSTALL,
    ),
    "source swapped": (
        per_region,
        [
            "ALTER TABLE shop.sales RENAME TO sales_old",
            "CREATE TABLE shop.sales (LIKE shop.sales_old INCLUDING ALL)",
        ],
        "shop.sales: is another table than the one that was captured, which is shop.sales_old now",
        REINSTALL,
    ),
    "source renamed": (
        per_region,
        ["ALTER TABLE shop.sales RENAME TO sales_old"],
        "shop.sales: was renamed to shop.sales_old",
        REINSTALL,
    ),
    "source moved": (
        per_region,
        ["CREATE SCHEMA archive", "ALTER TABLE shop.sales SET SCHEMA archive"],
        "shop.sales: was renamed to archive.sales",
        REINSTALL,
    ),
    "source dropped": (
        per_region,
        ["DROP TABLE shop.sales CASCADE"],
        "shop.sales: does not exist any more",
        REINSTALL,
    ),
    "source a view now": (
        per_region,
        [
            "ALTER TABLE shop.sales RENAME TO sales_old",
            "CREATE VIEW shop.sales AS SELECT * FROM shop.sales_old",
        ],
        "shop.sales: is another table than the one that was captured, which is shop.sales_old now",
        REINSTALL,
    ),
    "source unlogged": (
        returned,
        ["ALTER TABLE shop.returns SET UNLOGGED"],
        "shop.returns: is UNLOGGED: a crash empties it without a trigger; ALTER TABLE shop.returns"
        " SET LOGGED",
        REFUSE,
    ),
    "source with an heir": (
        per_region,
        ["CREATE TABLE shop.heir () INHERITS (shop.sales)"],
        f"shop.heir: {JOINED}",
        REINSTALL,
    ),
    "column of another type": (
        returned,
        [
            "ALTER TABLE shop.returns DROP COLUMN doubled",
            "ALTER TABLE shop.returns ADD doubled numeric(12, 4) DEFAULT 0",
        ],
        "shop.returns: the column doubled was dropped and added again",
        STALE,
    ),
    "column lost": (
        returned,
        ["ALTER TABLE shop.returns DROP COLUMN doubled"],
        "shop.returns: the column doubled does not exist any more",
        REINSTALL,
    ),
    "column retyped": (
        returned,
        ["ALTER TABLE shop.returns ALTER region TYPE varchar(20)"],
        "shop.returns: the column region: its type changed from text to character varying(20)",
        STALE,
    ),
    "rows rewritten as the same type": (
        returned,
        ["ALTER TABLE shop.returns ALTER region TYPE text USING upper(region)"],
        "shop.returns: the column region: its rows were rewritten without a trigger",
        STALE,
    ),
    "collation": (
        returned,
        ['ALTER TABLE shop.returns ALTER region TYPE text COLLATE "C"'],
        'shop.returns: the column region: its collation changed from "default" to "C"',
        STALE,
    ),
    "collation without order": (
        returned,
        [
            "CREATE COLLATION shop.blind (provider = icu, locale = 'und-u-ks-level2',"
            " deterministic = false)",
            "ALTER TABLE shop.returns ALTER region TYPE text COLLATE shop.blind",
        ],
        "shop.returns: the column region has the collation blind, which is not deterministic: texts"
        " that differ count as equal, and no key would be certain",
        REFUSE,
    ),
    "collation of the derived table": (
        per_region,
        [
            "CREATE COLLATION shop.blind (provider = icu, locale = 'und-u-ks-level2',"
            " deterministic = false)",
            "DROP VIEW shop.per_region_live",
            "DROP TRIGGER tallykeeper_hand ON shop.per_region",
            "DROP TRIGGER tallykeeper_hand_nested ON shop.per_region",
            "ALTER TABLE shop.per_region ALTER region TYPE text COLLATE shop.blind",
        ],
        "shop.per_region: the column region has the collation blind, which is not deterministic:"
        " texts that differ count as equal, and no key would be certain",
        REFUSE,
    ),
    "derived table replaced": (
        per_region,
        [
            "ALTER TABLE shop.per_region RENAME TO per_region_old",
            "CREATE TABLE shop.per_region (LIKE shop.per_region_old INCLUDING ALL)",
        ],
        "shop.per_region: is another table than the one that was installed, which is"
        " shop.per_region_old now",
        REINSTALL,
    ),
    "derived table unlogged": (
        per_region,
        ["ALTER TABLE shop.per_region SET UNLOGGED"],
        "shop.per_region: is UNLOGGED: a crash empties it without a trigger; ALTER TABLE"
        " shop.per_region SET LOGGED",
        REFUSE,
    ),
    "derived table with a rule": (
        per_region,
        ["CREATE RULE none AS ON UPDATE TO shop.per_region DO INSTEAD NOTHING"],
        "shop.per_region: has a rule that keeps writes from it (none); drop it",
        REFUSE,
    ),
    "partition joined": (
        ordered,
        ["CREATE TABLE shop.orders_3 PARTITION OF shop.orders FOR VALUES FROM (2000) TO (3000)"],
        f"shop.orders_3: {JOINED}",
        REINSTALL,
    ),
    "partition detached": (
        ordered,
        ["ALTER TABLE shop.orders DETACH PARTITION shop.orders_2"],
        f"shop.orders_2: {PARTED}",
        REINSTALL,
    ),
    "partition detached and attached again": (
        ordered,
        [
            "ALTER TABLE shop.orders DETACH PARTITION shop.orders_2",
            "ALTER TABLE shop.orders ATTACH PARTITION shop.orders_2 FOR VALUES FROM (1000)"
            " TO (2000)",
        ],
        "shop.orders_2: was detached and attached again; changes in between were not captured",
        STALE,
    ),
    "partition dropped": (
        ordered,
        ["DROP TABLE shop.orders_2"],
        f"shop.orders_2: {PARTED}",
        REINSTALL,
    ),
    "trigger of a partition": (
        ordered,
        ["ALTER TABLE shop.orders_1 DISABLE TRIGGER tallykeeper_delete"],
        "shop.orders_1: the delete trigger is disabled, or not enabled always",
        REINSTALL,
    ),
    "trigger of the table above": (
        ordered,
        ["ALTER TABLE shop.all_orders DISABLE TRIGGER tallykeeper_insert_shop_orders"],
        "shop.all_orders: the insert trigger is disabled, or not enabled always",
        REINSTALL,
    ),
    "guard of merges": (
        ordered,
        ["DROP TRIGGER tallykeeper_merge ON shop.all_orders"],
        "shop.all_orders: the merge trigger is missing",
        REINSTALL,
    ),
}


@pytest.mark.parametrize("batch", [0, 1])
def test_each_kind_of_difference_is_named_with_its_consequence(
    changed: Connection, batch: int
) -> None:
    missing = []
    icu = has_icu(changed)
    for name, (tally, statements, sentence, consequence) in list(CASES.items())[batch::2]:
        if not icu and "icu" in statements[0]:
            continue
        for statement in statements:
            changed.exec_driver_sql(statement)
        found = say(changed, tally)
        if (sentence, consequence) not in found:
            missing.append((name, found))
        if is_same(changed, tally):
            missing.append((f"{name}: a refresh would not look", found))
        changed.rollback()
        assert say(changed, tally) == [], name
        assert is_same(changed, tally), name
    assert missing == []


HARMLESS = {
    "column added": ["ALTER TABLE shop.sales ADD note text"],
    "column with a default added": ["ALTER TABLE shop.sales ADD note text DEFAULT 'x'"],
    "column that is not used": ["ALTER TABLE shop.sales ALTER id SET STATISTICS 10"],
    "statistics": ["ALTER TABLE shop.sales ALTER region SET STATISTICS 10"],
    "index": ["CREATE INDEX ON shop.sales (region)"],
    "comment": ["COMMENT ON TABLE shop.sales IS 'x'", "COMMENT ON COLUMN shop.sales.region IS 'x'"],
    "grants": ["CREATE ROLE drift_one", "GRANT ALL ON shop.sales, shop.per_region TO drift_one"],
    "owner": ["CREATE ROLE drift_one", "ALTER TABLE shop.sales OWNER TO drift_one"],
    "analyze": ["ANALYZE shop.sales"],
    "reindex": ["REINDEX TABLE shop.sales"],
    "cluster": ["CLUSTER shop.sales USING sales_pkey"],
    "truncate": ["TRUNCATE shop.sales"],
    "quoted names": ["SET LOCAL quote_all_identifiers = on"],
    "another search path": ["SET LOCAL search_path = shop, tallykeeper, public"],
    "constraint": ["ALTER TABLE shop.sales ADD CHECK (amount > 0)"],
    "trigger of the application": [
        "CREATE FUNCTION shop.none() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "CREATE TRIGGER x BEFORE INSERT ON shop.sales FOR EACH ROW EXECUTE FUNCTION shop.none()",
    ],
    "rule of the application": ["CREATE RULE x AS ON DELETE TO shop.sales DO ALSO NOTHING"],
    "row security that hides nothing": ["ALTER TABLE shop.sales ENABLE ROW LEVEL SECURITY"],
    "partition renamed": ["ALTER TABLE shop.orders_1 RENAME TO orders_first"],
    "schema renamed and back": [
        "ALTER SCHEMA shop RENAME TO store",
        "ALTER SCHEMA store RENAME TO shop",
    ],
    "another table": ["CREATE TABLE shop.other (LIKE shop.sales INCLUDING ALL)"],
    "view on it": ["CREATE VIEW shop.seen AS SELECT * FROM shop.per_region_live"],
    "refused types": ["ALTER TABLE shop.sales ALTER id SET NOT NULL"],
}


def test_what_matters_to_no_figure_is_no_fault(changed: Connection) -> None:
    wrong = {}
    for name, statements in HARMLESS.items():
        for statement in statements:
            changed.exec_driver_sql(statement)
        found = [*say(changed, per_region), *say(changed, ordered)]
        if found:
            wrong[name] = found
        changed.rollback()
    assert wrong == {}


KINDS = (
    "CREATE SCHEMA kinds",
    "CREATE TYPE kinds.size AS ENUM ('s', 'm')",
    "CREATE FUNCTION kinds.fine(numeric) RETURNS boolean LANGUAGE sql IMMUTABLE RETURN true",
    "CREATE FUNCTION kinds.twice(numeric) RETURNS numeric LANGUAGE sql IMMUTABLE RETURN $1 * 2",
    "CREATE DOMAIN kinds.amount AS numeric CHECK (kinds.fine(VALUE))",
    "CREATE SCHEMA store",
    "CREATE TABLE store.sales (id bigint PRIMARY KEY, size kinds.size, amount kinds.amount,"
    " doubled numeric GENERATED ALWAYS AS (kinds.twice(amount)) STORED)",
)
CHANGED_KINDS = (
    "ALTER TYPE kinds.size RENAME VALUE 's' TO 'x'",
    "ALTER TYPE kinds.size SET SCHEMA store",
    "ALTER SCHEMA kinds RENAME TO sorts",
    "ALTER DOMAIN kinds.amount ADD CHECK (VALUE < 5)",
    "ALTER FUNCTION kinds.fine RENAME TO okay",
    "ALTER FUNCTION kinds.twice RENAME TO double",
)


def test_a_refresh_looks_where_a_type_or_what_an_expression_calls_changed(engine: Engine) -> None:
    """Of which some change no row of the table's own in the catalog."""
    described = MetaData(schema="store")
    of = Table(
        "sales",
        described,
        Column("id", BigInteger, primary_key=True),
        Column("size", ENUM("s", "m", name="size", schema="kinds", create_type=False)),
        Column("amount", Numeric),
        Column("doubled", Numeric, Computed("kinds.twice(amount)", persisted=True)),
    )
    derived = Table(
        "by_size",
        described,
        Column(
            "size",
            ENUM("s", "m", name="size", schema="kinds", create_type=False),
            primary_key=True,
        ),
        Column("sales", BigInteger, nullable=False),
        Column("amount", Numeric, nullable=False),
    )
    amount = func.coalesce(func.sum(of.c.amount + of.c.doubled), 0).label("amount")
    tally = SelectTally(
        "store.by_size",
        select=select(of.c.size, func.count().label("sales"), amount)
        .where(of.c.size.is_not(None))
        .group_by(of.c.size),
        table=derived,
    )
    execute(engine, *KINDS)
    with engine.begin() as connection:
        derived.create(connection)
        install(connection, [tally])
    refresh(engine, tally)
    with engine.connect() as connection:
        for statement in CHANGED_KINDS:
            assert is_same(connection, tally), statement
            connection.exec_driver_sql(statement)
            assert dependencies.drifts_of(connection, tally), statement
            assert not is_same(connection, tally), statement
            connection.rollback()


def test_new_storage_is_no_fault_and_installing_again_does_nothing(market: Engine) -> None:
    with market.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM FULL shop.sales")
        connection.exec_driver_sql("VACUUM FULL pg_trigger")
    assert status(market, per_region).faults == ()
    with market.begin() as connection:
        assert install(connection, shop.tallies) == []
    assert refresh(market, per_region).how == "refresh"
    # Recorded by then, so that an ordinary change of a column is no rewriting.
    execute(market, "ALTER TABLE shop.sales ALTER region SET STATISTICS 10")
    assert status(market, per_region).faults == ()


def test_row_security_is_refused_with_the_table_and_the_role(market: Engine) -> None:
    execute(
        market,
        "CREATE ROLE drift_engine",
        "GRANT USAGE ON SCHEMA shop, tallykeeper TO drift_engine",
        "GRANT SELECT ON ALL TABLES IN SCHEMA shop, tallykeeper TO drift_engine",
        "ALTER TABLE shop.sales ENABLE ROW LEVEL SECURITY",
    )
    try:
        with market.connect() as connection:
            connection.exec_driver_sql("SET LOCAL ROLE drift_engine")
            assert say(connection, per_region) == [
                (f"shop.sales: {HIDES.format('drift_engine')}", REFUSE)
            ]
            with pytest.raises(DoesNotFit, match=r"shop\.sales: row security hides rows"):
                dependencies.noticed(connection, per_region)
    finally:
        execute(market, "DROP OWNED BY drift_engine", "DROP ROLE drift_engine")


def test_rows_rewritten_without_a_trigger_make_the_tally_stale_once(market: Engine) -> None:
    execute(market, "ALTER TABLE shop.returns ALTER region TYPE text USING upper(region)")
    assert status(market, returned).faults == (
        "shop.returns: the column region: its rows were rewritten without a trigger",
    )
    done = refresh(market, returned)
    assert done.how == "rebuild"
    assert done.faults == ()
    assert status(market, returned).faults == ()
    assert rows(market, "SELECT region FROM shop.returned ORDER BY 1") == [
        ("NORTH",),
        ("SOUTH",),
    ]
    assert refresh(market, returned).how == "refresh"
    assert verify(market, returned).ok


def test_a_verify_that_finds_rows_rewritten_lets_live_reads_go_to_the_sources(
    market: Engine,
) -> None:
    execute(market, "ALTER TABLE shop.returns ALTER region TYPE text USING upper(region)")
    assert not verify(market, returned).ok
    assert len(stale_reasons(market, returned.name)) == 1
    live = "SELECT region, amount FROM shop.returned_live ORDER BY 1"
    assert rows(market, live) == [("NORTH", Decimal("3.00")), ("SOUTH", Decimal("4.00"))]


def test_broken_capture_is_rebuilt_once_and_never_called_proven(market: Engine) -> None:
    execute(
        market,
        "ALTER TABLE shop.sales DISABLE TRIGGER tallykeeper_delete",
        "DELETE FROM shop.sales WHERE id = 1",
    )
    first, second = refresh(market, per_region), refresh(market, per_region)
    assert (first.how, second.how) == ("rebuild", "refresh")
    fault = "shop.sales: the delete trigger is disabled, or not enabled always"
    assert first.faults == second.faults == (fault,)
    found = verify(market, per_region)
    assert (found.ok, found.faults) == (False, (fault,))
    # Stale all the while, so that live reads are right.
    execute(market, "DELETE FROM shop.sales")
    assert rows(market, "SELECT * FROM shop.per_region_live") == []
    with market.begin() as connection:
        assert f"repaired {fault}" in install(connection, shop.tallies)
    assert refresh(market, per_region).how == "rebuild"
    assert verify(market, per_region).ok


def test_a_table_that_takes_the_sources_name_is_captured_and_the_old_one_is_not(
    market: Engine,
) -> None:
    execute(
        market,
        "ALTER TABLE shop.sales RENAME TO sales_old",
        "CREATE TABLE shop.sales (LIKE shop.sales_old INCLUDING ALL)",
        "INSERT INTO shop.sales (id, region, amount) VALUES (7, 'west', 1)",
    )
    assert not verify(market, per_region).ok
    with market.begin() as connection:
        install(connection, shop.tallies)
    refresh(market, per_region)
    execute(market, "DELETE FROM shop.sales_old", "DELETE FROM shop.sales")
    assert scalar(market, f"SELECT count(*) FROM {LOG}") == 1
    refresh(market, per_region)
    assert verify(market, per_region).ok
    assert status(market, per_region).faults == ()


def test_a_derived_table_that_was_renamed_is_made_anew_and_read(market: Engine) -> None:
    execute(
        market,
        "ALTER TABLE shop.per_region RENAME TO per_region_old",
        "CREATE TABLE shop.per_region (LIKE shop.per_region_old INCLUDING ALL)",
    )
    with market.begin() as connection:
        install(connection, shop.tallies)
    assert refresh(market, per_region).how == "rebuild"
    assert verify(market, per_region).ok
    live = "SELECT count(*) FROM shop.per_region_live"
    assert scalar(market, live) == 2
    execute(market, "DELETE FROM shop.per_region_old")
    assert scalar(market, live) == 2
    assert status(market, per_region).faults == ()


OTHER, KEEPER = 'drift "other"; one', 'drift "keeper"; one'
OWNERS = f"""
SELECT proowner::regrole::text FROM pg_proc WHERE oid = '{CAPTURE}'::regproc
UNION ALL SELECT relowner::regrole::text FROM pg_class WHERE oid = '{LOG}'::regclass"""


@pytest.fixture
def other_roles(market: Engine) -> Iterator[None]:
    names = ", ".join(map(quote, (OTHER, KEEPER)))
    execute(market, *(f"CREATE ROLE {quote(name)}" for name in (OTHER, KEEPER)))
    try:
        yield
    finally:
        execute(
            market,
            f"REASSIGN OWNED BY {names} TO postgres",
            f"DROP OWNED BY {names}",
            f"DROP ROLE {names}",
        )


@pytest.mark.usefixtures("other_roles")
@pytest.mark.parametrize(
    "statement",
    [f"ALTER FUNCTION {CAPTURE}() OWNER TO {{}}", f"ALTER TABLE {LOG} OWNER TO {{}}"],
    ids=["function", "log"],
)
def test_what_another_role_owns_is_returned(market: Engine, statement: str) -> None:
    execute(market, statement.format(quote(OTHER)))
    assert len(status(market, per_region).faults) == 1
    with market.begin() as connection:
        install(connection, shop.tallies)
    assert rows(market, OWNERS) == [("postgres",)] * 2
    assert status(market, per_region).faults == ()


@pytest.mark.usefixtures("other_roles")
def test_a_grant_to_a_role_whose_name_needs_quotes_is_revoked(market: Engine) -> None:
    execute(market, f"GRANT EXECUTE ON FUNCTION {CAPTURE}() TO {quote(OTHER)}")
    assert len(status(market, per_region).faults) == 1
    with market.begin() as connection:
        install(connection, shop.tallies)
    assert status(market, per_region).faults == ()


def hand_over(market: Engine) -> None:
    """All that is installed, and the schema, as `tally roles` does."""
    keeper = quote(KEEPER)
    execute(market, f"ALTER SCHEMA tallykeeper OWNER TO {keeper}")
    named = (
        "SELECT 'TABLE ' || c.oid::regclass FROM pg_class AS c WHERE c.relkind IN ('r', 'v') AND"
        " c.relnamespace IN ('tallykeeper'::regnamespace, 'shop'::regnamespace)"
        " UNION ALL SELECT 'FUNCTION ' || p.oid::regprocedure FROM pg_proc AS p"
        " WHERE p.pronamespace = 'tallykeeper'::regnamespace"
    )
    execute(market, *(f"ALTER {name} OWNER TO {keeper}" for (name,) in rows(market, named)))


@pytest.mark.usefixtures("other_roles")
def test_what_the_owner_of_the_schema_was_handed_stays_its_own(market: Engine) -> None:
    hand_over(market)
    assert status(market, per_region).faults == ()
    with market.begin() as connection:
        assert install(connection, shop.tallies) == []
    assert rows(market, OWNERS) == [(quote(KEEPER),)] * 2
    assert stale_reasons(market, per_region.name) == []
    assert status(market, per_region).faults == ()


@pytest.mark.usefixtures("other_roles")
def test_what_was_left_out_of_a_handover_goes_to_the_new_owner(market: Engine) -> None:
    hand_over(market)
    execute(
        market,
        f"ALTER FUNCTION {CAPTURE}() OWNER TO {quote(OTHER)}",
        f"ALTER TABLE {LOG} OWNER TO {quote(OTHER)}",
    )
    assert len(status(market, per_region).faults) == 2
    with market.begin() as connection:
        install(connection, shop.tallies)
    assert rows(market, OWNERS) == [(quote(KEEPER),)] * 2
    assert status(market, per_region).faults == ()


BY_HAND = {name: CASES[name] for name in CASES if CASES[name][3] is REINSTALL}


@pytest.mark.parametrize(
    "name",
    [
        "trigger never fires",
        "captured twice",
        "capture on another table",
        "function in another time zone",
        "function granted",
        "function of the live view replaced",
        "live view replaced",
        "live view with a renamed column",
        "live view with the reader's rights",
        "log unlogged",
        "marks that a crash would empty",
        "partition joined",
        "partition detached",
    ],
)
def test_an_installation_repairs_it_and_has_nothing_more_to_do(name: str, engine: Engine) -> None:
    build(engine)
    tally, statements, _, _ = BY_HAND[name]
    execute(engine, *statements)
    assert status(engine, tally).faults
    with engine.begin() as connection:
        install(connection, shop.tallies)
    assert status(engine, tally).faults == ()
    with engine.begin() as connection:
        assert install(connection, shop.tallies) == []
    refresh(engine, tally)
    assert verify(engine, tally).ok


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name][3] is REFUSE])
def test_an_installation_refuses_it_in_a_sentence(name: str, any_postgres_engine: Engine) -> None:
    engine = build(any_postgres_engine)
    _, statements, sentence, _ = CASES[name]
    with engine.connect() as connection:
        if not has_icu(connection) and "icu" in statements[0]:
            pytest.skip("this server was built without ICU")
    execute(engine, *statements)
    said = sentence.partition(":")[0]
    with engine.begin() as connection, pytest.raises(DoesNotFit, match=said):
        install(connection, shop.tallies)


@pytest.mark.parametrize("what", ["hand", "hand_delete", "hand_update", "log", "cascade"])
def test_a_function_that_notes_manual_writes_is_distinguished_from_capture(
    engine: Engine, what: str
) -> None:
    create(engine, gallery)
    tally = content_tags
    (function,) = {
        hook.function
        for hook in derived_triggers.own_hooks(tally)
        if hook.function == own_function_name(tally.table, what)
    }
    with engine.connect() as connection, connection.begin() as transaction:
        connection.exec_driver_sql(f"ALTER FUNCTION {function}() SECURITY INVOKER")
        found = dependencies.drifts_of(connection, tally)
        transaction.rollback()
    assert [(d.name, d.of_hand, d.missed) for d in found] == [
        (function, what != "cascade", what == "cascade")
    ]

"""Derived tables that are there already are brought to their declarations, in place."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Engine,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    cast,
    func,
    select,
)
from sqlalchemy.types import TypeEngine

from tallykeeper import (
    DoesNotFit,
    SelectTally,
    System,
    refresh,
    status,
    verify,
)
from tallykeeper.catalog import state
from tallykeeper.discovery import all_systems
from tallykeeper.installation.migrate import migrate
from tests.integration.releases import RELEASES, restore
from tests.integration.support import execute, rows, scalar

# Everything that a declaration says of a table, but for the order of its columns.
SHAPES = """
SELECT a.attrelid::regclass::text, a.attname, format_type(a.atttypid, a.atttypmod),
  (SELECT collname FROM pg_collation AS c WHERE c.oid = a.attcollation)::text, a.attnotnull::text,
  a.attidentity::text || a.attgenerated::text, pg_get_expr(d.adbin, d.adrelid),
  col_description(a.attrelid, a.attnum)
FROM pg_attribute AS a LEFT JOIN pg_attrdef AS d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
WHERE a.attrelid = ANY ('{tables}'::regclass[]) AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL SELECT i.indrelid::regclass::text, i.indexrelid::regclass::text,
  pg_get_indexdef(i.indexrelid), '', '', '', '', '' FROM pg_index AS i
WHERE i.indrelid = ANY ('{tables}'::regclass[])
UNION ALL SELECT c.oid::regclass::text, '', '', '', '', '', '', obj_description(c.oid, 'pg_class')
FROM pg_class AS c WHERE c.oid = ANY ('{tables}'::regclass[])
ORDER BY 1, 2
"""


def shapes(engine: Engine) -> list[tuple[Any, ...]]:
    """How the derived tables of all systems are."""
    names = ",".join(f"{t.schema}.{t.name}" for s in all_systems() for t in s.derived)
    return rows(engine, SHAPES.replace("{tables}", f"{{{names}}}"))


@pytest.fixture(scope="module")
def made(postgres_servers: Any) -> Any:
    """The derived tables as a new installation has them."""
    from tallykeeper.database.connections import open_engine

    with postgres_servers.fresh_database(18) as url:
        engine = open_engine(url)
        migrate(engine, with_sources=True)
        found = shapes(engine)
        engine.dispose()
    return found


@pytest.mark.parametrize("release", RELEASES)
def test_tables_of_a_release_become_as_new_ones_are(
    release: str, made: Any, engine: Engine, database_url: str
) -> None:
    restore(release, database_url)
    migrate(engine)
    assert shapes(engine) == made


def shop(
    counted: TypeEngine[Any] | None = None,
    *,
    amount: Column[Any] | None = None,
    comment: str | None = None,
    index: str | None = None,
) -> System:
    """A system of one tally: sales per region, whose count has a type, and perhaps an amount."""
    metadata = MetaData(schema="shop")
    sales = Table(
        "sales",
        metadata,
        Column("id", BigInteger, primary_key=True),
        Column("region", Text, nullable=False),
        Column("amount", Integer, nullable=False),
    )
    columns = [
        Column("region", Text, primary_key=True),
        Column("count", counted or SmallInteger(), nullable=False, comment=comment),
        Column("updated_at", DateTime(timezone=True)),
    ]
    regions = Table("regions", metadata, *columns, *([] if amount is None else [amount]))
    if index:
        Index(index, regions.c["count"])
    # The same SELECT, whatever type the table's column has.
    counts = cast(func.count(), SmallInteger).label("count")
    sums = [] if amount is None else [cast(func.sum(sales.c.amount), amount.type).label("amount")]
    of_regions = select(sales.c.region, counts, *sums).group_by(sales.c.region)
    tally = SelectTally("shop.regions", select=of_regions, table=regions)
    return System("shop", metadata, [tally])


SELL = "INSERT INTO shop.sales SELECT i + {0}, 'r' || i % 2, i FROM generate_series(1, 4) AS i"
LIVE = "SELECT region, count FROM shop.regions_live ORDER BY 1"


@pytest.fixture
def opened(engine: Engine) -> Engine:
    """The shop with something counted and something pending."""
    system = shop()
    migrate(engine, [system], with_sources=True)
    execute(engine, SELL.format(0))
    refresh(engine, system.tallies[0])
    execute(engine, SELL.format(10))
    return engine


def pending(engine: Engine) -> Any:
    return scalar(engine, "SELECT count(*) FROM tallykeeper.shop_regions_log")


def test_a_type_that_holds_more_is_given_in_place_and_nothing_is_rebuilt(opened: Engine) -> None:
    before = pending(opened)
    assert before
    system = shop(BigInteger())
    assert migrate(opened, [system]).done == [
        "altered the derived table shop.regions: count became bigint from smallint",
        "installed shop.regions",
    ]
    assert migrate(opened, [system]).done == []
    assert status(opened, system.tallies[0]).stale == ()
    assert pending(opened) == before
    assert rows(opened, LIVE) == [("r0", 4), ("r1", 4)]
    execute(opened, SELL.format(20))
    assert refresh(opened, system.tallies[0]).how != "rebuild"
    assert rows(opened, LIVE) == [("r0", 6), ("r1", 6)]
    assert verify(opened, system.tallies[0]).ok


def test_a_type_that_holds_less_than_the_present_one_changes_nothing(opened: Engine) -> None:
    migrate(opened, [shop(BigInteger())])
    assert migrate(opened, [shop()]).done == ["installed shop.regions"]
    type_ = "SELECT pg_typeof(count)::text FROM shop.regions LIMIT 1"
    assert scalar(opened, type_) == "bigint"


@pytest.mark.parametrize("default", [None, "0"])
def test_a_number_that_is_added_is_filled_by_the_rebuild_of_the_changed_declaration(
    opened: Engine, default: str | None
) -> None:
    amount = Column("amount", Integer, nullable=False, server_default=default)
    system = shop(amount=amount)
    tally = system.tallies[0]
    assert migrate(opened, [system]).done == [
        "altered the derived table shop.regions: added the column amount",
        "compiled shop.regions: delta",
        "installed shop.regions (its declaration changed)",
        "repaired tallykeeper.shop_regions_definition: the definition view is not the one that was"
        " installed: columns region count amount, not region count, another text",
    ]
    live = "SELECT region, amount FROM shop.regions_live ORDER BY 1"
    assert rows(opened, live) == [("r0", 12), ("r1", 8)]
    assert refresh(opened, tally).how == "rebuild"
    assert rows(opened, live.replace("_live", "")) == [("r0", 12), ("r1", 8)]
    assert verify(opened, tally).ok
    assert migrate(opened, [system]).done == []
    fills_itself = scalar(
        opened,
        "SELECT atthasdef FROM pg_attribute WHERE attrelid = 'shop.regions'::regclass"
        " AND attname = 'amount'",
    )
    assert fills_itself == (default is not None)


def test_indexes_and_comments_come_to_a_table_that_is_there(opened: Engine) -> None:
    system = shop(comment="how many", index="regions_count")
    altered = "altered the derived table shop.regions:"
    expected = [f"{altered} created the index regions_count, wrote comments"]
    assert migrate(opened, [system]).done == expected
    assert migrate(opened, [system]).done == []
    execute(opened, "DROP INDEX shop.regions_count", "CREATE INDEX mine ON shop.regions (count)")
    assert migrate(opened, [system]).done == []
    execute(opened, "DROP INDEX shop.mine")
    assert migrate(opened, [system]).done == [f"{altered} created the index regions_count"]
    assert status(opened, system.tallies[0]).stale == ()


def test_indexes_that_a_backfill_dropped_are_left_to_it(opened: Engine) -> None:
    with opened.begin() as connection:
        connection.execute(
            state.unbuilt.insert().values(
                tally="shop.regions", place=0, kind="index", what="regions_count", statement=""
            )
        )
    assert migrate(opened, [shop(index="regions_count")]).done == []


def test_what_somebody_depends_on_stays_as_it_is_and_is_refused(opened: Engine) -> None:
    execute(opened, "CREATE VIEW shop.mine AS SELECT count FROM shop.regions")
    with pytest.raises(DoesNotFit, match="count is smallint, expected bigint"):
        migrate(opened, [shop(BigInteger())])
    assert rows(opened, LIVE) == [("r0", 4), ("r1", 4)]
    assert status(opened, shop().tallies[0]).stale == ()


def test_a_column_by_which_rows_are_distinguished_is_not_added(engine: Engine) -> None:
    execute(engine, "CREATE SCHEMA shop", "CREATE TABLE shop.regions (count smallint NOT NULL)")
    with pytest.raises(DoesNotFit, match=r"region is missing, expected text.*--move-aside"):
        migrate(engine, [shop()], with_sources=True)


def test_a_column_that_somebody_dropped_comes_back_and_is_filled_by_a_rebuild(
    opened: Engine,
) -> None:
    execute(opened, "ALTER TABLE shop.regions RENAME count TO number")
    execute(opened, "ALTER TABLE shop.regions ALTER number DROP NOT NULL")
    system = shop()
    tally = system.tallies[0]
    said = "altered the derived table shop.regions: added the column count"
    assert migrate(opened, [system]).done[0] == said
    assert "a column of its derived table was missing" in status(opened, tally).stale
    assert rows(opened, LIVE) == [("r0", 4), ("r1", 4)]
    assert refresh(opened, tally).how == "rebuild"
    assert rows(opened, LIVE) == [("r0", 4), ("r1", 4)]
    assert verify(opened, tally).ok


def test_pages_keep_room_where_refreshes_update_rows(engine: Engine) -> None:
    execute(
        engine, "CREATE SCHEMA shelf", "CREATE TABLE shelf.books (id int PRIMARY KEY, kind text)"
    )
    own = MetaData(schema="shelf")
    declared = Table(
        "declared",
        own,
        Column("kind", Text, nullable=False, unique=True),
        Column("n", BigInteger, nullable=False),
        postgresql_with={"fillfactor": 55},
    )
    counted = "SELECT kind, count(*) AS n FROM shelf.books GROUP BY kind"
    system = System(
        "shelf",
        own,
        [
            SelectTally("shelf.counted", select=counted),
            SelectTally("shelf.kinds", select="SELECT DISTINCT kind FROM shelf.books"),
            SelectTally("shelf.declared", select=f"{counted} HAVING count(*) > 1", table=declared),
        ],
    )
    migrate(engine, [system])
    options = "SELECT relname::text, reloptions::text FROM pg_class WHERE relname = ANY ('{0}')"
    assert sorted(rows(engine, options.format("{counted,kinds,declared}"))) == [
        ("counted", "{fillfactor=80}"),
        ("declared", "{fillfactor=55}"),
        ("kinds", None),
    ]
    states = (
        "SELECT reloptions::text FROM pg_class WHERE relkind = 'r'"
        " AND obj_description(oid, 'pg_class') LIKE 'intermediate result of shelf.kinds%'"
    )
    assert rows(engine, states) == [("{fillfactor=80}",)]

"""A store whose sales are pruned, and what its tallies must hold all the same.

What is pruned is kept elsewhere, in `public.shadow`, by a trigger that the tallies know nothing of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, DateTime, Engine, Index, Integer, MetaData, Table, Text

from tallykeeper import (
    Pruned,
    SelectTally,
    System,
    Tally,
    migrate,
    prune,
    refresh,
)
from tallykeeper.database.connections import open_engine

SCHEMA = """
CREATE SCHEMA store;
CREATE TABLE store.sales (
  id bigint PRIMARY KEY, shop int, kind text, cents int NOT NULL, at timestamptz NOT NULL
);
CREATE TABLE store.returns (id int PRIMARY KEY, shop int, cents int NOT NULL);
CREATE TABLE public.shadow (LIKE store.sales);
CREATE FUNCTION public.keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF current_setting('application_name') LIKE '%pruner%' THEN
    INSERT INTO public.shadow VALUES (old.id, old.shop, old.kind, old.cents, old.at);
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER keep AFTER DELETE ON store.sales FOR EACH ROW EXECUTE FUNCTION public.keep()
"""
SALES = (
    "INSERT INTO store.sales SELECT n, nullif(n % 4, 3), (ARRAY['a', 'test', NULL])[1 + n % 3],"
    " n % 11, timestamptz '2026-01-01 00:00Z' + n * interval '43 minutes'"
    " FROM generate_series(1, 1000) AS n"
)
SELECTS = {
    "daily": (
        "SELECT date_trunc('day', at, 'UTC') AS day, shop, count(*) AS n,"
        " count(*) FILTER (WHERE cents > 5) AS dear"
        " FROM store.sales WHERE kind IS DISTINCT FROM 'test' GROUP BY 1, 2"
    ),
    "by_kind": "SELECT kind, count(*) AS n, sum(cents) AS cents FROM store.sales GROUP BY kind",
    "both": (
        "SELECT shop, count(*) AS n, coalesce(sum(cents), 0) AS cents FROM (SELECT shop, cents"
        " FROM store.sales UNION ALL SELECT shop, -cents FROM store.returns) AS u GROUP BY shop"
    ),
}
HOURLY = (
    "SELECT date_trunc('hour', at, 'UTC') AS hour, kind, count(*) AS n, sum(cents) AS cents"
    " FROM store.sales GROUP BY 1, 2"
)
# Of notes that a foreign key deletes with the sales that they are of.
NOTED = "SELECT mark % 3 AS third, count(*) AS n, sum(mark) AS marks FROM store.notes GROUP BY 1"
NOTES = """
CREATE TABLE store.notes (
  id int PRIMARY KEY, mark int NOT NULL, sale bigint REFERENCES store.sales ON DELETE CASCADE
);
CREATE INDEX ON store.notes (sale);
INSERT INTO store.notes SELECT n, n, n * 10 FROM generate_series(1, 100) AS n;
CREATE TABLE public.shadow_notes (LIKE store.notes);
CREATE FUNCTION public.keep_note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF current_setting('application_name') LIKE '%pruner%' THEN
    INSERT INTO public.shadow_notes VALUES (old.id, old.mark, old.sale);
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER keep AFTER DELETE ON store.notes FOR EACH ROW EXECUTE FUNCTION public.keep_note()
"""
NOTES_EVER = "(SELECT * FROM store.notes UNION ALL SELECT * FROM public.shadow_notes) AS s"
# What a tally counts: the rows that are there, and those that were pruned.
EVER = "(SELECT * FROM store.sales UNION ALL SELECT * FROM public.shadow) AS s"


def sales_in(metadata: MetaData) -> Table:
    """The table of what is sold."""
    return Table(
        "sales",
        metadata,
        Column("id", BigInteger, primary_key=True),
        Column("shop", Integer),
        Column("kind", Text),
        Column("cents", Integer, nullable=False),
        Column("at", DateTime(timezone=True), nullable=False),
    )


def prune_sales(engine: Engine, tallies: Sequence[Tally], before: datetime, **given: Any) -> Pruned:
    """Prune them by a connection whose deleted rows are kept elsewhere."""
    url = engine.url.update_query_dict({"application_name": "pruner"})
    own = open_engine(url.render_as_string(hide_password=False))
    try:
        return prune(own, "store.sales", before, tallies=tallies, **given)
    finally:
        own.dispose()


def system() -> System:
    """Four tallies, of which one has a table that is declared, too."""
    metadata = MetaData(schema="store")
    moment = DateTime(timezone=True)
    sales_in(metadata)
    hourly = Table(
        "hourly",
        metadata,
        Column("hour", moment, nullable=False),
        Column("kind", Text),
        Column("n", BigInteger, nullable=False),
        Column("cents", BigInteger, nullable=False),
    )
    Index(
        "hourly_key", hourly.c.hour, hourly.c.kind, unique=True, postgresql_nulls_not_distinct=True
    )
    declared = SelectTally("store.hourly", select=HOURLY, table=hourly)
    selects = [SelectTally(f"store.{name}", select=text) for name, text in SELECTS.items()]
    return System("store", metadata, [*selects, declared])


def install(engine: Engine, execute: Callable[..., None]) -> System:
    """The store with its sales of thirty days, its tallies installed and built."""
    execute(
        engine,
        SCHEMA,
        SALES,
        "INSERT INTO store.returns SELECT n, n % 4, n FROM generate_series(1, 20) AS n",
    )
    store = system()
    migrate(engine, [store])
    for tally in store.tallies:
        refresh(engine, tally)
    return store


def system_with_notes() -> System:
    """The same, and a tally of notes that go with their sales."""
    return system().with_tallies([SelectTally("store.noted", select=NOTED)])


def install_with_notes(engine: Engine, execute: Callable[..., None]) -> System:
    """The same with notes of each tenth sale, which go with it."""
    install(engine, execute)
    execute(engine, NOTES)
    store = system_with_notes()
    migrate(engine, [store])
    for tally in store.tallies:
        refresh(engine, tally)
    return store


def wrong(tally: Tally) -> str:
    """A query of the rows in which the live view is not what the SELECT returns of all rows ever.

    The derived table with what is pending is what the live view shows.
    """
    named = {"hourly": HOURLY, "noted": NOTED, **SELECTS}[tally.table.name]
    wanted = named.replace("store.sales", EVER).replace("store.notes", NOTES_EVER)
    there = f"SELECT {', '.join(tally.columns)} FROM {tally.live_name}"
    return f"(({there}) EXCEPT ALL ({wanted})) UNION ALL (({wanted}) EXCEPT ALL ({there}))"

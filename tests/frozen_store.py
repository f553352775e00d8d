"""A store whose sales are pruned, with tallies that freeze the groups that lose rows.

What these groups held then is kept elsewhere, in `public.kept_...`, by a trigger that the tallies
know nothing of: it computes each SELECT over the rows that are there and those being deleted.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import (
    Column,
    DateTime,
    Engine,
    Integer,
    MetaData,
    Table,
    func,
    select,
)

from tallykeeper import (
    Capture,
    RecomputedTally,
    SelectTally,
    System,
    Tally,
    TimeKey,
    migrate,
    refresh,
)
from tests.pruned_store import SALES, sales_in

# Of each tally its SELECT, where {sales} is what is sold, and the keys that {sales} concerns.
SELECTS = {
    "latest": (
        "SELECT s.shop, max(s.at) AS at, min(s.cents) AS least FROM {sales} AS s GROUP BY s.shop",
        "SELECT s.shop FROM {sales} AS s",
    ),
    "kinds": (
        "SELECT date_trunc('day', s.at, 'UTC') AS day, count(DISTINCT s.kind) AS kinds"
        " FROM {sales} AS s GROUP BY 1",
        "SELECT date_trunc('day', s.at, 'UTC') AS day FROM {sales} AS s",
    ),
    "regions": (
        "SELECT r.region, sum(s.cents) AS cents, count(*) AS n"
        " FROM {sales} AS s JOIN store.shops AS r ON r.shop = s.shop GROUP BY r.region",
        "SELECT r.region FROM {sales} AS s JOIN store.shops AS r ON r.shop = s.shop",
    ),
    "best": (
        "SELECT u.day, max(u.n) AS n FROM (SELECT date_trunc('day', s.at, 'UTC') AS day, s.shop,"
        " count(DISTINCT s.kind) AS n FROM {sales} AS s GROUP BY 1, 2) AS u GROUP BY u.day"
        " HAVING max(u.n) > 0",
        "SELECT date_trunc('day', s.at, 'UTC') AS day FROM {sales} AS s",
    ),
}
HOURS = (
    "SELECT date_trunc('hour', s.at, 'UTC') AS hour, max(s.cents) AS most FROM {sales} AS s"
    " GROUP BY 1",
    "SELECT date_trunc('hour', s.at, 'UTC') AS hour FROM {sales} AS s",
)
COUNTS = (
    "SELECT s.shop, count(*) AS n, sum(s.cents) AS cents FROM {sales} AS s GROUP BY s.shop",
    "SELECT s.shop FROM {sales} AS s WHERE false",
)
ALL = {**SELECTS, "hours": HOURS, "counts": COUNTS}
SCHEMA = """
CREATE SCHEMA store;
CREATE TABLE store.sales (
  id bigint PRIMARY KEY, shop int, kind text, cents int NOT NULL, at timestamptz NOT NULL
);
CREATE TABLE store.shops (shop int PRIMARY KEY, region text);
CREATE TABLE public.shadow (LIKE store.sales);
{tables}
CREATE FUNCTION public.keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF current_setting('application_name') NOT LIKE '%pruner%' THEN RETURN NULL; END IF;
{keeping}
  INSERT INTO public.shadow SELECT * FROM old_rows;
  RETURN NULL;
END $$;
CREATE TRIGGER keep AFTER DELETE ON store.sales REFERENCING OLD TABLE AS old_rows
  FOR EACH STATEMENT EXECUTE FUNCTION public.keep()
"""
# What is there, and what was deleted; what is there and what is being deleted.
EVER = "(SELECT * FROM store.sales UNION ALL SELECT * FROM public.shadow)"
BEFORE = "(SELECT * FROM store.sales UNION ALL SELECT * FROM old_rows)"


def schema() -> str:
    """The tables, and the trigger that keeps elsewhere what groups held."""
    tables, keeping = [], []
    for name, (query, keys) in ALL.items():
        key = _key(name)
        there = query.format(sales="store.sales")
        tables.append(f"CREATE TABLE public.kept_{name} AS {there} LIMIT 0;")
        before, lost = query.format(sales=BEFORE), keys.format(sales="old_rows")
        keeping.append(
            f"  INSERT INTO public.kept_{name} SELECT q.* FROM ({before}) AS q"
            f" WHERE EXISTS (SELECT FROM ({lost}) AS k WHERE k.{key} IS NOT DISTINCT FROM q.{key})"
            f" AND NOT {_is_kept(name)};"
        )
    made = SCHEMA.replace("{keeping}", "\n".join(keeping))
    return made.replace("{tables}", "\n".join(tables))


def _is_kept(name: str) -> str:
    key = _key(name)
    same = f"p.{key} IS NOT DISTINCT FROM q.{key}"
    return f"EXISTS (SELECT FROM public.kept_{name} AS p WHERE {same})"


def system() -> System:
    """Five tallies that are SELECTs, one of them of counts and sums, and one declared by hand."""
    metadata = MetaData(schema="store")
    moment = DateTime(timezone=True)
    sales = sales_in(metadata)
    hours = Table(
        "hours",
        metadata,
        Column("hour", moment, primary_key=True),
        Column("most", Integer, nullable=False),
    )
    by_hand = RecomputedTally(
        system="store",
        table=hours,
        key=["hour"],
        measures=["most"],
        captures=[Capture(source=sales, key=lambda sale: {"hour": sale.at})],
        aggregate=lambda scope: (
            select(
                func.date_trunc("hour", sales.c.at, "UTC").label("hour"),
                func.max(sales.c.cents).label("most"),
            )
            .where(*scope(hour=sales.c.at))
            .group_by(func.date_trunc("hour", sales.c.at, "UTC"))
        ),
        time_key=TimeKey("hour", "hour"),
    )
    selects = [
        SelectTally(f"store.{name}", select=text.format(sales="store.sales"))
        for name, (text, _) in {**SELECTS, "counts": COUNTS}.items()
    ]
    return System("store", metadata, [*selects, by_hand])


def install(engine: Engine, execute: Callable[..., None]) -> System:
    """The store with its sales of thirty days, its tallies installed and built."""
    execute(
        engine,
        schema(),
        SALES,
        "INSERT INTO store.shops SELECT n, (ARRAY['north', 'south', NULL])[1 + n % 3]"
        " FROM generate_series(0, 5) AS n",
    )
    store = system()
    migrate(engine, [store])
    for tally in store.tallies:
        refresh(engine, tally)
    return store


def wrong(tally: Tally) -> str:
    """A query of the rows in which the live view is not what it must be.

    That is, of groups that lost rows, what they were then; of others the SELECT.
    """
    name = tally.table.name
    there = f"SELECT {', '.join(tally.columns)} FROM {tally.live_name}"
    text, _ = ALL[name]
    if name == "counts":
        wanted = text.format(sales=EVER)
    else:
        wanted = (
            f"SELECT q.* FROM ({text.format(sales='store.sales')}) AS q WHERE NOT {_is_kept(name)}"
            f" UNION ALL SELECT * FROM public.kept_{name}"
        )
    return f"(({there}) EXCEPT ALL ({wanted})) UNION ALL (({wanted}) EXCEPT ALL ({there}))"


def _key(name: str) -> str:
    return {"latest": "shop", "regions": "region", "hours": "hour", "counts": "shop"}.get(
        name, "day"
    )

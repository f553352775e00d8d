"""What is refused: with its place in the SELECT, the reason, and what to write instead."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine

from tallykeeper.database import sql
from tallykeeper.select.definition.refusals import Refused, refusals, require_maintainable

_TABLES = """
CREATE SCHEMA s;
CREATE TYPE s.mood AS ENUM ('sad', 'ok');
-- Not every build of PostgreSQL has ICU, which has collations that are not deterministic.
CREATE COLLATION s.loose (provider = libc, locale = 'C');
UPDATE pg_collation SET collisdeterministic = false WHERE collname = 'loose';
CREATE TABLE s.t (
  id int PRIMARY KEY, n int, f float8, x numeric, name text, ci text COLLATE s.loose, d date,
  ts timestamp, tz timestamptz, iv interval, m s.mood, a int[], da date[], jb jsonb, j json);
CREATE TABLE s.other (id int PRIMARY KEY, rate numeric);
CREATE UNLOGGED TABLE s.fast (id int);
CREATE MATERIALIZED VIEW s.mat AS SELECT 1 AS id;
CREATE TABLE s.parts (id int) PARTITION BY RANGE (id);
CREATE UNLOGGED TABLE s.part1 PARTITION OF s.parts FOR VALUES FROM (1) TO (2);
CREATE TABLE s.parent (id int); CREATE TABLE s.child () INHERITS (s.parent);
CREATE VIEW s.v AS SELECT id, now() AS at FROM s.t;
CREATE VIEW s.fine AS SELECT id, n FROM s.t;
CREATE FUNCTION s.vol(int) RETURNS int LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION s.stab(int) RETURNS int LANGUAGE sql STABLE AS 'SELECT $1';
CREATE FUNCTION s.pure(int) RETURNS int LANGUAGE sql IMMUTABLE AS
  'SELECT $1 + extract(year FROM date ''2020-01-01'')::int';
CREATE FUNCTION s.rate(int) RETURNS numeric LANGUAGE sql IMMUTABLE AS
  'SELECT rate FROM s.other WHERE id = $1';
CREATE FUNCTION s.rate2(i int) RETURNS numeric LANGUAGE sql IMMUTABLE
  BEGIN ATOMIC SELECT rate FROM s.other WHERE id = i; END;
CREATE FUNCTION s.rate3(i int) RETURNS numeric LANGUAGE plpgsql IMMUTABLE AS
  'BEGIN RETURN (SELECT rate FROM other WHERE other.id = i); END';
CREATE FUNCTION s.step(int, int) RETURNS int LANGUAGE sql AS 'SELECT $1 + $2';
CREATE AGGREGATE s.product(int) (sfunc = int4mul, stype = int);
CREATE AGGREGATE s.total(int) (sfunc = s.step, stype = int);
"""
FINE = """
date_trunc('day', tz, 'Europe/Berlin')
date_trunc('day', ts)
(tz at time zone 'Europe/Berlin')::date
extract(epoch from tz)
date_part('epoch', tz)
extract(year from ts)
tz + interval '90 minutes'
tz - interval '1 hour'
tz - tz
tz > '2024-01-01 00:00+00'
ts > '2024-01-01'
d + 1
ts + interval '1 day'
to_char(ts, 'YYYY-MM-DD HH24:MI')
to_char(x, 'FM999.00')
to_date(name, 'YYYY-MM-DD')
n::text
m::text
name::s.mood
a::text
x::text || name
name || n
concat(name, n, m)
format('%s-%s', name, x)
array_to_string(a, ',')
to_jsonb(d)
jsonb_build_object('n', n, 'd', d)
row_to_json(row(n, name))
to_tsvector('simple', name)
make_timestamptz(2020, 1, 1, 0, 0, 0, 'UTC')
s.pure(n)
lower(name)
name collate "C"
(select max(id) from s.fine)
coalesce(f, 0)
array_to_json(da)
"""
FINE_OF_ALL = """
sum(x)
avg(n)
max(f)
min(f)
count(f)
sum(f::numeric)
jsonb_agg(d order by id)
count(distinct f)
s.product(n order by id)
array_agg(distinct n)
percentile_cont(0.5) within group (order by f)
"""
# The word at whose place it is refused, the expression, and a part of what is said.
REFUSED = [
    ("now", "now() - tz", "now() changes while no row does"),
    ("current_date", "d - current_date", "current_date changes"),
    ("current_timestamp", "current_timestamp > tz", "current_timestamp changes"),
    ("localtimestamp", "localtimestamp(0)", "localtimestamp changes"),
    ("age", "age(ts)", "age() changes"),
    ("clock_timestamp", "clock_timestamp()", "another value each time"),
    ("random", "n * random()", "random() returns another value each time"),
    ("gen_random_uuid", "gen_random_uuid()", "another value each time"),
    ("current_user", "current_user", "depends on who asks"),
    ("session_user", "session_user", "depends on who asks"),
    ("current_setting", "current_setting('x', true)", "depends on the session"),
    ("date_trunc", "date_trunc('day', tz)", "date_trunc('day', placed_at, 'Europe/Berlin')"),
    ("::", "tz::date", "time zone of the session"),
    ("cast", "cast(tz as date)", "time zone of the session"),
    ("::", "tz::timestamp", "time zone of the session"),
    ("::", "ts::timestamptz", "name the zone that is meant"),
    ("::", "d::timestamptz", "name the zone that is meant"),
    ("::", "tz::text", "depends on the settings"),
    ("::", "d::text", "to_char(placed_at, 'YYYY-MM-DD')"),
    ("::", "name::date", "to_date()"),
    ("::", "name::timestamptz", "depends on the settings"),
    ("::", "da::text", "depends on the settings"),
    ("extract", "extract(hour from tz)", "time zone of the session"),
    ("date_part", "date_part('hour', tz)", "time zone of the session"),
    ("+", "tz + interval '1 day'", "of days or months"),
    ("-", "tz - iv", "of days or months"),
    (">", "tz > d", "compares a moment with a date"),
    ("=", "ts = tz", "compares a moment with a date"),
    ("to_char", "to_char(tz, 'YYYY')", "time zone of the session"),
    ("to_char", "to_char(ts, 'TMMonth')", "language settings"),
    ("to_char", "to_char(x, 'L999')", "language settings"),
    ("to_char", "to_char(x, name)", "constant pattern"),
    ("to_timestamp", "to_timestamp(name, 'YYYY')", "zone"),
    ("concat", "concat(name, d)", "as the settings of the session say"),
    ("||", "name || ts", "as the settings of the session say"),
    ("format", "format('%s', tz)", "as the settings of the session say"),
    ("to_jsonb", "to_jsonb(tz)", "as the settings of the session say"),
    ("jsonb_build_object", "jsonb_build_object('at', tz)", "as the settings"),
    ("to_tsvector", "to_tsvector(name)", "name the configuration"),
    ("vol", "s.vol(n)", "declared VOLATILE"),
    ("stab", "s.stab(n)", "declare it IMMUTABLE if"),
    ("rate", "s.rate(n)", "reads s.other"),
    ("rate2", "s.rate2(n)", "join s.other in the SELECT"),
    ("rate3", "s.rate3(n)", "reads s.other"),
    ("::", "f::text", "amount::numeric::text"),
    ("::", "decode(name, 'hex')::text", "encode(payload, 'hex')"),
    ("concat", "concat(f, name)", "numbers as numeric"),
    ("jsonb_build_object", "jsonb_build_object('f', f)", "bytea by encode()"),
    ("overlaps", "(tz, interval '1 day') overlaps (tz, tz)", "time zone of the session"),
    ("ctid", "t.ctid", "ctid is where or when"),
    ("xmin", "xmin::text", "xmin is where or when"),
    ("t", "t is null", "the whole row t"),
    ("loose", "name collate s.loose", "not deterministic"),
    ("loose", "ci", "not deterministic"),
    ("'today'", "'today'::date", "'today' is replaced"),
    ("'now'", "timestamp 'now'", "'now' is replaced"),
    ("now", "(select count(*) from s.v where at > '2020-01-01 00:00+00')", "now() changes"),
]
REFUSED_OF_ALL = [
    ("sum", "sum(f)", "floating-point"),
    ("avg", "avg(f)", "avg(amount::numeric)"),
    ("stddev", "stddev(f)", "floating-point"),
    ("sum", "sum(n::real)", "floating-point"),
    ("corr", "corr(f, n)", "floating-point"),
    ("t", "count(t)", "the whole row t"),
    ("jsonb_agg", "jsonb_agg(tz order by id)", "as the settings of the session say"),
    ("total", "s.total(n order by id)", "declared VOLATILE"),
    ("product", "s.product(n)", "product() without ORDER BY"),
    ("array_agg", "array_agg(n)", "add a unique column to the ORDER BY"),
    ("array_agg", "(array_agg(name order by n))[1]", "leaves the order of rows that tie"),
]
TABLES = [
    ("fast", "SELECT id FROM s.fast", "ALTER TABLE s.fast SET LOGGED"),
    ("mat", "SELECT id FROM s.mat", "materialized view"),
    ("pg_class", "SELECT oid FROM pg_class", "PostgreSQL's own"),
    ("parts", "SELECT id FROM s.parts", "part1"),
    ("only", "SELECT id FROM ONLY s.parent", "ONLY s.parent"),
    ("tablesample", "SELECT id FROM s.t TABLESAMPLE SYSTEM (10)", "takes other rows"),
    ("limit", "SELECT id FROM s.t ORDER BY n LIMIT 3", "which of the rows that tie"),
    ("offset", "SELECT id FROM s.t OFFSET 3", "OFFSET without ORDER BY"),
    ("distinct", "SELECT DISTINCT ON (n) n, id FROM s.t ORDER BY n", "which row of several"),
    ("row_number", "SELECT row_number() OVER (ORDER BY n) AS r, id FROM s.t", "to chance"),
    # Not understood by the compiler, so that no key is found.
    ("limit", "SELECT id, collation for (name) AS c FROM s.t ORDER BY id LIMIT 1", "may leave"),
    ("for", "SELECT id FROM s.t FOR UPDATE", "a tally only reads"),
]


@pytest.fixture
def connection(any_postgres_engine: Engine) -> Iterator[Connection]:
    with any_postgres_engine.connect() as connection:
        sql.execute(connection, _TABLES)
        yield connection


def said(connection: Connection, select: str) -> list[tuple[str, int | None]]:
    sql.execute(connection, "DROP VIEW IF EXISTS s.definition")
    sql.execute(connection, f"CREATE VIEW s.definition AS {select}")
    found = refusals(connection, "s.definition", select)
    return [(f"{r.reason}; {r.way_out}", r.position) for r in found]


def test_what_follows_from_rows_alone_is_accepted(connection: Connection) -> None:
    selects = [f"SELECT {e} AS c FROM s.t" for e in (FINE + FINE_OF_ALL).split("\n") if e]
    selects.append("SELECT p.id FROM s.parent AS p JOIN s.fine ON fine.id = p.id")
    assert {s: found for s in selects if (found := said(connection, s))} == {}


@pytest.mark.parametrize("among", [REFUSED, REFUSED_OF_ALL, TABLES])
def test_the_rest_is_refused_where_it_stands(
    connection: Connection, among: list[tuple[str, str, str]]
) -> None:
    for word, given, expected in among:
        select = given if given.startswith("SELECT") else f"SELECT {given} AS c FROM s.t"
        found = said(connection, select)
        assert len(found) == 1, (select, found)
        sentence, position = found[0]
        assert expected in sentence, (select, sentence)
        pattern = rf"\b{word}\b" if word.isidentifier() else re.escape(word)
        place = re.search(pattern, select, re.IGNORECASE)
        assert position == (place.start() + 1 if place is not None else None), (select, sentence)


def test_all_of_it_is_said_at_once(connection: Connection) -> None:
    select = "SELECT sum(f),\n  date_trunc('day', tz) AS day\nFROM s.t\nWHERE tz > now() GROUP BY 2"
    sql.execute(connection, f"CREATE VIEW s.definition AS {select}")
    with pytest.raises(Refused) as caught:
        require_maintainable(connection, "s.definition", select, name="shop.sales")
    lines = str(caught.value).splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        "shop.sales, line 1, column 8",
        "shop.sales, line 2, column 3",
        "shop.sales, line 4, column 12",
    ]
    with pytest.raises(Refused) as caught:
        require_maintainable(
            connection, "s.definition", select, name="shop.sales", place=lambda n: f"a.sql:{n}"
        )
    assert str(caught.value).startswith("a.sql:8: shop.sales: sum() of floating-point")

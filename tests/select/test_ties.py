"""What an ORDER BY leaves to chance."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine

from tallykeeper.database import sql
from tallykeeper.select.resolve import resolve
from tallykeeper.select.syntax.ties import ties

_TABLES = """
CREATE SCHEMA s;
CREATE TABLE s.customers (id int PRIMARY KEY, region text,
  code text UNIQUE NOT NULL, maybe int UNIQUE);
CREATE TABLE s.orders (id int PRIMARY KEY, customer_id int, placed timestamptz, cents int);
CREATE TABLE s.lines (order_id int, number int, cents int, PRIMARY KEY (order_id, number));
CREATE TABLE s.loose (id int, x int);
"""
_TOTAL = """
select id, region from s.customers order by id limit 3;
select region from s.customers order by region limit 3;
select upper(region) u, region r from s.customers order by region limit 3;
select * from s.customers order by region desc, code offset 2;
select region, count(*) from s.customers group by region order by region limit 3;
select region, count(*) n from s.customers group by region order by n desc, region limit 3;
select region, bool_and(maybe > 1) from s.customers group by region order by region limit 3;
select o.id, c.region from s.orders o join s.customers c on c.id = o.customer_id order by o.id
  limit 3;
select o.id, c.region from s.orders o left join s.customers c on c.id = o.customer_id order by
  o.id limit 3;
select c.region, l.* from s.lines l join s.orders o on o.id = l.order_id join s.customers c on
  c.id = o.customer_id order by l.order_id, l.number limit 1;
select distinct on (customer_id) customer_id, id, placed from s.orders order by customer_id,
  placed, id;
select distinct region from s.customers order by region limit 2;
select id, row_number() over (partition by region order by code) n from s.customers;
select region, row_number() over (order by region) n from s.customers;
select id, rank() over (order by region) n from s.customers;
select id, sum(maybe) over (order by region) n from s.customers;
select id, sum(maybe) over (order by region, id rows 2 preceding) n from s.customers;
select region, sum(maybe) over (partition by region rows between unbounded preceding and
  unbounded following) n from s.customers;
select q.region, q.n from (select region, count(*) n from s.customers group by region) q order
  by q.region limit 2;
select q.id from (select id, x from s.loose union all select id, cents from s.orders) q order by
  1 limit 2;
select x.region, x.id, x.t from (select c.region, o.id, sum(l.cents) t, row_number() over
  (partition by c.region order by sum(l.cents) desc, o.id) rn from s.customers c join s.orders o
  on o.customer_id = c.id join s.lines l on l.order_id = o.id group by c.region, o.id) x where
  x.rn <= 3;
select id, code from s.customers order by code collate "C" limit 2;
select q.customer_id, jsonb_agg(q.n order by q.placed) from (select customer_id, placed, count(*) n
  from s.orders group by customer_id, placed) q group by q.customer_id;
select region, array_agg(id order by id) from s.customers group by region;
select region, string_agg(code, ',' order by maybe, id) from s.customers group by region;
select region, array_agg(distinct code) from s.customers group by region;
select region, jsonb_object_agg(id, code order by id) from s.customers group by region;
select id from s.customers c where exists (select 1 from s.orders o where o.customer_id = c.id
  limit 1);
select region from s.customers order by region fetch first 3 rows with ties;
select id, (select o.id from s.orders o where o.customer_id = c.id order by o.placed desc, o.id
  limit 1) last from s.customers c;
select id, lag(maybe) over w from s.customers window w as (partition by region order by id);
select max(id) from s.customers limit 1;
select id, array(select o.cents from s.orders o where o.customer_id = c.id order by o.cents) a
  from s.customers c;
select array(select x + 1 from s.loose order by x + 1) a, array[id, maybe] b from s.customers;
select (select count(*) from s.orders o where o.customer_id = c.id) n from s.customers c
  order by 1 limit 2;
select distinct on (c.code) c.code, c.region from s.orders o left join
  (s.lines l left join s.customers c on c.id = l.cents) on l.order_id = o.id
  order by c.code, o.id, l.number, c.id;
"""
# Each with the beginning of what is said of it.
_LEFT_TO_CHANCE = """
-- LIMIT ordered by customers.region
select id, region from s.customers order by region limit 3;
-- LIMIT ordered by customers.maybe
select id, region from s.customers order by maybe limit 3;
-- LIMIT without ORDER BY
select id from s.customers limit 3;
-- OFFSET without ORDER BY
select id from s.customers offset 3;
-- LIMIT ordered by loose.id
select x, id from s.loose order by id limit 3;
-- LIMIT ordered by COUNT(*)
select region, count(*) n from s.customers group by region order by n limit 3;
-- LIMIT ordered by o.id
select o.id, l.cents from s.orders o join s.lines l on l.order_id = o.id order by o.id limit 3;
-- LIMIT ordered by o.id
select o.id, l.cents from s.orders o left join s.lines l on l.order_id = o.id order by o.id
  limit 3;
-- DISTINCT ON ordered by
select distinct on (customer_id) customer_id, id from s.orders order by customer_id, placed;
-- row_number() OVER
select id, row_number() over (partition by region order by maybe) n from s.customers;
-- row_number() OVER ordered by nothing
select id, row_number() over () n from s.customers;
-- LIMIT ordered by o.id
select o.id, c.region from s.orders o join s.lines l on l.order_id = o.id
  left join s.customers c on c.id = l.cents order by o.id limit 3;
-- ARRAY(...) without ORDER BY
select id, array(select o.cents from s.orders o where o.customer_id = c.id) a from s.customers c;
-- ARRAY(...) ordered by o.placed
select id, array(select o.cents from s.orders o order by o.placed) a from s.customers c;
-- ARRAY(...) without ORDER BY
select array(select id from s.orders union all select id from s.loose) a;
-- sum() OVER
select id, sum(maybe) over (order by region rows 2 preceding) n from s.customers;
-- first_value() OVER
select id, first_value(code) over (partition by region order by maybe) n from s.customers;
-- array_agg() without ORDER BY
select region, array_agg(id) from s.customers group by region;
-- string_agg() ordered by customers.maybe
select region, string_agg(code, ',' order by maybe) from s.customers group by region;
-- json_agg() without
select region, json_agg(customers.code) filter (where id > 2) from s.customers group by region;
-- jsonb_object_agg()
select region, jsonb_object_agg(maybe, code order by maybe) from s.customers group by region;
-- LIMIT ordered by CAST((customers.maybe) AS TEXT) COLLATE C
select id, code from s.customers order by maybe::text collate "C" limit 2;
-- jsonb_agg() ordered by q.placed
select jsonb_agg(q.n order by q.placed) from (select customer_id, placed, count(*) n
  from s.orders group by customer_id, placed) q;
-- jsonb_agg() ordered by q.placed
select q.customer_id, jsonb_agg(q.n order by q.placed) from (select customer_id, placed, count(*) n
  from s.orders group by customer_id, placed) q group by rollup (q.customer_id);
-- LIMIT ordered by o.placed
select id, (select o.id from s.orders o where o.customer_id = c.id order by o.placed desc limit
  1) l from s.customers c;
-- LIMIT ordered by q.region
select q.region, q.n from (select region, maybe, count(*) n from s.customers group by region,
  maybe) q order by q.region limit 2;
-- lag() OVER
select id, lag(maybe) over w from s.customers window w as (partition by region order by maybe);
"""


@pytest.fixture
def connection(any_postgres_engine: Engine) -> Iterator[Connection]:
    with any_postgres_engine.connect() as connection:
        sql.execute(connection, _TABLES)
        yield connection


def found(connection: Connection, select: str) -> list[str]:
    sql.execute(connection, "DROP VIEW IF EXISTS s.definition")
    sql.execute(connection, f"CREATE VIEW s.definition AS {select}")
    resolved = resolve(connection, "s.definition")
    return ties(resolved.tree, resolved.sources)


def test_orders_that_leave_nothing_to_chance(connection: Connection) -> None:
    assert {s: f for s in _TOTAL.strip().split(";\n") if s and (f := found(connection, s))} == {}


def test_orders_that_leave_something_to_chance(connection: Connection) -> None:
    for each in _LEFT_TO_CHANCE.strip().split(";\n"):
        said, _, select = each.rstrip(";").removeprefix("-- ").partition("\n")
        reasons = found(connection, select)
        assert len(reasons) == 1, (select, reasons)
        assert reasons[0].startswith(said), (select, reasons)

"""SELECTs in normal form return what the view returns, on every PostgreSQL."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import Connection, Engine, text
from sqlglot import exp

from tallykeeper.select import dialect
from tallykeeper.select.resolve import NotUnderstood, Resolved, resolve

_TABLES = """
CREATE SCHEMA s; CREATE SCHEMA r;
CREATE TABLE s.a (id int PRIMARY KEY, x int, v numeric(10,2), t text);
CREATE TABLE s.b (id bigint PRIMARY KEY, a_id int, y int, t text);
CREATE TABLE s.c (id int PRIMARY KEY, b_id bigint, x int, z int[]);
CREATE TABLE r.a (id int PRIMARY KEY, x int);
INSERT INTO s.a SELECT g, mod(g, 5), g, 'k' || mod(g, 3) FROM generate_series(1, 20) g;
INSERT INTO s.b SELECT g, nullif(mod(g, 25), 7), mod(g, 4), 'k' || mod(g, 4)
FROM generate_series(5, 40) g;
INSERT INTO s.c SELECT g, nullif(mod(g, 45), 5), mod(g, 3), ARRAY[g, g + 1]
FROM generate_series(3, 60, 2) g;
INSERT INTO r.a SELECT g, mod(g, 4) FROM generate_series(10, 30) g;
CREATE VIEW s.av AS SELECT id, x + 1 AS x FROM s.a WHERE id < 15;
"""

SELECTS = """
select a.id, b.y from s.a a join s.b b on a.id = b.a_id left join s.c c on c.b_id = b.id;
select id, x from s.a where x > 1 order by 1;
select x, count(*) from s.a group by 1 order by 2 desc, 1 limit 3;
select -x as x, id from s.a order by x, id limit 5;
select distinct on (x) x, id from s.a order by x, id desc;
select a.id, b.id as bid, c.id as cid from s.a
  left join (s.b join s.c on c.b_id = b.id) on b.a_id = a.id;
select a.id, b.id as bid, c.id as cid from s.a
  join (s.b left join s.c on c.b_id = b.id) on b.a_id = a.id and c.x is null;
select a.id, b.id as bid, c.id as cid from s.a
  join (s.b left join s.c on c.b_id = b.id) on b.a_id = a.id;
select a.id, b.id as bid, c.id as cid from s.a
  join (s.b join s.c on c.b_id = b.id) on b.a_id = a.id and c.x = a.x;
select a.id, b.id as bid, c.id as cid from s.c
  full join (s.a join (s.b left join s.c c2 on c2.b_id = b.id)
    on b.a_id = a.id and c2.x is null) on c.id = a.id;
select a.id, b.id as bid, c.id as cid, d.id as did from
  (s.a join (s.b left join s.c c on c.b_id = b.id) on b.a_id = a.id and c.x is null)
  full join s.c d on d.id = a.id;
select a.id, b.id bid, c.id cid, a2.id a2id from s.a
  left join (s.b left join (s.c join r.a a2 on a2.id = c.id) on c.b_id = b.id) on b.a_id = a.id
  where coalesce(c.x, 0) < 2 and (select count(*) from s.b b2 where b2.a_id = a2.id) < 2;
select a.id, q.y from s.a left join
  (s.b join lateral (select y where b.a_id < a.id + 5) q on true) on b.a_id = a.id;
select a.id, a.x, b.id bid from s.a, (s.b full join s.c on b.id = c.b_id) where a.id = b.a_id;
select a.id, b.y from s.a cross join s.b where a.id = b.a_id;
select id, x, y, b.t from s.a full join s.b using (id);
select * from s.a left join s.b using (id, t);
select id, x, y from s.a right join s.b using (id);
select a.id, b.y, c.x from s.c right join (s.a join s.b on a.id = b.a_id) on c.b_id = b.id;
select * from s.a natural join r.a a2;
select * from s.a natural full join r.a a2;
select id, count(*) from s.a full join s.b using (id) full join s.c using (id) group by id;
select jj.id, b.y from s.a join s.b using (id) as jj;
select jj.id, jj.t from s.a full join s.b using (id, t) as jj;
select j.* from (s.a join s.b on a.id = b.a_id) j(a1, a2, a3, a4, b1);
select s1.x, r1.x as rx from s.a s1, r.a r1 where s1.id = r1.id;
select a.id, a2.id as id2 from s.a join r.a a2 on a2.id = a.id;
select a.x, q.n from s.a, lateral (select count(*) n from s.b where b.a_id = a.id) q;
select a.x, g.g, g.n from s.a, lateral generate_series(1, a.x) with ordinality g(g, n);
select c.id, u from s.c, unnest(c.z) u;
select c.id, h.item, h.nr from s.c cross join lateral unnest(c.z) with ordinality as h(item, nr);
select p, q from unnest(array[1, 2], array['a', 'b', 'c']) as n(p, q);
select p, r from unnest(array[1, 2], array['a', 'b', 'c']) with ordinality as n(p, q, r);
select v.p, a.t from (values (1, 'x'), (2, 'y')) v(p, q) join s.a on a.id = v.p;
select * from rows from (generate_series(1, 2), generate_series(3, 5)) w(p, q);
select x from s.a union all select y from s.b order by 1 limit 7;
(select x from s.a order by x, id limit 3) union (select id from s.a except select y from s.b);
select x from s.a union (select y from s.b intersect select x from s.c);
with w as (select x, count(*) n from s.a group by x), w2 as (select * from w where n > 2)
  select w.x, w2.n from w left join w2 using (x);
with w(p) as (select x from s.a) select p, (with w as (select 3 as p) select max(p) from w) from w;
with recursive r(n, m) as (select 1, id from s.a union all select n + 1, m from r where n < 3)
  select r.n, count(*) from r join r r2 on r2.m = r.m group by r.n;
select id from s.a where exists (select 1 from s.b a where a.a_id = s.a.id
  and not exists (select from s.c a2 where a2.b_id = a.id));
select id, (select max(y) from s.b where a_id = a.id) m from s.a
  where x in (select x from r.a) or x > all (select y from s.b where y < 2);
select (select count(*) from (select a.id from s.b where b.a_id = a.id) z) c, a.id from s.a;
select v.id, v.x, a.t from s.av v join s.a on a.id = v.id;
select v.q from s.av v(p, q);
select x, y, grouping(x, y), count(*) from s.a join s.b on a.id = b.a_id group by rollup(x, y);
select id, row_number() over w, sum(x) filter (where x > 1) over (w rows 2 preceding)
  from s.a window w as (partition by x order by id);
select u.p from (select id, x from s.a) u(p, q) where u.q = 1;
select a.*::text as w, a as whole from s.a;
select string_agg(t, ',' order by id), array_agg(distinct x), bool_and(x > 0), stddev(x),
  percentile_cont(0.5) within group (order by x) from s.a;
select "Odd ""name".id as "a.b", "Odd ""name".t as "Select" from s.a as "Odd ""name";
"""


def made(connection: Connection, select: str) -> Resolved:
    """A definition view of a SELECT, resolved."""
    connection.execute(text("DROP VIEW IF EXISTS s.definition"))
    connection.exec_driver_sql(f"CREATE VIEW s.definition AS {select}")
    return resolve(connection, "s.definition")


def differences(connection: Connection, resolved: Resolved) -> int:
    """How many rows the definition view and the normal form do not have in common."""
    normal = dialect.to_sql(resolved.tree)
    connection.exec_driver_sql(f"CREATE TEMPORARY VIEW normal AS {normal}")
    rows = connection.exec_driver_sql(
        "SELECT count(*) FROM ((TABLE s.definition EXCEPT ALL TABLE normal) UNION ALL"
        " (TABLE normal EXCEPT ALL TABLE s.definition)) AS d"
    ).scalar_one()
    types = [
        connection.exec_driver_sql(
            "SELECT array_agg(attname || ' ' || format_type(atttypid, atttypmod) ORDER BY attnum)"
            f" FROM pg_attribute WHERE attrelid = '{view}'::regclass AND attnum > 0"
        ).scalar_one()
        for view in ("s.definition", "pg_temp.normal")
    ]
    assert types[0] == types[1]
    connection.exec_driver_sql("DROP VIEW normal")
    return int(rows)


def follows_the_rules(resolved: Resolved) -> None:
    """Assert what the normal form promises."""
    aliases: list[str] = []
    for select in resolved.tree.find_all(exp.Select):
        items = [select.args.get("from_"), *(select.args.get("joins") or [])]
        aliases += [item.this.alias for item in items if item is not None]
        for projection in select.expressions:
            assert isinstance(projection, exp.Alias)
        for join in select.args.get("joins") or []:
            assert not join.args.get("using")
            assert join.side in ("", "LEFT", "FULL")
    assert all(aliases)
    assert len(aliases) == len(set(aliases))
    for column in resolved.tree.find_all(exp.Column):
        assert column.table in aliases
    assert not list(resolved.tree.find_all(exp.CTE)) or "recursive" in resolved.parsed.sql().lower()
    assert resolved.tree.named_selects == [c.name for c in resolved.columns]


def test_every_shape_returns_the_same_rows_and_types(any_postgres_engine: Engine) -> None:
    with any_postgres_engine.begin() as connection:
        connection.exec_driver_sql(_TABLES)
        for select in re.split(r";\n", SELECTS.strip()):
            resolved = made(connection, select.strip().rstrip(";"))
            follows_the_rules(resolved)
            assert differences(connection, resolved) == 0, dialect.to_sql(resolved.tree)


def test_a_table_whose_columns_were_renamed_is_followed(any_postgres_engine: Engine) -> None:
    with any_postgres_engine.begin() as connection:
        connection.exec_driver_sql(_TABLES)
        resolved = made(connection, "select * from s.a join s.b using (id, t)")
        connection.exec_driver_sql("ALTER TABLE s.a RENAME x TO y; ALTER TABLE s.b RENAME id TO n")
        connection.exec_driver_sql("ALTER TABLE s.b RENAME TO bees")
        resolved = resolve(connection, "s.definition")
        follows_the_rules(resolved)
        assert ("s", "bees") in resolved.sources
        assert differences(connection, resolved) == 0


def test_sources_are_known_with_keys_indexes_and_estimates(any_postgres_engine: Engine) -> None:
    with any_postgres_engine.begin() as connection:
        connection.exec_driver_sql(_TABLES)
        connection.exec_driver_sql(
            'ALTER TABLE s.c ADD j json, ADD n text COLLATE "C", ADD k jsonb[], ADD w varchar(3);'
            "CREATE UNIQUE INDEX c1 ON s.c (b_id); CREATE UNIQUE INDEX c2 ON s.c (x)"
            " NULLS NOT DISTINCT WHERE x > 5; CREATE INDEX c3 ON s.c (x, id) INCLUDE (z);"
            "CREATE UNIQUE INDEX c4 ON s.c (id, n) NULLS NOT DISTINCT;"
            "CREATE INDEX c5 ON s.c (lower(n))"
        )
        connection.exec_driver_sql("ANALYZE s.c")
        source = made(connection, "select c.id from s.c").sources["s", "c"]
    assert source.unique_keys == (("id",), ("id", "n"))
    assert source.indexes == (("id",), ("b_id",), ("x", "id"), ("id", "n"))
    assert source.rows == 29
    assert source.distinct["x"] == pytest.approx(3)
    assert source.distinct["id"] == pytest.approx(29)
    assert source.column("id").not_null
    assert not source.column("j").has_equality
    assert source.column("k").has_equality
    assert source.column("w").has_equality
    assert source.column("w").type == "character varying(3)"


def test_what_is_no_select_is_not_understood(any_postgres_engine: Engine) -> None:
    with any_postgres_engine.begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA s")
        with pytest.raises(NotUnderstood, match="not a SELECT"):
            made(connection, "VALUES (1, 2)")

"""Subqueries in odd places, rows as values, variance: exact after each change, by refresh and live.

Each SELECT is written here with the strategy that it is to have.
"""

from __future__ import annotations

import random

import pytest
from sqlalchemy import Engine

from tallykeeper import refresh, verify
from tallykeeper.database import sql
from tallykeeper.select.tally import SelectTally
from tests.integration.support import execute
from tests.select.keeping import install

TABLES = (
    "CREATE SCHEMA src",
    "CREATE TABLE src.a (id int PRIMARY KEY, name text, price numeric(10,2))",
    "CREATE TABLE src.b (id int PRIMARY KEY, a_id int, k int, w numeric(8,3))",
    "CREATE TABLE src.c (a_id int, k int)",
    'CREATE FUNCTION src."Each"(text[]) RETURNS SETOF text LANGUAGE sql IMMUTABLE'
    " AS 'SELECT unnest($1)'",
    "CREATE TABLE src.d (id int PRIMARY KEY, tags text[], doc jsonb, n numeric(5, -1))",
)
OF_A = "FROM src.b AS b WHERE b.a_id = a.id"
# By strategy: of each the changes of all tables are followed, whatever a subquery is asked by.
SELECTS = {
    "group": {
        "ids": f"SELECT a.id, ARRAY(SELECT b.id {OF_A} ORDER BY b.id) AS ids FROM src.a AS a",
        "in_json": "SELECT a.id, jsonb_build_object('k', jsonb_build_array(ARRAY("
        f"SELECT b.k {OF_A} ORDER BY b.k))) AS j FROM src.a AS a",
        "under_case": f"SELECT a.id, CASE WHEN EXISTS (SELECT 1 {OF_A}) THEN ARRAY(SELECT c.k"
        " FROM src.c AS c WHERE c.a_id = a.id ORDER BY c.k) END AS ks FROM src.a AS a",
        "filtered": f"SELECT a.id FROM src.a AS a WHERE cardinality(ARRAY(SELECT b.k {OF_A}"
        " ORDER BY b.k)) > 1",
        "row_of_values": "SELECT b.id FROM src.b AS b WHERE (b.a_id, b.k) = (SELECT max(c.a_id),"
        " max(c.k) FROM src.c AS c)",
        "distinct_rows": "SELECT a.name, count(DISTINCT (b.k, b.w)) AS n FROM src.a AS a"
        " JOIN src.b AS b ON b.a_id = a.id GROUP BY a.name",
        "distinct_spread": "SELECT b.a_id, variance(DISTINCT b.k) AS v FROM src.b AS b"
        " GROUP BY b.a_id",
    },
    "whole": {
        "in_from": f"SELECT a.id, n FROM src.a AS a, generate_series(1, (SELECT count(*) {OF_A}))"
        " AS n",
        "groups_of_rows": "SELECT count(*) AS n FROM src.b AS b GROUP BY ROW(b.a_id, b.k)",
        "rows_in_step": "SELECT d.id, unnest(d.tags) AS tag, generate_series(1, d.id) AS n"
        " FROM src.d AS d",
        "rows_of_a_count": "SELECT generate_series(1, count(*)) AS n FROM src.b AS b",
        "rows_of_groups": "SELECT b.a_id, generate_series(1, count(*)) AS n FROM src.b AS b"
        " GROUP BY b.a_id",
        "rows_beside_a_window": "SELECT d.id, unnest(d.tags) AS tag, row_number() OVER (PARTITION"
        " BY d.n ORDER BY d.id) AS place FROM src.d AS d",
        "spread_of_any_scale": "SELECT variance(b.w * 1.0) AS v, row_number() OVER () AS n"
        " FROM src.b AS b",
    },
    "delta": {
        "spreads": "SELECT b.a_id, variance(b.k) AS v, var_pop(b.k) AS vp, stddev(b.k) AS s,"
        " stddev_pop(b.k) AS sp, stddev_samp(b.w) AS sw, var_samp(b.w) AS vw,"
        " var_pop(b.w) FILTER (WHERE b.k > 0) AS vf, avg(b.w) AS m, count(*) AS n"
        " FROM src.b AS b GROUP BY b.a_id",
        "rows_among_columns": "SELECT d.id, unnest(d.tags) AS tag FROM src.d AS d",
        "rows_beside_an_expression": "SELECT d.id * 2 AS twice, unnest(d.tags) AS tag"
        " FROM src.d AS d",
        "rows_of_an_own_function": 'SELECT d.id, src."Each"(d.tags) AS tag FROM src.d AS d',
        "groups_by_rows": "SELECT upper(unnest(d.tags)) AS tag, count(*) AS n, sum(d.n) AS s"
        " FROM src.d AS d GROUP BY 1",
        "rows_of_json": "SELECT d.id, jsonb_path_query(d.doc, '$.l[*]') AS v FROM src.d AS d",
        "distinct_of_rows": "SELECT DISTINCT unnest(d.tags) AS tag FROM src.d AS d",
        "in_rows": "SELECT a.id FROM src.a AS a WHERE a.name IN (SELECT unnest(d.tags)"
        " FROM src.d AS d WHERE d.n > 0)",
        "rounded_to_tens": "SELECT d.n, count(*) AS of_n FROM src.d AS d GROUP BY d.n",
        "spread_of_all": "SELECT stddev(b.k * 1000) AS s, var_pop(b.w) AS v FROM src.b AS b",
        "spread_of_few": "SELECT a.name, stddev(b.id) AS s, round(stddev_pop(a.price), 2) AS p"
        " FROM src.a AS a LEFT JOIN src.b AS b ON b.a_id = a.id GROUP BY a.name"
        " HAVING var_pop(b.k) >= 0",
    },
}
PRICES = ("1.50", "NULL", "0", "99999999.99", "-3.14", "'NaN'")
WEIGHTS = ("1.125", "NULL", "0", "-99999.999", "0.001", "'NaN'")


def _write(rng: random.Random) -> str:
    number, of, k = rng.randint(1, 9), rng.choice([*range(1, 7), "NULL"]), rng.randint(-2, 3)
    tags = rng.choice(("NULL", "'{}'", "'{n1,n2}'", "'{n1,n1,NULL}'"))
    doc = rng.choice(("NULL", """'{"l": [1, 2]}'""", """'{"l": [{"x": null}]}'""", "'[]'"))
    price, weight = rng.choice(PRICES), rng.choice(WEIGHTS)
    return rng.choice(
        (
            f"INSERT INTO src.a VALUES ({number}, 'n{number % 3}', {price})"
            f" ON CONFLICT (id) DO UPDATE SET price = {price}",
            f"DELETE FROM src.a WHERE id = {number}",
            f"UPDATE src.a SET name = 'n{k}' WHERE id = {number}",
            *[
                f"INSERT INTO src.b VALUES ({number * 2}, {of}, {k}, {weight})"
                f" ON CONFLICT (id) DO UPDATE SET k = {k}, w = {weight}"
            ]
            * 3,
            f"DELETE FROM src.b WHERE k = {k}",
            f"UPDATE src.b SET a_id = {of}, k = nullif({k}, 3) WHERE id % 4 = {number % 4}",
            f"INSERT INTO src.c VALUES ({of}, {k})",
            f"DELETE FROM src.c WHERE k = {k}",
            f"INSERT INTO src.d VALUES ({number}, {tags}, {doc}, {number * 7})"
            f" ON CONFLICT (id) DO UPDATE SET tags = {tags}, doc = {doc}",
            f"UPDATE src.d SET n = n + 10, tags = tags || 'n1'::text WHERE id % 3 = {number % 3}",
            f"DELETE FROM src.d WHERE id = {number}",
        )
    )


def _differing(engine: Engine, tally: SelectTally, relation: str) -> int:
    columns = ", ".join(f"{sql.quote(column.name)}::text" for column in tally.plan.columns)
    here = f"SELECT {columns} FROM {relation}"
    there = f"SELECT {columns} FROM {tally.definition_name}"
    both = (
        f"(SELECT count(*) FROM ({x} EXCEPT ALL {y}) AS s)"
        for x, y in ((here, there), (there, here))
    )
    with engine.connect() as connection:
        return int(sql.execute(connection, f"SELECT {' + '.join(both)}").scalar_one())


def test_every_change_is_followed(any_postgres_engine: Engine) -> None:
    engine, rng = any_postgres_engine, random.Random(11)
    execute(engine, *TABLES, *(_write(rng) for _ in range(40)))
    kept = {name: text for selects in SELECTS.values() for name, text in selects.items()}
    system = install(engine, "odd", kept)
    tallies = [t for t in system.tallies if isinstance(t, SelectTally)]
    strategies = {t.table.name: t.plan.strategy for t in tallies}
    assert strategies == {n: strategy for strategy, names in SELECTS.items() for n in names}
    for _ in range(25):
        execute(engine, *(_write(rng) for _ in range(rng.randint(1, 4))))
        for tally in tallies:
            assert not _differing(engine, tally, tally.live_name), tally.name
            refresh(engine, tally)
            assert not _differing(engine, tally, sql.name_of(tally.table)), tally.name
    assert all(verify(engine, tally).ok for tally in tallies)


@pytest.mark.parametrize("rows", [1, 2, 3, 40])
def test_roots_have_the_digits_of_the_aggregate(engine: Engine, rows: int) -> None:
    """Of large and small numbers, some of them squares, where digits may end in nines or zeros."""
    rng = random.Random(rows)
    execute(engine, *TABLES)
    text = "SELECT b.a_id, stddev(b.k) AS s, stddev_pop(b.k) AS p, stddev(b.w) AS w FROM src.b AS b"
    (tally,) = install(engine, "odd", {"roots": f"{text} GROUP BY b.a_id"}).tallies
    assert isinstance(tally, SelectTally)
    values = []
    for of in range(150):
        for number in range(rows):
            k = rng.randint(*rng.choice(((-9, 9), (-(2**31), 2**31 - 1))))
            w = rng.choice((rng.randint(-9, 9), rng.uniform(-9e4, 9e4)))
            values.append(f"({of * 100 + number}, {of}, {k}, {w})")
    execute(engine, f"INSERT INTO src.b VALUES {', '.join(values)}")
    assert not _differing(engine, tally, tally.live_name)
    assert refresh(engine, tally).how == "refresh"
    assert not _differing(engine, tally, sql.name_of(tally.table))

"""What would be different in another engine is refused, or computed by PostgreSQL."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import NotSupportedError

from tallykeeper.database import sessions, sql
from tallykeeper.engines.audit import ENGINES
from tallykeeper.engines.translation.refusal import Refused
from tallykeeper.engines.translation.translate import translate
from tests.engines.random_selects import TABLES
from tests.integration.support import execute

LEFT = "odd.a AS x LEFT JOIN odd.b AS y ON x.id = y.id"
# Each SELECT with the reason for which it is refused.
REFUSED = {
    "SELECT max(d) AS c FROM odd.a": 'max() depends on a collation; under COLLATE "C" it would not',
    "SELECT id FROM odd.a ORDER BY d LIMIT 3": "ORDER BY depends on a collation",
    "SELECT rank() OVER (ORDER BY d) AS c FROM odd.a": "ORDER BY depends on a collation",
    f"SELECT y.d < 'x' AS c FROM {LEFT}": "the operator < depends on a collation",
    f"SELECT greatest(y.d, 'x') AS c FROM {LEFT}": "greatest depends on a collation",
    "SELECT max(e) AS c FROM odd.a": "max() orders values of the enum odd.mood",
    "SELECT avg(n) AS c FROM odd.a": "the aggregate avg()",
    "SELECT sum(n) / 3 AS c FROM odd.a": "the operator / of numeric and numeric",
    "SELECT count(*) / 2 AS c FROM odd.a": "the operator / of bigint and integer",
    "SELECT sum(f) AS c FROM odd.a": "the sum of double precision",
    "SELECT f AS c FROM odd.a GROUP BY f": "GROUP BY compares values of double precision",
    "SELECT DISTINCT j AS c FROM odd.a": "DISTINCT compares values of jsonb",
    "SELECT l AS c FROM odd.a UNION SELECT l FROM odd.b": "UNION compares values of text[]",
    f"SELECT lower(y.t) AS c FROM {LEFT}": "the function lower()",
    f"SELECT coalesce(y.m, x.m) AS c FROM {LEFT}": "coalesce of decimals whose scale is not known",
    "SELECT m FROM odd.a UNION ALL SELECT m FROM odd.b": "a set operation of decimals whose scale",
    f"SELECT y.li[1] AS c FROM {LEFT}": "an element of an array",
    f"SELECT y.ts + interval '1 day' AS c FROM {LEFT}": "a time with an interval of months or days",
    f"SELECT date_trunc('day', y.ts, 'Asia/Tokyo') AS c FROM {LEFT}": "in a time zone other than",
    f"SELECT date_trunc('year', y.ts, 'UTC') AS c FROM {LEFT}": "date_trunc to the year",
    f"SELECT y.ts < y.da AS c FROM {LEFT}": "the operator < compares timestamp with time zone with",
    f"SELECT y.t ~ 'a' AS c FROM {LEFT}": "the operator ~ of text and text",
    f"SELECT y.b IS NULL OR y.i = ANY (y.li) AS c FROM {LEFT}": "= ANY of an array that is not",
    f"SELECT (y.*) IS NULL AS c FROM {LEFT}": "IS NULL of a row",
    "SELECT array_agg(n) AS c FROM odd.a": "array_agg() of numeric",
    "SELECT array_agg(i) AS c FROM odd.a": "array_agg() without ORDER BY",
    "SELECT string_agg(t, ',' ORDER BY id) AS c FROM odd.a": "string_agg() of several values",
    "SELECT jsonb_agg(id) AS c FROM odd.a": "the aggregate jsonb_agg()",
    "SELECT lag(i) OVER (ORDER BY id) AS c FROM odd.a": "the window function lag()",
    "SELECT i, count(*) AS c FROM odd.a GROUP BY ROLLUP (i)": "GROUPING SETS, ROLLUP and CUBE",
    "SELECT DISTINCT ON (i) i, id FROM odd.a ORDER BY i, id": "DISTINCT ON",
    "WITH RECURSIVE r AS (SELECT 1 AS n UNION SELECT n + 1 FROM r WHERE n < 3) SELECT n FROM r": (
        "WITH RECURSIVE"
    ),
    "SELECT id FROM odd.a ORDER BY id FETCH FIRST 2 ROWS WITH TIES": "FETCH FIRST ... WITH TIES",
    "SELECT v.n FROM (VALUES (1), (2)) AS v (n)": "VALUES, or a table of another kind, in FROM",
    "SELECT i FROM ONLY odd.a": "ONLY",
    "SELECT i FROM odd.a TABLESAMPLE SYSTEM (50)": "TABLESAMPLE",
    "SELECT g FROM odd.a, generate_series(1, 3) AS g": "the function generate_series(), which",
    "SELECT unnest(li) AS c, unnest(l) AS d FROM odd.a": "beside groups or another such function",
    "SELECT i FROM odd.a WHERE i > ALL (SELECT i FROM odd.b)": "a subquery in ANY, ALL, ARRAY or",
    "SELECT ARRAY(SELECT i FROM odd.b) AS c FROM odd.a": "a subquery in ANY, ALL, ARRAY or a row",
    "SELECT count(x.ctid) AS c FROM odd.a AS x": "system columns and whole rows are not exported",
}
IN_SPARK = {
    "SELECT array_agg(i ORDER BY id) AS c FROM odd.a": "array_agg() in the order of other values",
}
BY_POSTGRES = {
    "SELECT i / 2 AS c FROM odd.a": "the operator / of integer and integer",
    "SELECT lower(t) AS c FROM odd.a": "the function lower()",
    "SELECT d < 'x' AS c FROM odd.a": "the operator < depends on a collation",
    "SELECT date_trunc('day', ts, 'Asia/Tokyo') AS c FROM odd.a": "date_trunc in a time zone other",
    "SELECT j ->> 'a' AS c FROM odd.a": "the operator ->> of jsonb and text",
    "SELECT t ~ 'a' AS c FROM odd.a": "the operator ~ of text and text",
    "SELECT i FROM odd.a WHERE da < date '2024-01-01' + interval '1 month'": "constants",
}


@pytest.fixture
def connection(engine: Engine) -> Connection:
    execute(engine, TABLES)
    connection = engine.connect()
    sessions.begin_computing(connection)
    return connection


def tried(connection: Connection, select: str, name: str) -> tuple[str | None, str]:
    """Why a SELECT is refused, None where it is not; and the rules of its translation."""
    sql.execute(connection, f"CREATE TEMPORARY VIEW tried AS {select}")
    try:
        return None, "; ".join(translate(connection, "pg_temp.tried", name).rules)
    except Refused as refused:
        return str(refused), ""
    finally:
        sql.execute(connection, "DROP VIEW tried")


@pytest.mark.parametrize("name", ENGINES)
def test_each_is_refused_with_its_reason(connection: Connection, name: str) -> None:
    wrong = {}
    for select, expected in {**REFUSED, **(IN_SPARK if name == "spark" else {})}.items():
        refused, _ = tried(connection, select, name)
        if refused is None or expected not in refused:
            wrong[select] = refused
    connection.close()
    assert wrong == {}


@pytest.mark.parametrize("name", ENGINES)
def test_what_is_of_one_row_is_computed_by_postgresql(connection: Connection, name: str) -> None:
    wrong = {}
    for select, expected in BY_POSTGRES.items():
        refused, rules = tried(connection, select, name)
        if refused is not None or expected not in rules:
            wrong[select] = (refused, rules)
    connection.close()
    assert wrong == {}


def test_a_collation_that_is_not_deterministic_is_refused(any_postgres_engine: Engine) -> None:
    execute(any_postgres_engine, TABLES)
    with any_postgres_engine.connect() as connection:
        sessions.begin_computing(connection)
        try:
            sql.execute(
                connection,
                "CREATE COLLATION odd.lax (provider = icu, locale = 'und-u-ks-level2',"
                " deterministic = false)",
            )
        except NotSupportedError:
            pytest.skip("this PostgreSQL is built without ICU")
        select = "SELECT count(DISTINCT t COLLATE odd.lax) AS c FROM odd.a"
        refused, _ = tried(connection, select, "duckdb")
    assert refused == "the collation odd.lax, under which different texts are equal"

"""What a definition view depends on, and what is captured where its SELECT is not understood."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine

from tallykeeper.database import sql
from tallykeeper.select.compiler import compile_select
from tallykeeper.select.definition.dependencies import columns_read, dependencies_of
from tallykeeper.select.syntax.gate import understood

_TABLES = """
CREATE SCHEMA s; CREATE SCHEMA "R r";
CREATE TYPE s.mood AS ENUM ('sad', 'ok');
CREATE COLLATION s.c (provider = libc, locale = 'C');
CREATE FUNCTION s.f(int, text) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE TABLE s.a (id int PRIMARY KEY, x int, t text, spare int);
CREATE TABLE "R r".b (id int PRIMARY KEY, "a id" int, y int, j json);
CREATE VIEW s.v AS SELECT id, x + 1 AS x FROM s.a WHERE t <> '';
"""


@pytest.fixture
def connection(any_postgres_engine: Engine) -> Iterator[Connection]:
    with any_postgres_engine.connect() as connection:
        sql.execute(connection, _TABLES)
        yield connection


def test_dependencies_are_followed_through_views(connection: Connection) -> None:
    sql.execute(
        connection,
        """CREATE VIEW s.d AS SELECT v.x, count(*) AS n, s.f(b.y, 'a'), 'ok'::s.mood AS m
        FROM s.v JOIN "R r".b ON b."a id" = v.id
        WHERE 'a' < ('b' COLLATE s.c) GROUP BY v.x, b.y""",
    )
    found = {(d.kind, d.name, d.view) for d in dependencies_of(connection, "s.d")}
    assert found == {
        ("collation", "s.c", "s.d"),
        ("column", '"R r".b."a id"', "s.d"),
        ("column", '"R r".b.y', "s.d"),
        ("column", "s.a.id", "s.v"),
        ("column", "s.a.t", "s.v"),
        ("column", "s.a.x", "s.v"),
        ("column", "s.v.id", "s.d"),
        ("column", "s.v.x", "s.d"),
        ("function", "s.f(integer,pg_catalog.text)", "s.d"),
        ("type", "s.mood", "s.d"),
    }
    assert columns_read(connection, "s.d") == {
        ("R r", "b"): ("a id", "y"),
        ("s", "a"): ("id", "t", "x"),
        ("s", "v"): ("id", "x"),
    }


def test_a_table_without_columns_read_is_a_relation(connection: Connection) -> None:
    sql.execute(connection, "CREATE VIEW s.d AS SELECT count(*) FROM s.a")
    assert columns_read(connection, "s.d") == {("s", "a"): ()}


@pytest.mark.parametrize(
    ("select", "obstacle"),
    [
        ('SELECT collation for (v.x::text) AS c, b.y FROM s.v, "R r".b', "could not be parsed"),
        ('SELECT v.x > 0 IS UNKNOWN AS c, b.y FROM s.v, "R r".b', "otherwise than the compiler"),
    ],
)
def test_what_is_not_understood_is_computed_anew(
    connection: Connection, select: str, obstacle: str
) -> None:
    sql.execute(connection, f"CREATE VIEW s.d AS {select}")
    resolved, reason = understood(connection, "s.d")
    assert obstacle in (reason or "")
    assert set(resolved.sources) == {("s", "a"), ("R r", "b")}
    plan = compile_select(
        connection, "s.d", log="s.log", derived="s.t", state_of=lambda node: f"s.{node}"
    )
    assert plan.strategy == "whole"
    assert obstacle in plan.reasons[0]
    assert {(c.table, tuple(k.name for k in c.columns)) for c in plan.captured} == {
        ("a", ("id", "x", "t")),
        ("b", ("y",)),
    }

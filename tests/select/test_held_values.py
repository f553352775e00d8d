"""Rows whose array or jsonb holds a value are found by a GIN index, and no row is missed."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, Engine, MetaData

from tallykeeper import SelectTally, System, migrate, refresh, verify
from tallykeeper.database import sql
from tallykeeper.maintain.explanation.explain import explain
from tallykeeper.maintain.select_changes import pending_parts
from tallykeeper.select.plan import statement
from tallykeeper.select.statements.changes_function import settings_of
from tests.integration.support import execute

ROWS = 20_000
SOURCES = (
    "CREATE SCHEMA src",
    "CREATE TABLE src.posts (id integer PRIMARY KEY, tags text[], marks integer[],"
    " codes varchar(9)[], score integer, attrs jsonb, listed jsonb)",
    "CREATE TABLE src.tags (name text PRIMARY KEY, grp integer, number integer, doc jsonb,"
    " code varchar(9))",
    f"INSERT INTO src.posts SELECT n, ARRAY['t' || n % 2000, 't' || n % 1999],"
    " ARRAY[n % 2000], ARRAY['t' || n % 2000], n, jsonb_build_object('t' || n % 2000, n),"
    f" jsonb_build_array('t' || n % 2000, n) FROM generate_series(1, {ROWS}) AS n",
    "INSERT INTO src.tags SELECT 't' || n, n % 10, n, to_jsonb('t' || n), 't' || n"
    " FROM generate_series(1, 100) AS n",
)
INDEXES = {
    "tags": "CREATE INDEX ON src.posts USING gin (tags)",
    "marks": "CREATE INDEX ON src.posts USING gin (marks)",
    "attrs": "CREATE INDEX ON src.posts USING gin (attrs)",
    "listed": "CREATE INDEX ON src.posts USING gin (listed)",
}
COUNTED = "SELECT t.grp, count(*) AS n, sum(p.score) AS s FROM src.posts AS p"
# The SELECT, and the column by whose elements its rows are found.
SELECTS = {
    "unnest": (
        f"{COUNTED} CROSS JOIN LATERAL unnest(p.tags) AS u(tag)"
        " JOIN src.tags AS t ON t.name = u.tag GROUP BY t.grp",
        "tags",
    ),
    "unnest with ordinality": (
        f"{COUNTED} CROSS JOIN LATERAL unnest(p.tags) WITH ORDINALITY AS u(tag, place)"
        " JOIN src.tags AS t ON t.name = u.tag AND u.place = 1 GROUP BY t.grp",
        "tags",
    ),
    "any": (f"{COUNTED} JOIN src.tags AS t ON t.name = ANY (p.tags) GROUP BY t.grp", "tags"),
    "numbers": (
        f"{COUNTED} JOIN src.tags AS t ON t.number = ANY (p.marks) GROUP BY t.grp",
        "marks",
    ),
    "contains": (f"{COUNTED} JOIN src.tags AS t ON p.tags @> ARRAY[t.name] GROUP BY t.grp", "tags"),
    "key": (f"{COUNTED} JOIN src.tags AS t ON p.attrs ? t.name GROUP BY t.grp", "attrs"),
    "keys": (
        f"{COUNTED} CROSS JOIN LATERAL jsonb_object_keys(p.attrs) AS u(k)"
        " JOIN src.tags AS t ON t.name = u.k GROUP BY t.grp",
        "attrs",
    ),
    "elements": (
        f"{COUNTED} CROSS JOIN LATERAL jsonb_array_elements(p.listed) AS u(v)"
        " JOIN src.tags AS t ON t.doc = u.v GROUP BY t.grp",
        "listed",
    ),
    "groups": (
        "SELECT u.tag, max(p.score) AS m FROM src.posts AS p"
        " CROSS JOIN LATERAL unnest(p.tags) AS u(tag) GROUP BY u.tag",
        "tags",
    ),
    "groups with nulls": (
        "SELECT u.mark, min(p.score) AS m FROM src.posts AS p"
        " LEFT JOIN LATERAL unnest(p.marks) AS u(mark) ON true GROUP BY u.mark",
        "marks",
    ),
}
# An array of another type than the value has no such operator.
OTHER_TYPES = (
    f"{COUNTED} CROSS JOIN LATERAL unnest(p.codes) AS u(code)"
    " JOIN src.tags AS t ON t.code = u.code GROUP BY t.grp"
)
CHANGES = (
    "UPDATE src.tags SET grp = 11 WHERE number < 4",
    "DELETE FROM src.tags WHERE number = 9",
    "INSERT INTO src.tags VALUES ('t500', 3, 500, '\"t500\"', 't500'), ('t0', 4, NULL, NULL, NULL)",
    "UPDATE src.posts SET tags = tags || 't1'::text, marks = '{1,NULL,1}' WHERE id IN (5, 6)",
    "INSERT INTO src.posts VALUES (0, '{{t1,t2},{t2,NULL}}', '{}', NULL, 5, '{\"t1\": 1}',"
    ' \'["t1", "t1"]\'), (-1, NULL, NULL, NULL, 6, NULL, NULL)',
    "DELETE FROM src.posts WHERE id = 7",
)


def installed(engine: Engine, select: str) -> SelectTally:
    tally = SelectTally("src.counted", select=select)
    migrate(engine, [System("src", MetaData(), [tally])])
    refresh(engine, tally)
    return tally


def times_read_to_the_end(connection: Connection, tally: SelectTally) -> int:
    """How often the statement that finds what is pending reads all posts."""
    settings = settings_of(tally.plan)
    sql.execute(connection, "; ".join(f"SET LOCAL {n} = {v}" for n, v in settings.items()))
    count = "SELECT pg_stat_get_xact_numscans('src.posts'::regclass)"
    before = sql.execute(connection, count).scalar_one()
    sql.execute(connection, statement(tally.plan, pending_parts(connection, tally))).all()
    return int(sql.execute(connection, count).scalar_one() - before)


@pytest.mark.parametrize("name", SELECTS)
def test_rows_are_found_by_the_index(engine: Engine, name: str) -> None:
    select, column = SELECTS[name]
    execute(engine, *SOURCES, "ANALYZE src.posts, src.tags")
    tally = installed(engine, select)
    (missing,) = explain(engine, tally).missing_indexes
    assert missing.statement == f"CREATE INDEX CONCURRENTLY ON src.posts USING gin ({column})"
    execute(engine, INDEXES[column], "ANALYZE src.posts")
    assert not explain(engine, tally).missing_indexes
    execute(engine, CHANGES[0] if "groups" not in name else "DELETE FROM src.posts WHERE id = 7")
    with engine.connect() as connection:
        assert times_read_to_the_end(connection, tally) == 0
        sql.execute(connection, f"DROP INDEX src.posts_{column}_idx")
        assert times_read_to_the_end(connection, tally) > 0


@pytest.mark.parametrize("select", [*(s for s, _ in SELECTS.values()), OTHER_TYPES])
def test_no_row_is_missed(engine: Engine, select: str) -> None:
    execute(engine, *SOURCES, *INDEXES.values(), "DELETE FROM src.posts WHERE id > 3000")
    tally = installed(engine, select)
    for change in CHANGES:
        execute(engine, change)
        assert verify(engine, tally).ok, change
        refresh(engine, tally)
        assert verify(engine, tally).ok, change

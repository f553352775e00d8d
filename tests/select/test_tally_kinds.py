"""Columns of all kinds in a SELECT's tally, odd names, and sessions with other settings."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, MetaData

from tallykeeper import SelectTally, System, refresh, verify
from tallykeeper.database import sql
from tallykeeper.installation.migrate import migrate
from tests.integration.support import execute

TABLES = (
    "CREATE SCHEMA odd",
    "CREATE TYPE odd.mood AS ENUM ('low', 'high')",
    "CREATE DOMAIN odd.small AS integer CHECK (VALUE < 1000)",
    "CREATE TABLE odd.things (id bigint PRIMARY KEY, g integer, n numeric, j json, p point,"
    " r int4range, i interval, c char(3), v varchar(20), e odd.mood, d odd.small, f float8,"
    " b bit(3), ip inet, a integer[], jb jsonb, at timestamptz)",
    'CREATE TABLE odd."T %s ""x" ("Odd ""Name%" text, id integer PRIMARY KEY)',
)
FILL = (
    "INSERT INTO odd.things SELECT s, nullif(s % 4, 3), (s % 3)::numeric(10, 2),"
    " json_build_object('a', s % 2), point(s, s), int4range(s % 3, s % 3 + 2),"
    " make_interval(days => s % 2), chr(97 + s % 3), 'w' || s % 2,"
    " (ARRAY['low', 'high'])[1 + s % 2]::odd.mood, s % 5, s::float8 / 3, (s % 8)::bit(3),"
    " '10.0.0.1'::inet + s % 2, ARRAY[s % 2], jsonb_build_object('a', s % 3),"
    " '2026-01-01 22:30Z'::timestamptz + s % 3 * interval '1 hour'"
    " FROM generate_series(1, 10) AS s",
    'INSERT INTO odd."T %s ""x" SELECT \'x\' || s % 2, s FROM generate_series(1, 10) AS s',
)
CHANGES = (
    "UPDATE odd.things SET n = n + 0.50, v = 'zz', j = '{\"b\":1}', f = -f, i = i * 24, c = 'z',"
    " p = point(0, 0), b = B'111', a = NULL, jb = '{\"a\": 1.0}', at = at + interval '1 hour'"
    " WHERE id < 4",
    "UPDATE odd.things SET n = 1.0, i = '24:00:00', jb = '{\"a\": 1.00}' WHERE id = 6",
    "DELETE FROM odd.things WHERE id = 5",
    'DELETE FROM odd."T %s ""x" WHERE id IN (3, 5)',
)
COUNTED = ("n", "r", "i", "c", "v", "e", "d", "f", "b", "ip", "a", "jb", "at")
SELECTS = {
    **{name: f"SELECT {name}, count(*) AS things FROM odd.things GROUP BY 1" for name in COUNTED},
    **{f"rows of {name}": f"SELECT g, {name} FROM odd.things" for name in ("n", "jb", "c", "at")},
    **{f"most of {n}": f"SELECT g, max({n}) AS most FROM odd.things GROUP BY 1" for n in "ncvie"},
    "json of a row": "SELECT id, j FROM odd.things",
    "json of rows": "SELECT g, json_agg(n ORDER BY id) AS all_of_them FROM odd.things GROUP BY g",
    "point": "SELECT id, p FROM odd.things",
    "day in Berlin": "SELECT date_trunc('day', at, 'Europe/Berlin') AS day, min(j::text) AS j"
    " FROM odd.things GROUP BY 1",
    "odd names": 'SELECT "Odd ""Name%", count(*) AS "n ö" FROM odd."T %s ""x" GROUP BY 1',
}
OTHER_SETTINGS = (
    "SET timezone = 'Pacific/Kiritimati'",
    "SET datestyle = 'German, DMY'",
    "SET intervalstyle = 'sql_standard'",
    "SET extra_float_digits = -8",
    "SET search_path = pg_temp",
    "SET bytea_output = 'escape'",
    "SET join_collapse_limit = 1",
)


def live(engine: Engine, tally: SelectTally, *settings: str) -> list[tuple[object, ...]]:
    """The rows of the live view in such a session, with instants and figures as the server has."""
    named = (f"v.{sql.quote(c.name)}" for c in tally.plan.columns)
    shown = ", ".join(f"md5(record_send(ROW({name})))" for name in named)
    with engine.connect() as connection:
        for setting in settings:
            sql.execute(connection, setting)
        found = sql.execute(connection, f"SELECT {shown} FROM {tally.live_name} AS v")
        return sorted(tuple(row) for row in found)


@pytest.mark.parametrize("what", SELECTS)
def test_columns_of_all_kinds(engine: Engine, what: str) -> None:
    execute(engine, *TABLES, *FILL)
    tally = SelectTally("odd.kept", select=SELECTS[what])
    migrate(engine, [System("odd", MetaData(), [tally])])
    refresh(engine, tally)
    execute(engine, *OTHER_SETTINGS, *CHANGES)
    assert live(engine, tally, *OTHER_SETTINGS) == live(engine, tally)
    assert verify(engine, tally).ok
    refresh(engine, tally)
    assert live(engine, tally, *OTHER_SETTINGS) == live(engine, tally)
    found = verify(engine, tally)
    assert found.ok, found.differences
    assert found.compared > 1

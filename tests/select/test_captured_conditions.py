"""Rows that a condition of the SELECT leaves out, whatever else there is, are not captured."""

from __future__ import annotations

import random
from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import Engine

from tallykeeper import refresh, verify
from tallykeeper.select.tally import SelectTally
from tests.integration.support import execute, scalar
from tests.select.keeping import install

TABLES = (
    "CREATE SCHEMA mill",
    "CREATE TYPE mill.mood AS ENUM ('good', 'bad')",
    "CREATE TABLE mill.sacks (id integer PRIMARY KEY, kind text, weight integer, day date,"
    " farm integer, mood mill.mood, marks text[], label varchar(20))",
    "CREATE TABLE mill.farms (id integer PRIMARY KEY, name text NOT NULL, country text)",
)
JOINED = "SELECT f.name, sum(s.weight) AS weight FROM mill.sacks AS s JOIN mill.farms AS f"
ROW = 'tally_row."'


@pytest.fixture
def mill(engine: Engine) -> Engine:
    execute(engine, *TABLES)
    return engine


def conditions(engine: Engine, select: str) -> dict[str, str | None]:
    """The condition on the rows of each source that are captured."""
    (tally,) = install(engine, "mill", {"kept": select}).tallies
    assert isinstance(tally, SelectTally)
    found = {c.table: c.condition for c in tally.plan.captured}
    return {table: c and c.replace(ROW, "").replace('"', "") for table, c in found.items()}


@pytest.mark.parametrize(
    ("select", "captured"),
    [
        pytest.param(
            f"{JOINED} ON f.id = s.farm WHERE s.kind = 'rye' AND f.country IS NOT NULL GROUP BY 1",
            {"sacks": "(kind = CAST('rye' AS TEXT))", "farms": "(country IS NOT NULL)"},
            id="each source by its own",
        ),
        pytest.param(
            f"{JOINED} ON f.id = s.farm WHERE s.weight > f.id GROUP BY 1",
            {"sacks": None, "farms": None},
            id="not by what two sources have",
        ),
        pytest.param(
            f"{JOINED} ON f.id = s.farm AND s.day < date '2026-01-01' + interval '1 year'"
            " GROUP BY 1",
            {
                "sacks": "(day < (CAST('2026-01-01' AS DATE) + CAST('1 year' AS INTERVAL)))",
                "farms": None,
            },
            id="what is computed of constants",
        ),
        pytest.param(
            "SELECT a.farm, count(*) AS n FROM mill.sacks AS a JOIN mill.sacks AS b"
            " ON a.farm = b.farm WHERE a.kind = 'rye' AND b.weight > 3 GROUP BY 1",
            {"sacks": "((kind = CAST('rye' AS TEXT))) OR ((weight > 3))"},
            id="of two occurrences either",
        ),
        pytest.param(
            "SELECT a.farm, count(*) AS n FROM mill.sacks AS a JOIN mill.sacks AS b"
            " ON a.farm = b.farm WHERE a.kind = 'rye' GROUP BY 1",
            {"sacks": None},
            id="of two occurrences one without",
        ),
        pytest.param(
            "SELECT f.name, count(s.id) AS n FROM mill.farms AS f LEFT JOIN mill.sacks AS s"
            " ON s.farm = f.id AND s.kind LIKE 'r%' GROUP BY 1",
            {"sacks": "(kind LIKE CAST('r%' AS TEXT))", "farms": None},
            id="the missing side of an outer join",
        ),
        pytest.param(
            "SELECT f.name, count(*) AS n FROM mill.farms AS f LEFT JOIN mill.sacks AS s"
            " ON s.farm = f.id WHERE s.id IS NULL GROUP BY 1",
            {"sacks": None, "farms": None},
            id="what is counted where there is none",
        ),
        pytest.param(
            f"{JOINED} ON f.id = s.farm WHERE s.label NOT LIKE '%old%' GROUP BY 1",
            {"sacks": "(CAST((label) AS TEXT) NOT LIKE CAST('%old%' AS TEXT))", "farms": None},
            id="a text of limited length",
        ),
        pytest.param(
            f"{JOINED} ON f.id = s.farm WHERE 10 / s.weight > 2 GROUP BY 1",
            {"sacks": None, "farms": None},
            id="not what a row can make an error",
        ),
        pytest.param(
            f"{JOINED} ON f.id = s.farm WHERE s.kind LIKE 'a\\_b' GROUP BY 1",
            {"sacks": None, "farms": None},
            id="not a pattern that may end in an escape",
        ),
        pytest.param(
            f"{JOINED} ON f.id = s.farm WHERE s.mood = 'good' GROUP BY 1",
            {"sacks": None, "farms": None},
            id="not a value of an enum, which can be renamed",
        ),
        pytest.param(
            f"{JOINED} ON f.id = s.farm WHERE s.kind = 'rye'"
            " AND s.weight > (SELECT avg(weight) FROM mill.sacks) GROUP BY 1",
            {"sacks": None, "farms": None},
            id="a subquery that reads all rows",
        ),
        pytest.param(
            "SELECT s.farm, s.weight, t.rank FROM mill.sacks AS s JOIN (SELECT id, rank() OVER"
            " (ORDER BY weight) AS rank FROM mill.sacks) AS t ON t.id = s.id WHERE s.kind = 'rye'",
            {"sacks": None},
            id="a window over all rows",
        ),
    ],
)
def test_rows_are_captured_by_what_the_select_says_of_the_row_alone(
    mill: Engine, select: str, captured: dict[str, str | None]
) -> None:
    assert conditions(mill, select) == captured


def test_a_constant_that_is_an_error_is_none_of_the_applications_writes(mill: Engine) -> None:
    select = f"{JOINED} ON f.id = s.farm WHERE s.weight > 1 / (length('') + 0) GROUP BY 1"
    with pytest.raises(Exception, match="division by zero"):
        install(mill, "mill", {"kept": select})
    execute(mill, "INSERT INTO mill.sacks VALUES (1, 'rye', 5, '2026-01-01', 1, 'good', NULL)")


def test_only_rows_that_matter_are_in_the_log(mill: Engine) -> None:
    select = f"{JOINED} ON f.id = s.farm WHERE s.kind = 'rye' GROUP BY 1"
    (tally,) = install(mill, "mill", {"kept": select}).tallies

    def logged(*statements: str) -> int:
        execute(mill, f"TRUNCATE {tally.log_name}", *statements)
        return int(scalar(mill, f"SELECT count(*) FROM {tally.log_name}"))

    add = "INSERT INTO mill.sacks (id, kind, weight, farm) VALUES"
    assert logged(f"{add} (1, 'oats', 1, 1), (2, NULL, 2, 1)", f"{add} (3, 'oats', 3, 1)") == 0
    assert logged(f"{add} (4, 'rye', 4, 1)", f"{add} (5, 'rye', 5, 1), (6, 'oats', 6, 1)") == 2
    # It moves among those that matter, away from them, or stays outside.
    assert logged("UPDATE mill.sacks SET kind = 'rye' WHERE id = 1") == 1
    assert logged("UPDATE mill.sacks SET kind = 'oats' WHERE id IN (1, 4)") == 2
    assert logged("UPDATE mill.sacks SET weight = 9 WHERE id = 2") == 0
    assert logged("UPDATE mill.sacks SET weight = weight + 1 WHERE id <> 5") == 0
    assert logged("UPDATE mill.sacks SET weight = 7 WHERE id = 5") == 2
    assert logged("DELETE FROM mill.sacks WHERE id < 5") == 0


def writers(url: str) -> Iterator[psycopg.Connection]:
    """Sessions that read texts in all ways that there are."""
    for settings in (
        "SET standard_conforming_strings = off; SET escape_string_warning = off",
        "SET array_nulls = off; SET transform_null_equals = on",
        "SET datestyle = 'SQL, DMY'; SET intervalstyle = 'sql_standard'",
        "SET timezone = 'America/St_Johns'",
    ):
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(settings)
            yield connection


ODD = {
    "node": "SELECT f.name, count(*) AS n, sum(s.weight) AS weight FROM mill.sacks AS s"
    " JOIN mill.farms AS f ON f.id = s.farm WHERE s.kind <> 'a\\b' AND (s.marks IS NULL"
    " OR s.marks <> '{a,NULL}') AND s.day < date '2026-02-01' + interval '-1 mon +3 days'"
    " GROUP BY 1",
    "summed": "SELECT farm, count(*) AS n, coalesce(sum(weight), 0) AS weight FROM mill.sacks"
    " WHERE kind <> 'a\\b' AND (marks IS NULL OR marks <> '{a,NULL}')"
    " AND day < date '2026-02-01' + interval '-1 mon +3 days' GROUP BY 1",
}
KINDS = ("E'a\\\\b'", "E'a\\bb'", "'ab'", "'a'", "NULL")
MARKS = ("ARRAY['a', NULL]", "ARRAY['a', 'NULL']", "NULL", "ARRAY['b']")
DAYS = ("date '2026-01-03'", "date '2026-01-04'", "date '2026-01-05'", "NULL")


@pytest.mark.parametrize("kept", ODD)
def test_texts_mean_the_same_whatever_session_writes_or_reads(mill: Engine, kept: str) -> None:
    (tally,) = install(mill, "mill", {"kept": ODD[kept]}).tallies
    assert isinstance(tally, SelectTally)
    execute(mill, "INSERT INTO mill.farms SELECT n, 'farm ' || n, 'x' FROM generate_series(1, 3) n")
    rng = random.Random(kept)
    url = mill.url.set(drivername="postgresql").render_as_string(hide_password=False)
    columns = ", ".join(f"v.{c}::text" for c in tally.columns)
    names = tally.live_name, tally.definition_name
    more, less = (
        f"SELECT {columns} FROM {one} AS v EXCEPT ALL SELECT {columns} FROM {other} AS v"
        for one, other in (names, names[::-1])
    )
    differing = f"SELECT count(*) FROM (({more}) UNION ALL ({less})) AS d"
    number = 0
    for _ in range(3):
        for writer in writers(url):
            for _ in range(12):
                number += 1
                kind, day, marks = (rng.choice(each) for each in (KINDS, DAYS, MARKS))
                writer.execute(
                    "INSERT INTO mill.sacks (id, kind, weight, day, farm, marks) VALUES"
                    f" ({number}, {kind}, {number % 7}, {day}, {rng.randint(1, 3)}, {marks})"
                )
                other = rng.randint(1, number)
                writer.execute(
                    f"UPDATE mill.sacks SET kind = {rng.choice(KINDS)}, marks = {rng.choice(MARKS)}"
                    f" WHERE id {rng.choice(('=', '<'))} {other}"
                )
            live = writer.execute(differing).fetchone()
            assert live == (0,)
        refresh(mill, tally)
        assert verify(mill, tally).ok

"""SQL as it is shown: the same tokens, laid out for a reader."""

from __future__ import annotations

import pytest

from tallykeeper import System, Tally
from tallykeeper.dagster.metadata import columns
from tallykeeper.dagster.metadata.sql_layout import laid_out
from tallykeeper.discovery import all_systems

TALLIES = [tally for system in all_systems() for tally in system.tallies]


def test_a_clause_a_line_and_a_column_a_line() -> None:
    statement = (
        "SELECT a.x AS x, count(*) FILTER (WHERE a.y AND a.z) AS n FROM a LEFT OUTER JOIN b ON"
        " a.id = b.id WHERE a.x IS NOT NULL AND a.y IN (SELECT y, z FROM c WHERE c.x = a.x OR c.x"
        " IS NULL) GROUP BY a.x, a.y"
    )
    assert laid_out(statement).splitlines() == [
        "SELECT a.x AS x,",
        "  count(*) FILTER (WHERE a.y AND a.z) AS n",
        "FROM a",
        "  LEFT OUTER JOIN b ON a.id = b.id",
        "WHERE a.x IS NOT NULL",
        "  AND a.y IN (",
        "    SELECT y,",
        "      z",
        "    FROM c",
        "    WHERE c.x = a.x",
        "      OR c.x IS NULL",
        "  )",
        "GROUP BY a.x, a.y",
    ]


def test_what_is_quoted_stays_as_it_is() -> None:
    statement = "SELECT 'it''s  FROM, here' AS \"WHERE  x\", $a$ AND\n( $a$ FROM t"
    assert laid_out(statement).splitlines() == [
        "SELECT 'it''s  FROM, here' AS \"WHERE  x\",",
        "  $a$ AND",
        "( $a$",
        "FROM t",
    ]
    assert laid_out("SELECT a IS DISTINCT FROM b FROM t") == "SELECT a IS DISTINCT FROM b\nFROM t"


@pytest.mark.parametrize("tally", TALLIES, ids=lambda tally: tally.name)
def test_only_blanks_and_line_ends_differ(tally: Tally) -> None:
    statement = tally.definition
    shown = laid_out(statement)
    assert "".join(shown.split()) == "".join(statement.split())
    assert len(shown.splitlines()) > 2
    assert max(shown.count(")"), 1) >= shown.count("(")


@pytest.mark.parametrize("tally", TALLIES, ids=lambda tally: tally.name)
def test_every_column_of_a_derived_table_is_described(tally: Tally) -> None:
    described = columns.schema_of_table(tally.table).columns
    assert [column.name for column in described if not column.description] == []


@pytest.mark.parametrize("system", all_systems(), ids=lambda system: system.name)
def test_every_column_of_a_processed_table_is_described(system: System) -> None:
    for table in system.processed:
        described = columns.schema_of_table(table).columns
        assert [column.name for column in described if not column.description] == []

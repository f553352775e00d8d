"""Tallies of SELECTs that are built in batches: as header lines say it, and with marked keys."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
from sqlalchemy import Engine, MetaData

from tallykeeper import (
    DeclarationError,
    Progress,
    System,
    backfill,
    migrate,
    rebuild_keys,
    refresh,
    verify,
)
from tallykeeper.database.sql import CLAIM_WRITING
from tallykeeper.select.files import parse, tally_of
from tallykeeper.select.plan import render
from tallykeeper.select.statements.marked_keys import ROWS
from tallykeeper.select.tally import SelectTally
from tests.integration.support import execute, rows, scalar, stale_reasons

SOURCES = (
    "CREATE SCHEMA loft",
    "CREATE TABLE loft.boxes (id integer PRIMARY KEY, owner integer, tags integer[])",
    "CREATE TABLE loft.crates (id integer PRIMARY KEY, owner integer, tags integer[])",
    "CREATE TABLE loft.tags (id integer PRIMARY KEY)",
    "INSERT INTO loft.tags SELECT generate_series(1, 5)",
    *(
        f"INSERT INTO loft.{table} SELECT n, n % 4, ARRAY[n % 7, n % 5, n % 3, NULL]"
        " FROM generate_series(1, 120) AS n"
        for table in ("boxes", "crates")
    ),
)
# Each pair by itself.
PAIRS = """-- key: box, tag
-- batches: box from loft.boxes.id
SELECT b.id AS box, t.id AS tag FROM loft.boxes AS b
CROSS JOIN LATERAL (SELECT DISTINCT unnest(b.tags) AS tag) AS e JOIN loft.tags AS t ON t.id = e.tag
"""
# What is known of each box, as a group.
MOST = """-- batches: box from loft.boxes.id
SELECT b.id AS box, max(t.id) AS most FROM loft.boxes AS b
JOIN loft.tags AS t ON t.id = ANY (b.tags) GROUP BY b.id
"""
BOTH = """-- key: id, kind, tag
-- batches: id from loft.boxes.id where kind = box
-- batches: id from loft.crates.id where kind = 'crate'
SELECT a.id, a.kind, t.id AS tag FROM (
  SELECT id, 'box' AS kind, tags FROM loft.boxes
  UNION ALL SELECT id, 'crate', tags FROM loft.crates
) AS a CROSS JOIN LATERAL (SELECT DISTINCT unnest(a.tags) AS tag) AS e
JOIN loft.tags AS t ON t.id = e.tag
"""
FILES = {"pairs": PAIRS, "most": MOST, "both": BOTH}


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    of_backfill = sys.modules["tallykeeper.maintain.backfill.run"]
    for name in ("FIRST_ROWS", "LEAST_ROWS", "MOST_ROWS"):
        monkeypatch.setattr(of_backfill, name, 25)


def installed(engine: Engine, file: str) -> SelectTally:
    """The tally of the file, over the loft, never built."""
    execute(engine, *SOURCES)
    tally = tally_of(parse(file, Path("tallies/loft/kept.sql"), "loft.kept"))
    migrate(engine, [System("loft", MetaData(), [tally])])
    return tally


def differing(engine: Engine, tally: SelectTally, relation: str) -> int:
    """How many rows of a relation and of the SELECT are not in both."""
    names = ", ".join(column.name for column in tally.plan.columns)
    chosen = f"SELECT {names} FROM {relation}"
    return int(
        scalar(
            engine,
            f"SELECT count(*) FROM ((({chosen}) EXCEPT ALL ({tally.text}))"
            f" UNION ALL (({tally.text}) EXCEPT ALL ({chosen}))) AS d",
        )
    )


@pytest.mark.parametrize("name", FILES)
def test_it_is_built_in_batches_and_goes_on_where_it_was(engine: Engine, name: str) -> None:
    tally = installed(engine, FILES[name])
    lanes = len(tally.batches.lanes) if tally.batches is not None else 0

    class Cut(Exception):
        pass

    def cut(progress: Progress) -> None:
        if progress.items_done >= 50:
            raise Cut

    with pytest.raises(Cut):
        backfill(engine, tally, on_progress=cut)
    assert stale_reasons(engine, tally.name)
    assert differing(engine, tally, tally.live_name) == 0
    execute(
        engine,
        "UPDATE loft.boxes SET tags = tags || 5 WHERE id % 3 = 0",
        "DELETE FROM loft.tags WHERE id = 2",
    )
    done = backfill(engine, tally)
    assert (done.resumed, len(done.lanes)) == (True, lanes)
    assert 0 < done.items < lanes * 120
    assert differing(engine, tally, tally.live_name) == 0
    assert refresh(engine, tally).how == "refresh"
    assert differing(engine, tally, tally.table.fullname) == 0
    assert verify(engine, tally).ok
    assert backfill(engine, tally).keys_changed == 0


@pytest.mark.parametrize("name", FILES)
def test_marked_keys_are_computed_anew_whatever_else_is_pending(engine: Engine, name: str) -> None:
    tally = installed(engine, FILES[name])
    refresh(engine, tally)
    derived, key = tally.table.fullname, tally.key[0]
    rng = random.Random(name)
    for number in range(60):
        box, tag = rng.randint(1, 9), rng.randint(1, 6)
        execute(
            engine,
            rng.choice(
                (
                    f"DELETE FROM {derived} WHERE {key} = {box}",
                    f"UPDATE {derived} SET {tally.columns[-1]} = 100 + {tag} WHERE {key} = {box}"
                    f" AND {tally.columns[-1]} = {tag}",
                    f"UPDATE loft.boxes SET tags = ARRAY[{tag}, NULL] WHERE id = {box}",
                    f"UPDATE loft.boxes SET tags = tags || {tag} WHERE id % 4 = {box % 4}",
                    f"DELETE FROM loft.boxes WHERE id = {box}",
                    f"INSERT INTO loft.boxes VALUES ({box}, 1, '{{1, 2}}') ON CONFLICT DO NOTHING",
                    f"DELETE FROM loft.tags WHERE id = {tag}",
                    f"INSERT INTO loft.tags VALUES ({tag}) ON CONFLICT DO NOTHING",
                )
            ),
        )
        assert stale_reasons(engine, tally.name) == []
        assert differing(engine, tally, tally.live_name) == 0
        looked_up = {n: ["'box'" if n == "kind" else str(rng.randint(1, 9))] for n in tally.key}
        one = tally.looked_up(looked_up)
        same = " AND ".join(f"{n} = {values[0]}" for n, values in looked_up.items())
        listed = ", ".join(tally.columns)
        of_view = rows(engine, f"SELECT {listed} FROM {tally.live_name} WHERE {same}")
        assert rows(engine, f"SELECT {listed} FROM {one} AS o") == of_view
        if number % 7 == 0:
            assert refresh(engine, tally).how == "refresh"
            assert differing(engine, tally, derived) == 0
    refresh(engine, tally)
    assert verify(engine, tally).ok


@pytest.mark.parametrize("name", FILES)
def test_what_a_batch_wrote_while_it_was_pending_may_be_undone(engine: Engine, name: str) -> None:
    tally = installed(engine, FILES[name])
    refresh(engine, tally)
    tags = "SELECT tags FROM loft.crates WHERE id = 7"
    execute(
        engine,
        "UPDATE loft.boxes SET tags = '{5}' WHERE id = 7",
        "DELETE FROM loft.tags WHERE id = 3",
    )
    assert backfill(engine, tally).keys_changed > 0
    execute(
        engine,
        f"UPDATE loft.boxes SET tags = ({tags}) WHERE id = 7",
        "INSERT INTO loft.tags VALUES (3)",
    )
    assert differing(engine, tally, tally.table.fullname) > 0
    assert differing(engine, tally, tally.live_name) == 0
    assert refresh(engine, tally).how == "refresh"
    assert differing(engine, tally, tally.table.fullname) == 0


def test_single_keys_are_named_by_what_batches_go_by(engine: Engine) -> None:
    tally = installed(engine, BOTH)
    refresh(engine, tally)
    assert tally.group == ("id", "kind")
    execute(engine, CLAIM_WRITING, "DELETE FROM loft.kept WHERE id IN (7, 8)")
    execute(engine, "UPDATE loft.crates SET tags = '{1}' WHERE id = 9")
    wrong = differing(engine, tally, "loft.kept")
    done = rebuild_keys(engine, tally, [{"id": 7, "kind": "box"}, {"id": 7, "kind": "crate"}])
    assert (done.how, done.pending_consumed) == ("rebuild", 1), "with what was pending"
    left = differing(engine, tally, "loft.kept")
    assert 0 < left < wrong
    keys = [{"id": 8, "kind": kind, "tag": 1} for kind in ("box", "crate")]
    rebuild_keys(engine, tally, keys)
    assert differing(engine, tally, "loft.kept") == 0
    assert verify(engine, tally).ok


REFUSED = {
    "a column that may be null": (
        "-- key: owner, tag\n-- batches: owner from loft.boxes.owner\n"
        "SELECT b.owner, t.id AS tag FROM loft.boxes AS b JOIN loft.tags AS t ON t.id = b.id",
        "a row whose 'owner' is null, as it may be, would be in none",
    ),
    "counts and sums": (
        "-- batches: id from loft.boxes.id\n"
        "SELECT b.id, count(*) AS n FROM loft.boxes AS b GROUP BY b.id",
        "cannot be built in batches: it counts and sums single rows",
    ),
    "stored results": (
        "-- key: id\n-- batches: id from loft.boxes.id\n"
        "SELECT b.id, o.most FROM loft.boxes AS b JOIN (SELECT owner, max(id) AS most"
        " FROM loft.crates GROUP BY owner) AS o ON o.owner = b.owner",
        "it has stored intermediate results, which no batch would compute",
    ),
    "a whole": (
        "-- key: id\n-- batches: id from loft.boxes.id\n"
        "SELECT b.id FROM loft.boxes AS b ORDER BY b.id LIMIT 7",
        "cannot be built in batches: any change computes all of it",
    ),
    "no key": (
        "-- batches: id from loft.boxes.id\n"
        "SELECT b.id, t.id % 2 AS odd FROM loft.boxes AS b JOIN loft.tags AS t ON t.id > b.owner",
        "its rows are not known by a row of a source each, of which they are made",
    ),
    "two rows of one table": (
        "-- key: id, other\n-- batches: id from loft.boxes.id\nSELECT b.id, o.id AS other"
        " FROM loft.boxes AS b JOIN loft.boxes AS o ON o.owner = b.id",
        "its rows are not known by a row of a source each, of which they are made",
    ),
    "no column of the key": (
        "-- key: id\n-- batches: owner from loft.boxes.owner\n"
        "SELECT b.id, b.owner FROM loft.boxes AS b",
        r"batches go by 'owner', which must be one of the group's columns \('id',\)",
    ),
    "another table's column": (
        "-- key: id\n-- batches: id from loft.boxes.crate\n"
        "SELECT b.id, c.id AS crate FROM loft.boxes AS b JOIN loft.crates AS c ON c.id = b.id"
        " WHERE c.id < (SELECT max(crate) FROM (SELECT 9 AS crate) AS nine)",
        "batches go by 'crate' of boxes, which is no column that the SELECT reads",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_built_in_batches_is_refused(engine: Engine, name: str) -> None:
    file, message = REFUSED[name]
    with pytest.raises(DeclarationError, match=message):
        installed(engine, file)


@pytest.mark.parametrize(
    ("first", "second", "arms"),
    [
        ("'box'", "'crate'", 2),
        ("'box'::varchar(5)", "'crate'::varchar(5)", 2),
        # Both are cut to the same.
        ("'crates'::varchar(5)", "'crate'::varchar(5)", 1),
        ("'crate'::text", "'crate'::varchar(9)", 1),
        ("'box'::char(9)", "'crate'::char(9)", 1),
    ],
)
def test_sources_are_read_apart_where_a_text_tells_them_apart(
    engine: Engine, first: str, second: str, arms: int
) -> None:
    execute(engine, *SOURCES)
    tally = SelectTally(
        "loft.kept",
        select=f"SELECT a.id, a.kind, max(t.id) AS most FROM (SELECT id, {first} AS kind, tags"
        f" FROM loft.boxes UNION ALL SELECT id + 1000, {second}, tags FROM loft.crates) AS a"
        " JOIN loft.tags AS t ON t.id = ANY (a.tags) GROUP BY a.id, a.kind",
        formerly=["0" * 16],
    )
    migrate(engine, [System("loft", MetaData(), [tally])])
    assert tally.plan.marks
    rows_of_marks = next(s for s in tally.plan.steps if s.name == ROWS)
    assert render(rows_of_marks.text, {1, 2, 3}).count("UNION ALL SELECT CAST(e.") == arms - 1
    refresh(engine, tally)
    execute(engine, "UPDATE loft.crates SET tags = '{1}' WHERE id < 20")
    assert differing(engine, tally, tally.live_name) == 0


def test_rows_of_one_source_that_look_like_those_of_another_are_there_once(engine: Engine) -> None:
    barrels = (
        "CREATE TABLE loft.barrels (id integer PRIMARY KEY, kind text NOT NULL, tags integer[])"
    )
    some = "INSERT INTO loft.barrels SELECT n, n % 4, '{1,2,3}' FROM generate_series(1, 120) AS n"
    execute(engine, *SOURCES, barrels, some)
    tally = SelectTally(
        "loft.kept",
        select="SELECT a.id, a.kind, max(t.id) AS most FROM ("
        "SELECT id, '1' AS kind, tags FROM loft.boxes"
        " UNION ALL SELECT id + 1000, kind, tags FROM loft.barrels"
        ") AS a JOIN loft.tags AS t ON t.id = ANY (a.tags) GROUP BY a.id, a.kind",
        formerly=["0" * 16],
    )
    migrate(engine, [System("loft", MetaData(), [tally])])
    refresh(engine, tally)
    assert tally.plan.marks
    execute(
        engine,
        "UPDATE loft.barrels SET tags = '{1}' WHERE id < 20",
        "UPDATE loft.boxes SET tags = '{2}' WHERE id < 20",
    )
    assert differing(engine, tally, tally.live_name) == 0
    assert refresh(engine, tally).how == "refresh"
    assert differing(engine, tally, tally.table.fullname) == 0

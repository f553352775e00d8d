"""What the fuzzer found once, as small as it was made: each stays right."""

from __future__ import annotations

import pytest

from tests.select_fuzz.cases import Case
from tests.select_fuzz.direct import Direct
from tests.select_fuzz.harness import Run

_T1 = "CREATE TABLE src.t1 (id integer PRIMARY KEY, n integer, flag boolean, marks integer[])"
_T2 = "CREATE TABLE src.t2 (id integer PRIMARY KEY, t1_id integer, weight numeric, mood src.mood)"
_INTO_T1 = "INSERT INTO src.t1 VALUES "
_INTO_T2 = "INSERT INTO src.t2 VALUES "
_SUMS = "SELECT b.{0} AS k, sum(b.{1}) AS v, count(*) AS n FROM src.t2 AS b GROUP BY b.{0}"
FOUND = {
    "a group that is a comparison": (
        "SELECT max(a.n) AS c1 FROM src.t1 AS a GROUP BY a.id >= 3",
        f"{_INTO_T1} (4, 1), (5, 2)",
    ),
    "equal rows that differ": (
        "SELECT b.weight AS c1 FROM src.t2 AS b JOIN src.t1 AS a ON a.id = b.t1_id",
        "DELETE FROM src.t2 WHERE id = 1",
    ),
    "an enum as a null of an outer join": (
        "SELECT a.n AS c1, b.mood AS c2, count(*) AS c3"
        " FROM src.t1 AS a LEFT JOIN src.t2 AS b ON b.t1_id = a.id GROUP BY a.n, b.mood",
        "DELETE FROM src.t2 WHERE id = 1",
    ),
    "an element of an array that an outer join has not": (
        "SELECT b.id AS c1, sum(a.marks[1]) AS c2"
        " FROM src.t2 AS b LEFT JOIN src.t1 AS a ON b.t1_id = a.id GROUP BY b.id",
        "DELETE FROM src.t1 WHERE id = 1",
    ),
    "a key that rows of an heir repeat": (
        "SELECT DISTINCT b.mood AS c1 FROM src.t1 AS a RIGHT JOIN src.t2 AS b ON a.id = b.t1_id",
        f"{_INTO_T1} (5, 2), (6, 1)",
    ),
    "an alias that statements had": (
        "SELECT k.n AS c1, max(k.id) AS c2 FROM src.t1 AS k GROUP BY k.n",
        "UPDATE src.t1 SET n = NULL WHERE id = 2",
    ),
    "groups that depend on the row before": (
        "SELECT a.id AS c1, c.v AS c2 FROM src.t1 AS a LEFT JOIN LATERAL"
        " (SELECT sum(b.weight) AS v FROM src.t2 AS b WHERE b.t1_id = a.id) AS c ON true",
        "DELETE FROM src.t2 WHERE id = 1",
    ),
    "a group stored by one of equal values": (
        "SELECT b.weight AS c1, avg(b.t1_id) AS c2 FROM src.t2 AS b CROSS JOIN src.t1 AS a"
        " GROUP BY a.flag, b.weight",
        "DELETE FROM src.t2 WHERE id = 1",
    ),
    "a key that may be any of several": (
        "SELECT a.mood AS c1 FROM src.t2 AS a WHERE a.id = ANY (ARRAY[1, 2])",
        "UPDATE src.t2 SET mood = 'void' WHERE id = 1",
    ),
    "a join on any of several": (
        "SELECT a.id AS c1, b.id AS c2 FROM src.t1 AS a"
        " LEFT JOIN src.t2 AS b ON b.t1_id = ANY (a.marks)",
        f"{_INTO_T2} (5, 3, 9), (6, 8, 8)",
    ),
    "what a comparison with all of none does not say": (
        "SELECT a.id AS c1 FROM src.t1 AS a LEFT JOIN src.t2 AS b ON b.t1_id = a.id"
        " WHERE b.t1_id <> ALL (ARRAY[]::integer[])",
        "DELETE FROM src.t2 WHERE id = 1",
    ),
    "sums of what is no number": (
        "SELECT b.t1_id AS c1, sum(b.weight) AS c2, avg(b.weight) AS c3, count(DISTINCT b.weight)"
        " AS c4, max(b.weight) AS c5, variance(b.id) AS c6 FROM src.t2 AS b GROUP BY b.t1_id",
        f"{_INTO_T2} (5, 1, 'NaN'), (6, 2, 'Infinity'), (7, 2, '-Infinity'), (8, 5, 'Infinity')",
    ),
    "rows of what is no number": (
        "SELECT b.weight AS c1, a.n AS c2 FROM src.t2 AS b JOIN src.t2 AS c"
        " ON b.weight = c.weight AND b.id < c.id LEFT JOIN src.t1 AS a ON a.id = b.t1_id",
        f"{_INTO_T2} (5, 1, 'NaN'), (6, 2, 'NaN'), (7, 2, '-Infinity'), (8, 5, '2.00')",
    ),
    "a list with nulls, and without them": (
        "SELECT a.id AS c1 FROM src.t1 AS a WHERE a.n NOT IN (SELECT b.t1_id FROM src.t2 AS b)",
        f"{_INTO_T2} (5, NULL, 1)",
    ),
    "the first row of LATERAL": (
        "SELECT a.id AS c1, c.id AS c2, c.weight AS c3 FROM src.t1 AS a CROSS JOIN LATERAL"
        " (SELECT b.id, b.weight FROM src.t2 AS b WHERE b.t1_id = a.n"
        " ORDER BY b.weight DESC, b.id LIMIT 1) AS c",
        f"{_INTO_T2} (5, 1, 9), (6, 7, 8)",
    ),
    "the first row of LATERAL, or none": (
        "SELECT a.id AS c1, c.weight AS c2 FROM src.t1 AS a LEFT JOIN LATERAL"
        " (SELECT b.weight FROM src.t2 AS b WHERE b.t1_id = a.id AND b.weight > 1 AND a.n > 1"
        " ORDER BY b.id LIMIT 1) AS c ON c.weight < 9",
        f"{_INTO_T2} (5, 1, 9), (6, 5, 8)",
    ),
    "the rows of LATERAL, or none": (
        "SELECT a.id AS c1, c.id AS c2, c.n AS c3 FROM src.t1 AS a LEFT JOIN LATERAL"
        " (SELECT b.id, count(*) AS n FROM src.t2 AS b WHERE b.t1_id = a.n GROUP BY b.id) AS c"
        " ON true",
        "UPDATE src.t2 SET t1_id = 7 - t1_id",
    ),
    "an outer join on a comparison": (
        "SELECT a.id AS c1, b.id AS c2 FROM src.t1 AS a LEFT JOIN src.t2 AS b ON a.id > b.weight",
        f"{_INTO_T2} (5, 1, 0.5), (6, 7, NULL)",
    ),
    "an outer join on a comparison and an equality": (
        "SELECT b.id AS c1, c.id AS c2 FROM src.t2 AS b"
        " LEFT JOIN src.t1 AS c ON c.n = b.t1_id AND c.id > b.weight",
        "UPDATE src.t2 SET weight = 3 - weight",
    ),
    "a set of no keys, of no rows": (
        "SELECT a.n AS c1, grouping(a.n) AS c2, count(*) AS c3, sum(a.id) AS c4 FROM src.t1 AS a"
        " GROUP BY ROLLUP (a.n)",
        "DELETE FROM src.t1",
    ),
    "sets without an aggregate": (
        "SELECT a.n AS c1, a.flag AS c2 FROM src.t1 AS a GROUP BY GROUPING SETS ((a.n), (a.flag),"
        " ())",
        "UPDATE src.t1 SET n = NULL WHERE id = 2",
    ),
    "sets of which one is there twice": (
        "SELECT a.n + 1 AS c1, max(a.n) AS c2, grouping(a.flag, a.n + 1) AS c3 FROM src.t1 AS a"
        " GROUP BY a.n + 1, GROUPING SETS ((a.flag), (a.flag), ()) HAVING count(*) > 0",
        f"{_INTO_T1} (4, 1), (5, 2), (6, 2)",
    ),
    "sets made by DISTINCT": (
        "SELECT DISTINCT a.flag AS c1, count(*) AS c2 FROM src.t1 AS a"
        " GROUP BY DISTINCT CUBE (a.flag), ROLLUP (a.n, a.flag)",
        f"{_INTO_T1} (4, 1, true), (5, 2, false)",
    ),
    "a key within an aggregate, and beside it": (
        "SELECT coalesce(a.n, -1) * 2 AS c1, sum(a.n) AS c2 FROM src.t1 AS a"
        " JOIN src.t2 AS b ON b.t1_id = a.id GROUP BY ROLLUP (a.n) HAVING sum(a.n) IS NOT NULL",
        "UPDATE src.t2 SET t1_id = 3 - t1_id",
    ),
    "groups over sets": (
        "SELECT s.c2 AS c1, count(*) AS c2 FROM (SELECT a.n AS c1, count(*) AS c2 FROM src.t1 AS a"
        " GROUP BY CUBE (a.n, a.flag)) AS s GROUP BY s.c2",
        "DELETE FROM src.t1 WHERE id = 1",
    ),
    "groups of several sets, the first of them": (
        "SELECT a.n AS c1, a.flag AS c2, count(*) AS c3 FROM src.t1 AS a"
        " GROUP BY ROLLUP (a.n, a.flag) ORDER BY 1, 2, 3 LIMIT 3",
        "DELETE FROM src.t1 WHERE id = 1",
    ),
    "a join of groups by numbers that are equal, and not the same": (
        "SELECT g.k AS c1, g.n AS c2, h.n AS c3"
        f" FROM ({_SUMS.format('weight', 'id')}) AS g JOIN (SELECT b.weight AS k, count(*) AS n"
        " FROM src.t2 AS b WHERE b.mood = 'sent' GROUP BY b.weight) AS h ON h.k = g.k",
        f"{_INTO_T2} (5, 1, 1, 'sent'), (6, 2, 1.0, 'new'), (7, 2, 2.0, 'sent')",
    ),
    "sums of many groups, of which one is outer joined with the others": (
        "SELECT g.k AS c1, g.v AS c2, h.v AS c3, i.v AS c4, j.v AS c5"
        f" FROM ({_SUMS.format('t1_id', 'weight')}) AS g"
        f" LEFT JOIN ({_SUMS.format('id', 'id')}) AS h ON h.k = g.k"
        f" LEFT JOIN ({_SUMS.format('id', 'weight')}) AS i ON i.k = g.k"
        f" LEFT JOIN ({_SUMS.format('t1_id', 'id')}) AS j ON j.k = g.k",
        "UPDATE src.t2 SET weight = weight + 5 WHERE id = 1",
    ),
}


# What is computed anew.
WHOLE = ("groups of several sets, the first of them", "a join on any of several")


@pytest.mark.parametrize("name", list(FOUND))
def test_it_stays_right(database_url: str, name: str) -> None:
    select, write = FOUND[name]
    case = Case(
        0,
        (
            "CREATE SCHEMA src",
            "CREATE TYPE src.mood AS ENUM ('new', 'paid', 'sent', 'void')",
            _T1,
            _T2,
            "CREATE TABLE src.t1_heir (PRIMARY KEY (id)) INHERITS (src.t1)",
        ),
        (
            f"{_INTO_T1} (1, 1, true, '{{3,4}}'), (2, 1, false, NULL), (3, NULL, NULL, '{{}}')",
            "INSERT INTO src.t1_heir VALUES (5, 7, true, '{8}')",
            f"{_INTO_T2} (1, 1, 1, 'new'), (2, 2, 1.00, 'paid'), (3, 5, 2, NULL), (4, 9, 1, 'new')",
        ),
        {"t1": select},
        (
            ((write,),),
            (("DELETE FROM src.t2 WHERE id IN (5, 6)",),),
            (("DELETE FROM src.t2 WHERE id > 6",),),
            (("DELETE FROM src.t1",),),
            (("TRUNCATE src.t2",),),
        ),
    )
    results = Run(case, database_url, Direct).quick()
    assert (results.kept, results.wrong) == (1, [])
    assert name in WHOLE or not results.strategies["whole"], results.reasons

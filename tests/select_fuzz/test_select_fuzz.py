"""The fuzzer of SELECTs: what it makes is PostgreSQL, it finds what is wrong, and nothing is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial

import pytest

from tests.select_fuzz import cases, concurrent, minimize
from tests.select_fuzz.adapters import Whole
from tests.select_fuzz.direct import Direct
from tests.select_fuzz.faults import FAULTS
from tests.select_fuzz.harness import AdapterFactory, Results, Run, open_connection
from tests.select_fuzz.installed import Installed
from tests.servers import VERSIONS, Servers

Databases = minimize.Databases


@pytest.fixture
def databases(postgres_servers: Servers, postgres_version: int) -> Databases:
    def fresh() -> AbstractContextManager[str]:
        return postgres_servers.fresh_database(postgres_version)

    return fresh


def run(seeds: range, databases: Databases, factory: AdapterFactory) -> Results:
    total = Results()
    for seed in seeds:
        with databases() as url:
            total.add(Run(cases.make(seed, rounds=2), url, factory).quick())
    return total


def test_a_seed_makes_the_same_case_each_time() -> None:
    assert cases.make(7).script() == cases.make(7).script()
    assert cases.make(7).script() != cases.make(8).script()


@pytest.mark.parametrize("version", VERSIONS)
def test_nearly_all_selects_are_accepted_by_postgresql(
    postgres_servers: Servers, version: int
) -> None:
    run_of = partial(postgres_servers.fresh_database, version)
    total = run(range(1000, 1006), run_of, Whole)
    others = total.invalid.total()
    assert total.selects / (total.selects + others) >= 0.97, total.invalid


def test_a_stand_in_that_computes_anew_is_never_wrong(databases: Databases) -> None:
    total = run(range(2000, 2006), databases, Whole)
    assert (total.wrong, total.unreadable) == ([], 0)
    assert total.snapshots >= 400


@pytest.mark.parametrize("skipped", ["UPDATE", "DELETE", "TRUNCATE"])
def test_a_refresh_that_leaves_writes_out_is_found(databases: Databases, skipped: str) -> None:
    total = run(range(1, 7), databases, partial(Whole, skip_after=skipped))
    assert {wrong.where for wrong in total.wrong} == {"derived"}


def test_a_failing_case_is_made_small(databases: Databases) -> None:
    factory = partial(Whole, skip_after="DELETE")
    case = cases.make(3, selects=2)
    with databases() as url:
        wrong = Run(case, url, factory).quick().wrong[0]
    minimizer = minimize.Minimizer(databases, factory, wrong)
    alone = replace(case, selects={wrong.tally: case.selects[wrong.tally]})
    small = minimizer.case(alone)
    assert minimizer.fails(small)
    assert len(list(small.transactions())) == 1
    assert len(small.rows) <= 2
    assert len(small.selects[wrong.tally]) <= 60


def test_writes_are_accepted_or_rolled_back_by_constraints(databases: Databases) -> None:
    with databases() as url, open_connection(url) as connection:
        case = cases.make(11)
        runner = Run(case, url, Whole)
        runner.start().close()
        writes = cases.writer(11)
        for _ in range(100):
            runner.write(tuple(writes.transaction()))
        runner.connection.close()
        assert runner.results.wrong == []
        assert connection.info.transaction_status.name == "IDLE"


# Which seed and tally find a fault, so that it need not be looked for; others are tried after them.
FINDERS = {
    "a_join_condition_is_dropped": (3, "t6"),
    "a_source_of_a_group_is_forgotten": (1, "t8"),
    "deletes_are_not_captured": (1, "t1"),
    "everything_is_unique": (1, "t3"),
    "filters_of_aggregates_are_ignored": (2, "t5"),
    "groups_stay_when_their_last_row_is_deleted": (2, "t2"),
    "having_is_ignored": (4, "t2"),
    "not_exists_takes_nothing_off": (1, "t4"),
    "nothing_is_null": (1, "t1"),
    "null_keys_do_not_match": (1, "t3"),
    "old_images_of_updates_are_not_captured": (1, "t3"),
    "rows_without_a_match_are_left_out": (1, "t1"),
    "signs_of_products_are_ignored": (1, "t1"),
    "states_are_not_brought_up_to_date": (1, "t1"),
    "touched_groups_only_of_new_rows": (2, "t1"),
}


def finders(name: str) -> Iterator[cases.Case]:
    if name in FINDERS:
        seed, tally = FINDERS[name]
        case = cases.make(seed)
        yield replace(case, selects={tally: case.selects[tally]})
    yield TWO_STATES
    yield GROUPING_SETS
    yield from (cases.make(seed) for seed in range(1, 31))


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_a_fault_of_the_compiler_is_found(databases: Databases, name: str) -> None:
    for case in finders(name):
        with FAULTS[name](), databases() as url:
            if Run(case, url, Direct).quick(stop=True).wrong:
                return
    pytest.fail(f"{name}: no seed found it")


# Two stored results that are joined, and change at once.
TWO_STATES = cases.Case(
    0,
    (
        "CREATE SCHEMA src",
        "CREATE TABLE src.t1 (id integer PRIMARY KEY, n integer, m integer)",
    ),
    ("INSERT INTO src.t1 VALUES (1, 1, 1), (2, 1, 2), (3, 2, 1)",),
    {
        "t1": "SELECT a.id AS c1, a.n AS c2 FROM src.t1 AS a"
        " WHERE EXISTS (SELECT 1 FROM src.t1 AS b WHERE b.n = a.id)"
        " AND NOT EXISTS (SELECT 1 FROM src.t1 AS c WHERE c.m = a.id)"
    },
    (
        (("INSERT INTO src.t1 VALUES (4, 3, 3)",),),
        (("UPDATE src.t1 SET n = 4, m = 4 WHERE id < 3",),),
        (("DELETE FROM src.t1 WHERE id < 3",),),
    ),
)


GROUPING_SETS = replace(
    TWO_STATES,
    selects={
        "t1": "SELECT a.n AS c1, a.m AS c2, grouping(a.n, a.m) AS c3, sum(a.id) AS c4"
        " FROM src.t1 AS a GROUP BY CUBE (a.n, a.m)"
    },
)


_OF_MARKS = "(SELECT marks AS k, sum({}) AS v FROM src.t1 GROUP BY marks) AS {}"
GROUPS_BY_ARRAYS = replace(
    TWO_STATES,
    ddl=(
        "CREATE SCHEMA src",
        "CREATE TABLE src.t1 (id integer PRIMARY KEY, n integer, m integer,"
        " marks integer[] NOT NULL DEFAULT '{}')",
    ),
    selects={
        "t1": "SELECT g.k AS c1, g.v AS c2, h.v AS c3, i.v AS c4, j.v AS c5 FROM "
        + _OF_MARKS.format("n", "g")
        + "".join(
            f" LEFT JOIN {_OF_MARKS.format(value, alias)} ON {alias}.k = g.k"
            for value, alias in (("m", "h"), ("id", "i"), ("n + m", "j"))
        )
    },
    rounds=(
        (("UPDATE src.t1 SET marks = '{1,2}' WHERE id < 3",),),
        (("UPDATE src.t1 SET n = 4, m = 4 WHERE id < 3",),),
        (("UPDATE src.t1 SET marks = '{2,1}' WHERE id = 1",),),
    ),
)


def test_groups_by_arrays_that_are_outer_joined_are_right(databases: Databases) -> None:
    with databases() as url:
        results = Run(GROUPS_BY_ARRAYS, url, Direct).quick()
    assert (results.wrong, results.strategies["group"]) == ([], 1)


def test_two_states_that_change_at_once_are_right(databases: Databases) -> None:
    with databases() as url:
        results = Run(TWO_STATES, url, Direct).quick()
    assert (results.wrong, results.nodes["delta"]) == ([], 2)


# As many as a minute of one core allows.
@pytest.mark.parametrize("seed", range(5000, 5008))
def test_random_selects_are_exact(databases: Databases, seed: int) -> None:
    with databases() as url:
        results = Run(cases.make(seed), url, Direct).quick()
    assert results.wrong == []
    assert results.kept >= 0.9 * results.selects


@pytest.mark.parametrize("seed", range(6000, 6002))
def test_random_selects_are_exact_as_users_keep_them(databases: Databases, seed: int) -> None:
    with databases() as url:
        results = Run(cases.make(seed, selects=4), url, Installed).quick()
    assert results.wrong == []


def test_random_selects_are_exact_among_writers(databases: Databases) -> None:
    with databases() as url:
        results = concurrent.run(Run(cases.make(7000, selects=4), url, Installed), 6)
    assert results.wrong == []
    assert results.snapshots > 20

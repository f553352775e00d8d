"""The fuzzer of SELECTs: what it makes is PostgreSQL, it finds what is wrong, and nothing is."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial

import pytest

from tests.select_fuzz import cases, minimize
from tests.select_fuzz.adapters import Whole
from tests.select_fuzz.direct import Direct
from tests.select_fuzz.faults import FAULTS
from tests.select_fuzz.harness import AdapterFactory, Results, Run, open_connection
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
    assert total.snapshots > 400


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


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_a_fault_of_the_compiler_is_found(databases: Databases, name: str) -> None:
    with FAULTS[name]():
        for seed in range(1, 31):
            with databases() as url:
                if Run(cases.make(seed), url, Direct).quick(stop=True).wrong:
                    return
    pytest.fail(f"{name}: no seed found it")

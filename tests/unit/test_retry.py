"""SQLSTATEs by name, and what is tried again because of them."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg.errors
import pytest
from sqlalchemy.exc import OperationalError

from tallykeeper.database import sqlstates
from tallykeeper.database.retry import Failure, Retry, wait_until
from tallykeeper.database.sqlstates import DEADLOCK_DETECTED, LOCK_NOT_AVAILABLE, sqlstate_of
from tallykeeper.settings import project_root

CODES = {
    name: code
    for name, code in vars(sqlstates).items()
    if name.isupper() and isinstance(code, str) and len(code) == 5
}


class Work:
    """Fails with each of the codes in turn, then is done."""

    def __init__(self, *codes: str) -> None:
        self.codes = list(codes)
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        if self.codes:
            raise error_of(self.codes.pop(0))
        return self.calls


def error_of(code: str) -> OperationalError:
    return OperationalError("SELECT", {}, psycopg.errors.lookup(code)("said"))


@pytest.mark.parametrize("name", CODES)
def test_a_code_has_the_name_that_postgresql_has_for_it(name: str) -> None:
    known = psycopg.errors.lookup(CODES[name]).__name__.lower()
    assert known == name.replace("_", "").lower()


def test_codes_are_written_in_one_module_alone() -> None:
    code = re.compile(r"""["']([0-9A-Z]{5})["']""")
    found = {
        (str(path.relative_to(project_root())), match)
        for folder in ("tallykeeper", "assets")
        for path in (project_root() / folder).rglob("*.py")
        for match in code.findall(path.read_text(encoding="utf-8"))
        if match in CODES.values()
    }
    # Within the text of a function of PL/pgSQL.
    assert {path for path, _ in found} <= {
        "tallykeeper/database/sqlstates.py",
        "tallykeeper/database/sql.py",
    }
    assert Path(sqlstates.__file__).name == "sqlstates.py"


def test_the_code_of_an_error_that_the_server_did_not_send_is_empty() -> None:
    assert sqlstate_of(error_of(DEADLOCK_DETECTED)) == DEADLOCK_DETECTED
    assert sqlstate_of(OperationalError("SELECT", {}, Exception("no connection"))) == ""


def test_what_passes_is_tried_again() -> None:
    failures: list[Failure] = []
    retry = Retry({DEADLOCK_DETECTED, LOCK_NOT_AVAILABLE}, attempts=3)
    assert retry.call(Work(DEADLOCK_DETECTED, LOCK_NOT_AVAILABLE), failures.append) == 3
    assert [(f.attempts, f.is_last) for f in failures] == [(1, False), (2, False)]


def test_what_does_not_pass_is_raised_at_once() -> None:
    work = Work(sqlstates.UNDEFINED_TABLE)
    with pytest.raises(OperationalError):
        Retry({DEADLOCK_DETECTED}, attempts=3).call(work)
    assert work.calls == 1


def test_it_is_given_up_after_so_many_attempts_and_so_many_seconds() -> None:
    failures: list[Failure] = []
    work = Work(*[DEADLOCK_DETECTED] * 100)
    with pytest.raises(OperationalError):
        Retry({DEADLOCK_DETECTED}, attempts=3).call(work, failures.append)
    assert work.calls == 3
    assert [f.is_last for f in failures] == [False, False, True]
    patient = Work(*[DEADLOCK_DETECTED] * 100)
    with pytest.raises(OperationalError):
        Retry({DEADLOCK_DETECTED}, 2, 0.05, first_pause=0.01, longest_pause=0.02).call(patient)
    assert 3 <= patient.calls <= 12


def test_a_condition_is_waited_for() -> None:
    answers = iter([False, False, True])
    assert wait_until(lambda: next(answers), 5, 0)
    assert not wait_until(lambda: False, 0.02, 0.005)

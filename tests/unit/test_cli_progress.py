"""What commands say of how long they take: an estimate where one can be made, never a wrong one."""

from __future__ import annotations

import sys
import time

import click
import pytest
from click.testing import CliRunner

from tallykeeper.cli.common import telling, with_verbosity
from tallykeeper.cli.output.progress import Remaining, meanwhile


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock, which a test sets."""
    now = [0.0]
    monkeypatch.setattr("tallykeeper.cli.output.progress.time.monotonic", lambda: now[0])
    return now


def test_the_rest_takes_as_long_as_what_is_done(clock: list[float]) -> None:
    left = Remaining()
    clock[0] = 10.0
    assert left(1, 4) == ", 0:00:30 left"
    assert left(4, 4) == ", 0:00:00 left"
    assert [left(0, 4), left(1, None), left(5, 4)] == ["", "", ""]


@pytest.mark.parametrize(
    ("last_seconds", "said"),
    [
        (None, "work: 0:00:20 so far"),
        (50.0, "work: 0:00:20 so far, about 0:00:30 left"),
        (5.0, "work: 0:00:20 so far, longer than the 0:00:05 of the last time"),
    ],
)
def test_work_that_tells_nothing_is_said_to_go_on(
    clock: list[float], last_seconds: float | None, said: str
) -> None:
    lines: list[str] = []
    with meanwhile("work", lines.append, last_seconds, every=0.001):
        clock[0] = 20.0
        until = time.perf_counter() + 30
        while said not in lines:
            assert time.perf_counter() < until, lines
            time.sleep(0.001)
    count = len(lines)
    time.sleep(0.01)
    assert len(lines) == count, "and nothing is said after its end"


def test_short_work_says_nothing() -> None:
    lines: list[str] = []
    with meanwhile("work", lines.append):
        pass
    assert lines == []


@pytest.mark.parametrize(
    ("options", "is_terminal", "said"),
    [((), True, "first\nsecond\n"), ((), False, "first\n"), (("-q",), True, "")],
)
def test_quiet_commands_tell_nothing_and_logs_little(
    monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], is_terminal: bool, said: str
) -> None:
    @click.command()
    def work() -> None:
        monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
        telling()("first")
        telling(in_terminal=True)("second")

    done = CliRunner().invoke(with_verbosity(work), options)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", said)

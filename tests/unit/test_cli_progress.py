"""What commands show of how far they are: an estimate where one can be made, never a wrong one."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator

import click
import pytest
from click.testing import CliRunner
from rich.console import Console

from tallykeeper.cli.common import as_json, with_verbosity
from tallykeeper.cli.output import progress
from tallykeeper.cli.output.progress import Work, loading, working


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock, which a test sets."""
    now = [0.0]
    monkeypatch.setattr("tallykeeper.cli.output.progress.time.monotonic", lambda: now[0])
    return now


@pytest.fixture
def in_command() -> Iterator[None]:
    with click.Context(click.Command("work")):
        yield


def test_the_rest_takes_as_long_as_what_is_done_and_is_counted_down(clock: list[float]) -> None:
    work = Work("work")
    assert (work.share, work.words) == (None, "0:00:00 so far")
    clock[0] = 10.0
    work(1, 4, "one")
    assert (work.share, work.words) == (0.25, "0:00:10 so far, about 0:00:30 left; one")
    clock[0] = 20.0
    assert work.words == "0:00:20 so far, about 0:00:20 left; one"
    clock[0] = 50.0
    assert work.words == "0:00:50 so far; one", "it takes longer than was thought: unknown"
    work(3, 4, "three", left=7.0)
    assert work.words == "0:00:50 so far, about 0:00:07 left; three"


@pytest.mark.parametrize(("done", "total"), [(1, None), (1, 0), (5, 4), (0, 4)])
def test_nothing_is_estimated_where_nothing_says(
    clock: list[float], done: int, total: int | None
) -> None:
    work = Work("work")
    clock[0] = 10.0
    work(done, total)
    assert work.words == "0:00:10 so far"


@pytest.mark.parametrize(
    ("last_seconds", "share", "said"),
    [
        (None, None, "0:00:20 so far"),
        (50.0, 0.4, "0:00:20 so far, about 0:00:30 left"),
        (5.0, None, "0:00:20 so far, longer than the 0:00:05 of the last time"),
    ],
)
def test_work_that_tells_nothing_is_compared_with_the_last_time(
    clock: list[float], last_seconds: float | None, share: float | None, said: str
) -> None:
    work = Work("work", last_seconds)
    clock[0] = 20.0
    assert (work.share, work.words) == (share, said)
    work.on_step("computing")
    assert work.words == f"{said}; computing"


def test_what_is_known_of_this_time_counts_more_than_the_last_time(clock: list[float]) -> None:
    work = Work("work", last_seconds=5.0)
    clock[0] = 20.0
    work(1, 2)
    assert work.words == "0:00:20 so far, about 0:00:20 left"


def test_a_load_says_how_much_and_how_quickly(clock: list[float]) -> None:
    work = Work("photos")
    show = loading(work, "files")
    clock[0] = 2.0
    show(1234, 10, 40)
    assert work.words == "0:00:02 so far, about 0:00:06 left; 1,234 files, 617/s"


def shown(console: Console, until: Callable[[str], bool]) -> str:
    with working("work", console=console) as work:
        work(1, 4, "one of four")
        end = time.perf_counter() + 30
        assert isinstance(console.file, io.StringIO)
        while not until(console.file.getvalue()):
            assert time.perf_counter() < end, console.file.getvalue()
            time.sleep(0.01)
    return console.file.getvalue()


@pytest.mark.usefixtures("in_command")
def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "BAR_AFTER_SECONDS", 0.0)
    terminal = Console(file=io.StringIO(), force_terminal=True, width=100)
    said = shown(terminal, lambda text: "one of four" in text)
    assert "25%, 0:00:00 so far" in said
    assert said.endswith("\x1b[2K"), "it is wiped in the end"


@pytest.mark.usefixtures("in_command")
def test_quick_work_is_not_shown() -> None:
    for is_terminal in (True, False):
        console = Console(file=io.StringIO(), force_terminal=is_terminal)
        with working("work", console=console):
            pass
        assert isinstance(console.file, io.StringIO)
        assert console.file.getvalue() == ""


@pytest.mark.parametrize(
    ("options", "is_silent"), [((), False), (("-q",), True), (("--json",), True)]
)
def test_elsewhere_it_is_lines_and_programs_get_none(
    monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], is_silent: bool
) -> None:
    monkeypatch.setattr(progress, "LINE_AFTER_SECONDS", (0.0,))
    monkeypatch.setattr(progress, "LINE_EVERY_SECONDS", 60.0)

    @click.command()
    @as_json
    def command(as_json: bool) -> None:
        del as_json
        with working("work") as work:
            work(1, 4, "one")
            time.sleep(0.2)

    done = CliRunner().invoke(with_verbosity(command), options)
    assert (done.exit_code, done.stdout) == (0, "")
    lines = done.stderr.splitlines()
    assert lines == [] if is_silent else len(lines) == 1 and lines[0].startswith("work: ")

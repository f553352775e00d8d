"""What reaches the console of what the processes of `tally up` print."""

from __future__ import annotations

import io

from tallykeeper.cli.output.limited import LAST_LINES, LimitedOutput


def test_of_a_flood_the_first_lines_the_number_and_the_last_lines_are_said() -> None:
    said: list[str] = []
    output = LimitedOutput(said.append, most=3)
    lines = "".join(f"line {number}\n" for number in range(1_000))
    output.follow(io.BytesIO(lines.encode())).join()
    output.finish()
    hidden = "(992 more lines of Dagster's processes were left out)"
    last = [f"line {number}" for number in range(1_000 - LAST_LINES, 1_000)]
    assert said == ["line 0", "line 1", "line 2", hidden, *last]


def test_after_a_while_lines_are_said_again() -> None:
    said: list[str] = []
    output = LimitedOutput(said.append, most=1, within=-1)
    for number in range(3):
        output.line(f"line {number}")
    assert said == ["line 0", "line 1", "line 2"]


def test_how_runs_go_on_is_not_said() -> None:
    said: list[str] = []
    run = b"8cfd241a-9b72-436f-aee6-005400fa299d"
    progress = b"2026-11-29 15:54:50 +0000 - dagster - INFO - media_hourly - " + run + b" - step\n"
    LimitedOutput(said.append).follow(io.BytesIO(progress + b"not UTF-8: \xff\n")).join()
    assert said == ["not UTF-8: \N{REPLACEMENT CHARACTER}"]

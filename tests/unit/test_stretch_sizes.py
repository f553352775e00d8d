"""How many rows the stretches of an audit have, by what the ones before took."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tallykeeper.maintain.stretches import FEWEST_ROWS, FIRST_ROWS, MOST_ROWS, TARGET_SECONDS, Size


def settled(seconds: Callable[[int], float], stretches: int = 30) -> list[tuple[int, float]]:
    """Rows and seconds of stretches that take so long."""
    size, taken = Size(), []
    for _ in range(stretches):
        taken.append((size.rows, seconds(size.rows)))
        size = size.after(taken[-1][1], at_end=False)
    return taken


@pytest.mark.parametrize("per_second", [1_000, 50_000, 400_000])
def test_stretches_take_about_as_long_as_they_are_meant_to(per_second: int) -> None:
    for _, seconds in settled(lambda rows: rows / per_second)[5:]:
        assert 0.3 * TARGET_SECONDS <= seconds <= 2 * TARGET_SECONDS


def test_stretches_are_bounded_however_fast_they_are() -> None:
    assert settled(lambda _rows: 0.001)[-1][0] == MOST_ROWS
    assert settled(float)[-1][0] == FEWEST_ROWS


def test_where_each_reads_a_whole_source_few_large_ones_are_cheaper() -> None:
    def seconds(rows: int) -> float:
        return 60 + rows / 20_000

    rows, last = settled(seconds)[-1]
    assert rows > 10 * FIRST_ROWS
    assert last < 3 * 60, "half of the time is for keys"


def test_a_short_last_stretch_lets_none_grow() -> None:
    assert Size(10_000).after(0.01, at_end=True).rows == 10_000
    assert Size(10_000).after(50.0, at_end=True).rows < 10_000

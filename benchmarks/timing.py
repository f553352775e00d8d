"""Measuring fairly on a machine that also does other things.

What is compared takes turns, in a new random order each time, so that a slow minute falls on all
alike; then medians, with the middle half of the measurements beside them.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from benchmarks.progress import announce

Name = TypeVar("Name")

# The order of turns is the same in every run.
_order = random.Random(1)


@dataclass(frozen=True)
class Contender:
    """One of several things to compare: `run` is timed, `prepare` before it is not."""

    run: Callable[[], object]
    prepare: Callable[[], object] | None = None


@dataclass(frozen=True)
class Sample:
    """The measurements of one contender, in seconds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def middle_half(self) -> tuple[float, float]:
        """Between which two values half of the measurements lie."""
        if len(self.seconds) < 2:
            return self.median, self.median
        quarters = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return quarters[0], quarters[2]


def seconds_of(run: Callable[[], object]) -> float:
    """How long one call of `run` takes."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def alternate(
    contenders: Mapping[Name, Contender],
    repetitions: int,
    before_each: Callable[[], object] | None = None,
) -> dict[Name, Sample]:
    """Let the contenders take turns, each once per repetition.

    `before_each` comes before each repetition and is not timed.
    """
    seconds: dict[Name, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    for repetition in range(repetitions):
        announce(f"repetition {repetition + 1} of {repetitions}")
        if before_each is not None:
            before_each()
        _order.shuffle(order)
        for name in order:
            contender = contenders[name]
            if contender.prepare is not None:
                contender.prepare()
            seconds[name].append(seconds_of(contender.run))
    return {name: Sample(tuple(values)) for name, values in seconds.items()}


def turns(names: list[Name], repetitions: int) -> Iterator[Name]:
    """Each name once per repetition, in a new random order each time."""
    order = list(names)
    for _ in range(repetitions):
        _order.shuffle(order)
        yield from order

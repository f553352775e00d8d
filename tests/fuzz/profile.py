"""How many examples there are, and whether they are the same each time."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

TIMES_VARIABLE = "TALLY_TEST_FUZZ"
_TIMES = int(os.environ.get(TIMES_VARIABLE, "1"))


def examples(number: int) -> settings:
    """So many examples, the same in every run; or as many times more, new ones, as are asked for.

    They are limited by number and never by time, so that a slow machine finds what a quick one
    does.
    """
    return settings(
        max_examples=number * _TIMES,
        derandomize=_TIMES == 1,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )

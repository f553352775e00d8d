"""The smallest sizes at which every benchmark still runs: to see that it runs, not to measure.

Invariants: a name here is one that the module has, so what is renamed there fails here.
"""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

from benchmarks import (
    audits,
    bloat,
    capturing,
    classroom,
    counts,
    crowds,
    days,
    dependencies,
    edits,
    events,
    fediverse,
    hashtags,
    ids,
    loaders,
    pages,
    reads,
    rebuilds,
    refreshes,
    replays,
    runs,
    served,
    submissions,
    tags,
    trending,
)
from benchmarks.tpch import costs as tpch_costs
from benchmarks.tpch import data as tpch_data
from benchmarks.tpch import refreshes as tpch_refreshes

FILES, LINKS, EVENTS, HOUR_SECONDS = (1_000,), (1_000,), 400, 1.0
SCALE = 0.002
ROWS_LOADED = 20

_SIZES: dict[ModuleType, dict[str, object]] = {
    audits: {"REPORTED_SECONDS": 0.1},
    bloat: {
        "HOURS": 3,
        "CHANGES": 100,
        "AT_A_TIME": 100,
        "BACKUP_FROM": 2,
        "BACKUP_TO": 3,
        "SHOWN_HOURS": (1, 3),
    },
    capturing: {"TRANSACTIONS": 20, "WARM_UP": 2, "LOADED": 1_000, "LOADS": 1},
    classroom: {"ACTIVE": 50},
    counts: {"REPETITIONS": 1, "CLOUDS": 1},
    crowds: {"SECONDS": 1, "TURNS": 1},
    days: {"HOURS": 2, "SHOWN": (0, 1)},
    dependencies: {"REPETITIONS": 2},
    edits: {"EDITED": 10, "REPETITIONS": 1},
    events: {"REPETITIONS": 1, "POSTS_PER_EVENT": 1},
    fediverse: {"TAGS": 500, "ACCOUNTS": 500, "UPDATED_AT_ONCE": 100},
    hashtags: {"COUNT_CHANGES": 200, "REPETITIONS": 1, "RECOUNTS": 1},
    ids: {"REPETITIONS": 1, "PART": 1, "KINDS": {ids.NUMBERS: ""}},
    loaders: {
        "REPETITIONS": 1,
        # One of each system.
        "INPUTS": [
            replace(of, rows=ROWS_LOADED) for of in {i.system: i for i in loaders.INPUTS}.values()
        ],
    },
    pages: {"REPETITIONS": 1},
    reads: {"PENDING": (0, 100), "REPETITIONS": 1},
    rebuilds: {"REPETITIONS": 1},
    refreshes: {"CHANGES": 100, "REPETITIONS": 1},
    replays: {"SHARE": 1, "REPETITIONS": 1},
    runs: {"CHANGES": 100, "LOADS": 1, "RUNS": 1},
    served: {
        "AT_ONCE": 2,
        "SECONDS": 0.2,
        "REPETITIONS": 1,
        "RAW_REPETITIONS": 1,
        "CHANGES": 100,
        "REFRESH_SECONDS": 0.5,
        "REFRESHED_AFTER_SECONDS": 0.1,
        "REFRESHES": 1,
        "QUESTIONS": 3,
    },
    submissions: {
        "WORKED_ON": 10,
        "PENDING": (0, 10),
        "REPETITIONS": 1,
        "REBUILDS": 1,
        "SAMPLE": 10,
        "READS": 10,
    },
    tags: {"CHANGES": 100, "PENDING": (0, 10), "REPETITIONS": 1, "RECOUNTS": 1, "READS": 1},
    # All of them are kept in `tests/select/test_tpch.py`.
    tpch_data: {"NAMES": ("q01", "q03", "q13", "q15")},
    tpch_costs: {
        "TALLIES": (1, 2),
        "TRANSACTIONS": 10,
        "WARM_UP": 2,
        "PENDING": (0, 100),
        "READS": 1,
    },
    tpch_refreshes: {"REPETITIONS": 1, "BULK_REPETITIONS": 1},
    trending: {"MOMENTS": 2, "HOURS_LIVED": 2, "COUNT_CHANGES": (0, 100)},
}


def shrink() -> None:
    """Make every benchmark of this process as small as it can be."""
    for module, sizes in _SIZES.items():
        for name, size in sizes.items():
            if not hasattr(module, name):
                raise AttributeError(f"{module.__name__} has no size {name!r} to make small")
            setattr(module, name, size)

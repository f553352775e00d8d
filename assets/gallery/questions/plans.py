"""How to find the newest items with some tags: by which index, and how far down at first.

Numbers only; the SQL is in `pages.py`. Two ways there are. A walk looks at one item after the
other, newest first; it is quick where many items have the tags. A gathering takes from the index
over the tags all items that have them, of the whole table or of its newest part, and sorts them;
it is quick where few have them. Invariants: the choice never alters the answer, so that
figures an hour old, or none at all, will do for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

# Microseconds, measured: an item looked at, for each tag of its own compared with ...
WALKED, WALKED_TAG = 0.5, 0.8
# ... an entry of the index over the tags, an item fetched that it led to ...
LISTED, FETCHED = 0.05, 1.0
# ... an entry of the index over the moments passed, once to count and once to combine ...
PASSED = 0.1
# ... and asking the database one thing more.
ASKED = 400.0
# How many times the rows that should do on average are looked through at first.
MARGIN = 3
GROWTH = 8
# Where nothing is known about how many items there are.
FIRST_ROWS = 1_000


@dataclass(frozen=True)
class Plan:
    """One step: the next so many items of the order (None: all there are), walked or gathered."""

    way: Literal["walk", "gather"]
    rows: int | None

    def after(self, eligible: int | None, found: int, wanted: int) -> Plan:
        """The step after one that `found` too few; `eligible` items there are to look at in all.

        What was found says more of how many there are than what was expected.
        """
        looked_at = self.rows or 0
        share = (found + 1) / (looked_at + 1)
        rows = max(looked_at * GROWTH, int(MARGIN * wanted / share))
        if eligible is not None:
            in_parts = rows * PASSED + MARGIN * wanted * FETCHED
            if rows * 2 > eligible or share * eligible * FETCHED < in_parts:
                return Plan("gather", None)
        return Plan("gather", rows)


@dataclass(frozen=True)
class Outlook:
    """What is known about one source.

    `items` in all and `eligible` by their creator, None where it is not known; how many have each
    of the tags; and whether an item must have all of these.
    """

    items: int | None
    eligible: int | None
    tagged: Sequence[int]
    every: bool

    @property
    def share(self) -> float:
        """How many of the items have the tags: 0 to 1. Tags that go together are allowed for."""
        parts = sorted(min(1.0, tagged / max(1, self.items or 0)) for tagged in self.tagged)
        share = 1.0
        for position, part in enumerate(parts):
            share *= part ** (0.5**position) if self.every else 1 - part
        return share if self.every else 1 - share

    @property
    def listed(self) -> int:
        """Entries of the index over the tags that a gathering goes through."""
        return min(self.tagged) * len(self.tagged) if self.every else sum(self.tagged)


def choose(outlook: Outlook, wanted: int) -> Plan:
    """The first step towards the `wanted` newest items of one source."""
    if not outlook.tagged:
        return Plan("walk", None)
    if outlook.items is None or outlook.eligible is None:
        return Plan("walk", FIRST_ROWS)
    share = outlook.share
    if share <= 0:
        return Plan("gather", None)
    expected = wanted / share
    rows = int(MARGIN * expected) + 1
    looked_at = min(expected, outlook.eligible)
    compared = 1 if outlook.every else len(outlook.tagged)
    gathering = outlook.listed * LISTED
    costs = {
        Plan("gather", None): gathering + share * outlook.items * FETCHED,
        Plan("walk", rows): ASKED + looked_at * (WALKED + WALKED_TAG * compared),
    }
    if rows < outlook.eligible:
        costs[Plan("gather", rows)] = ASKED + gathering + rows * PASSED + MARGIN * wanted * FETCHED
    return min(costs, key=costs.__getitem__)

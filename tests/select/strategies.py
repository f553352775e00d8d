"""How the SELECTs of TPC-H, Nexmark and the store are maintained: their nodes, as expected.

`python -m tests.select.strategies` writes the page of the documentation from it. A test holds that
it is true, and that the page is what it says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine

from benchmarks.nexmark import data as nexmark
from benchmarks.tpch import data as tpch
from tests.select import store

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "strategies.md"
SCALE, EVENTS = 0.002, 1_000
# Ordered by all that the rows have, and the first of them kept.
_TAIL = re.compile(r"\nORDER BY [^()]*\nLIMIT \d+\s*$")

TPCH = {
    "q01": "delta",
    "q02": "group",
    "q03": "delta",
    "q04": "delta",
    "q05": "delta",
    "q06": "delta",
    "q07": "delta",
    "q08": "delta",
    "q09": "delta",
    "q10": "delta",
    "q11": "delta delta",
    "q12": "delta",
    "q13": "delta delta",
    "q14": "delta",
    "q15": "delta delta group",
    "q16": "delta delta",
    "q17": "delta delta",
    "q18": "delta delta",
    "q19": "delta",
    "q20": "delta delta",
    "q21": "group delta",
    "q22": "delta delta delta",
}
NEXMARK = {
    "q03": "delta",
    "q04": "group delta",
    "q05": "delta group",
    "q06": "group group delta",
    "q07": "group",
    "q08": "delta",
    "q09": "group",
    "q15": "delta delta delta delta",
    "q16": "group",
    "q17": "group",
    "q18": "group",
    "q19": "group",
    "q20": "delta",
    "sellers": "delta group",
}
STORE = {
    "product_days": "delta",
    "customer_orders": "delta",
    "buyers_daily": "delta delta",
    "last_orders": "group",
    "last_order_times": "group",
    "stock_on_hand": "delta",
    "revenue_monthly": "delta",
    "weeks": "delta",
    "dates": "delta",
    "top_three": "delta group",
    "managers": "delta delta",
    "without_tests": "delta",
    "categories": "delta",
    "region_days": "delta delta",
    "customer_statuses": "delta group",
    "regions_refunded": "delta delta delta delta",
    "regions_unpaid": "delta delta",
    "unusual_lines": "delta",
    "customer_medians": "group",
    "status_pairs": "delta",
    "best_sellers": "delta group",
    "never_refunded": " ".join(["delta"] * 10),
    "totals": "delta delta",
    "region_totals": "delta delta delta delta delta delta",
    "status_cube": "group group group group",
    "customer_sets": "delta delta delta delta",
    "only_keys": "delta delta",
    "vip_shares": "delta",
}
"""By SELECT, the strategies of the nodes in their order, those of LIMIT left out.

Where there is no node, that of the derived table itself.
"""
# With its LIMIT nothing of it is stored.
WHOLE = ("q02",)


@dataclass(frozen=True)
class Family:
    """SELECTs over the same tables: their titles and texts, and what is expected of each."""

    title: str
    create: Callable[[Engine], object]
    selects: Mapping[str, str]
    expected: Mapping[str, str]


FAMILIES = {
    "tpch": Family(
        "TPC-H",
        lambda engine: tpch.create(engine, SCALE),
        {name: tpch.query(name, SCALE) for name in tpch.NAMES},
        TPCH,
    ),
    "nexmark": Family(
        "Nexmark",
        lambda engine: nexmark.create(engine, EVENTS),
        {name: nexmark.query(name) for name in nexmark.NAMES},
        NEXMARK,
    ),
    "store": Family("A store", store.create, store.SELECTS, STORE),
}

INTRODUCTION = """\
# Which SELECT is maintained how

Every SELECT of this page is kept exactly by a test, in every snapshot among three writers
(`tests/select/`), and its *nodes* are as the table says: the intermediate results that are stored,
from the sources upwards, each with its strategy; without any, that of the derived table itself. The
page is made by `python -m tests.select.strategies`.

- `delta`: what a change adds is added.
- `group`: the groups that a change may have touched are computed anew.
- `whole`: it is computed anew whenever anything changes.

An `ORDER BY ... LIMIT` at the end is a node more, `whole`, over what is stored below it. Where that
would be rows and no groups, all of it is `whole`; the table then shows what it is without LIMIT.
"""


def without_limit(select: str) -> str:
    """The SELECT without the ORDER BY and LIMIT at its end."""
    return _TAIL.sub("", select)


def page() -> str:
    """The page's text."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield INTRODUCTION
    for family in FAMILIES.values():
        every = [nodes.split() for nodes in family.expected.values()]
        deltas = sum(set(nodes) <= {"delta"} for nodes in every)
        yield f"## {family.title}\n"
        yield f"{deltas} of {len(every)} are `delta` in every node.\n"
        yield "| SELECT | nodes | what it returns |"
        yield "|---|---|---|"
        for name, nodes in family.expected.items():
            text = family.selects[name]
            shown = ", ".join(f"`{node}`" for node in _counted(nodes.split()))
            limit = ", LIMIT" if without_limit(text) != text else ""
            if family.expected is TPCH and name in WHOLE:
                limit = "; `whole` with its LIMIT"
            yield f"| {name} | {shown}{limit} | {_comment(text)} |"
        yield ""


def _counted(nodes: list[str]) -> list[str]:
    """Many nodes of one strategy are shown as their number."""
    return [f"{len(nodes)} {nodes[0]}"] if len(nodes) > 4 else nodes


def _comment(text: str) -> str:
    """What the SELECT's first line says; the rest of the store's SELECTs speak for themselves."""
    first = text.split("\n", 1)[0]
    if first.startswith("-- "):
        return first.removeprefix("-- ")
    return f"`{' '.join(text.split())}`".replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

"""The gallery's refresh after some items were edited, at several sizes."""

from __future__ import annotations

from functools import partial

import tallykeeper
from assets.gallery.tallies import system
from benchmarks.bench import Bench
from benchmarks.gallery import Gallery
from benchmarks.report import Row, Section, count
from benchmarks.timing import Contender, alternate

EDITED = 1_000
REPETITIONS = 9
GROWTH_AT_MOST = 1.3


def measure(bench: Bench) -> Section:
    """All four tallies, one after the other, after 1,000 edited items; the sizes take turns."""
    galleries = {links: bench.gallery(links) for links in bench.links}

    def change() -> None:
        for gallery in galleries.values():
            gallery.edit(EDITED)

    contenders = {links: Contender(partial(_refresh, g)) for links, g in galleries.items()}
    alternate(contenders, 1, change)
    took = alternate(contenders, REPETITIONS, change)
    first = bench.links[0]
    rows = [
        Row(
            f"refresh of the gallery's tallies after {count(EDITED)} edited items",
            f"{count(links)} links",
            took[links],
            "" if links == first else f"at {count(first)}",
            None if links == first else took[first],
            None if links == first else GROWTH_AT_MOST,
        )
        for links in bench.links
    ]
    return Section("edits", rows)


def _refresh(gallery: Gallery) -> None:
    for tally in system.tallies:
        tallykeeper.refresh(gallery.engine, tally)

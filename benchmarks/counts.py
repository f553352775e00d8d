"""`unified_content_stats` with and without pending changes, against counting; and the tag cloud."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from uuid import UUID

from sqlalchemy import Connection, text

import tallykeeper
from assets.gallery import tables
from assets.gallery.reads import tag_counts, unified_content_stats
from assets.gallery.tallies import system
from benchmarks.bench import Bench
from benchmarks.gallery import ITEMS, Gallery
from benchmarks.report import Row, Section, count, duration
from benchmarks.timing import Contender, Sample, alternate
from tallykeeper.database import sql

REPETITIONS, CLOUDS = 25, 5
ADDED = (0, 1_000)
AT_MOST_SECONDS = 0.002
LIVE, COUNTED = "live", "counting both sources"
COUNTS = sql.name_of(tables.gen_source_stats)


def measure(bench: Bench) -> Section:
    """At all sizes, with nothing pending and after a thousand items were added."""
    rows, notes = [], []
    for links in bench.links:
        gallery = bench.gallery(links)
        user = busiest(gallery)
        for added in ADDED:
            _add(gallery, added, user)
            took = _stats(gallery, user)
            what = f"`unified_content_stats`, {count(added)} changes pending"
            rows.append(Row(what, f"{count(links)} links", took[LIVE], COUNTED, took[COUNTED]))
            if took[LIVE].median > AT_MOST_SECONDS:
                notes.append(
                    f"**Missed**: {what} at {count(links)} links took more than"
                    f" {duration(AT_MOST_SECONDS)}."
                )
        for tally in system.tallies:
            tallykeeper.refresh(gallery.engine, tally)
        rows += _clouds(gallery)
    return Section("counts", rows, notes or [f"Every count within {duration(AT_MOST_SECONDS)}."])


def busiest(gallery: Gallery) -> UUID:
    """The user that made most."""
    with gallery.engine.connect() as connection:
        return connection.execute(
            text(
                f"SELECT user_id FROM {COUNTS} WHERE user_id IS NOT NULL GROUP BY user_id"
                " ORDER BY sum(count) DESC, user_id LIMIT 1"
            )
        ).scalar_one()


def _add(gallery: Gallery, items: int, user: UUID) -> None:
    """Items without tags, a statement each."""
    gallery.execute(
        f"DO $$ BEGIN FOR i IN 1..{items} LOOP"
        f" INSERT INTO {ITEMS[tables.REGULAR]} (creator_id) VALUES ('{user}');"
        " END LOOP; END $$"
    )


def _stats(gallery: Gallery, user: UUID) -> dict[str, Sample]:
    contenders = {
        LIVE: Contender(_on(gallery, partial(unified_content_stats, user_id=user))),
        COUNTED: Contender(_on(gallery, partial(_count, user=user))),
    }
    alternate(contenders, 1)
    return alternate(contenders, REPETITIONS)


def _count(connection: Connection, user: UUID) -> None:
    for items in ITEMS.values():
        sql.execute(
            connection,
            f"SELECT count(*) FILTER (WHERE creator_id = '{user}'), count(*) FROM {items}",
        ).all()


def _clouds(gallery: Gallery) -> list[Row]:
    size = f"{count(gallery.links)} links"
    rows = []
    for what, prefix in (("all tags", None), ("100 tags by a prefix", "tag0012")):
        contender = Contender(_on(gallery, partial(tag_counts, prefix=prefix)))
        alternate({what: contender}, 1)
        took = alternate({what: contender}, CLOUDS)[what]
        rows.append(Row(f"`tag_counts`, {what}, nothing pending", size, took))
    return rows


def _on(gallery: Gallery, ask: Callable[[Connection], object]) -> Callable[[], None]:
    def run() -> None:
        with gallery.engine.connect() as connection:
            ask(connection)

    return run

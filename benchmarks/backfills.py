"""Building the tag junction in batches, against one bare load with the indexes after it.

The bare one is what anybody would write: one INSERT ... SELECT into an equal table that has no
index yet, then its primary key, its index and its foreign key. Afterwards a lane of the junction
is built again into a table that is in use, with all its indexes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil
from sqlalchemy import text

import tallykeeper
from assets.gallery import tables
from assets.gallery.tallies import (
    content_tags,
    content_tags_left_out,
    gen_source_stats,
    tag_cardinality_stats,
)
from benchmarks.bench import Bench
from benchmarks.gallery import Gallery
from benchmarks.progress import announce
from benchmarks.report import Row, Section, count
from benchmarks.timing import Contender, Sample, alternate, seconds_of
from tallykeeper import Everything, Tally
from tallykeeper.database import sql

AT_MOST = 1.25
FULL = 89_600_000
REPETITIONS = 2
MEGABYTE = 1024**2
SAMPLED_EVERY_SECONDS = 0.2
JUNCTION, EQUAL = sql.name_of(tables.content_tags), "bench.content_tags_equal"
NEVER_BUILT = (
    f"INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES ('{content_tags.name}', 'new')"
)
BARE = "bare `INSERT ... SELECT`, then keys and index"


def measure(bench: Bench) -> Section:
    """Into an empty table at the largest size, and a lane into a full one at the smallest."""
    gallery = Gallery(bench.server, bench.links[-1], "backfill", built=False)
    size = f"{count(gallery.links)} links"
    with peak_memory(gallery) as peak:
        took = _into_empty(gallery)
    rows = [
        Row("backfill of `content_tags`, empty", size, took["backfill"], BARE, took[BARE], AT_MOST)
    ]
    notes = [_sizes(gallery), _memory(peak)]
    bench.server.drop("backfill")
    lane, written = _into_full(bench)
    rows.append(
        Row(
            f"backfill of a lane into the full table, {written / lane.median:,.0f} rows/s",
            f"{count(written)} rows",
            lane,
        )
    )
    return Section("backfill", rows, notes)


def full(bench: Bench) -> Section:
    """The full size, once: how long, how big, how much memory; then the tally that counts it."""
    gallery = Gallery(bench.server, FULL, built=False)
    bench.add(gallery)
    size = f"{count(gallery.links)} links"
    rows = []
    with peak_memory(gallery) as peak:
        builds: dict[Tally, Callable[[], object]] = {
            content_tags: partial(tallykeeper.backfill, gallery.engine, content_tags),
            gen_source_stats: partial(tallykeeper.refresh, gallery.engine, gen_source_stats),
            content_tags_left_out: partial(
                tallykeeper.refresh, gallery.engine, content_tags_left_out
            ),
            tag_cardinality_stats: partial(
                tallykeeper.refresh, gallery.engine, tag_cardinality_stats
            ),
        }
        for tally, run in builds.items():
            announce(f"building {tally.name}")
            rows.append(
                Row(f"first build of `{tally.table.name}`", size, Sample((seconds_of(run),)))
            )
    return Section("full", rows, [_sizes(gallery), _memory(peak)])


def _memory(peak: list[int]) -> str:
    return f"Peak memory of the server's processes beside shared buffers: {_megabytes(peak[0])}."


def _megabytes(size: int) -> str:
    return f"{size / MEGABYTE:,.0f} MB"


def _into_empty(gallery: Gallery) -> dict[str, Sample]:
    gallery.execute("CREATE SCHEMA bench", f"CREATE TABLE {EQUAL} (LIKE {JUNCTION})")
    columns = sql.columns(content_tags.columns)
    bare = (
        f"INSERT INTO {EQUAL} ({columns}) {sql.render(content_tags.aggregate(Everything()))}",
        "SET LOCAL maintenance_work_mem = '1GB'",
        f"ALTER TABLE {EQUAL} ADD CONSTRAINT equal_key PRIMARY KEY ({columns})",
        f"CREATE INDEX equal_tag ON {EQUAL} (tag_id, content_source, content_id)",
        f"ALTER TABLE {EQUAL} ADD CONSTRAINT equal_tag FOREIGN KEY (tag_id)"
        f" REFERENCES {sql.name_of(tables.tags)} ON DELETE CASCADE",
    )
    contenders = {
        BARE: Contender(
            partial(gallery.execute, *bare),
            partial(
                gallery.execute,
                f"DROP TABLE {EQUAL}",
                f"CREATE TABLE {EQUAL} (LIKE {JUNCTION})",
            ),
        ),
        "backfill": Contender(
            partial(tallykeeper.backfill, gallery.engine, content_tags),
            partial(gallery.execute, f"TRUNCATE {JUNCTION}", NEVER_BUILT),
        ),
    }
    return alternate(contenders, REPETITIONS)


def _into_full(bench: Bench) -> tuple[Sample, int]:
    """The lane of generated items, deleted and built again while the other is there."""
    gallery = Gallery(bench.server, bench.links[0], "lane", built=False)
    tallykeeper.backfill(gallery.engine, content_tags)
    with gallery.engine.begin() as connection:
        written = connection.execute(
            text(f"DELETE FROM {JUNCTION} WHERE content_source = :lane"), {"lane": tables.AUTO}
        ).rowcount
    gallery.vacuum()
    seconds = seconds_of(
        partial(tallykeeper.backfill, gallery.engine, content_tags, [tables.AUTO], restart=True)
    )
    bench.server.drop("lane")
    return Sample((seconds,)), written


def _sizes(gallery: Gallery) -> str:
    with gallery.engine.connect() as connection:
        found = connection.execute(
            text(
                "SELECT relname, pg_table_size(c.oid) AS bytes FROM pg_class AS c"
                " JOIN pg_namespace AS n ON n.oid = c.relnamespace"
                " WHERE nspname = :schema AND relkind IN ('r', 'i')"
                " AND relname ~ 'content_(tags|items)' ORDER BY bytes DESC"
            ),
            {"schema": tables.metadata.schema},
        ).all()
    listed = ", ".join(f"`{r.relname}` {_megabytes(r.bytes)}" for r in found[:10])
    return f"At {count(gallery.links)} links: {listed}."


@contextmanager
def peak_memory(gallery: Gallery) -> Iterator[list[int]]:
    """The most bytes that the server's processes held together for themselves, in a list."""
    with gallery.engine.connect() as connection:
        backend = connection.scalar(text("SELECT pg_backend_pid()"))
    peak = [0]
    ended = threading.Event()
    # On a server elsewhere there is nothing to look at.
    postmaster = psutil.Process(backend).parent() if psutil.pid_exists(int(backend or 0)) else None

    def look() -> None:
        while postmaster is not None and not ended.wait(SAMPLED_EVERY_SECONDS):
            peak[0] = max(peak[0], sum(_own_bytes(p.pid) for p in postmaster.children()))

    watching = threading.Thread(target=look, daemon=True)
    watching.start()
    try:
        yield peak
    finally:
        ended.set()
        watching.join()


def _own_bytes(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return int(fields.get("RssAnon", "0 kB").split()[0]) * 1024

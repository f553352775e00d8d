"""The command: run the benchmarks, print the table, and put it into the documentation."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks import (
    audits,
    backfills,
    bloat,
    capturing,
    counts,
    crowds,
    days,
    dependencies,
    edits,
    events,
    hashtags,
    ids,
    pages,
    reads,
    rebuilds,
    refreshes,
    replays,
    runs,
    served,
    submissions,
    tags,
    tiny,
    trending,
)
from benchmarks.bench import Bench
from benchmarks.progress import announce
from benchmarks.report import MISSED, markdown, put_into
from benchmarks.server import serving
from benchmarks.tpch import costs as tpch_costs
from benchmarks.tpch import refreshes as tpch_refreshes

BENCHMARKS = {
    "refresh": refreshes.measure,
    "rebuild": rebuilds.measure,
    "transactions": capturing.transactions,
    "crowds": crowds.measure,
    "loads": capturing.loads,
    "bloat": bloat.measure,
    "dependencies": dependencies.measure,
    "reads": reads.measure,
    "recomputed": tags.measure,
    "runs": runs.measure,
    "backfill": backfills.measure,
    "edits": edits.measure,
    "full": backfills.full,
    "audit": audits.measure,
    "pages": pages.measure,
    "counts": counts.measure,
    "hashtags": hashtags.measure,
    "trending": trending.measure,
    "events": events.measure,
    "ids": ids.measure,
    "classroom": submissions.measure,
    "replays": replays.measure,
    "day": days.measure,
    "http": served.measure,
    "tpch": tpch_refreshes.measure,
    "tpch-capture": tpch_costs.capture,
    "tpch-reads": tpch_costs.reads,
    "tpch-storage": tpch_costs.storage,
}
# It takes half an hour and 40 GB of disk.
ONLY_ON_REQUEST = {"full"}
SIZES, LINKS = "1000000,10000000", "2000000,20000000"
EVENTS = 200_000
HOUR_SECONDS = 150.0
SCALE = 0.1


def _sizes(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        sizes = tuple(sorted({int(part) for part in value.split(",")}))
    except ValueError:
        sizes = ()
    if not sizes or sizes[0] < 1:
        raise click.BadParameter(
            f"expected numbers with commas between, like {SIZES}; it is {value!r}"
        )
    return sizes


@click.command(name="python -m benchmarks")
@click.option(
    "--files",
    default=SIZES,
    show_default=True,
    callback=_sizes,
    help="Sizes to measure at: files, uses of hashtags, or events of a classroom.",
)
@click.option(
    "--links",
    default=LINKS,
    show_default=True,
    callback=_sizes,
    help="Sizes of the gallery, in links of items and tags.",
)
@click.option(
    "--events",
    "events_at_a_time",
    default=EVENTS,
    show_default=True,
    type=click.IntRange(min=1_000),
    help="How many events of a stream to process at a time.",
)
@click.option(
    "--hour-seconds",
    default=HOUR_SECONDS,
    show_default=True,
    type=click.FloatRange(min=5),
    help="How long an hour of the day in fast motion takes.",
)
@click.option(
    "--scale",
    default=SCALE,
    show_default=True,
    type=click.FloatRange(min=0.001),
    help="The scale of TPC-H: 1 is 1.5 M orders and 6 M lines.",
)
@click.option(
    "--before",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A checkout of an earlier release, with which loads and ids are compared.",
)
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(list(BENCHMARKS)),
    help="Only this one; may be repeated.",
)
@click.option(
    "--tiny", "as_tiny", is_flag=True, help="As small as can be: to see that all of it runs."
)
@click.option(
    "--server", "url", help="Measure on this server, instead of an embedded one of its own."
)
@click.option(
    "--output",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Put the tables into this page, between its marks; without it, print them.",
)
def main(
    files: tuple[int, ...],
    links: tuple[int, ...],
    events_at_a_time: int,
    hour_seconds: float,
    scale: float,
    before: Path | None,
    only: tuple[str, ...],
    as_tiny: bool,
    url: str | None,
    output: Path | None,
) -> None:
    """Measure what Tallykeeper claims."""
    if as_tiny:
        if output is not None:
            raise click.UsageError("--tiny measures nothing that belongs into a page: no --output")
        tiny.shrink()
        files, links, before = tiny.FILES, tiny.LINKS, None
        events_at_a_time, hour_seconds = tiny.EVENTS, tiny.HOUR_SECONDS
        scale = tiny.SCALE
    with serving(url) as server:
        bench = Bench(server, files, links, events_at_a_time, hour_seconds, before, scale)
        described, missed = server.describe(), []
        for name in only or [name for name in BENCHMARKS if name not in ONLY_ON_REQUEST]:
            announce(name)
            text = f"{markdown(BENCHMARKS[name](bench))}\n\n{described}"
            if output is None:
                click.echo(f"## {name}\n\n{text}\n")
            else:
                output.write_text(put_into(output.read_text(), name, text))
            # A later row should not wait behind what an earlier one left to be cleaned up.
            announce(f"{name} done")
            if MISSED in text:
                missed.append(name)
    if missed and not as_tiny:
        raise SystemExit(f"Targets were missed in {', '.join(missed)}; see the tables.")


if __name__ == "__main__":
    main()

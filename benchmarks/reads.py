"""`daily_counts` from the live view, with and without pending changes, and a group-by of all."""

from __future__ import annotations

from assets.media.reads import daily_counts
from benchmarks.bench import Bench
from benchmarks.library import FILES, Library
from benchmarks.report import Row, Section, count
from benchmarks.timing import Contender, Sample, alternate

PENDING = (0, 100_000)
REPETITIONS = 15
GROUP_BY = "group-by over all files"


def measure(bench: Bench) -> Section:
    """At all sizes, with nothing and with very much pending."""
    rows = []
    for files in bench.sizes:
        library = bench.library(files)
        library.vacuum()
        for pending in PENDING:
            library.forget_pending()
            library.change(pending)
            took = _alternate(library)
            what = f"`daily_counts`, {count(pending)} changes pending"
            rows.append(Row(what, count(files), took["live"], GROUP_BY, took[GROUP_BY]))
        library.forget_pending()
    return Section("reads", rows)


def _alternate(library: Library) -> dict[str, Sample]:
    def live() -> None:
        with library.engine.connect() as connection:
            daily_counts(connection)

    def group_by() -> None:
        with library.engine.connect() as connection:
            connection.exec_driver_sql(
                "SELECT date_trunc('day', coalesce(original_created_at, created_at), 'UTC'),"
                f" count(*) FROM {FILES} GROUP BY 1 ORDER BY 1 DESC"
            ).all()

    contenders = {"live": Contender(live), GROUP_BY: Contender(group_by)}
    alternate(contenders, 1)
    return alternate(contenders, REPETITIONS)

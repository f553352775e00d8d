"""The service under load from another process: answers per second and how late the latest are.

The same answers are computed from the raw tables in the same run, by plain statements and without
the service; and the service is asked, at a quarter of what it can do, while a refresh takes what
changed. What an answer costs is the time for which it has the machine when it is asked for as fast
as can be.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from urllib.parse import urlencode

from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from assets.gallery import tables
from assets.gallery.questions import cursors
from assets.gallery.questions.filters import SOURCES, checked
from benchmarks import asking, pages, ways
from benchmarks.asking import Asked, Load
from benchmarks.bench import Bench
from benchmarks.counts import busiest
from benchmarks.gallery import ITEMS, Gallery
from benchmarks.library import FILES, Library
from benchmarks.progress import announce
from benchmarks.report import Section, count, duration
from benchmarks.service import Place, refreshed, running
from benchmarks.timing import Contender, alternate, seconds_of, turns
from tallykeeper.database import sql

AT_ONCE, SECONDS, REPETITIONS = 8, 5.0, 3
RAW_REPETITIONS = 5
CHANGES = 10_000
REFRESH_SECONDS, REFRESHES, SHARE = 10.0, 3, 0.25
REFRESHED_AFTER_SECONDS = 2.0
AT_MOST_LATER = 1.5
# From so many files on.
CHEAPER, PROMISED_AT = 1_000, 10_000_000
QUESTIONS = 60
ALL_DAYS = "/api/media/daily-counts"
A_YEAR = f"{ALL_DAYS}?start=2024-01-01&end=2024-12-31"
STATS = "/api/v1/content/stats/unified"
CONTENT = "/api/v1/content/unified"
HEAD = (
    "| Size | Question | Entity tag | Answers/s, 8 at once | p50 | p99 | p50 of one at a time"
    " | From the raw tables | Ratio | Target |\n|---|---|---|---|---|---|---|---|---|---|\n"
)
REFRESH_HEAD = (
    "| Size | Question | Answers/s | p99, nothing pending | p99, {} pending"
    " | p99, the same and refreshed meanwhile | Ratio | Target |\n"
    "|---|---|---|---|---|---|---|---|\n"
)


@dataclass(frozen=True)
class Question:
    """Addresses that ask for one thing, and the same from the raw tables, in seconds."""

    name: str
    addresses: list[str]
    raw_seconds: float
    at_least: int | None = None
    tagged: bool = True


def measure(bench: Bench) -> Section:
    """At all sizes: the load, then the refresh under load."""
    lines: list[str] = []
    later: list[str] = []
    notes: list[str] = []
    for files in bench.sizes:
        library = bench.library(files)
        library.forget_pending()
        library.vacuum()
        place = Place("media", library.engine, count(files), partial(library.change, CHANGES))
        _measure(place, _of_library(library), lines, later, notes)
    for links in bench.links:
        gallery = bench.gallery(links)
        gallery.vacuum()
        place = Place(
            "gallery", gallery.engine, f"{count(links)} links", partial(gallery.edit, CHANGES)
        )
        _measure(place, _of_gallery(gallery), lines, later, notes)
    notes.append(
        "The service keeps the latest answers, and returns them again while their tags"
        " are the same; not remembered are those to questions that nobody asked before."
    )
    notes.append(
        f"Pages from the raw tables are those of the arrays with their index, and ended after"
        f" {pages.PATIENCE_SECONDS} s; items can change in any column, so pages have no entity tag."
    )
    notes.append(
        f"One `tally serve` with one worker; {AT_ONCE} connections, each asking as soon as it is"
        f" answered, {REPETITIONS} times {SECONDS:g} s; medians of the runs. Ratio: an answer from"
        " the raw tables against the time that an answer takes at that rate. Under a refresh"
        f" questions come at a quarter of the rate that was reached, for {REFRESH_SECONDS:g} s, and"
        f" {REFRESHES} times in turns; `tally refresh` is started after"
        f" {REFRESHED_AFTER_SECONDS:g} s of it."
    )
    tables_ = [HEAD + "\n".join(lines), REFRESH_HEAD.format(count(CHANGES)) + "\n".join(later)]
    return Section("http", notes=[*tables_, *notes])


def _measure(
    place: Place,
    questions: Sequence[Question],
    lines: list[str],
    later: list[str],
    notes: list[str],
) -> None:
    cost: list[float] = []
    with running(place) as port:
        for question in questions:
            for tags in (False, True) if question.tagged else (False,):
                announce(f"{question.name}, {'with' if tags else 'without'} its tag")
                many = _asked(port, question, tags, AT_ONCE)
                alone = _asked(port, question, tags, 1)
                lines.append(_line(place, question, tags, many, alone))
                cost += [each.cpu_seconds / len(each.took) for each in many]
        later.append(_refreshed(port, place, questions[0]))
    notes.append(
        f"The client took {duration(statistics.median(cost))} of processor time an answer"
        f" ({place.size})."
    )


def _asked(port: int, question: Question, tags: bool, connections: int) -> list[Asked]:
    found = []
    for turn in range(REPETITIONS):
        addresses = random.Random(turn).sample(question.addresses, len(question.addresses))
        load = Load(port, addresses, connections, SECONDS, tags=tags)
        found.append(asking.finished(asking.started(load)))
    return found


def _line(
    place: Place, question: Question, tags: bool, many: list[Asked], alone: list[Asked]
) -> str:
    rate = statistics.median(each.per_second for each in many)
    cheaper = question.raw_seconds * rate
    target = ""
    ratio = f"1 : {cheaper:,.0f}" if cheaper >= 10 else f"{1 / cheaper:.3f}"
    if question.at_least is not None:
        missed = ", **missed**" if cheaper < question.at_least else ""
        target = f"at most 1 : {question.at_least:,}{missed}"
    tag = "sent" if tags else "not sent" if question.tagged else ""
    return (
        f"| {place.size} | {question.name} | {tag} | {rate:,.0f} | {_percentile(many, 50)}"
        f" | {_percentile(many, 99)} | {_percentile(alone, 50)}"
        f" | {duration(question.raw_seconds)} | **{ratio}** | {target} |"
    )


def _refreshed(port: int, place: Place, question: Question) -> str:
    """The latest answers while a refresh takes the changes, and while none does."""
    rate = _asked(port, question, False, AT_ONCE)[0].per_second * SHARE
    load = Load(port, question.addresses, AT_ONCE, REFRESH_SECONDS, per_second=rate)
    found: dict[str, list[Asked]] = {"nothing": [], "pending": [], "refreshed": []}
    for name in turns(list(found), REFRESHES):
        announce(f"{question.name} under a refresh: {name}")
        refreshed(place)
        if name != "nothing":
            place.change()
        client = asking.started(load)
        if name == "refreshed":
            time.sleep(REFRESHED_AFTER_SECONDS)
            refreshed(place)
        found[name].append(asking.finished(client))
    refreshed(place)
    before, after = (_p(found[name], 99) for name in ("pending", "refreshed"))
    missed = ", **missed**" if after > AT_MOST_LATER * before else ""
    return (
        f"| {place.size} | {question.name} | {rate:,.0f} | {_percentile(found['nothing'], 99)}"
        f" | {duration(before)} | {duration(after)} | **{after / before:.2f}**"
        f" | at most {AT_MOST_LATER:g}{missed} |"
    )


def _p(asked: Sequence[Asked], percent: int) -> float:
    """The percentile of each run; of those the median."""
    return statistics.median(
        statistics.quantiles(each.took, n=100, method="inclusive")[percent - 1] for each in asked
    )


def _percentile(asked: Sequence[Asked], percent: int) -> str:
    return duration(_p(asked, percent))


def _of_library(library: Library) -> list[Question]:
    day = "date_trunc('day', coalesce(original_created_at, created_at), 'UTC')"
    moment = "coalesce(original_created_at, created_at)"
    # Each asks for the same days, and none has an answer that the service may remember.
    early = [date(1850, 1, 1) + timedelta(days=n) for n in range(20_000)]
    fresh = [f"{ALL_DAYS}?start={day}" for day in early]
    within = (
        f" WHERE {moment} >= timestamptz '2024-01-01Z' AND {moment} < timestamptz '2025-01-01Z'"
    )
    found = []
    for name, addresses, where in (
        ("`daily-counts`, ten years", [ALL_DAYS], ""),
        ("the same, not remembered", fresh, ""),
        ("`daily-counts`, one year", [A_YEAR], within),
    ):
        query = f"SELECT {day}, count(*) FROM {FILES}{where} GROUP BY 1 ORDER BY 1 DESC"
        least = CHEAPER if library.files >= PROMISED_AT else None
        raw = _raw(library.engine, [query])
        found.append(Question(name, addresses, raw, least, tagged=len(addresses) == 1))
    return found


def _of_gallery(gallery: Gallery) -> list[Question]:
    user = busiest(gallery)
    counted = [
        f"SELECT count(*) FILTER (WHERE creator_id = '{user}'), count(*) FROM {items}"
        for items in ITEMS.values()
    ]
    stats = Question("`stats/unified`", [f"{STATS}?user_id={user}"], _raw(gallery.engine, counted))
    mixed = pages.mix(gallery)
    chosen = mixed[:: max(1, len(mixed) // QUESTIONS)]
    took = [_page_seconds(gallery.engine, question) for question in chosen]
    name = f"`content/unified`, a mix of {len(chosen)}"
    addresses = [_address(question) for question in chosen]
    return [stats, Question(name, addresses, statistics.mean(took), tagged=False)]


def _raw(engine: Engine, queries: Sequence[str]) -> float:
    def run() -> None:
        with engine.connect() as connection:
            for query in queries:
                connection.exec_driver_sql(query).all()

    announce("the same from the raw tables")
    alternate({"raw": Contender(run)}, 1)
    return alternate({"raw": Contender(run)}, RAW_REPETITIONS)["raw"].median


def _page_seconds(engine: Engine, question: ways.Question) -> float:
    """The second time that it is asked; what takes too long is ended, and counts as that long."""

    def run() -> None:
        with engine.connect() as connection, suppress(OperationalError):
            sql.execute(connection, f"SET LOCAL statement_timeout TO '{pages.PATIENCE_SECONDS}s'")
            ways.plain(ways.in_array, connection, question)

    run()
    return seconds_of(run)


def _address(question: ways.Question) -> str:
    asked: list[tuple[str, object]] = [("tag_names", tag) for tag in question.tags]
    asked += [("tag_match", question.match), ("page_size", ways.PAGE)]
    if question.creator != "all":
        kinds = ",".join(f"{question.creator}-{source}" for source in tables.ITEMS)
        asked += [("content_source_types", kinds), ("user_id", question.user_id)]
    if question.after is not None:
        asked.append(("cursor", _cursor(question)))
    return f"{CONTENT}?{urlencode(asked)}"


def _cursor(question: ways.Question) -> str:
    """The cursor that the service returns there: in an address, tags are texts."""
    assert question.after is not None
    names = [str(tag) for tag in question.tags]
    filters = checked(
        names, question.match, SOURCES, question.creator, question.user_id, private=None
    )
    return cursors.encode(cursors.Place(*question.after), str(filters))

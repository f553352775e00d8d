"""Pages of a gallery: a fixed mix of questions, each put to `content_page` and to plain statements.

All ask for the same 20 items behind the same place; their answers are compared, so nobody is quick
at something else. The plain statements are in `ways.py`.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, event, text
from sqlalchemy.exc import OperationalError

from assets.gallery import tables
from assets.gallery.reads import content_page
from benchmarks import ways as ways_by_sql
from benchmarks.bench import Bench
from benchmarks.gallery import ITEMS, Gallery
from benchmarks.progress import announce
from benchmarks.report import MISSED, Section, count, duration
from benchmarks.timing import seconds_of
from benchmarks.ways import DATED, JUNCTION, PAGE, Places, Question, in_array, in_junction, plain
from tallykeeper.database import sql

DEEP = 10
REPETITIONS = 2
AT_MOST_SECONDS = 0.05
# A plain statement that takes longer is ended, and counts as that long.
PATIENCE_SECONDS = 1
CARDINALITIES, COUNTS = (
    sql.name_of(table) for table in (tables.tag_cardinality_stats, tables.gen_source_stats)
)
OWN = "`content_page`"
HEAD = "| Links | Way | p50 | p95 | Slowest | Target |\n|---|---|---|---|---|---|\n"


@dataclass
class Way:
    """One way to answer, and how long each answer took, in seconds."""

    answer: Callable[[Connection, Question], Places]
    settings: Sequence[str] = ()
    seconds: list[float] = field(default_factory=list)
    given_up: int = 0


def measure(bench: Bench) -> Section:
    """The mix at all sizes: p50 and p95, and how big the indexes are."""
    lines, notes = [], []
    for links in bench.links:
        gallery = bench.gallery(links)
        gallery.vacuum()
        questions = mix(gallery)
        announce("a junction with moments, to compare with")
        ways_by_sql.make_dated(gallery.engine)
        ways = _put(gallery, questions)
        lines += [_line(links, name, way) for name, way in ways.items()]
        notes.append(_sizes(gallery))
        notes.append(_plans_of_slowest(gallery, questions, ways[OWN]))
        ways_by_sql.drop_dated(gallery.engine)
    notes.append(
        f"{len(questions)} questions: rare, middling and common tags and a mixture, 1 to 5 of them,"
        f" any and all, every creator filter, first and {DEEP}th page; each put to each way"
        f" {REPETITIONS} times, in turns, and ended after {PATIENCE_SECONDS} s. Without"
        " the index over the arrays is with `enable_bitmapscan` off: there is no other use of it."
    )
    return Section("pages", notes=[HEAD + "\n".join(lines), *notes])


def mix(gallery: Gallery) -> list[Question]:
    """The questions, the same for the same gallery."""
    chance = random.Random(1)
    with gallery.engine.connect() as connection:
        classes = _classes(connection)
        users = _users(connection)
        questions = []
        for kind, tags in classes.items():
            for number in range(1, 6):
                for match in ("any", "all")[: 2 if number > 1 else 1]:
                    for creator in ("all", "user", "community"):
                        chosen = _together(connection, chance, tags, number, match)
                        user = None if creator == "all" else chance.choice(users)
                        question = Question(kind, chosen, match, creator, user)
                        questions += [question, _deep(connection, question)]
    return questions


def _classes(connection: Connection) -> dict[str, list[UUID]]:
    """Tags by how many items have them: in a hundred thousand of each, as it were."""
    ranked = (
        connection.execute(
            text(
                f"SELECT tag_id FROM {CARDINALITIES} GROUP BY tag_id"
                " ORDER BY sum(cardinality) DESC, tag_id"
            )
        )
        .scalars()
        .all()
    )
    common, middling = list(ranked[:40]), list(ranked[200:4_000])
    rare = list(ranked[len(ranked) // 2 :])
    return {
        "common": common,
        "middling": middling,
        "rare": rare,
        "mixed": common * 95 + middling + random.Random(2).sample(rare, min(3_800, len(rare))),
    }


def _users(connection: Connection) -> list[UUID]:
    """One that made very much, one in the middle, one that made little, and so on between."""
    ranked = (
        connection.execute(
            text(
                f"SELECT user_id FROM {COUNTS} WHERE user_id IS NOT NULL GROUP BY user_id"
                " ORDER BY sum(count) DESC, user_id"
            )
        )
        .scalars()
        .all()
    )
    return [ranked[int(i * (len(ranked) - 1))] for i in (0, 0.003, 0.02, 0.1, 0.5, 1)]


def _together(
    connection: Connection, chance: random.Random, tags: list[UUID], number: int, match: str
) -> tuple[UUID, ...]:
    """So many different tags; for "all" where it can be those of one item, so that some match."""
    if match == "all":
        anchor = chance.choice(tags)
        table = ITEMS[chance.choice(list(ITEMS))]
        beside = connection.execute(
            text(
                f"SELECT tags FROM {table} WHERE tags @> ARRAY[CAST(:tag AS uuid)]"
                " ORDER BY id LIMIT 1"
            ),
            {"tag": anchor},
        ).scalar()
        known = set(tags)
        usable = sorted({tag for tag in beside or () if tag in known and tag != anchor})
        if len(usable) >= number - 1:
            return (anchor, *chance.sample(usable, number - 1))
    chosen: set[UUID] = set()
    while len(chosen) < number:
        chosen.add(chance.choice(tags))
    return tuple(sorted(chosen))


def _deep(connection: Connection, question: Question) -> Question:
    """The same for the tenth page, or the last where there are fewer."""
    cursor, after, items = None, None, []
    for _ in range(DEEP - 1):
        page = _page(connection, question, cursor)
        if page["next_cursor"] is None:
            break
        cursor, items = page["next_cursor"], page["items"]
        after = (
            items[-1]["created_at"].strftime("%Y-%m-%d %H:%M:%S.%f+00"),
            items[-1]["id"],
            items[-1]["source"],
        )
    return Question(
        question.kind,
        question.tags,
        question.match,
        question.creator,
        question.user_id,
        cursor,
        after,
    )


def _page(connection: Connection, question: Question, cursor: str | None) -> dict:
    return dict(
        content_page(
            connection,
            tags=question.tags,
            match=question.match,
            creator=question.creator,
            user_id=question.user_id,
            page_size=PAGE,
            cursor=cursor,
        )
    )


def _own(connection: Connection, question: Question) -> Places:
    page = _page(connection, question, question.cursor)
    return [(item["source"], item["id"]) for item in page["items"]]


def _put(gallery: Gallery, questions: list[Question]) -> dict[str, Way]:
    """All questions to all ways, which take turns. Raises AssertionError where answers differ."""
    ways = {
        OWN: Way(_own),
        "arrays, with GIN": Way(partial(plain, in_array)),
        "arrays, no GIN": Way(partial(plain, in_array), settings=["enable_bitmapscan"]),
        "junction, its B-trees": Way(partial(plain, in_junction)),
        "junction with `created_at`": Way(ways_by_sql.dated),
    }
    for number, question in enumerate(questions):
        if number % 20 == 0:
            announce(f"question {number + 1} of {len(questions)}")
        for turn in range(REPETITIONS):
            order = random.Random(number * REPETITIONS + turn).sample(list(ways), len(ways))
            answers = {name: _answer(gallery, ways[name], question) for name in order}
            for name, answer in answers.items():
                if answer is not None and answer != answers[OWN]:
                    raise AssertionError(
                        f"expected the same of all, but {name} returns {answer} and {OWN}"
                        f" {answers[OWN]} to {question}"
                    )
    return ways


def _answer(gallery: Gallery, way: Way, question: Question) -> Places | None:
    """What it answers, timed; None where it was given up."""
    answers: list[Places] = []
    with gallery.engine.connect() as connection:
        for setting in way.settings:
            sql.execute(connection, f"SET LOCAL {setting} TO off")
        sql.execute(connection, f"SET LOCAL statement_timeout TO '{PATIENCE_SECONDS}s'")
        try:
            way.seconds.append(seconds_of(lambda: answers.append(way.answer(connection, question))))
        except OperationalError:
            way.seconds.append(PATIENCE_SECONDS)
            way.given_up += 1
            return None
    return answers[0]


def _line(links: int, name: str, way: Way) -> str:
    # Of 100 parts: the half and the 95th.
    parts = statistics.quantiles(way.seconds, n=100, method="inclusive")
    p50, p95 = parts[49], parts[94]
    slowest = f"{way.given_up} ended" if way.given_up else duration(max(way.seconds))
    target = ""
    if name == OWN:
        target = f"p95 at most {duration(AT_MOST_SECONDS)}"
        target += f", {MISSED}" if p95 > AT_MOST_SECONDS or way.given_up else ""
    return f"| {count(links)} | {name} | {duration(p50)} | {_ended(p95)} | {slowest} | {target} |"


def _plans_of_slowest(gallery: Gallery, questions: list[Question], way: Way) -> str:
    """How the question that took longest is answered: the plan of each statement that it takes."""
    place = way.seconds.index(max(way.seconds)) // REPETITIONS
    question = questions[place]
    asked: list[tuple[str, Any]] = []
    with gallery.engine.connect() as connection:

        @event.listens_for(connection, "before_cursor_execute")
        def keep(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
            asked.append((statement, parameters))

        _own(connection, question)
        plans = []
        for statement, parameters in tuple(asked):
            explain = f"EXPLAIN (ANALYZE, BUFFERS) {statement}"
            lines = connection.exec_driver_sql(explain, parameters).scalars()
            plans.append("\n".join(lines))
    what = (
        f"{len(question.tags)} {question.kind} tags, {question.match}, creator"
        f" {question.creator}, {'a later' if question.cursor else 'the first'} page"
    )
    shown = "\n\n".join(plans)
    return (
        f"<details><summary>Plans of {OWN}'s slowest question at {count(gallery.links)} links"
        f" ({what}): <code>EXPLAIN (ANALYZE, BUFFERS)</code></summary>\n\n"
        f"```\n{shown}\n```\n\n</details>"
    )


def _ended(seconds: float) -> str:
    return f"over {PATIENCE_SECONDS} s" if seconds >= PATIENCE_SECONDS else duration(seconds)


def _sizes(gallery: Gallery) -> str:
    """What each design takes on disk, in MB."""
    query = (
        "SELECT c.relname, pg_relation_size(c.oid) / 1e6 FROM pg_index AS i"
        " JOIN pg_class AS c ON c.oid = i.indexrelid"
        " WHERE i.indrelid IN ({}) ORDER BY 2 DESC, 1"
    )
    relations = ", ".join(f"'{name}'::regclass" for name in (*ITEMS.values(), JUNCTION, DATED))
    with gallery.engine.connect() as connection:
        indexes = [tuple(row) for row in sql.execute(connection, query.format(relations))]
        heaps = {
            name: sql.execute(connection, f"SELECT pg_table_size('{name}') / 1e6").scalar_one()
            for name in (*ITEMS.values(), JUNCTION, DATED)
        }
    shown = ", ".join(f"`{row[0]}` {row[1]:,.0f}" for row in indexes)
    tables_ = ", ".join(f"`{name}` {size:,.0f}" for name, size in heaps.items())
    return (
        f"Indexes at {count(gallery.links)} links, MB: {shown}. The tables themselves: {tables_}."
    )

"""Plain statements for a page of a gallery, as anybody would write them.

Over the arrays; over the junction by its own indexes; and over a junction that carries each item's
moment, which no tally keeps: it is made here to compare with, and dropped again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, Engine

from assets.gallery import tables
from benchmarks.gallery import ITEMS
from benchmarks.server import execute
from tallykeeper.database import sql

PAGE = 20
JUNCTION = sql.name_of(tables.content_tags)
DATED = "dated.content_tags_dated"
# The source and id of each item of a page.
Places = list[tuple[str, int]]


@dataclass(frozen=True)
class Question:
    """One of the mix; `after` is the moment (as text), id and source that it goes on behind."""

    kind: str
    tags: tuple[UUID, ...]
    match: str
    creator: str
    user_id: UUID | None
    cursor: str | None = None
    after: tuple[str, int, str] | None = None


def plain(
    tagged: Callable[[Question, str], str], connection: Connection, question: Question
) -> Places:
    """One statement over both sources, each with its own conditions, order and limit."""
    parts = {}
    for source in ITEMS:
        conditions = [tagged(question, source), *_by(question), *_behind(question, source, "i.id")]
        parts[source] = f"{' AND '.join(conditions)} ORDER BY i.created_at DESC, i.id DESC"
    return _merged(connection, parts)


def in_array(question: Question, _source: str) -> str:
    """The item has the tags, said of its array."""
    operator = "&&" if question.match == "any" else "@>"
    return f"i.tags {operator} '{{{','.join(map(str, question.tags))}}}'::uuid[]"


def in_junction(question: Question, source: str) -> str:
    """The item has the tags, said of the junction."""
    pairs = (
        f"SELECT FROM {JUNCTION} AS t WHERE t.content_source = '{source}' AND t.content_id = i.id"
    )
    if question.match == "any":
        return f"EXISTS ({pairs} AND t.tag_id IN ({_listed(question)}))"
    return " AND ".join(f"EXISTS ({pairs} AND t.tag_id = '{tag}')" for tag in question.tags)


def dated(connection: Connection, question: Question) -> Places:
    """By the junction with moments: the newest of each tag, or what all tags have in common."""
    with_all = _dated_all if question.match == "all" else _dated_any
    parts = {
        source: f"i.id IN ({with_all(question, source)}) ORDER BY i.created_at DESC, i.id DESC"
        for source in ITEMS
    }
    return _merged(connection, parts)


def make_dated(engine: Engine) -> None:
    """Make the junction with moments, and its index."""
    drop_dated(engine)
    selects = " UNION ALL ".join(
        f"SELECT t.tag_id, t.content_source, i.created_at, t.content_id FROM {JUNCTION} AS t"
        f" JOIN {table} AS i ON i.id = t.content_id WHERE t.content_source = '{source}'"
        for source, table in ITEMS.items()
    )
    execute(
        engine,
        "SET LOCAL maintenance_work_mem = '1GB'",
        "CREATE SCHEMA dated",
        f"CREATE TABLE {DATED} AS {selects}",
        "CREATE INDEX content_tags_dated_newest"
        f" ON {DATED} (tag_id, content_source, created_at, content_id)",
    )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        sql.execute(connection, f"VACUUM (ANALYZE) {DATED}")


def drop_dated(engine: Engine) -> None:
    """Drop what `make_dated` made."""
    execute(engine, "DROP SCHEMA IF EXISTS dated CASCADE")


def _dated_any(question: Question, source: str) -> str:
    of_one = " AND ".join(
        [
            "d.tag_id = wanted.tag",
            f"d.content_source = '{source}'",
            *_by(question),
            *_behind(question, source, "d.content_id", "d"),
        ]
    )
    return (
        f"SELECT content_id FROM unnest(ARRAY[{_listed(question)}]::uuid[]) AS wanted (tag),"
        f" LATERAL (SELECT d.content_id FROM {DATED} AS d{_joined(question, source)}"
        f" WHERE {of_one} ORDER BY d.created_at DESC, d.content_id DESC LIMIT {PAGE + 1}) AS newest"
    )


def _dated_all(question: Question, source: str) -> str:
    tables_ = [f"{DATED} AS d"]
    conditions = [
        f"d.tag_id = '{question.tags[0]}'",
        f"d.content_source = '{source}'",
        *_by(question),
        *_behind(question, source, "d.content_id", "d"),
    ]
    for number, tag in enumerate(question.tags[1:], start=1):
        tables_.append(
            f" JOIN {DATED} AS d{number} ON d{number}.created_at = d.created_at"
            f" AND d{number}.content_id = d.content_id AND d{number}.tag_id = '{tag}'"
            f" AND d{number}.content_source = '{source}'"
        )
    return (
        f"SELECT d.content_id FROM {''.join(tables_)}{_joined(question, source)}"
        f" WHERE {' AND '.join(conditions)}"
        f" ORDER BY d.created_at DESC, d.content_id DESC LIMIT {PAGE + 1}"
    )


def _joined(question: Question, source: str) -> str:
    """The items, where their creators are asked for."""
    joined = f" JOIN {ITEMS[source]} AS i ON i.id = d.content_id"
    return "" if question.creator == "all" else joined


def _merged(connection: Connection, parts: dict[str, str]) -> Places:
    """The page of both sources; `parts` says how each is filtered and sorted."""
    selects = " UNION ALL ".join(
        f"(SELECT i.*, '{source}' AS source, {rank} AS rank FROM {ITEMS[source]} AS i"
        f" WHERE {part} LIMIT {PAGE + 1})"
        for rank, (source, part) in enumerate(parts.items())
    )
    rows = sql.execute(
        connection,
        f"SELECT * FROM ({selects}) AS both_sources"
        f" ORDER BY created_at DESC, id DESC, rank LIMIT {PAGE + 1}",
    )
    return [(row.source, row.id) for row in rows][:PAGE]


def _by(question: Question) -> list[str]:
    if question.creator == "all":
        return []
    operator = "=" if question.creator == "user" else "<>"
    return [f"i.creator_id {operator} '{question.user_id}'"]


def _behind(question: Question, source: str, number: str, moments: str = "i") -> list[str]:
    """The condition for what comes after the question's place."""
    if question.after is None:
        return []
    moment, last_id, last_source = question.after
    sources = list(ITEMS)
    operator = "<=" if sources.index(source) > sources.index(last_source) else "<"
    return [f"({moments}.created_at, {number}) {operator} ('{moment}', {last_id})"]


def _listed(question: Question) -> str:
    return ", ".join(f"'{tag}'" for tag in question.tags)

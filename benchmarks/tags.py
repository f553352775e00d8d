"""The recomputed way: a refresh after 10,000 changes, and the live view, at two sizes."""

from __future__ import annotations

from functools import partial

import tallykeeper
from benchmarks.bench import Bench
from benchmarks.forum import POST_TAGS, POSTS, TAG_HOURS, Forum
from benchmarks.report import Row, Section, count
from benchmarks.timing import Contender, Sample, alternate
from tallykeeper import Everything
from tallykeeper.database import sql
from tests.tag_hours import tally

CHANGES = 10_000
PENDING = (0, 1_000)
REPETITIONS, RECOUNTS, READS = 9, 3, 15
GROWTH_AT_MOST = 1.3
RECOUNT = "counting everything again"
FROM_SOURCES = "the same from the sources"

# What is used most in the last day.
TRENDING = """
SELECT tag_id, sum(posts) FROM ({rows}) AS rows
WHERE hour >= (SELECT date_trunc('hour', max(created_at), 'UTC') FROM {posts}) - interval '23 hours'
GROUP BY tag_id ORDER BY 2 DESC, 1 LIMIT 10"""
LAST_DAY = f"""
SELECT t.tag_id, date_trunc('hour', p.created_at, 'UTC') AS hour, 1 AS posts
FROM {POSTS} AS p JOIN {POST_TAGS} AS t ON t.post_id = p.id
WHERE p.deleted_at IS NULL AND p.created_at >=
  (SELECT date_trunc('hour', max(created_at), 'UTC') FROM {POSTS}) - interval '23 hours'"""


def measure(bench: Bench) -> Section:
    """Refreshes at all sizes against the smallest and against a recount; then live reads."""
    forums = [Forum(bench.server, uses) for uses in bench.sizes]
    refreshed = _refreshes(forums)
    recounted = _recounts(forums)
    first = bench.sizes[0]
    what = f"refresh of posts by tag and hour after {count(CHANGES)} changes"
    rows = [
        Row(what, f"{count(uses)} uses", refreshed[uses], RECOUNT, recounted[uses])
        for uses in bench.sizes
    ]
    rows += [
        Row(
            f"the same, {count(uses)} against {count(first)} tag uses",
            f"{count(uses)} uses",
            refreshed[uses],
            f"at {count(first)}",
            refreshed[first],
            GROWTH_AT_MOST,
        )
        for uses in bench.sizes[1:]
    ]
    for forum in forums:
        rows += _reads(forum)
    return Section("recomputed", rows)


def _refreshes(forums: list[Forum]) -> dict[int, Sample]:
    contenders = {
        forum.uses: Contender(partial(tallykeeper.refresh, forum.engine, tally)) for forum in forums
    }

    def change() -> None:
        for forum in forums:
            forum.change(CHANGES)

    alternate(contenders, 1, change)
    return alternate(contenders, REPETITIONS, change)


def _recounts(forums: list[Forum]) -> dict[int, Sample]:
    aggregate = sql.render(tally.aggregate(Everything()))
    contenders = {}
    for forum in forums:
        forum.execute(
            "CREATE SCHEMA bench", f"CREATE TABLE bench.recount (LIKE {TAG_HOURS} INCLUDING ALL)"
        )
        into = f"INSERT INTO bench.recount ({sql.columns(tally.columns)}) {aggregate}"
        contenders[forum.uses] = Contender(partial(forum.execute, "TRUNCATE bench.recount", into))
    return alternate(contenders, RECOUNTS)


def _reads(forum: Forum) -> list[Row]:
    forum.vacuum()
    rows = []
    for pending in PENDING:
        tallykeeper.refresh(forum.engine, tally)
        forum.change(pending)
        live, sources = (
            TRENDING.format(rows=text, posts=POSTS)
            for text in (f"SELECT * FROM {tally.live_name}", LAST_DAY)
        )
        contenders = {
            "live": Contender(partial(forum.execute, live)),
            FROM_SOURCES: Contender(partial(forum.execute, sources)),
        }
        alternate(contenders, 1)
        took = alternate(contenders, READS)
        rows.append(
            Row(
                f"the ten most used tags of a day, live, {count(pending)} changes pending",
                f"{count(forum.uses)} uses",
                took["live"],
                FROM_SOURCES,
                took[FROM_SOURCES],
            )
        )
    return rows

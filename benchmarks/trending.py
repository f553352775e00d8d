"""`trending_hashtags` with and without pending changes, against the same from the posts.

What it is compared with asks for the spike alone, of the same windows: the aggregate over posts
and their hashtags that it would take without a tally.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

from sqlalchemy import Connection

import tallykeeper
from assets.fediverse.questions.trends import trending_hashtags
from assets.fediverse.tallies import hashtag_hourly_stats as tally
from benchmarks.bench import Bench
from benchmarks.fediverse import POST_HASHTAGS, POSTS, Fediverse
from benchmarks.progress import announce
from benchmarks.report import Section, count, duration
from benchmarks.timing import seconds_of
from tallykeeper.database import sql

AT_MOST_SECONDS = 0.05
MOMENTS = 40
HOURS_LIVED = 48
RECENT, ANY = "the last day", "any time"
SPANS = {RECENT: 1, ANY: None}
COUNT_CHANGES = (0, 1_000, 20_000)
HEAD = (
    "| Uses | Way | Asked for | Pending marks | p50 | p95 | Slowest | Target |\n"
    "|---|---|---|---|---|---|---|---|\n"
)
OWN, PLAIN = "`trending_hashtags`", "spikes from the posts"
FROM_POSTS = f"""
SELECT h.hashtag_id, count(*) FILTER (WHERE p.created_at >= '{{start}}') AS recent,
  count(*) FILTER (WHERE p.created_at < '{{start}}') AS before
FROM {POSTS} AS p
JOIN {POST_HASHTAGS} AS h ON h.instance_id = p.instance_id AND h.post_id = p.id
WHERE p.instance_id = 1 AND p.deleted_at IS NULL AND p.visibility IN ('public', 'unlisted')
  AND p.created_at >= '{{baseline}}' AND p.created_at < '{{at}}'
GROUP BY h.hashtag_id
HAVING count(*) FILTER (WHERE p.created_at >= '{{start}}') >= 3
  AND count(DISTINCT p.account_id) FILTER (WHERE p.created_at >= '{{start}}') >= 3
ORDER BY (count(*) FILTER (WHERE p.created_at >= '{{start}}') / 4.0 + 1)
  / (count(*) FILTER (WHERE p.created_at < '{{start}}') / 20.0 + 1) DESC LIMIT 10"""


def measure(bench: Bench) -> Section:
    """At the largest size, with ever more changes pending."""
    fediverse = bench.fediverse(bench.sizes[-1])
    _live(fediverse)
    lines = []
    for changes in COUNT_CHANGES:
        fediverse.take()
        fediverse.vacuum()
        if changes:
            fediverse.another_hour(changes)
        pending = _pending(fediverse)
        announce(f"trends with {pending:,} marks pending")
        for when, days in SPANS.items():
            # Long ago nothing is pending.
            if changes and when != RECENT:
                continue
            for name, ask in ((OWN, _trends), (PLAIN, _from_posts)):
                seconds = _ask(fediverse, _moments(fediverse, days), ask)
                lines.append(_line(fediverse.uses, name, when, pending, seconds))
    fediverse.take()
    note = (
        f"{MOMENTS} moments each. The last two days were refreshed hour by hour, as in life, so"
        " that the rows of an hour lie together; a rebuild wrote all before."
    )
    return Section("trending", notes=[HEAD + "\n".join(lines), note])


def _live(fediverse: Fediverse) -> None:
    """Two more days, each hour refreshed when it is over."""
    announce("two days, hour by hour")
    for _ in range(HOURS_LIVED):
        fediverse.another_hour(0)
        tallykeeper.refresh(fediverse.engine, tally)


def _moments(fediverse: Fediverse, days: int | None) -> list[datetime]:
    """At random in the last so many days, or in all of the history but its first two."""
    chosen = random.Random(5)
    with fediverse.engine.connect() as connection:
        found: Sequence[datetime] = sql.execute(
            connection, f"SELECT min(created_at), max(created_at) FROM {POSTS}"
        ).one()
    first, last = found[0], found[1]
    span = timedelta(days=days) if days else last - first - timedelta(days=2)
    return [(last - span * chosen.random()).astimezone(UTC) for _ in range(MOMENTS)]


def _pending(fediverse: Fediverse) -> int:
    with fediverse.engine.connect() as connection:
        return int(sql.execute(connection, f"SELECT count(*) FROM {tally.log_name}").scalar_one())


def _ask(
    fediverse: Fediverse, moments: list[datetime], ask: Callable[[Connection, datetime], object]
) -> list[float]:
    with fediverse.engine.connect() as connection:
        ask(connection, moments[0])
        return [seconds_of(partial(ask, connection, at)) for at in moments]


def _trends(connection: Connection, at: datetime) -> None:
    trending_hashtags(connection, 1, at)


def _from_posts(connection: Connection, at: datetime) -> None:
    start = at.replace(minute=0, second=0, microsecond=0) - timedelta(hours=4)
    windows = {"at": at, "start": start, "baseline": start - timedelta(hours=20)}
    sql.execute(connection, FROM_POSTS.format(**windows)).all()


def _line(uses: int, name: str, when: str, pending: int, seconds: list[float]) -> str:
    # Of 100 parts: the half and the 95th.
    parts = statistics.quantiles(seconds, n=100, method="inclusive")
    p50, p95 = parts[49], parts[94]
    target = ""
    if name == OWN:
        target = f"p95 at most {duration(AT_MOST_SECONDS)}"
        if p95 > AT_MOST_SECONDS:
            target += ", **missed**"
    return (
        f"| {count(uses)} | {name} | {when} | {pending:,} | {duration(p50)} | {duration(p95)}"
        f" | {duration(max(seconds))} | {target} |"
    )

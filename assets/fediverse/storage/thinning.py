"""Thinning the snapshots of posts' counts: after a week to one an hour, after a month to one a day.

Which ones survive at a moment follows from when they were captured and from nothing else: not from
how often thinning ran, in which batches, or whether it was interrupted. Invariants: the
last snapshot of a post's day is never deleted, and that of an hour only together with the hour's
others. Hours and days are UTC, and an age is counted in hours of the clock.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from sqlalchemy import Engine, text

from assets.fediverse.tables import post_metric_snapshots
from tallykeeper.catalog.transactions import retried
from tallykeeper.database import sql

ALL_FOR = timedelta(days=7)
HOURLY_FOR = timedelta(days=30)
BATCH = 50_000
"""Snapshots that one transaction looks at."""

# Of a post's snapshots in order of time, `next` is the one that follows. It is enough to look at
# that one: a later one of the same hour or day exists only where the next is of it.
SUPERFLUOUS = """(
  captured_at < :hourly AND date_trunc('hour', next, 'UTC') = date_trunc('hour', captured_at, 'UTC')
  OR captured_at < :daily AND date_trunc('day', next, 'UTC') = date_trunc('day', captured_at, 'UTC')
)"""
"""Whether a snapshot is not to be kept, by its `captured_at` and the `next` one's."""

_PAGE = """
WITH page AS MATERIALIZED (
  SELECT instance_id, post_id, captured_at FROM {snapshots}
  WHERE (instance_id, post_id, captured_at) >= (:instance, :post, CAST(:at AS timestamptz))
  ORDER BY instance_id, post_id, captured_at LIMIT :rows
), followed AS (
  SELECT *, lead(captured_at) OVER (PARTITION BY instance_id, post_id ORDER BY captured_at) AS next
  FROM page
), superfluous AS (
  SELECT instance_id, post_id, captured_at FROM followed WHERE {superfluous}
), thinned AS (
  DELETE FROM {snapshots} AS s USING superfluous AS f
  WHERE (s.instance_id, s.post_id, s.captured_at) = (f.instance_id, f.post_id, f.captured_at)
  RETURNING 1
)
SELECT (SELECT count(*) FROM page) AS looked_at, (SELECT count(*) FROM thinned) AS deleted, last.*
FROM (
  SELECT instance_id, post_id, captured_at FROM page
  ORDER BY instance_id DESC, post_id DESC, captured_at DESC LIMIT 1
) AS last
"""

Place = tuple[int, str, datetime | str]
"""A snapshot's key."""

_BEGINNING: Place = (-(2**63), "", "-infinity")


@dataclass(frozen=True)
class Thinned:
    """What a thinning did: snapshots looked at and deleted, in how many transactions and seconds.

    `now` is the moment that ages were counted to.
    """

    snapshots: int
    deleted: int
    batches: int
    seconds: float
    now: datetime


def thin_snapshots(engine: Engine, now: datetime | None = None, batch: int = BATCH) -> Thinned:
    """Delete the snapshots that need not be kept any more, `batch` looked at per transaction.

    `now` is the present by the database's clock, unless it is given. Raises ValueError where `now`
    is without time zone or `batch` below 1, TallyBusy where others hold the rows for long.
    """
    if batch < 1 or (now is not None and now.tzinfo is None):
        raise ValueError(
            f"expected an aware datetime and a batch of at least 1, but it is {now!r} and {batch}"
        )
    started = time.perf_counter()
    if now is None:
        with engine.connect() as connection:
            now = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    bounds = bounds_at(now)
    looked_at = deleted = batches = 0
    place: Place | None = _BEGINNING
    while place is not None:
        page = retried(
            partial(_thin, engine, place, bounds, batch), "thinning the snapshots", engine
        )
        looked_at, deleted, batches = looked_at + page[0], deleted + page[1], batches + 1
        place = page[2]
    seconds = time.perf_counter() - started
    return Thinned(looked_at, deleted, batches, seconds, now.astimezone(UTC))


def bounds_at(now: datetime) -> dict[str, datetime]:
    """What SUPERFLUOUS compares with at that moment: from when on all are kept, and hourly ones."""
    # Not an interval of days, which is an hour longer or shorter where clocks are changed.
    return {"hourly": now - ALL_FOR, "daily": now - HOURLY_FOR}


def _thin(
    engine: Engine, place: Place, bounds: dict[str, datetime], batch: int
) -> tuple[int, int, Place | None]:
    """One page from `place` on: how many were looked at and deleted, and where the next begins."""
    statement = _PAGE.format(snapshots=sql.name_of(post_metric_snapshots), superfluous=SUPERFLUOUS)
    instance, post, at = place
    # One more than the page has, only as the one that follows its last.
    values = {"instance": instance, "post": post, "at": at, "rows": batch + 1, **bounds}
    with engine.begin() as connection:
        connection.exec_driver_sql("SET LOCAL timezone = 'UTC'")
        found = connection.execute(text(statement), values).one_or_none()
    if found is None:
        return 0, 0, None
    more = found.looked_at > batch
    following = (found.instance_id, found.post_id, found.captured_at) if more else None
    return found.looked_at - more, found.deleted, following

"""Snapshots of posts' counts.

Invariants: an observation is kept when it changes a count, or comes an hour or more after
the last one that was kept; of several at one instant the last. Thinning old ones is in
`thinning.py`.
"""

from __future__ import annotations

from sqlalchemy import Connection

from assets.fediverse.processing.functions import LAST_KEPT
from tallykeeper.database.sql import execute

_COUNTS = "replies_count, reblogs_count, favourites_count"


def write_snapshots(connection: Connection, schema: str) -> None:
    """Add what the batch observed, going on from each post's last snapshot.

    Observations that came late, and whose surroundings are no longer known, are left out.
    """
    execute(
        connection,
        f"""
WITH observed AS (
  SELECT s.instance_id, s.post_id, s.received_at, s.event_id, false AS stored,
    s.replies_count, s.reblogs_count, s.favourites_count
  FROM pg_temp.seen AS s WHERE s.reblog_of_id IS NULL AND NOT s.late
  UNION ALL
  SELECT w.instance_id, w.post_id, l.captured_at, 0, true,
    l.replies_count, l.reblogs_count, l.favourites_count
  FROM pg_temp.winners AS w CROSS JOIN LATERAL (
    SELECT captured_at, {_COUNTS} FROM {schema}.post_metric_snapshots AS l
    WHERE l.instance_id = w.instance_id AND l.post_id = w.post_id
    ORDER BY captured_at DESC LIMIT 1
  ) AS l
  WHERE NOT w.is_new
), compared AS (
  SELECT *, ({_COUNTS}) IS DISTINCT FROM (lag(replies_count) OVER each,
    lag(reblogs_count) OVER each, lag(favourites_count) OVER each)
    OR lag(received_at) OVER each IS NULL AS changed
  FROM observed
  WINDOW each AS (PARTITION BY instance_id, post_id ORDER BY received_at, event_id)
), followed AS (
  SELECT *, {LAST_KEPT}(received_at, changed) OVER each AS kept
  FROM compared
  WINDOW each AS (PARTITION BY instance_id, post_id ORDER BY received_at, event_id)
), kept AS (
  SELECT *, changed OR kept IS DISTINCT FROM lag(kept) OVER each AS is_kept
  FROM followed
  WINDOW each AS (PARTITION BY instance_id, post_id ORDER BY received_at, event_id)
)
INSERT INTO {schema}.post_metric_snapshots AS s (instance_id, post_id, captured_at, {_COUNTS})
SELECT DISTINCT ON (instance_id, post_id, received_at)
  instance_id, post_id, received_at, {_COUNTS}
FROM kept WHERE is_kept AND NOT stored
ORDER BY instance_id, post_id, received_at, event_id DESC
ON CONFLICT (instance_id, post_id, captured_at) DO UPDATE SET
  ({_COUNTS}) = (excluded.replies_count, excluded.reblogs_count, excluded.favourites_count)""",
    )

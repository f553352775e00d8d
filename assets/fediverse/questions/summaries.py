"""Days: their statistics, and the texts about them that somebody's text model wrote.

The statistics come from the live view, so they are exact as of the last commit that the connection
sees; the texts stand in the derived table beside them, which a refresh leaves alone. Invariants:
whether a text is of the present figures is decided by their hash, never by a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, text

from assets.fediverse import tables
from assets.fediverse.questions import query_args
from assets.fediverse.questions.query_args import written
from assets.fediverse.tallies import daily_summaries
from tallykeeper.database import sql


@dataclass(frozen=True)
class Summary:
    """A day's statistics, and the text about it where there is one."""

    window_start: datetime
    window_end: datetime
    post_count: int
    author_count: int
    total_engagement: int
    sentiment_count: int
    sentiment_sum: Decimal
    input_stats: dict[str, Any]
    """What a text model is given."""
    input_hash: str
    """Of `input_stats`; goes with the text that is written from them."""
    model: str | None
    prompt_version: str | None
    summary_text: str | None
    text_is_current: bool
    """Whether there is a text, and it was written from these very figures."""


def summaries(
    connection: Connection, instance_id: int, start: datetime, end: datetime
) -> list[Summary]:
    """The UTC days that the span from `start` up to `end` touches, oldest first.

    Days without posts are left out. Raises ValueError where the span is empty, NotInstalled where
    there is no live view.
    """
    first, last = query_args.days(start, end)
    window = f"window_start >= {written(first)} AND window_start < {written(last)}"
    return _summaries(connection, instance_id, window, "window_start")


def latest_summary(connection: Connection, instance_id: int) -> Summary | None:
    """The latest day that has posts, the current one included; None where there is none.

    Raises NotInstalled where there is no live view.
    """
    found = _summaries(connection, instance_id, "true", "window_start DESC LIMIT 1")
    return found[0] if found else None


def write_summary_text(
    connection: Connection,
    instance_id: int,
    day: date,
    *,
    model: str,
    prompt_version: str,
    summary_text: str,
    input_hash: str,
) -> None:
    """Put a text beside a day's statistics, in place of the one that is there, and do not commit.

    A datetime as `day` stands for the UTC day it falls in. `input_hash` is that of the summary
    from which the text was written: where the figures are others by then, the text is not current.
    A refresh that is running is waited for. Raises ValueError for what is empty, and where the day
    has no row, because it has no posts or was not refreshed since its first.
    """
    instance = query_args.identifier("instance_id", instance_id)
    start = query_args.day_of("day", day)
    result = connection.execute(
        text(
            f"UPDATE {_table} SET model = :model, prompt_version = :prompt_version,"
            " summary_text = :summary_text, summary_input_hash = :input_hash"
            f" WHERE instance_id = {instance} AND window_start = {written(start)}"
        ),
        {
            "model": query_args.storable("model", model),
            "prompt_version": query_args.storable("prompt_version", prompt_version),
            "summary_text": query_args.storable("summary_text", summary_text),
            "input_hash": query_args.storable("input_hash", input_hash),
        },
    )
    if result.rowcount == 0:
        raise ValueError(
            f"Expected {_table} to have the day {start.date()} of instance {instance}, but there"
            " is no row; refresh it first (`tally refresh fediverse.daily_summaries`)."
        )


def _summaries(connection: Connection, instance_id: int, which: str, order: str) -> list[Summary]:
    live = daily_summaries.live_name
    # The days first, so that the join is of the few that are asked for.
    query = f"""
SELECT d.window_start, d.window_end, d.post_count, d.author_count, d.total_engagement,
  d.sentiment_count, d.sentiment_sum, d.input_stats_json, d.input_hash,
  t.model, t.prompt_version, t.summary_text,
  t.summary_text IS NOT NULL AND t.summary_input_hash IS NOT DISTINCT FROM d.input_hash
FROM (
  SELECT * FROM {live}
  WHERE instance_id = {query_args.identifier("instance_id", instance_id)} AND {which}
  ORDER BY {order}
) AS d
LEFT JOIN {_table} AS t ON t.instance_id = d.instance_id AND t.window_start = d.window_start
ORDER BY d.window_start"""
    return query_args.answers(connection, query, f"the live view {live}", Summary)


_table = sql.name_of(tables.daily_summaries)

"""Which hashtags are trending: more used recently than before, by several accounts.

Answers come from the live view, or from the posts themselves while so much is pending that these
are quicker to read; either way they are exact as of the last commit that the connection sees.
Two forms compare uses per hour of a recent window with those of the baseline before it, the third
the uses of one hour with those of the same hour of the day before. Invariants: nothing
that was posted at or after the moment asked for has a part in it, whatever the hour it shares with
what was posted before.

Distinct accounts of several hours do not follow from those of each hour. They are counted from the
posts, but only for the few hashtags that may be among the first: the most that each hour's count
allows, and the least, leave out the others without a look at their posts.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from assets.fediverse import tables
from assets.fediverse.processing.functions import MORE_PENDING_THAN
from assets.fediverse.questions import json_hashtags, query_args
from assets.fediverse.questions.query_args import HOUR, written
from assets.fediverse.tallies import hashtag_hourly_stats
from tallykeeper.database import sql

MANY_PENDING = 25
"""Pending changes for each hour of both windows from which on the posts are read, and not the view.

The answer is the same. But the live view counts all anew that is pending, whatever the window, at
some 40 microseconds a change, and reads the rest twice as fast as the posts are read.
"""
LONGEST_WINDOW = 24 * 366
MOST_TRENDS = 1_000


@dataclass(frozen=True)
class Trend:
    """A hashtag that is trending, and the figures that make it so."""

    name: str
    hashtag_id: int | None
    """None where nothing but the JSON of posts has it."""
    posts: int
    accounts: int
    """That have used it in the recent window, each once."""
    engagement: int
    """Of the recent window's posts, as it is now."""
    baseline_posts: int
    recent_rate: float
    """Per hour: posts, with `engagement_weight` times their engagement added."""
    baseline_rate: float
    latest_use: datetime
    rise: float
    """The recent window against the baseline: the spike, or the growth."""
    decay: float
    """From 1 down to 0, the longer ago its latest use; always 1 for growth."""
    score: float
    """`rise` times `decay`: what the list is ordered by."""


@dataclass(frozen=True)
class _Windows:
    """The recent window, from `start` to `at`, and the baseline at or some time before it."""

    baseline: datetime
    baseline_end: datetime
    start: datetime
    this_hour: datetime
    at: datetime
    hour_end: datetime

    @property
    def recent_hours(self) -> float:
        return (self.at - self.start) / HOUR

    @property
    def baseline_hours(self) -> float:
        return (self.baseline_end - self.baseline) / HOUR


@dataclass(frozen=True)
class _Wanted:
    """What makes a hashtag one of the answer's."""

    instance: int
    rise: str
    above: float
    decay_hours: float | None
    minimum_posts: int
    minimum_accounts: int
    limit: int
    weight: float


def trending_hashtags(
    connection: Connection,
    instance_id: int,
    at: datetime,
    *,
    window_hours: int = 4,
    baseline_hours: int = 20,
    decay_hours: float = 6.0,
    smoothing: float = 1.0,
    above: float = 1.0,
    minimum_posts: int = 3,
    minimum_accounts: int = 3,
    engagement_weight: float = 0.0,
    limit: int = 10,
) -> list[Trend]:
    """Hashtags by spike times decay, highest first, equal ones by name.

    spike = (recent rate + `smoothing`) / (baseline rate + `smoothing`), rates in uses per hour;
    decay = exp(-hours since its latest use / `decay_hours`). Only spikes over `above` are listed.

    The recent window has `window_hours` whole hours and what has passed of the hour of `at`; the
    baseline is the `baseline_hours` before. `at` without time zone is UTC. `smoothing` is in uses
    per hour and above 0: a hashtag never seen before has a finite spike, and one use more or less
    of a rare one says little. With `engagement_weight` w, a post counts as 1 + w times its
    engagement. Raises ValueError for invalid arguments, NotInstalled where there is no live
    view.
    """
    s = query_args.number("smoothing", smoothing, 0, above=True)
    return _trends(
        connection,
        _windows(at, window_hours, baseline_hours),
        _Wanted(
            instance=query_args.identifier("instance_id", instance_id),
            rise=f"(recent_rate + {s!r}) / (baseline_rate + {s!r})",
            above=query_args.number("above", above, 0),
            decay_hours=query_args.number("decay_hours", decay_hours, 0, above=True),
            minimum_posts=_minimum("minimum_posts", minimum_posts),
            minimum_accounts=_minimum("minimum_accounts", minimum_accounts),
            limit=query_args.whole_number("limit", limit, MOST_TRENDS),
            weight=query_args.number("engagement_weight", engagement_weight, 0),
        ),
    )


def growing_hashtags(
    connection: Connection,
    instance_id: int,
    at: datetime,
    *,
    window_hours: int = 4,
    baseline_hours: int = 20,
    above: float = 1.5,
    minimum_posts: int = 3,
    minimum_accounts: int = 3,
    limit: int = 10,
) -> list[Trend]:
    """The plain form: hashtags whose growth is over `above`, highest first, equal ones by name.

    growth = recent rate / baseline rate, both in uses per hour. A hashtag that the baseline lacks
    counts as used once in it. Windows and errors are those of `trending_hashtags`.
    """
    windows = _windows(at, window_hours, baseline_hours)
    once = 1 / windows.baseline_hours
    return _trends(
        connection,
        windows,
        _Wanted(
            instance=query_args.identifier("instance_id", instance_id),
            rise=f"recent_rate / greatest(baseline_rate, {once!r})",
            above=query_args.number("above", above, 0),
            decay_hours=None,
            minimum_posts=_minimum("minimum_posts", minimum_posts),
            minimum_accounts=_minimum("minimum_accounts", minimum_accounts),
            limit=query_args.whole_number("limit", limit, MOST_TRENDS),
            weight=0.0,
        ),
    )


def spiking_hashtags(
    connection: Connection,
    instance_id: int,
    at: datetime,
    *,
    hours_before: int = 24,
    decay_hours: float = 6.0,
    above: float = 0.0,
    minimum_posts: int = 1,
    minimum_accounts: int = 1,
    limit: int = 10,
) -> list[Trend]:
    """The hour of `at` against the same hour `hours_before`, without smoothing, by spike * decay.

    spike = (uses - uses then) / uses then; decay = exp(-hours since its latest use /
    `decay_hours`). Uses are those of the hour as far as it has passed, of a moment at which an hour
    begins those of the hour before. A hashtag that the earlier hour lacks counts as used once in
    it. Only spikes over `above` are listed, equal ones by name. Errors are those of
    `trending_hashtags`.
    """
    back = query_args.whole_number("hours_before", hours_before, LONGEST_WINDOW)
    moment = query_args.instant("at", at)
    start = query_args.hour_of(query_args.later("at", moment, -timedelta(microseconds=1)))
    before = query_args.later("at", start, -back * HOUR)
    once = "greatest(baseline_posts, 1)"
    return _trends(
        connection,
        _Windows(
            before,
            before + HOUR,
            start,
            query_args.hour_of(moment),
            moment,
            query_args.next_hour(moment),
        ),
        _Wanted(
            instance=query_args.identifier("instance_id", instance_id),
            rise=f"(posts - {once})::float8 / {once}",
            above=query_args.number("above", above, 0),
            decay_hours=query_args.number("decay_hours", decay_hours, 0, above=True),
            minimum_posts=_minimum("minimum_posts", minimum_posts),
            minimum_accounts=_minimum("minimum_accounts", minimum_accounts),
            limit=query_args.whole_number("limit", limit, MOST_TRENDS),
            weight=0.0,
        ),
    )


def _minimum(name: str, value: int) -> int:
    return query_args.whole_number(name, value, 1_000_000)


def _windows(at: datetime, window_hours: int, baseline_hours: int) -> _Windows:
    moment = query_args.instant("at", at)
    recent = query_args.whole_number("window_hours", window_hours, LONGEST_WINDOW)
    before = query_args.whole_number("baseline_hours", baseline_hours, LONGEST_WINDOW)
    this_hour = query_args.hour_of(moment)
    # Whole hours and the current one as far as it has passed: the window alone of the current hour
    # would make a rate of one post a second after it began.
    start = query_args.later("at", this_hour, -recent * HOUR)
    baseline = query_args.later("at", start, -before * HOUR)
    return _Windows(baseline, start, start, this_hour, moment, query_args.next_hour(moment))


def _trends(connection: Connection, windows: _Windows, wanted: _Wanted) -> list[Trend]:
    spans = ((windows.start, windows.at), (windows.baseline, windows.baseline_end))
    missing = any(
        json_hashtags.rows_are_missing(connection, wanted.instance, *span)
        for span in spans
        if span[0] < span[1]
    )
    query = _query(windows, wanted, from_json=missing)
    return query_args.answers(connection, query, f"the live view {_live}", Trend)


def _decay(since: str, decay_hours: float | None) -> str:
    if decay_hours is None:
        return "1::float8"
    # A double cannot be as small as what is left after very long, and PostgreSQL fails at it.
    return f"exp(greatest(-600, -extract(epoch FROM {since})::float8 / {3600 * decay_hours!r}))"


def _query(windows: _Windows, wanted: _Wanted, *, from_json: bool = False) -> str:
    """The trends; with `from_json` those of posts whose hashtags are in their JSON alone too.

    Hashtags are known by their names then, in the column `hashtag_id`.
    """
    at, start, this_hour = written(windows.at), written(windows.start), written(windows.this_hour)
    name, known = ("d.hashtag_id", "LEFT JOIN") if from_json else ("t.name", "JOIN")
    of_name = f"t.name = {name}" if from_json else "t.id = d.hashtag_id"
    weight, decay = wanted.weight, wanted.decay_hours
    any_of = query_args.one_of_many(wanted.instance)
    recent_rate = f"(posts + {weight!r} * engagement)::float8 / {windows.recent_hours!r}"
    baseline_rate = (
        f"(baseline_posts + {weight!r} * baseline_engagement)::float8 / {windows.baseline_hours!r}"
    )
    return f"""
WITH pending AS ({many_pending(windows.recent_hours + windows.baseline_hours)}),
uses AS (
{_each_use(windows, any_of, _uses_from_json) if from_json else _uses_by_hour(windows, wanted)}
),
tags AS (
  SELECT hashtag_id,
    sum(posts) FILTER (WHERE hour_ts >= {start}) AS posts,
    sum(engagement) FILTER (WHERE hour_ts >= {start}) AS engagement,
    coalesce(sum(posts) FILTER (WHERE hour_ts < {start}), 0) AS baseline_posts,
    coalesce(sum(engagement) FILTER (WHERE hour_ts < {start}), 0) AS baseline_engagement,
    -- The hour of `at` may have lost some of its posts above: it counts towards the most alone.
    max(accounts) FILTER (WHERE hour_ts >= {start} AND hour_ts < {this_hour}) AS least_accounts,
    max(hour_ts) FILTER (WHERE hour_ts >= {start} AND hour_ts < {this_hour}) AS earliest_last_use,
    least(max(hour_ts) + interval '1 hour', {at}) AS last_last_use
  FROM uses
  GROUP BY hashtag_id
  HAVING sum(posts) FILTER (WHERE hour_ts >= {start}) >= {wanted.minimum_posts}
    AND sum(accounts) FILTER (WHERE hour_ts >= {start}) >= {wanted.minimum_accounts}
),
rates AS (
  SELECT *, {recent_rate} AS recent_rate, {baseline_rate} AS baseline_rate FROM tags
),
rises AS (
  SELECT *, {wanted.rise} AS rise FROM rates WHERE {wanted.rise} > {wanted.above!r}
),
bounds AS MATERIALIZED (
  SELECT *, rise * {_decay(f"({at} - last_last_use)", decay)} AS most,
    CASE WHEN least_accounts >= {wanted.minimum_accounts}
      THEN rise * {_decay(f"({at} - earliest_last_use)", decay)} END AS least
  FROM rises
),
candidates AS MATERIALIZED (
  -- A little more, since what is equal need not be so to the last bit.
  SELECT * FROM bounds WHERE most * 1.000001 >= coalesce((
    SELECT least FROM bounds WHERE least IS NOT NULL
    ORDER BY least DESC OFFSET {wanted.limit - 1} LIMIT 1), 0)
),
-- All of the window's, found by their time: by hashtag, a popular one's whole past would be walked.
recent AS MATERIALIZED (
  SELECT h.hashtag_id, p.account_id, p.created_at
  FROM {_uses_from_json if from_json else _uses}
  WHERE p.instance_id = {any_of} AND {_COUNTED}
    AND p.created_at >= {start} AND p.created_at < {at}
),
counted AS (
  SELECT hashtag_id, count(DISTINCT account_id) AS accounts, max(created_at) AS latest_use
  FROM recent WHERE hashtag_id IN (SELECT hashtag_id FROM candidates)
  GROUP BY hashtag_id
),
decayed AS (
  SELECT *, {_decay(f"({at} - latest_use)", decay)} AS decay
  FROM candidates JOIN counted USING (hashtag_id)
  WHERE accounts >= {wanted.minimum_accounts}
)
SELECT {name}, t.id, d.posts::bigint AS posts, d.accounts,
  d.engagement::bigint AS engagement, d.baseline_posts::bigint AS baseline_posts,
  d.recent_rate, d.baseline_rate, d.latest_use,
  d.rise, d.decay, d.rise * d.decay AS score
FROM decayed AS d
{known} {_hashtags} AS t ON t.instance_id = {any_of} AND {of_name}
ORDER BY score DESC, {name} COLLATE "C" LIMIT {wanted.limit}"""


def _uses_by_hour(windows: _Windows, wanted: _Wanted) -> str:
    """Uses of both windows, from the live view, or from the posts while much is pending."""
    at, start = written(windows.at), written(windows.start)
    before, before_end = written(windows.baseline), written(windows.baseline_end)
    any_of = query_args.one_of_many(wanted.instance)
    many = "(SELECT many FROM pending)"
    return f"""
  SELECT hashtag_id, hour_ts, posts_using_tag AS posts, unique_accounts_using_tag AS accounts,
    total_engagement AS engagement
  FROM {_live}
  -- As two ranges, which an index does not give in order: the keys that are pending are then
  -- looked up by a hash, and not merged with all that have the same hour.
  WHERE NOT {many} AND instance_id = {wanted.instance}
    AND (hour_ts >= {start} AND hour_ts < {at}
      OR hour_ts >= {before} AND hour_ts < {before_end})
  UNION ALL
  -- What the hour of the moment asked for holds from that moment on.
  SELECT h.hashtag_id, {written(windows.this_hour)}, -1, 0, -p.engagement_score
  FROM {_uses}
  WHERE NOT {many} AND p.instance_id = {any_of} AND {_COUNTED}
    AND p.created_at >= {at} AND p.created_at < {written(windows.hour_end)}
  UNION ALL
{_each_use(windows, any_of, _uses)} AND {many}"""


def _each_use(windows: _Windows, any_of: str, uses: str) -> str:
    """Each use by itself, which bounds accounts and latest use as an hour of its own would."""
    recent, before = (
        f"p.created_at >= {written(first)} AND p.created_at < {written(last)}"
        for first, last in (
            (windows.start, windows.at),
            (windows.baseline, windows.baseline_end),
        )
    )
    return f"""
  SELECT h.hashtag_id, p.created_at AS hour_ts, 1 AS posts, 1 AS accounts,
    p.engagement_score AS engagement
  FROM {uses}
  WHERE p.instance_id = {any_of} AND {_COUNTED} AND ({recent} OR {before})"""


def many_pending(hours: float) -> str:
    """Whether too much is pending for windows of so many hours, as SQL."""
    return f"SELECT {MORE_PENDING_THAN}({round(MANY_PENDING * hours)}) AS many"


_COUNTED = json_hashtags.COUNTED
_live = hashtag_hourly_stats.live_name
_posts, _post_hashtags = sql.name_of(tables.mastodon_posts), sql.name_of(tables.post_hashtags)
_hashtags = sql.name_of(tables.hashtags)
_uses = (
    f"{_posts} AS p JOIN {_post_hashtags} AS h"
    " ON h.instance_id = p.instance_id AND h.post_id = p.id"
)
_uses_from_json = (
    f"{_posts} AS p CROSS JOIN LATERAL"
    f" (SELECT n.name AS hashtag_id FROM {json_hashtags.names_of()} AS n) AS h"
)

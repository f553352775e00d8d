"""Hours in a row: all posts', one hashtag's, one domain's; and the domains with most posts.

Answers come from the live views, so they are exact as of the last commit that the connection sees.
Hours are UTC, and whole: a span that begins or ends within an hour has all of that hour.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from sqlalchemy import Connection

from assets.fediverse import tables
from assets.fediverse.processing.functions import HASHTAG
from assets.fediverse.questions import json_hashtags, query_args
from assets.fediverse.questions.query_args import HOUR, written
from assets.fediverse.tallies import hashtag_hourly_stats, hourly_domain_stats, hourly_stats
from tallykeeper.database import sql

MOST_DOMAINS = 10_000


@dataclass(frozen=True)
class HourStats:
    """What happened in an hour that begins at `hour`; a reblog is no post."""

    hour: datetime
    post_count: int = 0
    reblog_count: int = 0
    reply_count: int = 0
    total_engagement: int = 0
    unique_accounts: int = 0


@dataclass(frozen=True)
class HashtagHour:
    """A hashtag's use in the hour that begins at `hour`."""

    hour: datetime
    posts: int = 0
    accounts: int = 0
    engagement: int = 0


@dataclass(frozen=True)
class DomainHour:
    """What the accounts of a domain posted in the hour that begins at `hour`."""

    hour: datetime
    post_count: int = 0
    total_engagement: int = 0


@dataclass(frozen=True)
class DomainTotal:
    """What the accounts of a domain posted in all hours asked for."""

    domain: str
    post_count: int
    total_engagement: int


def hourly_series(
    connection: Connection, instance_id: int, start: datetime, end: datetime
) -> list[HourStats]:
    """Every hour that the span from `start` up to `end` touches, empty ones with zeros.

    Raises ValueError where the span is empty or longer than 100,000 hours, NotInstalled where
    there is no live view.
    """
    query = (
        "SELECT hour, post_count, reblog_count, reply_count, total_engagement, unique_accounts"
        f" FROM {hourly_stats.live_name} WHERE instance_id = {_instance(instance_id)}"
    )
    return _series(connection, query, "hour", hourly_stats.live_name, HourStats, (start, end))


def hashtag_series(
    connection: Connection, instance_id: int, name: str, start: datetime, end: datetime
) -> list[HashtagHour]:
    """A hashtag's use in every hour that the span touches; the name is normalized as Mastodon does.

    A hashtag that nobody used has zeros. Raises what `hourly_series` raises.
    """
    instance, given = _instance(instance_id), sql.literal(query_args.storable("hashtag", name))
    first, last = query_args.hours(start, end)
    if json_hashtags.rows_are_missing(connection, instance, first, last):
        query = f"""
SELECT * FROM (
  SELECT date_trunc('hour', p.created_at, 'UTC') AS hour_ts, count(*),
    count(DISTINCT p.account_id), sum(p.engagement_score)::bigint
  FROM {_posts} AS p CROSS JOIN LATERAL {json_hashtags.names_of()} AS n
  WHERE p.instance_id = {query_args.one_of_many(instance)} AND {json_hashtags.COUNTED}
    AND {_within("p.created_at", (first, last))}
    AND n.name = {HASHTAG}({given})
  GROUP BY 1
) AS hours WHERE true"""
        return _series(connection, query, "hour_ts", _posts, HashtagHour, (start, end))
    query = (
        "SELECT hour_ts, posts_using_tag, unique_accounts_using_tag, total_engagement"
        f" FROM {hashtag_hourly_stats.live_name} WHERE instance_id = {_instance(instance_id)}"
        f" AND hashtag_id = {hashtag_id(instance_id, name)}"
    )
    live = hashtag_hourly_stats.live_name
    return _series(connection, query, "hour_ts", live, HashtagHour, (start, end))


def domain_series(
    connection: Connection, instance_id: int, domain: str, start: datetime, end: datetime
) -> list[DomainHour]:
    """What the accounts of a domain posted in every hour that the span touches.

    A domain of which nothing was seen has zeros. Raises what `hourly_series` raises.
    """
    live = hourly_domain_stats.live_name
    query = (
        f"SELECT hour, post_count, total_engagement FROM {live}"
        f" WHERE instance_id = {_instance(instance_id)}"
        f" AND domain = {sql.literal(query_args.storable('domain', domain))}"
    )
    return _series(connection, query, "hour", live, DomainHour, (start, end))


def top_domains(
    connection: Connection, instance_id: int, start: datetime, end: datetime, *, limit: int = 10
) -> list[DomainTotal]:
    """The domains with most posts in the hours that the span touches, equal ones by name.

    Raises what `hourly_series` raises, and ValueError for a limit not within 1 to 10,000.
    """
    live = hourly_domain_stats.live_name
    query_args.whole_number("limit", limit, MOST_DOMAINS)
    query = (
        "SELECT domain, sum(post_count)::bigint, sum(total_engagement)::bigint"
        f" FROM {live} WHERE instance_id = {_instance(instance_id)}"
        f" AND {_within('hour', query_args.hours(start, end))}"
        f' GROUP BY domain ORDER BY 2 DESC, domain COLLATE "C" LIMIT {limit}'
    )
    return query_args.answers(connection, query, f"the live view {live}", DomainTotal)


def hashtag_id(instance_id: int, name: str) -> str:
    """The hashtag's id as SQL, null where there is none. Raises ValueError where it is no name."""
    given = sql.literal(query_args.storable("hashtag", name))
    return (
        f"(SELECT id FROM {sql.name_of(tables.hashtags)} WHERE instance_id = {instance_id}"
        f" AND name = {HASHTAG}({given}))"
    )


class _Hour(Protocol):
    @property
    def hour(self) -> datetime: ...

    def __init__(self, hour: datetime) -> None: ...


_Kind = TypeVar("_Kind", bound=_Hour)


def _series(
    connection: Connection,
    query: str,
    column: str,
    live: str,
    kind: type[_Kind],
    span: tuple[datetime, datetime],
) -> list[_Kind]:
    first, last = query_args.hours(*span)
    query = f"{query} AND {_within(column, (first, last))}"
    rows = query_args.answers(connection, query, f"the live view {live}", kind)
    found = {row.hour: row for row in rows}
    wanted = (first + n * HOUR for n in range((last - first) // HOUR))
    return [found.get(hour) or kind(hour) for hour in wanted]


def _within(column: str, span: tuple[datetime, datetime]) -> str:
    return f"{column} >= {written(span[0])} AND {column} < {written(span[1])}"


def _instance(instance_id: int) -> int:
    return query_args.identifier("instance_id", instance_id)


_posts = sql.name_of(tables.mastodon_posts)

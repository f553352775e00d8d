"""The declarations of the fediverse's tallies, readable as their specification.

They count posts that are not deleted and that anybody may see (public or unlisted), by the hour or
day of `created_at`, UTC. A reblog is no post: it repeats one, whose engagement and hashtags are
counted there.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    ColumnElement,
    DateTime,
    FromClause,
    Integer,
    Select,
    Text,
    and_,
    case,
    cast,
    func,
    literal_column,
    select,
    text,
    true,
)
from sqlalchemy.dialects.postgresql import JSONB, aggregate_order_by

from assets.fediverse import tables
from assets.fediverse.processing.functions import MORE_PENDING_THAN, PROGRESS
from assets.fediverse.storage import partition_functions, redaction
from assets.fediverse.storage.archive import EVENTS
from assets.fediverse.storage.bootstrap import prepare
from assets.fediverse.storage.log import process_log, waiting
from tallykeeper import (
    Capture,
    KeyFilter,
    RecomputedTally,
    SelectTally,
    System,
    TimeKey,
)
from tallykeeper.declarations.combining import MAX, SUM, sum_over_all_but
from tallykeeper.system import Access

posts, post_hashtags = tables.mastodon_posts, tables.post_hashtags
TOP = 10
"""How many hashtags and languages a day's summary names."""
_EMPTY = literal_column("'[]'::jsonb", JSONB)


def _counts(post: Any) -> list[ColumnElement[bool]]:
    """Whether a post or reblog is there for everybody."""
    return [post.deleted_at.is_(None), post.visibility.in_(["public", "unlisted"])]


def _is_post(post: Any) -> ColumnElement[bool]:
    return post.reblog_of_id.is_(None)


def _bigint(value: ColumnElement[Any]) -> ColumnElement[Any]:
    """A sum, which PostgreSQL returns as numeric, as what the table holds."""
    return cast(func.coalesce(value, 0), tables.hashtag_hourly_stats.c.total_engagement.type)


def _engagement(condition: ColumnElement[bool]) -> ColumnElement[Any]:
    return _bigint(func.sum(posts.c.engagement_score).filter(condition))


def _post_of(row: Any) -> dict[str, Any]:
    return {"instance_id": row.instance_id, "post_id": row.post_id}


# Hashtags by hour.


def _hashtag_hours(scope: KeyFilter) -> Select[Any]:
    hour = func.date_trunc("hour", posts.c.created_at, "UTC").label("hour_ts")
    return (
        select(
            post_hashtags.c.instance_id,
            post_hashtags.c.hashtag_id,
            hour,
            func.count().label("posts_using_tag"),
            func.count(posts.c.account_id.distinct()).label("unique_accounts_using_tag"),
            _engagement(true()).label("total_engagement"),
        )
        .select_from(
            posts.join(
                post_hashtags,
                and_(
                    post_hashtags.c.instance_id == posts.c.instance_id,
                    post_hashtags.c.post_id == posts.c.id,
                ),
            )
        )
        .where(
            *_counts(posts.c),
            *scope(
                instance_id=post_hashtags.c.instance_id,
                hashtag_id=post_hashtags.c.hashtag_id,
                hour_ts=posts.c.created_at,
            ),
        )
        .group_by(post_hashtags.c.instance_id, post_hashtags.c.hashtag_id, hour.element)
    )


hashtag_hourly_stats = RecomputedTally(
    system="fediverse",
    table=tables.hashtag_hourly_stats,
    key=["instance_id", "hashtag_id", "hour_ts"],
    measures=["posts_using_tag", "unique_accounts_using_tag", "total_engagement"],
    # A post with several hashtags counts for each.
    combine=dict.fromkeys(("posts_using_tag", "total_engagement"), sum_over_all_but("hashtag_id")),
    captures=[
        Capture(
            posts,
            entity=lambda post: {"instance_id": post.instance_id, "post_id": post.id},
            key=lambda post: {"hour_ts": post.created_at},
        ),
        Capture(
            post_hashtags,
            entity=_post_of,
            key=lambda pair: {"instance_id": pair.instance_id, "hashtag_id": pair.hashtag_id},
        ),
    ],
    aggregate=_hashtag_hours,
    time_key=TimeKey("hour_ts", "hour"),
)


# Everything by hour, and by hour and domain.


def _hours(scope: KeyFilter) -> Select[Any]:
    hour = func.date_trunc("hour", posts.c.created_at, "UTC").label("hour")
    is_post = _is_post(posts.c)
    return (
        select(
            posts.c.instance_id,
            hour,
            func.count().filter(is_post).label("post_count"),
            func.count().filter(~is_post).label("reblog_count"),
            func.count().filter(is_post, posts.c.in_reply_to_id.is_not(None)).label("reply_count"),
            _engagement(is_post).label("total_engagement"),
            func.count(posts.c.account_id.distinct()).label("unique_accounts"),
        )
        .where(*_counts(posts.c), *scope(instance_id=posts.c.instance_id, hour=posts.c.created_at))
        .group_by(posts.c.instance_id, hour.element)
    )


hourly_stats = RecomputedTally(
    system="fediverse",
    table=tables.hourly_stats,
    key=["instance_id", "hour"],
    measures=["post_count", "reblog_count", "reply_count", "total_engagement", "unique_accounts"],
    combine=dict.fromkeys(("post_count", "reblog_count", "reply_count", "total_engagement"), SUM),
    captures=[
        Capture(
            posts,
            key=lambda post: {"instance_id": post.instance_id, "hour": post.created_at},
        )
    ],
    aggregate=_hours,
    time_key=TimeKey("hour", "hour"),
)

_hour = func.date_trunc("hour", posts.c.created_at, "UTC").label("hour")

hourly_domain_stats = SelectTally(
    "fediverse.hourly_domain_stats",
    select=select(
        posts.c.instance_id,
        _hour,
        posts.c.domain,
        cast(func.count(), Integer).label("post_count"),
        _bigint(func.sum(posts.c.engagement_score)).label("total_engagement"),
    )
    .where(*_counts(posts.c), _is_post(posts.c))
    .group_by(posts.c.instance_id, _hour.element, posts.c.domain),
    table=tables.hourly_domain_stats,
    formerly=["26127e83e7437724"],
)


# A day's statistics.


def _of_day(scope: KeyFilter) -> FromClause:
    """The day's posts, each with what the statistics need of it."""
    return (
        select(
            posts.c.instance_id,
            func.date_trunc("day", posts.c.created_at, "UTC", type_=DateTime(timezone=True)).label(
                "day"
            ),
            posts.c.id.label("post_id"),
            posts.c.account_id,
            posts.c.engagement_score,
            posts.c.language,
            posts.c.hashtags,
            posts.c.content_hash,
        )
        .where(
            *_counts(posts.c),
            _is_post(posts.c),
            *scope(instance_id=posts.c.instance_id, window_start=posts.c.created_at),
        )
        .cte("of_day")
    )


def _top(of_day: FromClause, name: ColumnElement[Any], *froms: FromClause) -> FromClause:
    """The names that most posts of a day have, as a JSON array of name and posts; ties by name."""
    by = (of_day.c.instance_id, of_day.c.day)
    counted = select(*by, name.label("name"), func.count().label("posts")).select_from(of_day)
    for each in froms:
        counted = counted.join(each, true())
    named = counted.where(name.is_not(None)).group_by(*by, name).subquery()
    # By bytes, so that no database's collation changes the order.
    order = (named.c.posts.desc(), named.c.name.collate("C"))
    place = func.row_number().over(partition_by=[named.c.instance_id, named.c.day], order_by=order)
    ranked = select(*named.c, place.label("place")).subquery()
    entry = func.jsonb_build_object("name", ranked.c.name, "posts", ranked.c.posts)
    return (
        select(
            ranked.c.instance_id,
            ranked.c.day,
            func.jsonb_agg(aggregate_order_by(entry, ranked.c.place), type_=JSONB).label("top"),
        )
        .where(ranked.c.place <= TOP)
        .group_by(ranked.c.instance_id, ranked.c.day)
        .subquery()
    )


def _sentiments(of_day: FromClause) -> FromClause:
    """What models said of the contents as they are now: count and sum, and those by model."""
    said = tables.post_sentiments
    by_model = (
        select(
            of_day.c.instance_id,
            of_day.c.day,
            said.c.model,
            said.c.prompt_version,
            func.count(said.c.score).label("analyses"),
            func.coalesce(func.sum(said.c.score), 0).label("score"),
        )
        .select_from(
            of_day.join(
                said,
                and_(
                    said.c.instance_id == of_day.c.instance_id,
                    said.c.post_id == of_day.c.post_id,
                    said.c.input_hash == of_day.c.content_hash,
                ),
            )
        )
        .group_by(of_day.c.instance_id, of_day.c.day, said.c.model, said.c.prompt_version)
        .subquery()
    )
    c = by_model.c
    entry = func.jsonb_build_object(
        *("model", c.model, "prompt_version", c.prompt_version),
        *("analyses", c.analyses, "score_sum", c.score),
    )
    order = (c.model.collate("C"), c.prompt_version.collate("C"))
    return (
        select(
            c.instance_id,
            c.day,
            func.sum(c.analyses).label("analyses"),
            func.sum(c.score).label("score"),
            func.jsonb_agg(aggregate_order_by(entry, *order), type_=JSONB).label("by_model"),
        )
        .group_by(c.instance_id, c.day)
        .subquery()
    )


def _days(scope: KeyFilter) -> Select[Any]:
    of_day = _of_day(scope)
    # Anything but an array has no elements; an error would stop the whole refresh.
    is_array = func.jsonb_typeof(of_day.c.hashtags) == "array"
    elements = case((is_array, of_day.c.hashtags), else_=_EMPTY)
    tag = func.jsonb_array_elements_text(elements).table_valued("value").lateral("tag")
    tags = _top(of_day, tag.c.value, tag)
    languages = _top(of_day, of_day.c.language)
    said = _sentiments(of_day)
    totals = (
        select(
            of_day.c.instance_id,
            of_day.c.day,
            func.count().label("posts"),
            func.count(of_day.c.account_id.distinct()).label("authors"),
            _bigint(func.sum(of_day.c.engagement_score)).label("engagement"),
        )
        .group_by(of_day.c.instance_id, of_day.c.day)
        .subquery()
    )

    def same_day(other: FromClause) -> ColumnElement[bool]:
        return and_(other.c.instance_id == totals.c.instance_id, other.c.day == totals.c.day)

    analyses, score = func.coalesce(said.c.analyses, 0), func.coalesce(said.c.score, 0)
    stats = func.jsonb_build_object(
        *("posts", totals.c.posts, "authors", totals.c.authors),
        *("engagement", totals.c.engagement),
        *("top_hashtags", func.coalesce(tags.c.top, _EMPTY)),
        *("top_languages", func.coalesce(languages.c.top, _EMPTY)),
        *("sentiment", func.coalesce(said.c.by_model, _EMPTY)),
        type_=JSONB,
    )
    # Twenty-four hours: a day in the session's time zone may have more or fewer.
    next_day = totals.c.day + text("interval '24 hours'")
    days = (
        select(
            totals.c.instance_id,
            totals.c.day.label("window_start"),
            cast(next_day, totals.c.day.type).label("window_end"),
            totals.c.posts.label("post_count"),
            totals.c.authors.label("author_count"),
            totals.c.engagement.label("total_engagement"),
            analyses.label("sentiment_count"),
            score.label("sentiment_sum"),
            stats.label("input_stats_json"),
        )
        .select_from(
            totals.outerjoin(tags, same_day(tags))
            .outerjoin(languages, same_day(languages))
            .outerjoin(said, same_day(said))
        )
        .subquery("days")
    )
    return select(*days.c, func.md5(cast(days.c.input_stats_json, Text)).label("input_hash"))


daily_summaries = RecomputedTally(
    system="fediverse",
    table=tables.daily_summaries,
    key=["instance_id", "window_start"],
    measures=[
        "window_end",
        "post_count",
        "author_count",
        "total_engagement",
        "sentiment_count",
        "sentiment_sum",
        "input_stats_json",
        "input_hash",
    ],
    combine={
        "window_end": MAX,
        **dict.fromkeys(
            ("post_count", "total_engagement", "sentiment_count", "sentiment_sum"), SUM
        ),
    },
    captures=[
        Capture(
            posts,
            entity=lambda post: {"instance_id": post.instance_id, "post_id": post.id},
            key=lambda post: {
                "instance_id": post.instance_id,
                "window_start": post.created_at,
            },
        ),
        Capture(tables.post_sentiments, entity=_post_of),
    ],
    aggregate=_days,
    time_key=TimeKey("window_start", "day"),
)

system = System(
    "fediverse",
    tables.metadata,
    [hashtag_hourly_stats, hourly_stats, hourly_domain_stats, daily_summaries],
    raw=tables.RAW,
    processed=tables.PROCESSED,
    prepare=prepare,
    process=process_log,
    waiting=waiting,
    advice="posts of another application are brought over from its own schema by `tally adopt"
    " fediverse --from-schema SCHEMA`",
    access=Access(
        read=[tables.instances, tables.post_sentiments],
        counted={tables.stream_events: ["received_at", "processed_at"]},
        asked=[f"{MORE_PENDING_THAN}(bigint)"],
        kept=[PROGRESS],
        called=(*partition_functions.SIGNATURES, redaction.SIGNATURE),
        marked={
            tables.stream_events: [
                "payload_status_id",
                "payload_reblog_id",
                "processed_at",
                "process_error",
            ]
        },
    ),
    archived=[EVENTS],
    package=__package__,
    distribution={
        **dict.fromkeys((posts, post_hashtags, tables.post_sentiments), "instance_id"),
        **dict.fromkeys((tables.instances, tables.hashtags)),
    },
)

"""The shapes of the fediverse's answers, for the OpenAPI document; what they hold is in the reads.

Ids of posts and accounts are text here, and sums are numbers.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict
from pydantic.json_schema import WithJsonSchema

from tallykeeper.http.answers import Answer

Number = Annotated[Decimal, WithJsonSchema({"type": "number"})]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Instance(_Shape):
    """A Mastodon server."""

    id: int
    base_url: str


class Instances(Answer):
    """The instances that are known, by id."""

    instances: list[Instance]


class Trend(_Shape):
    """A hashtag that is trending, and the figures that make it so; rates are per hour."""

    name: str
    hashtag_id: int | None
    posts: int
    accounts: int
    engagement: int
    baseline_posts: int
    recent_rate: float
    baseline_rate: float
    latest_use: AwareDatetime
    rise: float
    decay: float
    score: float


class Trending(Answer):
    """Hashtags by score, highest first, as they were at the moment `at`."""

    at: AwareDatetime
    hashtags: list[Trend]


class HashtagHour(_Shape):
    """A hashtag's use in the hour that begins at `hour`."""

    hour: AwareDatetime
    posts: int
    accounts: int
    engagement: int


class HashtagHours(Answer):
    """Hours in a row."""

    hours: list[HashtagHour]


class Pair(_Shape):
    """Two hashtags, and how many posts have both, by how many accounts."""

    hashtag: str
    other: str
    posts: int
    accounts: int


class Pairs(Answer):
    """Hashtags used together, most posts first."""

    pairs: list[Pair]


class Domain(_Shape):
    """What the accounts of a domain posted in all hours asked for."""

    domain: str
    post_count: int
    total_engagement: int


class Domains(Answer):
    """Domains, those with most posts first."""

    domains: list[Domain]


class DomainHour(_Shape):
    """What the accounts of a domain posted in the hour that begins at `hour`."""

    hour: AwareDatetime
    post_count: int
    total_engagement: int


class DomainHours(Answer):
    """Hours in a row."""

    hours: list[DomainHour]


class Hour(_Shape):
    """What happened in the hour that begins at `hour`; a reblog is no post."""

    hour: AwareDatetime
    post_count: int
    reblog_count: int
    reply_count: int
    total_engagement: int
    unique_accounts: int


class Hours(Answer):
    """Hours in a row."""

    hours: list[Hour]


class Summary(_Shape):
    """A day's statistics, and the text about it where there is one."""

    window_start: AwareDatetime
    window_end: AwareDatetime
    post_count: int
    author_count: int
    total_engagement: int
    sentiment_count: int
    sentiment_sum: Number
    input_stats: dict[str, Any]
    input_hash: str
    model: str | None
    prompt_version: str | None
    summary_text: str | None
    text_is_current: bool


class Summaries(Answer):
    """Days that have posts, oldest first."""

    summaries: list[Summary]


class LatestSummary(Answer):
    """The latest day that has posts."""

    summary: Summary


class Velocity(_Shape):
    """A post and the favourites that it gained."""

    post_id: str
    account_id: str
    url: str | None
    gained: int
    favourites_before: int
    favourites: int
    before_at: AwareDatetime
    seen_at: AwareDatetime


class Velocities(Answer):
    """Posts, those that gained most first."""

    posts: list[Velocity]


class Rise(_Shape):
    """A post and how much its engagement grew: 3.0 is an increase by 300 percent."""

    post_id: str
    account_id: str
    url: str | None
    growth: float
    gained: int
    engagement_before: int
    engagement: int
    before_at: AwareDatetime
    seen_at: AwareDatetime


class Rises(Answer):
    """Posts, those that grew most first."""

    posts: list[Rise]


class SentimentChange(_Shape):
    """A version of which a model said something else than of the version it judged before."""

    post_id: str
    url: str | None
    model: str
    prompt_version: str
    version_before: int
    version_seq: int
    changed_at: AwareDatetime
    label_before: str | None
    label: str | None
    score_before: Number | None
    score: Number | None


class SentimentChanges(Answer):
    """Edits after which a model said something else, the latest first."""

    changes: list[SentimentChange]


class PostCounts(_Shape):
    """What a post had when it was seen at `captured_at`."""

    captured_at: AwareDatetime
    replies_count: int
    reblogs_count: int
    favourites_count: int
    engagement_score: int


class PostSeries(Answer):
    """A post's counts, oldest first; at `created_at` it had none."""

    instance_id: int
    post_id: str
    created_at: AwareDatetime | None
    deleted_at: AwareDatetime | None
    counts: list[PostCounts]


class Follow(_Shape):
    """An account that follows another, or is followed; `acct` is null where it was never seen."""

    account_id: str
    acct: str | None
    followed_at: AwareDatetime


class Follows(Answer):
    """Accounts, the latest first."""

    accounts: list[Follow]


class Sentiment(_Shape):
    """What a model said of a content; `score` is from -1 to 1."""

    model: str
    prompt_version: str
    label: str | None
    score: Number | None
    analyzed_at: AwareDatetime


class Version(_Shape):
    """What a post said from `valid_from` up to `valid_to`, which is null for the latest."""

    version_seq: int
    valid_from: AwareDatetime
    valid_to: AwareDatetime | None
    edited_at: AwareDatetime | None
    content: str | None
    content_text: str | None
    spoiler_text: str | None
    sensitive: bool | None
    content_hash: str
    sentiments: list[Sentiment]


class History(Answer):
    """A post's versions, oldest first, and its deletion."""

    instance_id: int
    post_id: str
    created_at: AwareDatetime | None
    deleted_at: AwareDatetime | None
    versions: list[Version]

"""The tables of the fediverse: raw ones, those that processing derives, and the tallies'.

Only their shape stands here. How events become posts is in `processing/`,
how the tallies follow from the posts in `tallies.py`. All keys begin with the instance: two
instances name their posts and accounts each for itself. The ids of these are text, whatever they
look like; those of instances, events and hashtags are our own, and numbers.
The schema is `fediverse`, or what `TALLY_SCHEMA_FEDIVERSE` names.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Computed,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Numeric,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from tallykeeper.settings import schema_of

metadata = MetaData(schema=schema_of("fediverse"))

ID = Text(collation="C")
"""An id as its server writes it: a number, a ULID, a flake id, an address.

In the order of bytes, which is one everywhere and quicker to compare. No order of ids says
anything about time.
"""

ENGAGEMENT = "3 * reblogs_count + 2 * favourites_count + replies_count"
"""What a post has moved: 3 for a reblog, 2 for a favourite, 1 for a reply."""


def _instant(name: str, comment: str | None = None, *, nullable: bool = True) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=nullable, comment=comment)


def _instance() -> Column[int]:
    return Column("instance_id", BigInteger, primary_key=True, autoincrement=False)


def _id(name: str, comment: str | None = None, *, nullable: bool = True) -> Column[str]:
    return Column(name, ID, nullable=nullable, comment=comment)


def _key_id(name: str = "post_id", comment: str | None = None) -> Column[str]:
    return Column(name, ID, primary_key=True, comment=comment)


def _own_id() -> Column[str]:
    return _key_id("id", "as its server writes it")


def _counts() -> list[Column[int]]:
    return [
        Column(name, BigInteger, nullable=False, server_default=text("0"))
        for name in ("replies_count", "reblogs_count", "favourites_count")
    ]


def _engagement() -> Column[int]:
    return Column(
        "engagement_score", BigInteger, Computed(ENGAGEMENT, persisted=True), comment=ENGAGEMENT
    )


# Raw: what a client of the streaming API writes.

instances = Table(
    "instances",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("base_url", Text, nullable=False, unique=True, comment="like https://mastodon.social"),
    Column("stream_type", Text, comment="which stream is listened to: public, local, hashtag ..."),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    _instant("last_seen_at", "when an event of it was last received"),
    comment="Mastodon servers whose events are recorded.",
)

stream_events = Table(
    "stream_events",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("instance_id", BigInteger, ForeignKey(instances.c.id), nullable=False),
    Column("received_at", DateTime(timezone=True), primary_key=True, server_default=func.now()),
    Column(
        "event_type",
        Text,
        nullable=False,
        comment="as the stream names it; status is an observation, history a list of versions",
    ),
    Column("payload", JSONB),
    _id("payload_status_id", "the post it is about; set by processing"),
    _id("payload_reblog_id", "the post within it; set by processing"),
    _instant("processed_at"),
    Column("process_error", Text, comment="why nothing could be made of it"),
    # What is still to be processed, in order; and what a post is made of.
    Index(
        "stream_events_unprocessed",
        "received_at",
        "id",
        postgresql_where=text("processed_at IS NULL"),
    ),
    Index(
        "stream_events_failed",
        "received_at",
        "id",
        postgresql_where=text("process_error IS NOT NULL"),
    ),
    Index("stream_events_status", "instance_id", "payload_status_id"),
    Index(
        "stream_events_reblog",
        "instance_id",
        "payload_reblog_id",
        postgresql_where=text("payload_reblog_id IS NOT NULL"),
    ),
    postgresql_partition_by="RANGE (received_at)",
    comment="The raw stream, append-only, a partition for each day of receipt.",
)

# Derived from the log by processing. Only processing writes them.

mastodon_accounts = Table(
    "mastodon_accounts",
    metadata,
    _instance(),
    _own_id(),
    Column("username", Text),
    Column("acct", Text, comment="name, with @domain where the account lives elsewhere"),
    Column("domain", Text, comment="where the account lives"),
    Column("display_name", Text),
    Column("url", Text),
    Column("bot", Boolean),
    Column("followers_count", BigInteger),
    Column("following_count", BigInteger),
    Column("statuses_count", BigInteger),
    _instant("created_at"),
    _instant("observed_at", "receipt of the latest event that showed it", nullable=False),
    comment="Authors of posts, as they were seen last.",
)

mastodon_posts = Table(
    "mastodon_posts",
    metadata,
    _instance(),
    _own_id(),
    _id("account_id", nullable=False),
    Column("domain", Text, nullable=False, comment="where its author lives"),
    Column("url", Text),
    Column("uri", Text),
    Column("content", Text, comment="HTML"),
    Column("content_text", Text, comment="the same without markup"),
    Column("spoiler_text", Text, comment="the content warning"),
    Column("sensitive", Boolean),
    Column("language", Text),
    Column("visibility", Text, nullable=False, comment="public, unlisted, private or direct"),
    *_counts(),
    _engagement(),
    _id("in_reply_to_id"),
    _id("in_reply_to_account_id"),
    _id("reblog_of_id"),
    Column("hashtags", JSONB, nullable=False, server_default=text("'[]'"), comment="names"),
    Column("mentions", JSONB, nullable=False, server_default=text("'[]'")),
    _instant("created_at", nullable=False),
    _instant("edited_at"),
    _instant("deleted_at", "receipt of its deletion"),
    _instant("first_seen_at", "receipt of the first event about it", nullable=False),
    Column(
        "content_hash",
        Text,
        Computed("md5(coalesce(spoiler_text, '') || E'\\n' || content_text)", persisted=True),
        comment="tells whether two contents are the same; null without content",
    ),
    Index("mastodon_posts_created", "created_at"),
    Index("mastodon_posts_time", "instance_id", "created_at"),
    Index(
        "mastodon_posts_engagement",
        "instance_id",
        text("engagement_score DESC"),
        postgresql_where=text("engagement_score > 0"),
    ),
    Index(
        "mastodon_posts_replies",
        "instance_id",
        "in_reply_to_id",
        postgresql_where=text("in_reply_to_id IS NOT NULL"),
    ),
    comment="Posts, each as of its latest version, with its latest counts.",
)

post_deletions = Table(
    "post_deletions",
    metadata,
    _instance(),
    _key_id(),
    _instant("deleted_at", "receipt of the first event that says so", nullable=False),
    comment="Posts that were deleted, also those of which nothing else is known.",
)

hashtags = Table(
    "hashtags",
    metadata,
    _instance(),
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("name", Text, nullable=False, comment="compatibility form (NFKC), case-folded"),
    _instant("first_seen_at", "receipt of the first event that showed it"),
    _instant("last_seen_at", "receipt of the latest event that showed it"),
    UniqueConstraint("instance_id", "name", name="hashtags_name"),
    comment="Hashtags that any post has had.",
)

post_hashtags = Table(
    "post_hashtags",
    metadata,
    _instance(),
    _key_id(),
    Column("hashtag_id", BigInteger, primary_key=True, autoincrement=False),
    Index("post_hashtags_hashtag", "instance_id", "hashtag_id", "post_id"),
    comment="Which post has which hashtag, each pair once.",
)

post_mentions = Table(
    "post_mentions",
    metadata,
    _instance(),
    _key_id(),
    _key_id("account_id"),
    Column("acct", Text),
    Column("username", Text),
    Column("url", Text),
    Index("post_mentions_account", "instance_id", "account_id", "post_id"),
    comment="Whom each post mentions.",
)

post_versions = Table(
    "post_versions",
    metadata,
    _instance(),
    _key_id(),
    Column("valid_from", DateTime(timezone=True), primary_key=True),
    Column("version_seq", Integer, nullable=False, comment="from 1, by time"),
    _instant("valid_to", "when the next version came; null for the latest"),
    _instant("edited_at", "null for the post as it was published"),
    Column("content_html", Text, comment="as the server wrote it"),
    Column("content_text", Text),
    Column("spoiler_text", Text),
    Column("sensitive", Boolean),
    Column("content_hash", Text, nullable=False, comment="as of the post; outlives redaction"),
    Index(
        "post_versions_edits",
        "instance_id",
        "valid_from",
        postgresql_where=text("version_seq > 1"),
    ),
    comment="What each post said, and from when to when (a slowly changing dimension of type 2).",
)

media_attachments = Table(
    "media_attachments",
    metadata,
    _instance(),
    _key_id(),
    _own_id(),
    Column("position", SmallInteger, nullable=False, comment="from 1, as the post shows them"),
    Column("type", Text, comment="image, gifv, video, audio or unknown"),
    Column("url", Text),
    Column("preview_url", Text),
    Column("description", Text),
    Column("meta_json", JSONB, comment="sizes, focus, colours, as the server has them"),
    comment="Media of each post's latest version.",
)

conversation_threads = Table(
    "conversation_threads",
    metadata,
    _instance(),
    _key_id(),
    _id("root_post_id", "the furthest ancestor known of, seen or not", nullable=False),
    Column("depth", Integer, nullable=False, comment="steps from the root, which has 0"),
    Column("reply_count", Integer, nullable=False, comment="its direct replies, not deleted"),
    Index("conversation_threads_root", "instance_id", "root_post_id"),
    comment="Where each post stands in its conversation.",
)

post_metric_snapshots = Table(
    "post_metric_snapshots",
    metadata,
    _instance(),
    _key_id(),
    Column("captured_at", DateTime(timezone=True), primary_key=True),
    *_counts(),
    _engagement(),
    Index("post_metric_snapshots_captured", "instance_id", "captured_at"),
    comment="A post's counts whenever they changed, and at least an hour apart while observed.",
)

account_follows = Table(
    "account_follows",
    metadata,
    _instance(),
    _key_id("follower_account_id"),
    _key_id("followee_account_id"),
    _instant("followed_at", "the latest that an event names"),
    _instant("unfollowed_at", "likewise; where it is later, nobody follows any more"),
    Index("account_follows_followee", "instance_id", "followee_account_id", "follower_account_id"),
    comment="Who follows whom, as events say.",
)

# Written by the program that runs a text model: none is called here.

post_sentiments = Table(
    "post_sentiments",
    metadata,
    _instance(),
    _key_id(),
    Column("model", Text, primary_key=True),
    Column("prompt_version", Text, primary_key=True),
    Column("input_hash", Text, primary_key=True, comment="content_hash of what was analyzed"),
    Column("status_version_seq", Integer, comment="version_seq of what was analyzed"),
    Column("label", Text, comment="positive, neutral, negative, or the model's own"),
    # For those who know it by that name; a table of an application's own may lack it.
    Column(
        "sentiment_label",
        Text,
        Computed("label", persisted=True),
        comment="the label",
        info={"optional": True},
    ),
    Column("score", Numeric(4, 3), comment="from -1 to 1"),
    Column("analyzed_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    comment="What a text model said of a post's content.",
)

# Tallies.

hashtag_hourly_stats = Table(
    "hashtag_hourly_stats",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("instance_id", BigInteger, nullable=False),
    Column("hashtag_id", BigInteger, nullable=False),
    _instant("hour_ts", "start of the hour, UTC", nullable=False),
    Column("posts_using_tag", Integer, nullable=False),
    Column("unique_accounts_using_tag", Integer, nullable=False),
    Column("total_engagement", BigInteger, nullable=False),
    _instant("updated_at"),
    UniqueConstraint("instance_id", "hashtag_id", "hour_ts", name="hashtag_hourly_stats_key"),
    Index("hashtag_hourly_stats_hour", "instance_id", "hour_ts"),
    comment="Posts, authors and engagement per hashtag and hour.",
)

hourly_stats = Table(
    "hourly_stats",
    metadata,
    _instance(),
    Column("hour", DateTime(timezone=True), primary_key=True, comment="its start, UTC"),
    Column("post_count", Integer, nullable=False, comment="posts that are no reblogs"),
    Column("reblog_count", Integer, nullable=False),
    Column("reply_count", Integer, nullable=False, comment="of the posts, those that answer one"),
    Column("total_engagement", BigInteger, nullable=False),
    Column("unique_accounts", Integer, nullable=False, comment="authors of posts and reblogs"),
    _instant("updated_at"),
    comment="Posts, reblogs, replies, engagement and authors per hour.",
)

hourly_domain_stats = Table(
    "hourly_domain_stats",
    metadata,
    _instance(),
    Column("hour", DateTime(timezone=True), primary_key=True, comment="its start, UTC"),
    Column("domain", Text, primary_key=True, comment="where the authors live"),
    Column("post_count", Integer, nullable=False, comment="posts that are no reblogs"),
    Column("total_engagement", BigInteger, nullable=False),
    _instant("updated_at"),
    comment="Posts and engagement per hour and domain of the author.",
)

daily_summaries = Table(
    "daily_summaries",
    metadata,
    _instance(),
    Column("window_start", DateTime(timezone=True), primary_key=True, comment="of the day, UTC"),
    _instant("window_end", "start of the next day", nullable=False),
    Column("post_count", Integer, nullable=False, comment="posts that are no reblogs"),
    Column("author_count", Integer, nullable=False),
    Column("total_engagement", BigInteger, nullable=False),
    Column("sentiment_count", Integer, nullable=False, comment="analyses of current contents"),
    Column("sentiment_sum", Numeric, nullable=False, comment="of their scores"),
    Column("input_stats_json", JSONB, nullable=False, comment="what a text model is given"),
    Column("input_hash", Text, nullable=False, comment="md5 of input_stats_json"),
    _instant("updated_at"),
    Column("model", Text, comment="by which the text was written"),
    Column("prompt_version", Text),
    Column("summary_text", Text),
    Column("summary_input_hash", Text, comment="input_hash when the text was written"),
    comment="A day's statistics, and room for a text about them.",
)

RAW = (instances, stream_events)
PROCESSED = (
    mastodon_accounts,
    mastodon_posts,
    post_deletions,
    hashtags,
    post_hashtags,
    post_mentions,
    post_versions,
    media_attachments,
    conversation_threads,
    post_metric_snapshots,
    account_follows,
)

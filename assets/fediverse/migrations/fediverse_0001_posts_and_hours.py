"""What processing the stream derives, from accounts to snapshots, and the tallies over it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from tallykeeper.installation.alembic import missing
from tallykeeper.settings import schema_of

revision = "fediverse_0001"
down_revision = None
branch_labels = ("fediverse",)
depends_on = None

ENGAGEMENT = "3 * reblogs_count + 2 * favourites_count + replies_count"
CONTENT_HASH = "md5(coalesce(spoiler_text, '') || E'\\n' || content_text)"
HOUR = "its start, UTC"
NO_REBLOGS = "posts that are no reblogs"


def upgrade() -> None:
    """Create each table unless it is there: then it was adopted."""
    schema = schema_of("fediverse")
    makers: dict[str, Callable[[str, str], None]] = {
        "mastodon_accounts": _accounts,
        "mastodon_posts": _posts,
        "post_deletions": _deletions,
        "hashtags": _hashtags,
        "post_hashtags": _post_hashtags,
        "post_mentions": _post_mentions,
        "post_versions": _post_versions,
        "media_attachments": _media_attachments,
        "conversation_threads": _conversation_threads,
        "post_metric_snapshots": _snapshots,
        "hashtag_hourly_stats": _hashtag_hours,
        "hourly_stats": _hours,
        "hourly_domain_stats": _domain_hours,
        "daily_summaries": _days,
    }
    for name, make in makers.items():
        if missing(name, schema):
            make(name, schema)


def _accounts(name: str, schema: str) -> None:
    op.create_table(
        name,
        *_ids("instance_id", "id"),
        _text("username"),
        _text("acct", "name, with @domain where the account lives elsewhere"),
        _text("domain", "where the account lives"),
        _text("display_name"),
        _text("url"),
        sa.Column("bot", sa.Boolean()),
        sa.Column("followers_count", sa.BigInteger()),
        sa.Column("following_count", sa.BigInteger()),
        sa.Column("statuses_count", sa.BigInteger()),
        _instant("created_at"),
        _instant("observed_at", "receipt of the latest event that showed it", nullable=False),
        sa.PrimaryKeyConstraint("instance_id", "id"),
        schema=schema,
        comment="Authors of posts, as they were seen last.",
    )


def _posts(name: str, schema: str) -> None:
    op.create_table(
        name,
        *_ids("instance_id", "id"),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        _text("domain", "where its author lives", nullable=False),
        _text("url"),
        _text("uri"),
        _text("content", "HTML"),
        _text("content_text", "the same without markup"),
        _text("spoiler_text", "the content warning"),
        sa.Column("sensitive", sa.Boolean()),
        _text("language"),
        _text("visibility", "public, unlisted, private or direct", nullable=False),
        *_counts(),
        sa.Column("in_reply_to_id", sa.BigInteger()),
        sa.Column("in_reply_to_account_id", sa.BigInteger()),
        sa.Column("reblog_of_id", sa.BigInteger()),
        sa.Column(
            "hashtags", JSONB(), server_default=sa.text("'[]'"), nullable=False, comment="names"
        ),
        sa.Column("mentions", JSONB(), server_default=sa.text("'[]'"), nullable=False),
        _instant("created_at", nullable=False),
        _instant("edited_at"),
        _instant("deleted_at", "receipt of its deletion"),
        _instant("first_seen_at", "receipt of the first event about it", nullable=False),
        sa.Column(
            "content_hash",
            sa.Text(),
            sa.Computed(CONTENT_HASH, persisted=True),
            comment="tells whether two contents are the same; null without content",
        ),
        sa.PrimaryKeyConstraint("instance_id", "id"),
        schema=schema,
        comment="Posts, each as of its latest version, with its latest counts.",
    )
    op.create_index("mastodon_posts_created", name, ["created_at"], schema=schema)
    op.create_index(
        "mastodon_posts_replies",
        name,
        ["instance_id", "in_reply_to_id"],
        schema=schema,
        postgresql_where=sa.text("in_reply_to_id IS NOT NULL"),
    )


def _deletions(name: str, schema: str) -> None:
    op.create_table(
        name,
        *_ids("instance_id", "post_id"),
        _instant("deleted_at", "receipt of the first event that says so", nullable=False),
        sa.PrimaryKeyConstraint("instance_id", "post_id"),
        schema=schema,
        comment="Posts that were deleted, also those of which nothing else is known.",
    )


def _hashtags(name: str, schema: str) -> None:
    op.create_table(
        name,
        *_ids("instance_id"),
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        _text("name", "compatibility form (NFKC), case-folded", nullable=False),
        sa.PrimaryKeyConstraint("instance_id", "id"),
        sa.UniqueConstraint("instance_id", "name", name="hashtags_name"),
        schema=schema,
        comment="Hashtags that any post has had.",
    )


def _post_hashtags(name: str, schema: str) -> None:
    op.create_table(
        name,
        *_ids("instance_id", "post_id", "hashtag_id"),
        sa.PrimaryKeyConstraint("instance_id", "post_id", "hashtag_id"),
        schema=schema,
        comment="Which post has which hashtag, each pair once.",
    )
    columns = ["instance_id", "hashtag_id", "post_id"]
    op.create_index("post_hashtags_hashtag", name, columns, schema=schema)


def _post_mentions(name: str, schema: str) -> None:
    op.create_table(
        name,
        *_ids("instance_id", "post_id", "account_id"),
        _text("acct"),
        _text("username"),
        _text("url"),
        sa.PrimaryKeyConstraint("instance_id", "post_id", "account_id"),
        schema=schema,
        comment="Whom each post mentions.",
    )
    columns = ["instance_id", "account_id", "post_id"]
    op.create_index("post_mentions_account", name, columns, schema=schema)


def _post_versions(name: str, schema: str) -> None:
    op.create_table(
        name,
        *_ids("instance_id", "post_id"),
        _instant("valid_from", nullable=False),
        sa.Column("version_seq", sa.Integer(), nullable=False, comment="from 1, by time"),
        _instant("valid_to", "when the next version came; null for the latest"),
        _instant("edited_at", "null for the post as it was published"),
        _text("content", "HTML"),
        _text("content_text"),
        _text("spoiler_text"),
        sa.Column("sensitive", sa.Boolean()),
        _text("content_hash", "as of the post; outlives redaction", nullable=False),
        sa.PrimaryKeyConstraint("instance_id", "post_id", "valid_from"),
        schema=schema,
        comment=(
            "What each post said, and from when to when (a slowly changing dimension of type 2)."
        ),
    )


def _media_attachments(name: str, schema: str) -> None:
    op.create_table(
        name,
        *_ids("instance_id", "post_id", "id"),
        sa.Column(
            "position", sa.SmallInteger(), nullable=False, comment="from 1, as the post shows them"
        ),
        _text("type", "image, gifv, video, audio or unknown"),
        _text("url"),
        _text("preview_url"),
        _text("description"),
        sa.PrimaryKeyConstraint("instance_id", "post_id", "id"),
        schema=schema,
        comment="Media of each post's latest version.",
    )


def _conversation_threads(name: str, schema: str) -> None:
    op.create_table(
        name,
        *_ids("instance_id", "post_id"),
        sa.Column(
            "root_post_id",
            sa.BigInteger(),
            nullable=False,
            comment="the furthest ancestor known of, seen or not",
        ),
        _number("depth", "steps from the root, which has 0"),
        _number("reply_count", "its direct replies, not deleted"),
        sa.PrimaryKeyConstraint("instance_id", "post_id"),
        schema=schema,
        comment="Where each post stands in its conversation.",
    )
    columns = ["instance_id", "root_post_id"]
    op.create_index("conversation_threads_root", name, columns, schema=schema)


def _snapshots(name: str, schema: str) -> None:
    op.create_table(
        name,
        *_ids("instance_id", "post_id"),
        _instant("captured_at", nullable=False),
        *_counts(),
        sa.PrimaryKeyConstraint("instance_id", "post_id", "captured_at"),
        schema=schema,
        comment="A post's counts whenever they changed, and at least an hour apart while observed.",
    )
    columns = ["instance_id", "captured_at"]
    op.create_index("post_metric_snapshots_captured", name, columns, schema=schema)


def _hashtag_hours(name: str, schema: str) -> None:
    op.create_table(
        name,
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        *_ids("instance_id", "hashtag_id"),
        _instant("hour_ts", "start of the hour, UTC", nullable=False),
        _number("posts_using_tag"),
        _number("unique_accounts_using_tag"),
        sa.Column("total_engagement", sa.BigInteger(), nullable=False),
        _instant("updated_at"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint(
            "instance_id", "hashtag_id", "hour_ts", name="hashtag_hourly_stats_key"
        ),
        schema=schema,
        comment="Posts, authors and engagement per hashtag and hour.",
    )
    columns = ["instance_id", "hour_ts"]
    op.create_index("hashtag_hourly_stats_hour", name, columns, schema=schema)


def _hours(name: str, schema: str) -> None:
    op.create_table(
        name,
        *_ids("instance_id"),
        _instant("hour", HOUR, nullable=False),
        _number("post_count", NO_REBLOGS),
        _number("reblog_count"),
        _number("reply_count", "of the posts, those that answer one"),
        sa.Column("total_engagement", sa.BigInteger(), nullable=False),
        _number("unique_accounts", "authors of posts and reblogs"),
        _instant("updated_at"),
        sa.PrimaryKeyConstraint("instance_id", "hour"),
        schema=schema,
        comment="Posts, reblogs, replies, engagement and authors per hour.",
    )


def _domain_hours(name: str, schema: str) -> None:
    op.create_table(
        name,
        *_ids("instance_id"),
        _instant("hour", HOUR, nullable=False),
        _text("domain", "where the authors live", nullable=False),
        _number("post_count", NO_REBLOGS),
        sa.Column("total_engagement", sa.BigInteger(), nullable=False),
        _instant("updated_at"),
        sa.PrimaryKeyConstraint("instance_id", "hour", "domain"),
        schema=schema,
        comment="Posts and engagement per hour and domain of the author.",
    )


def _days(name: str, schema: str) -> None:
    op.create_table(
        name,
        *_ids("instance_id"),
        _instant("window_start", "of the day, UTC", nullable=False),
        _instant("window_end", "start of the next day", nullable=False),
        _number("post_count", NO_REBLOGS),
        _number("author_count"),
        sa.Column("total_engagement", sa.BigInteger(), nullable=False),
        _number("sentiment_count", "analyses of current contents"),
        sa.Column("sentiment_sum", sa.Numeric(), nullable=False, comment="of their scores"),
        sa.Column(
            "input_stats_json", JSONB(), nullable=False, comment="what a text model is given"
        ),
        _text("input_hash", "md5 of input_stats_json", nullable=False),
        _instant("updated_at"),
        _text("model", "by which the text was written"),
        _text("prompt_version"),
        _text("summary_text"),
        _text("summary_input_hash", "input_hash when the text was written"),
        sa.PrimaryKeyConstraint("instance_id", "window_start"),
        schema=schema,
        comment="A day's statistics, and room for a text about them.",
    )


def _ids(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(n, sa.BigInteger(), autoincrement=False, nullable=False) for n in names]


def _text(name: str, comment: str | None = None, *, nullable: bool = True) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(), nullable=nullable, comment=comment)


def _instant(name: str, comment: str | None = None, *, nullable: bool = True) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable, comment=comment)


def _number(name: str, comment: str | None = None) -> sa.Column[Any]:
    return sa.Column(name, sa.Integer(), nullable=False, comment=comment)


def _counts() -> list[sa.Column[Any]]:
    zero = sa.text("0")
    names = "replies_count", "reblogs_count", "favourites_count"
    return [
        *(sa.Column(n, sa.BigInteger(), server_default=zero, nullable=False) for n in names),
        sa.Column(
            "engagement_score",
            sa.BigInteger(),
            sa.Computed(ENGAGEMENT, persisted=True),
            comment=ENGAGEMENT,
        ),
    ]

"""Who follows whom, when hashtags were seen, metadata of media, more indexes, and two names."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from tallykeeper.database.sql import quote
from tallykeeper.installation.alembic import missing
from tallykeeper.settings import schema_of

revision = "fediverse_0003"
down_revision = "fediverse_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what is not there; a hashtag was seen with the posts that have it."""
    schema = schema_of("fediverse")
    _hashtags(schema)
    _versions(schema)
    meta = sa.Column("meta_json", JSONB(), comment="sizes, focus, colours, as the server has them")
    op.add_column("media_attachments", meta, schema=schema, if_not_exists=True)
    for name, table, columns, where in (
        ("mastodon_posts_time", "mastodon_posts", ["created_at"], None),
        (
            "mastodon_posts_engagement",
            "mastodon_posts",
            [sa.text("engagement_score DESC")],
            "engagement_score > 0",
        ),
        ("post_versions_edits", "post_versions", ["valid_from"], "version_seq > 1"),
    ):
        op.create_index(
            name,
            table,
            ["instance_id", *columns],
            schema=schema,
            if_not_exists=True,
            postgresql_where=None if where is None else sa.text(where),
        )
    _sentiments(schema)
    if missing("account_follows", schema):
        _follows(schema)


def _hashtags(schema: str) -> None:
    new = "first_seen_at" not in _columns("hashtags", schema)
    for name, which in (("first_seen_at", "first"), ("last_seen_at", "latest")):
        column = sa.Column(
            name,
            sa.DateTime(timezone=True),
            comment=f"receipt of the {which} event that showed it",
        )
        op.add_column("hashtags", column, schema=schema, if_not_exists=True)
    if new:
        quoted = quote(schema)
        op.execute(
            f"UPDATE {quoted}.hashtags AS h SET first_seen_at = s.first_at,"
            " last_seen_at = s.last_at FROM (SELECT u.instance_id, u.hashtag_id,"
            " min(p.first_seen_at) AS first_at, max(p.first_seen_at) AS last_at"
            f" FROM {quoted}.post_hashtags AS u JOIN {quoted}.mastodon_posts AS p"
            " ON p.instance_id = u.instance_id AND p.id = u.post_id GROUP BY 1, 2) AS s"
            " WHERE s.instance_id = h.instance_id AND s.hashtag_id = h.id"
        )


def _follows(schema: str) -> None:
    ids = (
        sa.Column(name, sa.Text(collation="C"), nullable=False)
        for name in ("follower_account_id", "followee_account_id")
    )
    moments = (
        ("followed_at", "the latest that an event names"),
        ("unfollowed_at", "likewise; where it is later, nobody follows any more"),
    )
    op.create_table(
        "account_follows",
        sa.Column("instance_id", sa.BigInteger(), autoincrement=False, nullable=False),
        *ids,
        *(sa.Column(n, sa.DateTime(timezone=True), comment=comment) for n, comment in moments),
        sa.PrimaryKeyConstraint("instance_id", "follower_account_id", "followee_account_id"),
        schema=schema,
        comment="Who follows whom, as events say.",
    )
    columns = ["instance_id", "followee_account_id", "follower_account_id"]
    op.create_index("account_follows_followee", "account_follows", columns, schema=schema)


def _versions(schema: str) -> None:
    found = _columns("post_versions", schema)
    if "content" in found and "content_html" not in found:
        op.alter_column(
            "post_versions",
            "content",
            new_column_name="content_html",
            comment="as the server wrote it",
            schema=schema,
        )


def _sentiments(schema: str) -> None:
    """The table is an application's: it may be missing, or have other columns."""
    name = "post_sentiments"
    if missing(name, schema) or "label" not in _columns(name, schema):
        return
    column = sa.Column(
        "sentiment_label", sa.Text(), sa.Computed("label", persisted=True), comment="the label"
    )
    op.add_column(name, column, schema=schema, if_not_exists=True)


def _columns(table: str, schema: str) -> set[str]:
    return {c["name"] for c in sa.inspect(op.get_bind()).get_columns(table, schema=schema)}

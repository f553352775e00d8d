"""Ids of posts, accounts and media as text, as servers other than Mastodon write them.

Also in the tables of the raw log: what they were made with by an earlier release would not hold the
ids of other servers.
"""

from __future__ import annotations

from alembic import op

from assets.fediverse.id_conversion import convert
from tallykeeper.settings import schema_of

revision = "fediverse_0002"
down_revision = "fediverse_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Rewrite what is there; tables that have text already stay as they are."""
    convert(op.get_bind())
    for table in ("mastodon_accounts", "mastodon_posts", "media_attachments"):
        column = f'"{schema_of("fediverse")}".{table}.id'
        op.execute(f"COMMENT ON COLUMN {column} IS 'as its server writes it'")

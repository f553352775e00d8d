"""Items per creator and source, the junction of items and tags, and items per tag."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from tallykeeper.installation.alembic import missing
from tallykeeper.settings import schema_of
from tallykeeper.table_names import reference

revision = "gallery_0001"
down_revision = None
branch_labels = ("gallery",)
depends_on = None

SOURCES = "regular or auto"


def upgrade() -> None:
    """Create each table unless it is there: then it was adopted."""
    schema = schema_of("gallery")
    users = reference("gallery", schema, "users", "id")
    tags = reference("gallery", schema, "tags", "id")
    if missing("gen_source_stats", schema):
        _gen_source_stats(schema, users)
    if missing("content_tags", schema):
        _content_tags(schema, tags)
    if missing("content_tags_left_out", schema):
        _content_tags_left_out(schema)
    if missing("tag_cardinality_stats", schema):
        _tag_cardinality_stats(schema)


def _gen_source_stats(schema: str, users: str) -> None:
    op.create_table(
        "gen_source_stats",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("user_id", sa.Uuid(), comment="the creator; null is the community: everybody"),
        sa.Column("source_type", sa.String(10), nullable=False, comment=SOURCES),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id"),
        sa.ForeignKeyConstraint(["user_id"], [users], ondelete="CASCADE"),
        schema=schema,
        comment="Items per creator and source, and of everybody per source.",
    )
    op.create_index(
        "gen_source_stats_user",
        "gen_source_stats",
        ["user_id", "source_type"],
        unique=True,
        schema=schema,
        postgresql_where=sa.text("user_id IS NOT NULL"),
    )
    op.create_index(
        "gen_source_stats_community",
        "gen_source_stats",
        ["source_type"],
        unique=True,
        schema=schema,
        postgresql_where=sa.text("user_id IS NULL"),
    )


def _content_tags(schema: str, tags: str) -> None:
    op.create_table(
        "content_tags",
        sa.Column("content_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("content_source", sa.String(10), nullable=False, comment=SOURCES),
        sa.Column("tag_id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("content_id", "content_source", "tag_id"),
        sa.ForeignKeyConstraint(["tag_id"], [tags], ondelete="CASCADE"),
        schema=schema,
        comment="Which item has which tag, each pair once.",
    )
    op.create_index(
        "content_tags_tag",
        "content_tags",
        ["tag_id", "content_source", "content_id"],
        schema=schema,
    )


def _content_tags_left_out(schema: str) -> None:
    op.create_table(
        "content_tags_left_out",
        sa.Column("content_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("content_source", sa.String(10), nullable=False, comment=SOURCES),
        sa.Column(
            "unknown_tags",
            postgresql.ARRAY(sa.Uuid()),
            nullable=False,
            comment="ids that no tag has",
        ),
        sa.Column("null_elements", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("content_id", "content_source"),
        schema=schema,
        comment="Items whose tags are not all in the junction: unknown ids, and nulls.",
    )


def _tag_cardinality_stats(schema: str) -> None:
    op.create_table(
        "tag_cardinality_stats",
        sa.Column("tag_id", sa.Uuid(), nullable=False),
        sa.Column("content_source", sa.String(10), nullable=False, comment=SOURCES),
        sa.Column("cardinality", sa.Integer(), nullable=False, comment="items that have the tag"),
        sa.Column("updated_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("tag_id", "content_source"),
        schema=schema,
        comment="Items per tag and source.",
    )

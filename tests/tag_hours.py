"""The recomputed example: posts and their tags, counted by tag and hour, authors counted once.

A join and a distinct count, so that nothing but recomputing whole keys keeps it exact. Only tests
use it. The oracle's own, hand-written account of the same table is in `oracle.py`; nothing here
may be shared with it.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Select,
    Table,
    Text,
    func,
    select,
)

from tallykeeper import Capture, KeyFilter, RecomputedTally, System, TimeKey

metadata = MetaData(schema="forum")

posts = Table(
    "posts",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("author_id", BigInteger, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("deleted_at", DateTime(timezone=True)),
    Column("body", Text),
    Index("posts_created_at", "created_at"),
)

post_tags = Table(
    "post_tags",
    metadata,
    Column(
        "post_id",
        BigInteger,
        ForeignKey(posts.c.id, ondelete="CASCADE", onupdate="CASCADE"),
        primary_key=True,
    ),
    Column("tag_id", BigInteger, primary_key=True),
    Index("post_tags_post_id", "post_id"),
    Index("post_tags_tag_id", "tag_id"),
)

tag_hours = Table(
    "tag_hours",
    metadata,
    Column("tag_id", BigInteger, primary_key=True),
    Column("hour", DateTime(timezone=True), primary_key=True),
    Column("posts", Integer, nullable=False),
    Column("authors", Integer, nullable=False),
    Column("updated_at", DateTime(timezone=True)),
)


def aggregate(scope: KeyFilter) -> Select[Any]:
    """Posts that are not deleted, and their distinct authors, by tag and hour."""
    hour = func.date_trunc("hour", posts.c.created_at, "UTC").label("hour")
    return (
        select(
            post_tags.c.tag_id,
            hour,
            func.count().label("posts"),
            func.count(posts.c.author_id.distinct()).label("authors"),
        )
        .select_from(posts.join(post_tags, post_tags.c.post_id == posts.c.id))
        .where(
            posts.c.deleted_at.is_(None),
            *scope(tag_id=post_tags.c.tag_id, hour=posts.c.created_at),
        )
        .group_by(post_tags.c.tag_id, hour.element)
    )


captures = [
    Capture(
        posts,
        entity=lambda post: {"post_id": post.id},
        key=lambda post: {"hour": post.created_at},
    ),
    Capture(
        post_tags,
        entity=lambda tagging: {"post_id": tagging.post_id},
        key=lambda tagging: {"tag_id": tagging.tag_id},
    ),
]

tally = RecomputedTally(
    system="forum",
    table=tag_hours,
    key=["tag_id", "hour"],
    measures=["posts", "authors"],
    captures=captures,
    aggregate=aggregate,
    time_key=TimeKey("hour", "hour"),
)

system = System("forum", metadata, [tally])

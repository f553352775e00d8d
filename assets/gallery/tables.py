"""The tables of the gallery: four sources, four derived.

Only their shape stands here. How the derived ones follow from the sources is in `tallies.py`.
The schema is `gallery`, or what `TALLY_SCHEMA_GALLERY` names; the sources may have other names
(`TALLY_NAMES`).
"""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    Uuid,
    func,
    text,
)

from tallykeeper import MAY_BE_NULL
from tallykeeper.settings import schema_of
from tallykeeper.table_names import SourceTables

REGULAR = "regular"
AUTO = "auto"

metadata = MetaData(schema=schema_of("gallery"))
_sources = SourceTables("gallery", metadata)

users = _sources.table(
    "users",
    Column("id", Uuid, primary_key=True, server_default=func.gen_random_uuid()),
    Column("username", Text),
    comment="Who makes items.",
)

tags = _sources.table(
    "tags",
    Column("id", Uuid, primary_key=True, server_default=func.gen_random_uuid()),
    Column("name", Text, nullable=False, unique=True),
    # A tag cloud is searched by the beginning of the name, whatever the database's collation.
    Index("tags_name_prefix", "name", postgresql_ops={"name": "text_pattern_ops"}),
    comment="What an item may be tagged with.",
)


def _items(name: str, comment: str) -> Table:
    return _sources.table(
        name,
        Column("id", Integer, Identity(), primary_key=True),
        Column("title", Text),
        Column("content_type", Text),
        Column("creator_id", Uuid, ForeignKey(users.c.id), nullable=False, info=MAY_BE_NULL),
        Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        Column("updated_at", DateTime(timezone=True)),
        Column("is_private", Boolean, nullable=False, server_default=text("false")),
        Column(
            "tags",
            ARRAY(Uuid),
            nullable=False,
            server_default=text("'{}'"),
            info=MAY_BE_NULL,
        ),
        # Newest first, for pages of everybody's items and of one creator's.
        Index(f"{name}_created", "created_at", "id"),
        Index(f"{name}_creator_created", "creator_id", "created_at", "id"),
        # From a tag to the items that name it, as of the last commit. Entered at once, because
        # every reader would have to go through what waits to be entered.
        Index(
            f"{name}_tags", "tags", postgresql_using="gin", postgresql_with={"fastupdate": "off"}
        ),
        comment=comment,
    )


content_items = _items("content_items", "Items that people made.")
content_items_auto = _items("content_items_auto", "Items that were generated.")

_sources.require_known()

ITEMS = {REGULAR: content_items, AUTO: content_items_auto}

gen_source_stats = Table(
    "gen_source_stats",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column(
        "user_id",
        Uuid,
        ForeignKey(users.c.id, ondelete="CASCADE"),
        comment="the creator; null is the community: everybody",
    ),
    Column("source_type", String(10), nullable=False, comment="regular or auto"),
    Column("count", Integer, nullable=False),
    Column("updated_at", DateTime(timezone=True)),
    comment="Items per creator and source, and of everybody per source.",
)
# A nullable column can be in no primary key; two partial indexes cover it.
Index(
    "gen_source_stats_user",
    gen_source_stats.c.user_id,
    gen_source_stats.c.source_type,
    unique=True,
    postgresql_where=gen_source_stats.c.user_id.is_not(None),
)
Index(
    "gen_source_stats_community",
    gen_source_stats.c.source_type,
    unique=True,
    postgresql_where=gen_source_stats.c.user_id.is_(None),
)

content_tags = Table(
    "content_tags",
    metadata,
    Column("content_id", Integer, primary_key=True, autoincrement=False),
    Column("content_source", String(10), primary_key=True, comment="regular or auto"),
    Column("tag_id", Uuid, ForeignKey(tags.c.id, ondelete="CASCADE"), primary_key=True),
    Index("content_tags_tag", "tag_id", "content_source", "content_id"),
    comment="Which item has which tag, each pair once.",
)

content_tags_left_out = Table(
    "content_tags_left_out",
    metadata,
    Column("content_id", Integer, primary_key=True, autoincrement=False),
    Column("content_source", String(10), primary_key=True, comment="regular or auto"),
    Column("unknown_tags", ARRAY(Uuid), nullable=False, comment="ids that no tag has"),
    Column("null_elements", Integer, nullable=False),
    Column("updated_at", DateTime(timezone=True)),
    comment="Items whose tags are not all in the junction: unknown ids, and nulls.",
)

tag_cardinality_stats = Table(
    "tag_cardinality_stats",
    metadata,
    Column("tag_id", Uuid, primary_key=True),
    Column("content_source", String(10), primary_key=True, comment="regular or auto"),
    Column("cardinality", Integer, nullable=False, comment="items that have the tag"),
    Column("updated_at", DateTime(timezone=True)),
    comment="Items per tag and source.",
)

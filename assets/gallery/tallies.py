"""The declarations of the gallery, readable as its specification."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    ARRAY,
    Integer,
    Select,
    Subquery,
    Table,
    Uuid,
    cast,
    column,
    exists,
    func,
    literal,
    null,
    select,
    true,
    union_all,
)

from assets.gallery import tables
from tallykeeper import Batches, Lane, SelectTally, System
from tallykeeper.declarations.combining import SUM
from tallykeeper.system import Access


def _items(source_type: str, items: Table, everybody: bool) -> Select[Any]:
    """Each item's creator, or everybody, whom null stands for here, and of what source it is."""
    user = cast(null(), Uuid) if everybody else items.c.creator_id
    source = cast(literal(source_type), tables.gen_source_stats.c.source_type.type)
    found = select(user.label("user_id"), source.label("source_type"))
    # Without a creator an item is the community's alone.
    return found.select_from(items) if everybody else found.where(items.c.creator_id.is_not(None))


_creators = union_all(
    *(
        _items(source_type, items, everybody)
        for source_type, items in tables.ITEMS.items()
        for everybody in (False, True)
    )
).subquery("creators")

gen_source_stats = SelectTally(
    "gallery.gen_source_stats",
    select=select(
        _creators.c.user_id,
        _creators.c.source_type,
        cast(func.count(), Integer).label("count"),
    ).group_by(_creators.c.user_id, _creators.c.source_type),
    table=tables.gen_source_stats,
    formerly=["7231ba8d036fb414"],
    totals=["user_id"],
)


batches = Batches(
    lane="content_source",
    along="content_id",
    lanes={
        content_source: Lane(
            items,
            position=lambda item: item.id,
            weight=lambda item: func.cardinality(item.tags),
        )
        for content_source, items in tables.ITEMS.items()
    },
)


def _tagged() -> Subquery:
    """Every item with its tags as they are written, and of what source it is."""
    source = tables.content_tags.c.content_source.type
    parts = (
        select(
            items.c.id.label("content_id"),
            cast(literal(content_source), source).label("content_source"),
            items.c.tags,
        )
        for content_source, items in tables.ITEMS.items()
    )
    return union_all(*parts).subquery("tagged")


def _pairs() -> Select[Any]:
    """Every item with each of its tags once; nulls and ids that no tag has are left out."""
    items = _tagged()
    each = select(func.unnest(items.c.tags, type_=Uuid()).label("tag_id")).correlate(items)
    named = each.distinct().lateral("named")
    return select(
        items.c.content_id, items.c.content_source, tables.tags.c.id.label("tag_id")
    ).select_from(items.join(named, true()).join(tables.tags, tables.tags.c.id == named.c.tag_id))


content_tags = SelectTally(
    "gallery.content_tags",
    select=_pairs(),
    table=tables.content_tags,
    key=["content_id", "content_source", "tag_id"],
    batches=batches,
    formerly=["2f2d9072c5272ad7"],
)


def _left_out() -> Select[Any]:
    """Every item that names what is no tag: those ids once, in order, and how many nulls."""
    items = _tagged()
    tag_id = column("tag_id", Uuid)
    elements = func.unnest(items.c.tags).table_valued(tag_id, joins_implicitly=True)
    named = elements.render_derived("named").lateral()
    known = exists(select(1).where(tables.tags.c.id == named.c.tag_id))
    # DISTINCT in an aggregate sorts, so that equal sets are equal arrays.
    unknown = func.array_agg(named.c.tag_id.distinct())
    nulls = func.count().filter(named.c.tag_id.is_(None))
    return (
        select(
            items.c.content_id,
            items.c.content_source,
            func.array_remove(unknown, None, type_=ARRAY(Uuid)).label("unknown_tags"),
            cast(nulls, Integer).label("null_elements"),
        )
        .select_from(items.join(named, true()))
        .where(~known)
        .group_by(items.c.content_id, items.c.content_source)
    )


content_tags_left_out = SelectTally(
    "gallery.content_tags_left_out",
    select=_left_out(),
    table=tables.content_tags_left_out,
    key=["content_id", "content_source"],
    combine={"null_elements": SUM},
    formerly=["aa5f40c7c328a3b2"],
)

_pair = tables.content_tags.c
# A junction that is adopted may have it as text.
_source = cast(_pair.content_source, tables.tag_cardinality_stats.c.content_source.type)

tag_cardinality_stats = SelectTally(
    "gallery.tag_cardinality_stats",
    select=select(
        _pair.tag_id,
        _source.label("content_source"),
        cast(func.count(), Integer).label("cardinality"),
    ).group_by(_pair.tag_id, _source),
    table=tables.tag_cardinality_stats,
    formerly=["1633831e98f036a3"],
)

system = System(
    "gallery",
    tables.metadata,
    [gen_source_stats, content_tags, content_tags_left_out, tag_cardinality_stats],
    # Pages of items are read from the items themselves.
    access=Access(read=[tables.tags, *tables.ITEMS.values()]),
    package=__package__,
)

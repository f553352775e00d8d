"""The declarations of the gallery, readable as its specification."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    ARRAY,
    FromClause,
    Integer,
    Select,
    Table,
    Text,
    Uuid,
    cast,
    exists,
    func,
    literal,
    null,
    select,
    true,
    union_all,
)

from assets.gallery import tables
from tallykeeper import (
    Batches,
    Capture,
    KeyFilter,
    Lane,
    RecomputedTally,
    SelectTally,
    System,
)
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


def _item_key(content_source: str) -> Callable[[Any], dict[str, Any]]:
    return lambda item: {"content_id": item.id, "content_source": content_source}


def _items_that_name(tag_ids: FromClause) -> Select[Any]:
    """The items whose arrays hold any of the tags: those that a tag's coming or going concerns."""
    named = select(func.array_agg(tag_ids.c.tag_id, type_=ARRAY(Uuid))).scalar_subquery()
    found = (
        select(
            items.c.id.label("content_id"),
            cast(literal(content_source), Text).label("content_source"),
        ).where(items.c.tags.op("&&", is_comparison=True)(named))
        for content_source, items in tables.ITEMS.items()
    )
    return select(union_all(*found).subquery("naming"))


captures = [
    *(
        Capture(items, key=_item_key(content_source))
        for content_source, items in tables.ITEMS.items()
    ),
    Capture(tables.tags, entity=lambda tag: {"tag_id": tag.id}, keys=_items_that_name),
]

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


def _named(items: Table) -> Select[Any]:
    """The elements of one item's array."""
    return select(func.unnest(items.c.tags, type_=Uuid()).label("tag_id")).correlate(items)


def _pairs(scope: KeyFilter) -> Select[Any]:
    """Every item with each of its tags once; nulls and ids that no tag has are left out."""
    parts = []
    for content_source, items in tables.ITEMS.items():
        named = _named(items).distinct().lateral(f"named_by_{content_source}")
        source = cast(literal(content_source), Text)
        parts.append(
            select(
                items.c.id.label("content_id"),
                source.label("content_source"),
                tables.tags.c.id.label("tag_id"),
            )
            .select_from(
                items.join(named, true()).join(tables.tags, tables.tags.c.id == named.c.tag_id)
            )
            .where(*scope(content_id=items.c.id, content_source=source))
        )
    pairs = union_all(*parts).subquery("pairs")
    return select(pairs.c.content_id, pairs.c.content_source, pairs.c.tag_id)


content_tags = RecomputedTally(
    system="gallery",
    table=tables.content_tags,
    key=["content_id", "content_source", "tag_id"],
    measures=[],
    group=["content_id", "content_source"],
    captures=captures,
    aggregate=_pairs,
    batches=batches,
)


def _left_out(scope: KeyFilter) -> Select[Any]:
    """Every item that names what is no tag: those ids once, in order, and how many nulls."""
    parts = []
    for content_source, items in tables.ITEMS.items():
        named = _named(items).lateral(f"named_by_{content_source}")
        source = cast(literal(content_source), Text)
        known = exists().where(tables.tags.c.id == named.c.tag_id)
        parts.append(
            select(
                items.c.id.label("content_id"),
                source.label("content_source"),
                # DISTINCT in an aggregate sorts, so that equal sets are equal arrays.
                func.array_remove(
                    func.array_agg(named.c.tag_id.distinct()), None, type_=ARRAY(Uuid)
                ).label("unknown_tags"),
                func.count().filter(named.c.tag_id.is_(None)).label("null_elements"),
            )
            .select_from(items.join(named, true()))
            .where(~known, *scope(content_id=items.c.id, content_source=source))
            .group_by(items.c.id)
        )
    left_out = union_all(*parts).subquery("left_out")
    return select(*left_out.c)


content_tags_left_out = RecomputedTally(
    system="gallery",
    table=tables.content_tags_left_out,
    key=["content_id", "content_source"],
    measures=["unknown_tags", "null_elements"],
    combine={"null_elements": SUM},
    captures=captures,
    aggregate=_left_out,
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

"""The declarations of the gallery, readable as its specification."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    ARRAY,
    FromClause,
    Select,
    Table,
    Text,
    Uuid,
    cast,
    exists,
    func,
    literal,
    select,
    true,
    union_all,
)

from assets.gallery import tables
from tallykeeper import (
    AdditiveTally,
    Batches,
    Capture,
    Contribution,
    KeyFilter,
    Lane,
    RecomputedTally,
    System,
)
from tallykeeper.declarations.combining import SUM
from tallykeeper.system import Access


def _counted(source_type: str, items: Table, everybody: bool) -> Contribution:
    return Contribution(
        items,
        key=lambda item: {
            "user_id": None if everybody else item.creator_id,
            "source_type": source_type,
        },
        measures=lambda _item: {"count": 1},
        # Without a creator an item is the community's alone, and null means the community here.
        where=None if everybody else lambda item: item.creator_id.is_not(None),
    )


gen_source_stats = AdditiveTally(
    system="gallery",
    table=tables.gen_source_stats,
    contributions=[
        _counted(source_type, items, everybody)
        for source_type, items in tables.ITEMS.items()
        for everybody in (False, True)
    ],
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

tag_cardinality_stats = AdditiveTally(
    system="gallery",
    table=tables.tag_cardinality_stats,
    contributions=[
        Contribution(
            tables.content_tags,
            key=lambda pair: {"tag_id": pair.tag_id, "content_source": pair.content_source},
            measures=lambda _pair: {"cardinality": 1},
        )
    ],
)

system = System(
    "gallery",
    tables.metadata,
    [gen_source_stats, content_tags, content_tags_left_out, tag_cardinality_stats],
    # Pages of items are read from the items themselves.
    access=Access(read=[tables.tags, *tables.ITEMS.values()]),
    package=__package__,
)

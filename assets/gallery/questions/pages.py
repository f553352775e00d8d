"""A page of the gallery's items with given tags, newest first, each page where the last one ended.

From a page one can go on to older items and back to newer ones; back is the same search with its
order turned round.

Read from the sources themselves, so that an item's tags count the moment they are committed. The
stored tallies only say which way is the quicker one. Invariants: every way returns the same
items in the same order, and a page goes on right behind the place in its cursor, whatever came or
went since.

Values are written into the statements, and not sent beside them: how many items have a tag decides
on PostgreSQL's plan, and a plan kept for any tag would be wrong for most.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple, TypedDict
from uuid import UUID

from sqlalchemy import Connection, text

from assets.gallery import tables
from assets.gallery.questions.cursors import Place, decode, encode
from assets.gallery.questions.filters import (
    LARGEST_PAGE,
    SOURCES,
    Filters,
    Kind,
    Tag,
    checked,
    id_in,
    is_storable,
    whole_number,
)
from assets.gallery.questions.plans import Outlook, Plan, choose
from tallykeeper.database import sql
from tallykeeper.reads.live_reads import in_utc, read

_TAGS, _CARDINALITIES, _COUNTS = (
    sql.name_of(table)
    for table in (tables.tags, tables.tag_cardinality_stats, tables.gen_source_stats)
)
_READ = ("id", "title", "content_type", "creator_id", "created_at", "is_private", "tags")
_TAG_ROWS = sql.renamed(tables.tags, "t", ["id", "name"])
# The first and the last moment that Python's datetime knows.
_FIRST, _LAST = "0001-01-01 00:00:00+00", "9999-12-31 23:59:59.999999+00"
# A moment to the microsecond, as every PostgreSQL reads it again whatever the session's settings.
_WRITTEN = """CASE WHEN NOT isfinite(created_at) THEN created_at::text
  ELSE to_char(timezone('UTC', created_at), 'YYYY-MM-DD HH24:MI:SS.US') || '+00'
    || CASE WHEN created_at < timestamptz '0001-01-01 00:00:00+00' THEN ' BC' ELSE '' END END"""


class Item(TypedDict):
    """One item. `tags` is its array as it stands, with what is no tag among it.

    `creator_id` is None where the item has no creator.
    A moment that Python's datetime cannot hold is given as the first or last that it can.
    """

    id: int
    source: str
    title: str | None
    content_type: str | None
    creator_id: UUID | None
    created_at: datetime
    is_private: bool
    tags: list[UUID | None]


class Page(TypedDict):
    """Items, newest first, and the cursors for those after and before them; None where none are.

    `prev_cursor` is None on a page that was asked for without a cursor, newer items or not.
    """

    items: list[Item]
    next_cursor: str | None
    prev_cursor: str | None


class _Found(NamedTuple):
    """An item with its place: seconds since 1970, exactly; and the same as text."""

    seconds: Decimal
    written: str
    item: Item


@dataclass(frozen=True)
class _Bound:
    """A place within one source, and whether the item at that very place lies within as well."""

    created_at: str
    id: int
    included: bool


@dataclass(frozen=True)
class _Stretch:
    """Part of one source's items as they are searched: from `start` to `end`; None is open.

    Newest first, or back from older to newer ones.
    """

    source: str
    start: _Bound | None
    end: _Bound | None = None
    back: bool = False

    @property
    def bounds(self) -> list[tuple[_Bound | None, str]]:
        """Its two ends, with how items between them compare with each."""
        after, before = (">", "<") if self.back else ("<", ">")
        return [(self.start, after), (self.end, before)]


def content_page(
    connection: Connection,
    *,
    tags: Iterable[Tag] = (),
    match: str = "any",
    sources: str | Collection[str] = SOURCES,
    creator: str | Collection[str] = "all",
    kinds: Collection[Kind] | None = None,
    user_id: UUID | str | None = None,
    private: bool | None = None,
    page_size: int = 20,
    cursor: str | None = None,
) -> Page:
    """Up to `page_size` (1 to 1,000) items, newest first: by moment, id and source.

    With any or all of the `tags`, each an id or a name (a text that is an id of a tag is that tag).
    What is no tag matches nothing. `creator`: "user" for the user's own items, "community" for
    everybody else's; both, or "all", for no filter. `kinds`, pairs of a creator and a source like
    ("user", "auto"), stand in place of both where not every source is wanted of the same creators.
    `private`: None for no filter. Raises ValueError for invalid arguments, BadCursor for a
    cursor that is not this question's, NotInstalled where there is no gallery in the database.
    """
    filters = checked(tags, match, sources, creator, user_id, private, kinds)
    whole_number("page_size", page_size, LARGEST_PAGE)
    after = None if cursor is None else decode(cursor, str(filters))
    # Where moments have no zone, they are in UTC.
    with in_utc(connection):
        return _asked_for(connection, filters, after, page_size)


def _asked_for(
    connection: Connection, filters: Filters, after: Place | None, page_size: int
) -> Page:
    tag_ids, tagged = _tags(connection, filters)
    missing = len(tag_ids) < len(filters.tags)
    if filters.tags and (not tag_ids or (missing and filters.match == "all")):
        return {"items": [], "next_cursor": None, "prev_cursor": None}
    back = after is not None and after.back
    ids = sorted(set(tag_ids.values()))
    counted = _counted(connection, filters) if ids else {}
    found: list[_Found] = []
    for source in filters.sources:
        items, eligible = counted.get(source, (None, None))
        cards = [tagged.get((tag_id, source), 0) for tag_id in ids]
        outlook = Outlook(items, eligible, cards, filters.match == "all")
        creator = filters.creator_of(source)
        search = _Search(connection, filters, creator, ids, page_size + 1, back)
        found += search.nearest(source, after, choose(outlook, page_size + 1), eligible)
    found.sort(key=_order, reverse=back)
    return _page(found, page_size, str(filters), after)


def _order(found: _Found) -> tuple[Decimal, int, int]:
    return -found.seconds, -found.item["id"], SOURCES.index(found.item["source"])


def _page(found: list[_Found], size: int, question: str, after: Place | None) -> Page:
    """The page, of what lies nearest behind the place, or before it where it is one to go back."""
    more = len(found) > size
    shown = found[:size]
    back = after is not None and after.back
    if back:
        shown.reverse()

    def cursor(there: bool, one: _Found, back: bool) -> str | None:
        place = Place(one.written, one.item["id"], one.item["source"], back)
        return encode(place, question) if there else None

    # Where the place is, there was a page: the one that gave the cursor.
    return {
        "items": [one.item for one in shown],
        "next_cursor": cursor(more or back, shown[-1], back=False) if shown else None,
        "prev_cursor": cursor(more if back else after is not None, shown[0], back=True)
        if shown
        else None,
    }


def _tags(
    connection: Connection, filters: Filters
) -> tuple[dict[Tag, UUID], dict[tuple[UUID, str], int]]:
    """The ids of those given that are tags, and how many items of each source have them."""
    names = [tag for tag in filters.tags if isinstance(tag, str) and is_storable(tag)]
    possible = {tag: id_in(tag) for tag in filters.tags}
    if not filters.tags:
        return {}, {}
    rows = read(
        connection,
        text(
            f"SELECT t.id, t.name, s.content_source, s.cardinality FROM {_TAG_ROWS}"
            f" LEFT JOIN {_CARDINALITIES} AS s ON s.tag_id = t.id"
            " WHERE t.id = ANY (CAST(:ids AS uuid[])) OR t.name = ANY (CAST(:names AS text[]))"
        ).bindparams(ids=[i for i in possible.values() if i is not None], names=names),
        f"{_TAGS} and {_CARDINALITIES}",
    )
    known = {row.id for row in rows}
    named = {row.name: row.id for row in rows}
    ids: dict[Tag, UUID] = {}
    for tag, possibly in possible.items():
        if possibly is not None and possibly in known:
            ids[tag] = possibly
        elif tag in named:
            ids[tag] = named[tag]
    return ids, {(row.id, row.content_source): row.cardinality for row in rows}


def _counted(connection: Connection, filters: Filters) -> dict[str, tuple[int, int]]:
    """By source, as of the last refresh: items of everybody, and of the creators asked for."""
    rows = read(
        connection,
        text(
            f"SELECT user_id IS NULL AS everybody, source_type, count AS items FROM {_COUNTS}"
            " WHERE user_id IS NULL OR user_id = CAST(:user_id AS uuid)"
        ).bindparams(user_id=filters.user_id),
        _COUNTS,
    )
    everybody = {
        row.source_type: row.items
        for row in rows
        if row.everybody and row.source_type in filters.sources
    }
    users = {row.source_type: row.items for row in rows if not row.everybody}
    counted = {}
    for source, items in everybody.items():
        own = users.get(source, 0)
        creator = filters.creator_of(source)
        eligible = {"all": items, "user": own, "community": items - own}[creator]
        counted[source] = (items, eligible)
    return counted


@dataclass(frozen=True)
class _Search:
    """For the `wanted` nearest items of one source at a time: the newest, or going back."""

    connection: Connection
    filters: Filters
    creator: str
    tag_ids: list[UUID]
    wanted: int
    back: bool

    def nearest(
        self, source: str, after: Place | None, plan: Plan, eligible: int | None
    ) -> list[_Found]:
        """Those after the place, step by step: each goes on where the one before it ended."""
        start = None if after is None else _bound(after, source)
        found: dict[int, _Found] = {}
        while True:
            end = None
            if plan.rows is not None:
                end = self._further(_Stretch(source, start, back=self.back), plan.rows)
            stretch = _Stretch(source, start, end, self.back)
            for one in self._in(stretch, plan):
                # Between two statements an item may have been moved to another moment.
                found.setdefault(one.item["id"], one)
            if end is None or len(found) >= self.wanted:
                return sorted(found.values(), key=_order, reverse=self.back)[: self.wanted]
            start = _Bound(end.created_at, end.id, included=False)
            plan = plan.after(eligible, len(found), self.wanted)

    def _further(self, stretch: _Stretch, rows: int) -> _Bound | None:
        """The place so many rows further, looked up in an index; None where it ends before."""
        # What is passed over is not written out.
        statement = (
            f"SELECT {_WRITTEN}, id FROM (SELECT created_at, id FROM {_rows(stretch.source)}"
            f" WHERE {self._ordered(stretch)}"
            f" ORDER BY {self._in_order} OFFSET {rows} LIMIT 1) AS last"
        )
        found = read(self.connection, statement, _table(stretch.source))
        return _Bound(found[0][0], found[0][1], included=True) if found else None

    def _in(self, stretch: _Stretch, plan: Plan) -> list[_Found]:
        columns = (
            f"id, title, content_type, creator_id, is_private, tags,"
            f" timezone('UTC', least(greatest(created_at, '{_FIRST}'), '{_LAST}')) AS moment,"
            f" extract(epoch FROM created_at) AS seconds, {_WRITTEN} AS written"
        )
        way = self._walk if plan.way == "walk" else self._gather
        found = []
        for row in read(self.connection, way(stretch, columns), _table(stretch.source)):
            item: Item = {
                "id": row.id,
                "source": stretch.source,
                "title": row.title,
                "content_type": row.content_type,
                "creator_id": row.creator_id,
                "created_at": row.moment.replace(tzinfo=UTC),
                "is_private": bool(row.is_private),
                "tags": row.tags or [],
            }
            found.append(_Found(row.seconds, row.written, item))
        return found

    def _walk(self, stretch: _Stretch, columns: str) -> str:
        conditions = [self._ordered(stretch), *self._filtered()]
        if self.tag_ids:
            # In this form no index over the tags answers it.
            conditions.append(f"({self._tagged()}) IS TRUE")
        return (
            f"SELECT {columns} FROM {_rows(stretch.source)} WHERE {' AND '.join(conditions)}"
            f" ORDER BY {self._in_order} LIMIT {self.wanted}"
        )

    def _gather(self, stretch: _Stretch, columns: str) -> str:
        """OFFSET 0 keeps the sorting out of what finds the items, so no index in order is used."""
        conditions = [self._tagged(), *self._filtered(), *_within(stretch)]
        if self.creator == "user":
            conditions.append(f"creator_id = {self._user}")
        return (
            f"SELECT {columns} FROM {_rows(stretch.source)} WHERE id = ANY (ARRAY("
            f"SELECT id FROM (SELECT created_at, id FROM {_rows(stretch.source)}"
            f" WHERE {' AND '.join(conditions)} OFFSET 0) AS hits"
            f" ORDER BY {self._by_moment} LIMIT {self.wanted}))"
            f" ORDER BY {self._by_moment}"
        )

    @property
    def _user(self) -> str:
        return f"uuid '{self.filters.user_id}'"

    @property
    def _direction(self) -> str:
        return "ASC" if self.back else "DESC"

    @property
    def _by_moment(self) -> str:
        return f"created_at {self._direction}, id {self._direction}"

    @property
    def _in_order(self) -> str:
        creator = f"creator_id {self._direction}, " if self.creator == "user" else ""
        return f"{creator}{self._by_moment}"

    def _ordered(self, stretch: _Stretch) -> str:
        """The stretch, of the user's items alone where only these are asked for.

        Said of the whole key of one index, so that this index is used: an equation for the
        creator would let PostgreSQL walk through everybody's items to find the creator's.
        """
        own = self.creator == "user"
        key, first = "created_at, id", ""
        if own:
            key, first = f"creator_id, {key}", f"{self._user}, "
        # In a table that is adopted an item may have no moment: it is on no page.
        conditions = ["created_at IS NOT NULL"]
        for bound, sign in stretch.bounds:
            if bound is not None:
                operator = f"{sign}=" if bound.included else sign
                conditions.append(f"({key}) {operator} ({first}{_values(bound)})")
            elif own:
                conditions.append(f"creator_id {sign}= {self._user}")
        return " AND ".join(conditions)

    def _filtered(self) -> list[str]:
        conditions = []
        if self.creator == "community":
            conditions.append(f"creator_id IS DISTINCT FROM {self._user}")
        if self.filters.private is not None:
            conditions.append("is_private" if self.filters.private else "is_private IS NOT TRUE")
        return conditions

    def _tagged(self) -> str:
        operator = "@>" if self.filters.match == "all" else "&&"
        return f"tags {operator} '{{{','.join(map(str, self.tag_ids))}}}'::uuid[]"


def _bound(place: Place, source: str) -> _Bound:
    """Where a source goes on after the place of an item that may be of another source."""
    later = SOURCES.index(source) > SOURCES.index(place.source)
    earlier = SOURCES.index(source) < SOURCES.index(place.source)
    return _Bound(place.created_at, place.id, included=earlier if place.back else later)


def _within(stretch: _Stretch) -> list[str]:
    conditions = ["created_at IS NOT NULL"]
    for bound, sign in stretch.bounds:
        if bound is not None:
            operator = f"{sign}=" if bound.included else sign
            conditions.append(f"(created_at, id) {operator} ({_values(bound)})")
            # What follows from it, said so that PostgreSQL can tell how many items that leaves.
            conditions.append(f"created_at {sign}= {_moment(bound)}")
    return conditions


def _values(bound: _Bound) -> str:
    return f"{_moment(bound)}, {bound.id}"


def _moment(bound: _Bound) -> str:
    return f"timestamptz {sql.literal(bound.created_at)}"


def _rows(source: str) -> str:
    return sql.renamed(tables.ITEMS[source], "items", _READ)


def _table(source: str) -> str:
    return sql.name_of(tables.ITEMS[source])

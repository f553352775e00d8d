"""Bring real gallery items into the items, users and tags: from CSV, JSON Lines or Parquet.

What is written to the database, and how. What a row says is in `fields.py`. Invariants:
- An item is known by its source and id. Loading the same input again changes nothing. Where several
  rows name one item, the last one counts; what it leaves open, an earlier one says.
- The input is the truth about an item's creator and tags. What else it leaves open (a time of
  creation, a title) stays as it is; a new item was created at the moment of loading then.
- Names that nobody has become users and tags, once, however many loads run at a time. A tag's id
  that no tag has stays in the array: the junction leaves it out and reports it.
- Items that the input does not name stay: a load adds and changes, and never deletes.
- The application's next item gets an id that is free.
- Rows are committed in chunks. A load that was killed left whole chunks, and can simply be run
  again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import (
    ARRAY,
    Boolean,
    Column,
    Connection,
    DateTime,
    Engine,
    Integer,
    MetaData,
    Table,
    Text,
    Uuid,
    inspect,
    text,
)

from assets.gallery import tables
from assets.gallery.input.fields import Item
from assets.gallery.input.listing import open_listing
from assets.gallery.input.names import creator_ids, tag_ids
from assets.gallery.input.numbering import advance, sequences_of
from tallykeeper.database.retry import Retry
from tallykeeper.database.sqlstates import DEADLOCK_DETECTED, FOREIGN_KEY_VIOLATION
from tallykeeper.input.frame_input import source_of
from tallykeeper.input.loader import Loader
from tallykeeper.input.loading import Loaded, LoadError, ProgressCallback, RejectFile, copy_rows

if TYPE_CHECKING:
    import pandas as pd

CHUNK_ITEMS = 20_000
CHUNK_TAGS = 200_000
# A deadlock with the application; a creator who was deleted between being found and being used.
_MERGE_AGAIN = Retry({DEADLOCK_DETECTED, FOREIGN_KEY_VIOLATION}, attempts=5)

_staged = Table(
    "tallykeeper_staged_items",
    MetaData(),
    Column("source", Text, primary_key=True),
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("creator_id", Uuid, nullable=False),
    Column("created_at", DateTime(timezone=True)),
    Column("title", Text),
    Column("content_type", Text),
    Column("is_private", Boolean),
    Column("tags", ARRAY(Uuid), nullable=False),
    prefixes=["TEMPORARY"],
    postgresql_on_commit="DROP",
)

# What an item will be: what the row says, else what is stored, else the default of a new one.
_GIVEN = {
    "title": "coalesce(s.title, {here}.title)",
    "content_type": "coalesce(s.content_type, {here}.content_type)",
    "creator_id": "s.creator_id",
    "created_at": "coalesce(s.created_at, {here}.created_at)",
    "is_private": "coalesce(s.is_private, {here}.is_private)",
    "tags": "s.tags",
}
_COLUMNS = ", ".join(_GIVEN)

# Whether an item is there just so is looked up item by item: as a join it would read the whole
# table for every chunk. Items are written by ascending id, so that two loads do not deadlock.
# A row version that no transaction has locked or replaced has xmax 0: it was inserted just now.
_UPSERT = f"""
WITH written AS (
  INSERT INTO {{items}} AS here (id, {_COLUMNS}{{partition}})
  OVERRIDING SYSTEM VALUE
  SELECT s.id, s.title, s.content_type, s.creator_id, coalesce(s.created_at, now()),
    coalesce(s.is_private, false), s.tags{{source}}
  FROM {_staged.name} AS s
  WHERE s.source = :source AND (SELECT {{same_stored}} FROM {{items}} AS i WHERE i.id = s.id)
    IS NOT TRUE
  ORDER BY s.id
  ON CONFLICT ({{key}}) DO UPDATE SET ({_COLUMNS}, updated_at) = (
    SELECT {", ".join(_GIVEN.values()).format(here="here")}, now()
    FROM {_staged.name} AS s WHERE s.source = :source AND s.id = here.id
  ) WHERE EXISTS (
    SELECT FROM {_staged.name} AS s
    WHERE s.source = :source AND s.id = here.id AND NOT ({{same_here}})
  )
  RETURNING xmax = 0 AS inserted
)
SELECT count(*) FILTER (WHERE inserted), count(*) FILTER (WHERE NOT inserted) FROM written
"""


@dataclass(frozen=True)
class _Target:
    """A table of items as it is in this database: how to write it, and what numbers its rows."""

    upsert: str
    sequences: Sequence[str]


def load_gallery(
    engine: Engine, path: Path | pd.DataFrame, *, progress: ProgressCallback | None = None
) -> Loaded:
    """Load items from a CSV (.csv, .csv.gz), JSON Lines (.jsonl, .jsonl.gz) or Parquet file.

    A DataFrame is read as Parquet of the same columns would be, its texts as cells of a CSV.

    Rows that cannot be loaded are listed in a reject file and do not stop the load. Raises
    LoadError where the file is of no such kind, cannot be read, or lacks a column, and where there
    are no tables to load into.
    """
    started = time.monotonic()
    source = source_of(path)
    targets = _targets(engine)
    rows = inserted = changed = 0
    with RejectFile(source) as rejects, open_listing(path, rejects.add) as items:
        creators: dict[str, str] = {}
        for chunk in _chunks(items):
            new, moved = _merge(engine, targets, chunk, creators)
            rows += len(chunk)
            inserted += new
            changed += moved
            if progress is not None:
                progress(rows + rejects.count, items.done(), items.total)
        notes = items.notes()
    return Loaded(
        read=rows + rejects.count,
        inserted=inserted,
        changed=changed,
        unchanged=rows - inserted - changed,
        rejected=rejects.count,
        unreadable=0,
        seconds=time.monotonic() - started,
        reject_file=rejects.path,
        notes=notes,
    )


def _chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    """The items in pieces of bounded size, counted in items and in tags."""
    chunk: list[Item] = []
    tags = 0
    for item in items:
        chunk.append(item)
        tags += len(item.tags)
        if len(chunk) >= CHUNK_ITEMS or tags >= CHUNK_TAGS:
            yield chunk
            chunk, tags = [], 0
    if chunk:
        yield chunk


def _targets(engine: Engine) -> dict[str, _Target]:
    """How to write the items of each source. Raises LoadError where a table is missing."""
    inspector = inspect(engine)
    for table in (tables.users, tables.tags, *tables.ITEMS.values()):
        if not inspector.has_table(table.name, schema=table.schema):
            raise LoadError(
                f"There is no table {table.fullname} to load into; run "
                "`tally migrate --with-sources`, or name your own tables' schema in "
                "TALLY_SCHEMA_GALLERY."
            )
    with engine.connect() as connection:
        return {source: _target(connection, items) for source, items in tables.ITEMS.items()}


def _target(connection: Connection, items: Table) -> _Target:
    inspector = inspect(connection)
    quote = connection.dialect.identifier_preparer.quote
    name = connection.dialect.identifier_preparer.format_table(items)
    key = inspector.get_pk_constraint(items.name, items.schema)["constrained_columns"]
    columns = [column["name"] for column in inspector.get_columns(items.name, items.schema)]
    # A partition by source says so in a column of its own, which the application's parent fills.
    split = "source_type" in columns
    same = " AND ".join(
        f"{{here}}.{column} IS NOT DISTINCT FROM {value}" for column, value in _GIVEN.items()
    )
    upsert = _UPSERT.format(
        items=name,
        key=", ".join(map(quote, key or ["id"])),
        partition=", source_type" if split else "",
        source=", :source" if split else "",
        same_stored=same.format(here="i"),
        same_here=same.format(here="here"),
    )
    return _Target(upsert, sequences_of(connection, items))


def _merge(
    engine: Engine, targets: Mapping[str, _Target], chunk: list[Item], creators: dict[str, str]
) -> tuple[int, int]:
    """Commit a chunk, of each item its last row; returns how many were inserted and changed.

    `creators` holds the ids of creators that earlier chunks found, and is added to.
    """
    latest: dict[tuple[str, int], Item] = {}
    for item in chunk:
        latest[item.source, item.id] = item.over(latest.get((item.source, item.id)))

    def attempt() -> tuple[int, int]:
        # Names that another load made are found by the next statement, not the next snapshot.
        options = {"isolation_level": "READ COMMITTED"}
        with engine.connect().execution_options(**options) as connection, connection.begin():
            # Names of every row: which rows share a chunk must not show in the tables.
            named = _named(connection, chunk, creators)
            return _merge_once(connection, targets, list(latest.values()), creators, named)

    return _MERGE_AGAIN.call(attempt, lambda _: creators.clear())


def _named(
    connection: Connection, items: Sequence[Item], creators: dict[str, str]
) -> Mapping[str, str]:
    """The ids of the items' tags by name; those of their creators are added to `creators`."""
    creator_ids(connection, {item.creator for item in items}, creators)
    return tag_ids(connection, {tag for item in items for tag in item.tags if tag is not None})


def _merge_once(
    connection: Connection,
    targets: Mapping[str, _Target],
    items: Sequence[Item],
    creators: Mapping[str, str],
    named: Mapping[str, str],
) -> tuple[int, int]:
    # An adopted table may hold times without time zone; they mean UTC.
    connection.execute(text("SET LOCAL TIME ZONE 'UTC'"))
    _staged.create(connection, checkfirst=False)
    rows = (_row(item, creators[item.creator], named) for item in items)
    copy_rows(connection, _staged.name, list(_staged.c.keys()), rows)
    inserted = changed = 0
    for source, target in targets.items():
        largest = max((item.id for item in items if item.source == source), default=None)
        if largest is None:
            continue
        new, moved = connection.execute(text(target.upsert), {"source": source}).one()
        inserted += new
        changed += moved
        advance(connection, target.sequences, largest)
    return inserted, changed


def _row(
    item: Item, creator_id: str, named: Mapping[str, str]
) -> tuple[str | int | bool | None, ...]:
    tags = ("NULL" if tag is None else named.get(tag, tag) for tag in item.tags)
    return (
        item.source,
        item.id,
        creator_id,
        item.created_at,
        item.title,
        item.content_type,
        item.is_private,
        "{" + ",".join(tags) + "}",
    )


LOADER = Loader(
    load_gallery,
    "items",
    "CSV, JSON Lines or Parquet with id, source, creator, created_at, tags."
    " Loading it again changes nothing.",
)

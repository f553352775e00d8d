"""Bring real media files into `media_files`: a folder of pictures, or a CSV that lists them.

What is written to the database, and how. Where the rows come from is in `folder.py` and
`listing.py`. Invariants:
- A file is known by its path. Loading the same input again changes nothing; where several rows name
  one path, the last one counts.
- The input is the truth about the dates that it speaks of: a changed date moves the file, and an
  empty `original_created_at` clears the stored one. Only an empty `created_at` leaves the stored
  one alone (at first it is the moment of loading), and so does a column that the input does not
  have.
- Files that the input does not name stay: a load adds and changes, and never deletes.
- Rows are committed in chunks. A load that was killed left whole chunks, and can simply be run
  again.
"""

from __future__ import annotations

import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sqlalchemy import (
    CTE,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    DateTime,
    Engine,
    MetaData,
    Table,
    Text,
    and_,
    func,
    inspect,
    literal_column,
    or_,
    select,
    text,
    true,
)
from sqlalchemy.dialects.postgresql import insert

from assets.media.input import seen_files
from assets.media.input.folder import Folder
from assets.media.input.listing import Listing, Row
from assets.media.tables import media_files
from tallykeeper.input.csv_input import CsvFile
from tallykeeper.input.frame_input import FrameTable, source_of
from tallykeeper.input.loader import Loader
from tallykeeper.input.loading import Loaded, LoadError, ProgressCallback, RejectFile, copy_rows

if TYPE_CHECKING:
    import pandas as pd

_staged = Table(
    "tallykeeper_staged_media",
    MetaData(),
    Column("path", Text),
    Column("original_created_at", DateTime(timezone=True)),
    Column("created_at", DateTime(timezone=True)),
    prefixes=["TEMPORARY"],
    postgresql_on_commit="DROP",
)


class _Input(Protocol):
    """Rows to be loaded, the date columns they speak of, rows per commit, how far reading is."""

    @property
    def columns(self) -> Sequence[str]: ...

    @property
    def chunk(self) -> int: ...

    @property
    def total(self) -> int | None: ...

    def done(self) -> int: ...

    def __iter__(self) -> Iterator[Row]: ...


def load_media(
    engine: Engine, path: Path | pd.DataFrame, *, progress: ProgressCallback | None = None
) -> Loaded:
    """Load a folder of images and videos, or a CSV (.csv, .csv.gz) that lists files with dates.

    A DataFrame is read as a CSV of the same columns would be.

    What cannot be loaded is listed in a reject file and does not stop the load. Raises LoadError
    where the path is neither, cannot be read, or has no such columns, and where there is no
    `media_files`.
    """
    started = time.monotonic()
    is_folder = isinstance(path, Path) and _is_folder(path)
    source = path.resolve() if isinstance(path, Path) and is_folder else source_of(path)
    _require_table(engine)
    notes: tuple[str, ...] = ()
    skipped = 0
    with RejectFile(source) as rejects:
        if is_folder:
            counts, skipped, notes = _load_folder(engine, source, rejects, progress)
        else:
            with CsvFile(source) if isinstance(path, Path) else FrameTable(path) as file:
                counts = _merge(engine, Listing(file, rejects.add), rejects, progress)
    rows, inserted, changed = counts
    return Loaded(
        read=rows + skipped + rejects.count,
        inserted=inserted,
        changed=changed,
        unchanged=rows + skipped - inserted - changed,
        rejected=0 if is_folder else rejects.count,
        unreadable=rejects.count if is_folder else 0,
        seconds=time.monotonic() - started,
        reject_file=rejects.path,
        notes=notes,
    )


def _load_folder(
    engine: Engine, source: Path, rejects: RejectFile, progress: ProgressCallback | None
) -> tuple[tuple[int, int, int], int, tuple[str, ...]]:
    """Load a folder: the counts of `_merge`, how many files were not opened, and the notes."""
    with engine.begin() as connection:
        remembers = seen_files.prepare(connection)

    def unchanged(stamps: Sequence[seen_files.Stamp]) -> set[str]:
        with engine.connect() as connection:
            return seen_files.unchanged(connection, stamps)

    with RejectFile(source, "undated") as undated:
        files = Folder(
            source,
            lambda path, why: rejects.add(None, why, path),
            count=progress is not None,
            undated=lambda path, why: undated.add(None, why, path),
            unchanged=unchanged if remembers else None,
        )
        counts = _merge(engine, files, rejects, progress, files.stamps if remembers else None)
    notes = files.notes()
    if undated.path is not None:
        notes += (f"those dated by their modification time are listed in {undated.path}",)
    return counts, files.skipped, notes


def _is_folder(source: Path) -> bool:
    """Whether it is a folder; False: a CSV. Raises LoadError where it is neither."""
    try:
        mode = source.stat().st_mode
    except OSError as error:
        raise LoadError(
            f"{source} cannot be read ({error.strerror}); name a folder or a CSV that is there."
        ) from error
    if stat.S_ISDIR(mode):
        return True
    if stat.S_ISREG(mode) and source.name.lower().endswith((".csv", ".csv.gz")):
        return False
    raise LoadError(
        f"{source} is neither a folder nor a CSV file (.csv, .csv.gz); name the folder that holds "
        "the images and videos, or a CSV with the columns path, original_created_at, created_at."
    )


def _require_table(engine: Engine) -> None:
    if not inspect(engine).has_table(media_files.name, schema=media_files.schema):
        raise LoadError(
            f"There is no table {media_files.fullname} to load into; run "
            "`tally migrate --with-sources`, or name your own table's schema in TALLY_SCHEMA_MEDIA."
        )


def _merge(
    engine: Engine,
    files: _Input,
    rejects: RejectFile,
    progress: ProgressCallback | None,
    stamps: dict[str, seen_files.Stamp] | None = None,
) -> tuple[int, int, int]:
    """Write all rows, one transaction per chunk; returns rows, inserted and changed.

    `stamps` are of the files whose rows are written; they are remembered, and removed from it.
    """
    rows = inserted = changed = 0
    with engine.connect() as connection:
        for batch in _batches(files, files.chunk):
            latest: dict[str, Row] = {}
            for path, original, created in batch:
                # As if one were loaded after the other: an empty created_at leaves the earlier one.
                earlier = latest.get(path)
                kept = earlier[2] if earlier is not None and created is None else created
                latest[path] = (path, original, kept)
            with connection.begin():
                new, moved = _merge_chunk(connection, latest.values(), files.columns)
                if stamps is not None:
                    pairs = [(stamps.pop(path), rest) for path, *rest in latest.values()]
                    seen_files.record(connection, [(stamp, a, b) for stamp, (a, b) in pairs])
            rows += len(batch)
            inserted += new
            changed += moved
            if progress is not None:
                progress(rows + rejects.count, files.done(), files.total)
    return rows, inserted, changed


def _batches(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    remaining = iter(rows)
    while batch := list(islice(remaining, size)):
        yield batch


def _merge_chunk(
    connection: Connection, rows: Iterable[Row], columns: Sequence[str]
) -> tuple[int, int]:
    """Bring these files, each path once, into the table; returns inserted and changed."""
    # An adopted table may hold times without time zone; they mean UTC.
    connection.execute(text("SET LOCAL TIME ZONE 'UTC'"))
    _staged.create(connection, checkfirst=False)
    copy_rows(connection, _staged.name, list(_staged.c.keys()), rows)
    inserted = changed = 0
    for written in _statements(columns):
        is_new = written.c.inserted
        counts = select(
            func.count().filter(is_new).label("inserted"),
            func.count().filter(~is_new).label("changed"),
        ).select_from(written)
        new, moved = connection.execute(counts).one()
        inserted += new
        changed += moved
    return inserted, changed


def _statements(columns: Sequence[str]) -> Iterator[CTE]:
    """The upserts of a chunk: rows that say when they were created apart from those that do not."""
    if "created_at" not in columns:
        yield _upsert(columns, true())
    else:
        rest = [name for name in columns if name != "created_at"]
        yield _upsert(columns, _staged.c.created_at.is_not(None))
        yield _upsert(rest, _staged.c.created_at.is_(None))


def _upsert(columns: Sequence[str], chosen: ColumnElement[bool]) -> CTE:
    """Insert or change the chosen staged rows by these columns; says of each whether it is new."""
    here = media_files.alias("here")
    # Whether a file is there just so is looked up path by path: as a join it would read the whole
    # table for every chunk. Passing such files over matters, since an upsert writes a lock to every
    # row it meets.
    known = (
        select(and_(true(), *(here.c[n].is_not_distinct_from(_staged.c[n]) for n in columns)))
        .where(here.c.path == _staged.c.path)
        .scalar_subquery()
    )
    rows = (
        select(_staged.c.path, *(_staged.c[name] for name in columns))
        .where(chosen, known.is_not(true()))
        # Two loads at once lock rows in the same order, and so do not deadlock.
        .order_by(_staged.c.path)
    )
    write = insert(media_files).from_select(["path", *columns], rows)
    if columns:
        given = {name: write.excluded[name] for name in columns}
        write = write.on_conflict_do_update(
            index_elements=[media_files.c.path],
            set_={**given, "updated_at": func.now()},
            where=or_(*(media_files.c[n].is_distinct_from(new) for n, new in given.items())),
        )
    else:
        write = write.on_conflict_do_nothing(index_elements=[media_files.c.path])
    # A row version that no transaction has locked or replaced has xmax 0: it was inserted just now.
    return write.returning(literal_column("xmax = 0", Boolean).label("inserted")).cte("written")


LOADER = Loader(
    load_media,
    "files",
    "A folder of images and videos, or a CSV with path, original_created_at, created_at."
    " Loading it again changes nothing.",
)

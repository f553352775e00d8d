"""What must be true of any load, whatever the file: it ends in a sentence or in an account."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from tallykeeper.input.loading import Loaded, LoadError
from tests.fuzz.files import File
from tests.integration.support import rows

Load = Callable[[Path], Loaded]


def put(folder: Path, file: File) -> Path:
    """The file in the folder, which has nothing else then."""
    for each in folder.iterdir():
        shutil.rmtree(each) if each.is_dir() else each.unlink()
    path = folder / file.name
    path.write_bytes(file.content)
    return path


def contents(engine: Engine, tables: Sequence[str], apart: Sequence[str] = ()) -> list[Any]:
    """All rows of these tables, without the columns that say when a row was written."""
    found = []
    for table in tables:
        left_out = "{" + ",".join(apart) + "}"
        query = f"SELECT (to_jsonb(t) - '{left_out}'::text[])::text FROM {table} AS t ORDER BY 1"
        found.append(rows(engine, query))
    return found


def loaded(load: Load, path: Path) -> Loaded | None:
    """The account of a load, which adds up; None where it says in a sentence why there is none."""
    try:
        done = load(path)
    except LoadError as error:
        said = str(error)
        assert said.endswith("."), said
        assert len(said) < 5_000, said
        return None
    parts = (done.inserted, done.changed, done.unchanged, done.rejected, done.unreadable)
    assert min(parts) >= 0, done
    assert done.read == sum(parts), done
    assert listed(done.reject_file) == done.rejected + done.unreadable, done
    assert done.summary("rows")
    return done


def listed(path: Path | None) -> int:
    """How many rows the list of rejects has."""
    if path is None:
        return 0
    csv.field_size_limit(2**31 - 1)
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        return sum(1 for _ in csv.reader(stream)) - 1


def load_twice(
    engine: Engine, load: Load, path: Path, rows_in_file: int | None, tables: Sequence[str]
) -> None:
    """Load the file, and once more: every row is accounted for, and nothing is changed then."""
    first = loaded(load, path)
    stored = contents(engine, tables)
    again = loaded(load, path)
    assert contents(engine, tables) == stored
    if first is None or again is None:
        # It breaks off: what stood before that may be loaded.
        assert first is again, (first, again)
        return
    if rows_in_file is not None:
        assert first.read == rows_in_file, (first, rows_in_file)
    assert (again.inserted, again.changed) == (0, 0), (first, again)
    assert (again.read, again.rejected) == (first.read, first.rejected), (first, again)

"""Files of media, gallery items and a classroom's events, as no program should write them."""

from __future__ import annotations

import gc
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlalchemy.schema import CreateSchema

from assets.classroom.load import load_classroom
from assets.classroom.tallies import system as classroom
from assets.gallery.load import load_gallery
from assets.gallery.tallies import system as gallery
from assets.media.load import load_media
from assets.media.tallies import system as media
from tallykeeper.database.connections import open_engine
from tests.fuzz.accounts import load_twice, put
from tests.fuzz.files import (
    File,
    damaged,
    few_damages,
    json_lines,
    json_values,
    mostly,
    odd_texts,
    tables,
)
from tests.fuzz.profile import examples
from tests.integration.support import execute
from tests.servers import VERSIONS, Servers

TIMES = ("2025-01-14T18:31:30Z", "2025-01-14", "", "2024-02-29T12:00:00.123456789+05:30")
MEDIA = {
    "path": ("/a.jpg", "b/c.jpg", "ä.jpg"),
    "original_created_at": TIMES,
    "created_at": TIMES,
}
CAMTRAP = {
    "mediaID": ("m1", "m2"),
    "deploymentID": ("d1", ""),
    "timestamp": TIMES,
    "filePath": ("media/1.jpg", "https://a.example/1.jpg", ""),
    "fileName": ("1.jpg", ""),
}
UUID = "00000000-0000-0000-0000-00000000000"
GALLERY = {
    "id": ("1", "2", "3", "1.0"),
    "source": ("regular", "auto"),
    "creator": ("ann", "bob;ann", '["ann"]', f"{UUID}1"),
    "tags": ("cat;dog", "", '["cat"]', f"{{{UUID}2,NULL}}"),
    "created_at": TIMES,
    "title": ("a", ""),
    "content_type": ("photo", ""),
    "is_private": ("true", "0", ""),
}
MAIN_TABLE = {
    "EventType": ("Run.Program", "Compile.Error", "Submit", "File.Edit", "X-Odd"),
    "EventID": ("1", "2", "3"),
    "SubjectID": ("ann", "bob", "UNKNOWN"),
    "ToolInstances": ("x",),
    "CodeStateID": ("0",),
    "ServerTimestamp": TIMES,
    "ServerTimezone": ("0000", "+0530", "Europe/Berlin", ""),
    "ClientTimestamp": TIMES,
    "CourseID": ("c", ""),
    "AssignmentID": ("a", ""),
    "ProblemID": ("p", ""),
    "Order": ("1", "2", ""),
    "Score": ("1", ""),
    "CompileMessageData": ("x", ""),
}
SNAPSHOTS = {
    "homework": ("h1", "h2"),
    "student": ("ann", "bob"),
    "snapshot": TIMES,
    "c_error": ("0", "1", ""),
    "r_error": ("0", "1"),
    "t_failed": ("0", "1"),
    "t_success": ("0", "1"),
    "datetime_raw": TIMES,
}
ERRORS = {
    "homework": ("h1", "h2"),
    "student": ("ann", "bob"),
    "snapshot": TIMES,
    "error": ("no such name", "x", ""),
    "file": ("a.py", ""),
    "line": ("1", "2", ""),
    "datetime_raw": TIMES,
}
CSVS = (".csv", ".csv", ".csv.gz", ".CSV")


@pytest.fixture(scope="module")
def database(postgres_servers: Servers) -> Iterator[Engine]:
    """A database with the sources of three systems, without capture."""
    with postgres_servers.fresh_database(VERSIONS[0]) as url:
        engine = open_engine(url)
        with engine.begin() as connection:
            for system in (media, gallery, classroom):
                connection.execute(CreateSchema(str(system.metadata.schema)))
                system.metadata.create_all(connection)
        yield engine
        engine.dispose()
        gc.collect()


def _sources(system: Any) -> list[str]:
    derived = {tally.table.fullname for tally in system.tallies}
    return [t.fullname for t in system.metadata.sorted_tables if t.fullname not in derived]


def _check(database: Engine, system: Any, load: Any, path: Path, rows: int | None) -> None:
    sources = _sources(system)
    kept = ["tallykeeper.classroom_loaded_events"] if system is classroom else []
    statements = [f"DELETE FROM {table}" for table in reversed(sources)]
    statements += [f"DO $$ BEGIN DELETE FROM {t}; EXCEPTION WHEN OTHERS THEN END $$" for t in kept]
    execute(database, *statements)
    load_twice(database, partial(load, database), path, rows, sources)


@given(tables(MEDIA, CSVS) | tables(CAMTRAP, CSVS))
@examples(100)
def test_a_list_of_files(database: Engine, tmp_path: Path, file: File) -> None:
    _check(database, media, load_media, put(tmp_path, file), file.rows)


@given(tables(GALLERY, CSVS))
@examples(100)
def test_items_in_a_table(database: Engine, tmp_path: Path, file: File) -> None:
    _check(database, gallery, load_gallery, put(tmp_path, file), file.rows)


def _json_items() -> st.SearchStrategy[Any]:
    good: dict[str, st.SearchStrategy[Any]] = {
        name: st.sampled_from(cells) for name, cells in GALLERY.items()
    }
    good["id"] = st.integers(1, 4)
    good["tags"] = st.lists(
        mostly(st.sampled_from(["cat", "dog", f"{UUID}3"]), odd_texts), max_size=3
    )
    good["is_private"] = st.booleans()
    whole = st.fixed_dictionaries(good)
    changed = st.dictionaries(
        st.sampled_from([*GALLERY, "x"]), json_values(), min_size=1, max_size=2
    )
    odd = st.builds(lambda row, other: {**row, **other}, whole, changed)
    return mostly(mostly(whole, odd, 3), json_values())


@given(json_lines(_json_items(), (".jsonl", ".jsonl", ".jsonl.gz")))
@examples(100)
def test_items_in_json_lines(database: Engine, tmp_path: Path, file: File) -> None:
    _check(database, gallery, load_gallery, put(tmp_path, file), file.rows)


_VALUES: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "text": (pa.string(), st.sampled_from(["1", "regular", "ann", "cat", *TIMES]) | odd_texts),
    "name": (pa.string(), st.sampled_from(["ann", "bob"])),
    "source": (pa.string(), st.sampled_from(["regular", "auto"])),
    "integer": (pa.int64(), st.sampled_from([1, 2, -1, 2**31, 2**63 - 1])),
    "small": (pa.int8(), st.integers(-128, 127)),
    "float": (pa.float64(), st.sampled_from([1.0, 2.5, float("nan"), float("inf"), 1e300])),
    "decimal": (pa.decimal128(20, 2), st.sampled_from([Decimal("1.00"), Decimal("2.50")])),
    "boolean": (pa.bool_(), st.booleans()),
    "bytes": (pa.binary(), st.binary(max_size=17)),
    "uuid": (pa.binary(16), st.binary(min_size=16, max_size=16)),
    "texts": (pa.list_(pa.string()), st.lists(st.sampled_from(["cat", "", "dog"]), max_size=3)),
    "numbers": (pa.list_(pa.int32()), st.lists(st.integers(0, 3) | st.none(), max_size=3)),
    "uuids": (pa.list_(pa.binary(16)), st.lists(st.binary(min_size=16, max_size=16), max_size=2)),
    "struct": (pa.struct([("a", pa.int64())]), st.just({"a": 1})),
    "moment": (
        pa.timestamp("us", "UTC"),
        st.datetimes(timezones=st.just(UTC), min_value=datetime(1, 1, 2)),  # noqa: DTZ001
    ),
    "far": (pa.timestamp("s"), st.sampled_from([0, 10**12, -(10**12), 2**52])),
    "nanoseconds": (pa.timestamp("ns"), st.integers(-(2**62), 2**62)),
    "day": (pa.date32(), st.integers(-(2**20), 2**22)),
    "none": (pa.null(), st.none()),
}
_LIKELY = {
    "id": ("small", "small", "integer", "float", "decimal"),
    "source": ("source",),
    "creator": ("name", "texts", "uuid"),
    "tags": ("texts", "uuids", "numbers"),
    "created_at": ("moment", "moment", "far", "nanoseconds", "day"),
    "title": ("name",),
    "content_type": ("name",),
    "is_private": ("boolean",),
}


@st.composite
def parquets(draw: st.DrawFn) -> File:
    """Parquet with columns of types that fit, and of such that do not."""
    number = draw(st.integers(0, 6))
    some = st.lists(st.sampled_from(list(_LIKELY)), max_size=8)
    names = draw(mostly(st.just(list(_LIKELY)), some))
    arrays = []
    for name in names:
        kind = draw(mostly(st.sampled_from(_LIKELY[name]), st.sampled_from(list(_VALUES)), 12))
        type_, values = _VALUES[kind]
        cell = mostly(values, st.none(), 12)
        cells = draw(st.lists(cell, min_size=number, max_size=number))
        array = pa.array(cells, type_)
        if type_ == pa.string() and draw(st.integers(0, 19)) == 19:
            # Bytes that are no text, where the file says that they are one.
            raw = [None if c is None else c.encode("utf-8", "replace") + b"\xff" for c in cells]
            array = pa.array(raw, pa.binary()).view(pa.string())
        arrays.append(array)
    sink = io.BytesIO()
    table = pa.Table.from_arrays(arrays, names)
    pq.write_table(table, sink, row_group_size=draw(st.sampled_from([2, 100])))
    broken = draw(few_damages)
    content = damaged(sink.getvalue(), broken)
    return File("input.parquet", content, None if broken or not names else number)


@given(parquets())
@examples(100)
def test_items_in_parquet(database: Engine, tmp_path: Path, file: File) -> None:
    _check(database, gallery, load_gallery, put(tmp_path, file), file.rows)


_metadata = st.just(b"Property,Value\nVersion,4\n")


@given(tables(MAIN_TABLE, CSVS), mostly(_metadata, st.binary(max_size=60)))
@examples(40)
def test_events_of_a_dataset(database: Engine, tmp_path: Path, file: File, metadata: bytes) -> None:
    put(tmp_path, file)
    name = "MainTable.csv.gz" if file.name.endswith(".gz") else "MainTable.csv"
    (tmp_path / file.name).rename(tmp_path / name)
    (tmp_path / "DatasetMetadata.csv").write_bytes(metadata)
    _check(database, classroom, load_classroom, tmp_path, file.rows)


@given(tables(SNAPSHOTS, CSVS) | tables(ERRORS, CSVS))
@examples(40)
def test_snapshots_and_errors(database: Engine, tmp_path: Path, file: File) -> None:
    # A snapshot makes several events: only the sum is known.
    _check(database, classroom, load_classroom, put(tmp_path, file), None)

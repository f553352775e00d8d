"""Loading gallery items into a real database: what is written, what is rejected, what stays."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import Engine

from assets.gallery import load
from assets.gallery.input.listing import open_listing
from assets.gallery.load import load_gallery
from assets.gallery.tallies import system
from tallykeeper import refresh, verify
from tallykeeper.input.loading import Loaded, LoadError
from tests.integration.support import create, execute, rows, scalar

Write = Callable[..., Path]
HEADER = "id,source,creator,created_at,tags"
IDS = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa", "bbbbbbbb-bbbb-bbbb-bbbb-bbbbbbbbbbbb"
NEW_YEAR = datetime(2020, 1, 1, tzinfo=UTC)
ITEMS = """
SELECT source, i.id, username, t.names, i.created_at, title, content_type, is_private
FROM (SELECT 'regular' AS source, * FROM gallery.content_items
      UNION ALL SELECT 'auto', * FROM gallery.content_items_auto) AS i
JOIN gallery.users AS u ON u.id = creator_id
CROSS JOIN LATERAL (
  SELECT coalesce(array_agg(coalesce(name, n.id::text) ORDER BY place), '{}')
  FROM unnest(i.tags) WITH ORDINALITY AS n (id, place) LEFT JOIN gallery.tags AS t ON t.id = n.id
) AS t (names)
"""


@pytest.fixture
def gallery(engine: Engine) -> Engine:
    """A database with an empty gallery and its capture."""
    create(engine, system)
    return engine


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes `items.csv` with the rows, below the usual header."""

    def write(rows: str, header: str = HEADER) -> Path:
        path = tmp_path / "items.csv"
        path.write_text(f"{header}\n{rows}")
        return path

    return write


def items(engine: Engine) -> dict[tuple[str, int], tuple[Any, ...]]:
    """By source and id: creator, names of the tags (an id where none has it), and the rest."""
    return {(source, id_): tuple(rest) for source, id_, *rest in rows(engine, ITEMS)}


def counts(loaded: Loaded) -> tuple[int, int, int, int]:
    assert loaded.read == loaded.inserted + loaded.changed + loaded.unchanged + loaded.rejected
    return loaded.inserted, loaded.changed, loaded.unchanged, loaded.rejected


def rejects(loaded: Loaded) -> list[str]:
    assert loaded.reject_file is not None
    return loaded.reject_file.read_text().splitlines()[1:]


def test_a_csv_is_loaded_and_malformed_rows_are_listed(gallery: Engine, write: Write) -> None:
    path = write(
        "1,regular,ann,2020-01-01,sea;sky; sea;\n"
        '1,auto,bob,2020-01-01T01:00:00+01:00,"[""a;b"", null, ""sea""]"\n'
        "2,regular,,2020-01-01,\n"
        ",regular,ann,,\n"
        "2147483648,regular,ann,,\n"
        "1.5,regular,ann,,\n"
        "3,other,ann,,\n"
        "3,,ann,,\n"
        "3,regular,ann,yesterday,\n"
        "3,regular,a\0b,,\n"
        f"3,regular,{'é' * 1347},,\n"
        '3,regular,ann,,"[1"\n'
        '3,regular,ann,,"[""""]"\n'
        '3,regular,ann,,"{sea,sky}"\n'
    )
    loaded = load_gallery(gallery, path)
    assert counts(loaded) == (3, 0, 0, 11)
    assert items(gallery) == {
        ("regular", 1): ("ann", ["sea", "sky", "sea"], NEW_YEAR, None, None, False),
        ("auto", 1): ("bob", ["a;b", None, "sea"], NEW_YEAR, None, None, False),
        ("regular", 2): ("unknown", [], NEW_YEAR, None, None, False),
    }
    reasons = [line.split(",", 1) for line in rejects(loaded)]
    assert [int(line) for line, _ in reasons] == list(range(5, 16))
    for (_, found), reason in zip(
        reasons,
        [
            "no id",
            "id: 2147483648 is not from -2147483648 to 2147483647",
            "id: expected an integer, found '1.5'",
            "\"source: expected regular or auto, found 'other'\"",
            "no source",
            "created_at: 'yesterday' is no ISO 8601 time",
            "creator: 'a\\x00b' contains a NUL byte",
            "\"creator: 'ééé",
            "tags: begins like a JSON array, but is none",
            "\"tags: '' is an empty name",
            "\"tags: expected ids between braces, found 'sea'",
        ],
        strict=True,
    ):
        assert found.strip('"').startswith(reason.strip('"')), (found, reason)


def test_names_become_users_and_tags_once_and_ids_stay_what_they_are(
    gallery: Engine, write: Write
) -> None:
    known, unknown = IDS
    execute(
        gallery,
        f"INSERT INTO gallery.users VALUES ('{known}', 'ann')",
        f"INSERT INTO gallery.tags VALUES ('{known}', 'sea')",
    )
    path = write(
        f"1,regular,ann,,sea;{known};{unknown}\n"
        f"2,regular,{known.upper()},,{unknown.upper()};new;new\n"
        f'3,regular,{unknown},,"{{{known},NULL}}"\n'
        "4,auto,dan; ann,,new\n"
    )
    assert counts(load_gallery(gallery, path)) == (4, 0, 0, 0)
    found = items(gallery)
    assert found["regular", 1][:2] == ("ann", ["sea", "sea", unknown])
    assert found["regular", 2][:2] == ("ann", [unknown, "new", "new"])
    assert found["regular", 3][:2] == (None, ["sea", None])
    assert found["auto", 4][:2] == ("dan", ["new"])
    assert {username for (username,) in rows(gallery, "SELECT username FROM gallery.users")} == {
        "ann",
        "dan",
        None,
    }
    assert scalar(gallery, "SELECT id FROM gallery.users WHERE username IS NULL") == UUID(unknown)
    assert sorted(rows(gallery, "SELECT name FROM gallery.tags")) == [("new",), ("sea",)]
    for tally in system.tallies:
        refresh(gallery, tally)
        assert verify(gallery, tally).ok
    left_out = "SELECT content_id, unknown_tags, null_elements FROM gallery.content_tags_left_out"
    assert sorted(rows(gallery, left_out)) == [
        (1, [UUID(unknown)], 0),
        (2, [UUID(unknown)], 0),
        (3, [], 1),
    ]


def test_of_users_with_one_name_every_load_means_the_same(gallery: Engine, write: Write) -> None:
    for each in reversed(IDS):
        execute(gallery, f"INSERT INTO gallery.users VALUES ('{each}', 'ann')")
    load_gallery(gallery, write("1,regular,ann,,\n"))
    assert scalar(gallery, "SELECT creator_id FROM gallery.content_items") == UUID(IDS[0])
    assert scalar(gallery, "SELECT count(*) FROM gallery.users") == 2


def test_loading_the_same_file_again_writes_nothing(gallery: Engine, write: Write) -> None:
    path = write("1,regular,ann,,sea;sky\n2,auto,,2020-01-01,\n3,auto,bob,,sea\n")
    assert counts(load_gallery(gallery, path)) == (3, 0, 0, 0)
    versions = (
        "SELECT id, xmin::text, xmax::text FROM gallery.content_items UNION ALL"
        " SELECT id, xmin::text, xmax::text FROM gallery.content_items_auto ORDER BY 1"
    )
    before = rows(gallery, versions)
    pending = scalar(gallery, "SELECT count(*) FROM tallykeeper.gallery_content_tags_log")
    assert counts(load_gallery(gallery, path)) == (0, 0, 3, 0)
    assert rows(gallery, versions) == before
    log = "SELECT count(*) FROM tallykeeper.gallery_content_tags_log"
    assert scalar(gallery, log) == pending


def test_only_what_differs_is_changed_and_what_is_left_open_stays(
    gallery: Engine, write: Write
) -> None:
    header = f"{HEADER},title,content_type,is_private"
    load_gallery(
        gallery,
        write("1,regular,ann,2020-01-01,sea,Sea,photo,true\n2,regular,ann,,sea,,,\n", header),
    )
    again = write("1,regular,ann,,sea,,,\n2,regular,bob,,sky,,,no\n", header)
    assert counts(load_gallery(gallery, again)) == (0, 1, 1, 0)
    found = items(gallery)
    assert found["regular", 1] == ("ann", ["sea"], NEW_YEAR, "Sea", "photo", True)
    assert found["regular", 2][:2] == ("bob", ["sky"])
    updated = "SELECT id FROM gallery.content_items WHERE updated_at <= now()"
    assert rows(gallery, updated) == [(2,)]
    assert counts(load_gallery(gallery, write("1,regular,ann,2021-01-01,sea\n"))) == (0, 1, 0, 0)
    assert items(gallery)["regular", 1][2:] == (
        NEW_YEAR.replace(year=2021),
        "Sea",
        "photo",
        True,
    )


def test_a_missing_time_of_creation_is_the_moment_of_loading_and_then_stays(
    gallery: Engine, write: Write
) -> None:
    before = datetime.now(UTC)
    path = write("1,regular,ann,sea\n", "id,source,creator,tags")
    load_gallery(gallery, path)
    first = items(gallery)["regular", 1][2]
    assert before <= first <= datetime.now(UTC)
    assert counts(load_gallery(gallery, path)) == (0, 0, 1, 0)
    assert items(gallery)["regular", 1][2] == first


@pytest.mark.parametrize("chunk", [1, 2, 20_000])
def test_of_rows_for_the_same_item_the_last_one_counts(
    gallery: Engine, write: Write, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(load, "CHUNK_ITEMS", chunk)
    loaded = load_gallery(gallery, write("1,auto,a,,x\n2,auto,a,,x\n1,auto,a,,y\n1,auto,b,,z\n"))
    assert (loaded.read, loaded.inserted) == (4, 2)
    assert items(gallery)["auto", 1][:2] == ("b", ["z"])
    # Names are made for each row, so that which rows share a chunk shows nowhere.
    assert scalar(gallery, "SELECT count(*) FROM gallery.tags") == 3
    assert scalar(gallery, "SELECT count(*) FROM gallery.users") == 2


@pytest.mark.parametrize("chunk", [1, 20_000])
def test_what_the_last_row_of_an_item_leaves_open_an_earlier_one_says(
    gallery: Engine, write: Write, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(load, "CHUNK_ITEMS", chunk)
    header = f"{HEADER},title,content_type,is_private"
    twice = "1,regular,ann,2020-01-01,sea,Sea,photo,true\n1,regular,,,,,video,\n"
    load_gallery(gallery, write(twice, header))
    assert items(gallery)["regular", 1] == ("unknown", [], NEW_YEAR, "Sea", "video", True)
    assert counts(load_gallery(gallery, write(twice, header)))[0] == 0
    assert items(gallery)["regular", 1] == ("unknown", [], NEW_YEAR, "Sea", "video", True)


def test_words_for_nothing_are_no_names(gallery: Engine, write: Write) -> None:
    loaded = load_gallery(
        gallery,
        write(
            '1,regular,"[""ann"", ""bob""]",NaN,nan\n'
            "2.0,regular,None,NULL,NULL\n"
            "3,regular,[ann],,None\n"
        ),
    )
    found = {id_: rest[:2] for (_, id_), rest in items(gallery).items()}
    assert found == {1: ("ann", []), 2: ("unknown", []), 3: ("[ann]", [])}
    assert loaded.notes == (
        "cells of created_at that say nan, None, NULL or the like, read as empty: 2",
        "cells of creator that say nan, None, NULL or the like, read as empty: 1",
        "cells of tags that say nan, None, NULL or the like, read as empty: 3",
    )


def test_numbers_in_parquet_are_ids_where_they_are_whole(gallery: Engine, tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    decimals = pa.array([Decimal("1.00"), Decimal("2.50")], pa.decimal128(9, 2))
    table = pa.table(
        {
            "id": decimals,
            "source": ["regular", "regular"],
            "creator": pa.array([7.0, 8.0]),
            "tags": pa.array([["sea"], []], pa.list_(pa.string())),
        }
    )
    pq.write_table(table, path)
    loaded = load_gallery(gallery, path)
    assert counts(loaded) == (1, 0, 0, 1)
    assert items(gallery)["regular", 1][:2] == ("7", ["sea"])
    assert "expected an integer, found Decimal('2.50')" in rejects(loaded)[0]


def test_a_malformed_line_of_json_costs_itself_alone(gallery: Engine, tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl.gz"
    lines = [
        {"id": 1, "source": "regular", "creator": ["ann", "bob"], "tags": ["sea", None, 7]},
        "{",
        [1],
        {},
        {"id": True, "source": "regular", "creator": "ann", "tags": []},
        {"id": 2, "source": "regular", "creator": "ann", "tags": "sea"},
        {"id": 2, "source": "regular", "creator": "ann", "tags": [{"name": "sea"}]},
        {"id": 2, "source": "regular", "creator": "ann", "tags": ["a\0b"]},
        {"id": 2, "source": "regular", "creator": "\ud800", "tags": []},
        {"id": 2, "source": "regular", "creator": 558, "created_at": 2020, "tags": []},
        {"id": 2, "source": "regular", "creator": 5, "is_private": "maybe", "tags": []},
        {"id": 2, "source": "regular", "creator": 5, "title": ["T"], "tags": []},
        {"id": 2, "source": "regular", "creator": 5, "content_type": "a\0b", "tags": []},
        "[" * 100_000,
        "",
        {"id": "3", "source": "auto", "creator": None, "tags": None, "is_private": True},
    ]
    text = "\n".join(each if isinstance(each, str) else json.dumps(each) for each in lines)
    path.write_bytes(gzip.compress(text.encode()))
    loaded = load_gallery(gallery, path)
    assert counts(loaded) == (2, 0, 0, 13)
    found = items(gallery)
    assert found["regular", 1][:2] == ("ann", ["sea", None, "7"])
    assert found["auto", 3][:2] == ("unknown", [])
    assert found["auto", 3][-1] is True
    assert [line.split(",")[0] for line in rejects(loaded)] == [str(n) for n in range(2, 15)]
    said = "\n".join(line[:120] for line in rejects(loaded))
    for reason in (
        "no valid JSON",
        "expected a JSON object, found an array",
        "no id and no source and no creator and no tags",
        "id: expected an integer, found True",
        "tags: expected a list, found 'sea'",
        "tags: expected a name or an id, found {'name': 'sea'}",
        "tags: 'a\\x00b' contains a NUL byte",
        "creator: '\\ud800' is not UTF-8",
        "created_at: expected an ISO 8601 time, found 2020",
        "is_private: expected true or false, found 'maybe'",
        "title: expected a text, found ['T']",
        "content_type contains a NUL byte",
        "nested too deeply",
    ):
        assert reason in said


def test_a_parquet_file_is_loaded_with_its_own_types(gallery: Engine, tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    tag = uuid4()
    execute(gallery, f"INSERT INTO gallery.tags VALUES ('{tag}', 'sea')")
    moments = pa.array([1577836800, None, 10**13, 1577836800], pa.timestamp("s", "Europe/Berlin"))
    table = pa.table(
        {
            "ignored": pa.array([b"\xff"] * 4),
            "id": pa.array([1.0, 2.0, 3.0, None]),
            "source": pa.array(["regular", "auto", "auto", "auto"]).dictionary_encode(),
            "creator": pa.array([["ann", "bob"], None, [], []], pa.list_(pa.string())),
            "created_at": moments,
            "tags": pa.array([["sky", None], [], None, None], pa.list_(pa.string())),
            "is_private": pa.array([True, None, None, None]),
        }
    )
    pq.write_table(table, path)
    loaded = load_gallery(gallery, path)
    assert counts(loaded) == (2, 0, 0, 2)
    found = items(gallery)
    assert found["regular", 1] == ("ann", ["sky", None], NEW_YEAR, None, None, True)
    assert found["auto", 2][:2] == ("unknown", [])
    assert rejects(loaded)[0].startswith('3,"created_at: timestamp[us, tz=UTC] that cannot be')
    assert rejects(loaded)[1].startswith("4,no id,")
    ids = pa.array([[tag.bytes]], pa.list_(pa.binary(16)))
    one = {"id": [1], "source": ["regular"], "creator": ["ann"], "tags": ids}
    pq.write_table(pa.table(one), path)
    assert counts(load_gallery(gallery, path)) == (0, 1, 0, 0)
    assert items(gallery)["regular", 1][1] == ["sea"]


def test_a_parquet_file_is_read_in_pieces_even_if_it_is_one_row_group(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    count = 20_000
    columns = {name: pa.array(["auto"] * count) for name in ("source", "creator")}
    tags = pa.array([[str(uuid4()) for _ in range(20)] for _ in range(count)])
    table = pa.table({"id": range(count), **columns, "tags": tags})
    pq.write_table(table, path, row_group_size=count)
    del columns, tags, table
    before = pa.total_allocated_bytes()
    with open_listing(path, lambda *_: pytest.fail("a row was rejected")) as listing:
        rows = iter(listing)
        next(rows)
        assert path.stat().st_size > 10_000_000
        assert pa.total_allocated_bytes() - before < 10_000_000
        assert sum(1 for _ in rows) == count - 1


def test_the_applications_next_item_gets_a_free_id(gallery: Engine, write: Write) -> None:
    load_gallery(gallery, write("1,regular,ann,,\n70,regular,ann,,\n-5,auto,ann,,\n"))
    new = (
        "INSERT INTO gallery.{} (creator_id) SELECT id FROM gallery.users WHERE username = 'ann'"
        " RETURNING id"
    )
    assert scalar(gallery, new.format("content_items")) == 71
    assert scalar(gallery, new.format("content_items_auto")) == 1
    load_gallery(gallery, write("3,regular,ann,,\n2,auto,ann,,\n"))
    assert scalar(gallery, new.format("content_items")) == 72
    assert scalar(gallery, new.format("content_items_auto")) == 3


PARTITIONED = """
CREATE TABLE gallery.content_items_all (
  id integer GENERATED BY DEFAULT AS IDENTITY, source_type text NOT NULL, title text,
  content_type text, creator_id uuid NOT NULL REFERENCES gallery.users, created_at timestamp
  NOT NULL DEFAULT now(), updated_at timestamp, is_private boolean NOT NULL DEFAULT false,
  tags uuid[] NOT NULL DEFAULT '{}', PRIMARY KEY (source_type, id)
) PARTITION BY LIST (source_type);
CREATE TABLE gallery.content_items PARTITION OF gallery.content_items_all FOR VALUES IN ('regular');
CREATE TABLE gallery.content_items_auto PARTITION OF gallery.content_items_all
  FOR VALUES IN ('auto');
"""
SERIAL = """
CREATE SEQUENCE gallery.numbers;
CREATE TABLE gallery.content_items (
  id integer PRIMARY KEY DEFAULT nextval('gallery.numbers'), title varchar(50),
  content_type varchar(20), creator_id uuid NOT NULL REFERENCES gallery.users,
  created_at timestamptz NOT NULL, updated_at timestamptz, is_private boolean NOT NULL,
  tags uuid[] NOT NULL);
CREATE TABLE gallery.content_items_auto (
  id integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY, title text, content_type text,
  creator_id uuid NOT NULL, created_at timestamptz NOT NULL, updated_at timestamptz,
  is_private boolean NOT NULL, tags uuid[] NOT NULL);
"""


@pytest.mark.parametrize("shape", [PARTITIONED, SERIAL], ids=["partitioned", "numbered by hand"])
def test_adopted_tables_are_loaded_whatever_numbers_their_rows(
    any_postgres_engine: Engine, write: Write, shape: str
) -> None:
    engine = any_postgres_engine
    execute(
        engine,
        "CREATE SCHEMA gallery; CREATE TABLE gallery.users (id uuid PRIMARY KEY, username text);"
        "CREATE TABLE gallery.tags (id uuid PRIMARY KEY, name varchar(90) UNIQUE NOT NULL);",
        shape,
    )
    path = write("7,regular,ann,2020-01-01T00:00Z,sea\n9,auto,ann,,sky\n")
    assert counts(load_gallery(engine, path)) == (2, 0, 0, 0)
    assert counts(load_gallery(engine, path)) == (0, 0, 2, 0)
    moved = write("7,regular,bob,2020-01-01T01:00Z,sea\n9,auto,ann,,sky\n")
    assert counts(load_gallery(engine, moved)) == (0, 1, 1, 0)
    stored = "SELECT extract(epoch FROM created_at) FROM gallery.content_items"
    assert scalar(engine, stored) == NEW_YEAR.timestamp() + 3600
    if shape == SERIAL:
        assert scalar(engine, "SELECT nextval('gallery.numbers')") == 8
    else:
        next_id = "pg_get_serial_sequence('gallery.content_items_all', 'id')"
        assert scalar(engine, f"SELECT nextval({next_id})") == 10


def test_two_loads_at_once_make_no_user_and_no_tag_twice(
    gallery: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "CHUNK_ITEMS", 50)
    listed = [f"{n},regular,user {n % 97},,tag {n % 89};tag {n % 83}" for n in range(1000)]
    paths = []
    for name, lines in (("a", listed), ("b", listed[::-1])):
        paths.append(tmp_path / f"{name}.csv")
        paths[-1].write_text("\n".join([HEADER, *lines]))
    done: list[Loaded] = []
    threads = [
        threading.Thread(target=lambda path=path: done.append(load_gallery(gallery, path)))
        for path in paths
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(loaded.inserted for loaded in done) == 1000
    assert sum(loaded.changed for loaded in done) == 0
    assert scalar(gallery, "SELECT count(*) FROM gallery.users") == 97
    assert scalar(gallery, "SELECT count(*) FROM gallery.tags") == 89
    assert all(
        tags == [f"tag {n % 89}", f"tag {n % 83}"]
        for (_, n), (_, tags, *_) in items(gallery).items()
    )


def test_a_creator_deleted_during_the_load_is_made_anew(
    gallery: Engine, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "CHUNK_ITEMS", 1)

    def delete(rows: int, done: int, total: int | None) -> None:
        if rows == 1 and done == total:
            execute(gallery, "DELETE FROM gallery.content_items", "DELETE FROM gallery.users")

    path = write("1,regular,ann,,sea\n2,regular,ann,,sea\n")
    assert load_gallery(gallery, path, progress=delete).inserted == 2
    assert items(gallery).keys() == {("regular", 2)}


def test_a_tag_that_does_not_stay_stops_the_load(gallery: Engine, write: Write) -> None:
    execute(
        gallery,
        "CREATE FUNCTION gallery.shout() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN NEW.name := upper(NEW.name); RETURN NEW; END'",
        "CREATE TRIGGER shout BEFORE INSERT ON gallery.tags FOR EACH ROW"
        " EXECUTE FUNCTION gallery.shout()",
    )
    with pytest.raises(LoadError, match=r"The tag 'sea' was made, but is not to be found"):
        load_gallery(gallery, write("1,regular,ann,,sea\n"))
    assert items(gallery) == {}


def test_a_load_that_stopped_half_way_can_be_run_again(
    gallery: Engine, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "CHUNK_TAGS", 10)
    path = write("".join(f"{n},auto,ann,,sea;sky\n" for n in range(100)))
    seen: list[tuple[int, int, int | None]] = []

    def stop(rows: int, done: int, total: int | None) -> None:
        seen.append((rows, done, total))
        if rows == 50:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_gallery(gallery, path, progress=stop)
    assert len(items(gallery)) == 50
    assert counts(load_gallery(gallery, path)) == (50, 0, 50, 0)
    size = path.stat().st_size
    assert seen[0] == (5, size, size)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.csv", None, r"gone\.csv cannot be read: there is no such file"),
        ("a.txt", b"x", r"is no file that items can be loaded from; name one that ends with \.csv"),
        ("a.csv", b"", "is empty: expected a header line"),
        ("a.csv", b"id,source,tags\n", "has no column creator: expected a header line with id"),
        (
            "a.csv.gz",
            gzip.compress(b"id,source,creator,tags\n" * 99, mtime=0)[:30],
            "cannot be read beyond",
        ),
        ("a.jsonl.gz", b"no gzip", "cannot be read beyond line 0"),
        ("a.parquet", b"PAR1", "cannot be read as Parquet"),
    ],
)
def test_a_file_that_cannot_be_loaded_is_reported_in_one_sentence(
    gallery: Engine, tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LoadError, match=message):
        load_gallery(gallery, path)


def test_a_parquet_file_that_lacks_columns_or_is_damaged_is_reported(
    gallery: Engine, tmp_path: Path
) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": [1], "source": ["auto"]}), path)
    with pytest.raises(LoadError, match="has the columns id, source; expected each of id, source"):
        load_gallery(gallery, path)
    with pytest.raises(LoadError, match="is no file that items can be loaded from"):
        load_gallery(gallery, path.rename(tmp_path / "a.parquet.gz"))
    count = 1000
    texts = [str(uuid4()) for _ in range(count)]
    whole = {"id": range(count), "source": ["auto"] * count, "creator": texts, "tags": [[]] * count}
    pq.write_table(pa.table({name: list(values) for name, values in whole.items()}), path)
    damaged = bytearray(path.read_bytes())
    damaged[5000:20000] = b"\0" * 15000
    path.write_bytes(damaged)
    with pytest.raises(LoadError, match="cannot be read beyond row 0"):
        load_gallery(gallery, path)


def test_a_database_without_the_tables_is_reported_first(engine: Engine, write: Write) -> None:
    with pytest.raises(LoadError, match=r"no table gallery\.users .*`tally migrate"):
        load_gallery(engine, write("bad\n"))
    assert not write("").with_name("items.csv.rejects.csv").exists()

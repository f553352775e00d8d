"""Loading stored events into a real log: what is written as what, and what is rejected."""

from __future__ import annotations

import csv
import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError

from assets.fediverse import load as loading
from assets.fediverse.load import load_fediverse
from assets.fediverse.tallies import system
from tallykeeper.input.loading import Loaded, LoadError
from tests.integration.support import create, execute, rows, scalar

INSTANCE = "https://a.example"
EVENTS = "SELECT event_type, payload::text FROM fediverse.stream_events ORDER BY received_at, id"
STATUS = '{"id": "1", "content": "x", "score": 1.10, "big": 117024236332527350123}'


@pytest.fixture
def fediverse(engine: Engine) -> Engine:
    """A database with an empty log."""
    create(engine, system)
    return engine


def write(folder: Path, *lines: str | bytes) -> Path:
    path = folder / "events.jsonl"
    path.write_bytes(b"".join((x if isinstance(x, bytes) else x.encode()) + b"\n" for x in lines))
    return path


def load(engine: Engine, path: Path, **options: Any) -> Loaded:
    return load_fediverse(engine, path, instance=INSTANCE, **options)


def reasons(loaded: Loaded) -> dict[int, str]:
    """Why each rejected line was, by its number."""
    assert loaded.reject_file is not None
    with loaded.reject_file.open(newline="", errors="replace") as stream:
        return {int(row["line"]): row["reason"] for row in csv.DictReader(stream)}


def test_each_kind_of_line_becomes_an_event_with_its_payload_as_it_stands(
    fediverse: Engine, tmp_path: Path
) -> None:
    path = write(
        tmp_path,
        f'{{"seq": 0, "event": "update", "payload": {STATUS}, "more": {{"payload": 1}}}}',
        '{"event": "delete", "payload": 117024236332527350}',
        '{"event": "delete", "payload": "117024236332527350"}',
        '{"event": "delete", "payload": "01HWRRWYV739R3GG41NDQEYZ86"}',
        '{"event": "delete", "payload": "9e12345678"}',
        r'{"event": "update", "payload": "{\"id\": \"2\", \"content\": \"\\u00e9\"}"}',
        '{"event": "filters_changed"}',
        '{"event": "a.new.one", "payload": {"x": null}}',
        STATUS,
        '{"id": 3, "account": {}}',
        '{"id": "9zxk3abcde", "createdAt": "2026-11-20T11:00:00Z"}',
        f'  {{"host" : "b.example" , "status" : {STATUS} }}',
        '{"status_id": "5", "n_versions": 0, "history": []}',
        "",
    )
    loaded = load(fediverse, path)
    assert (loaded.read, loaded.inserted, loaded.rejected) == (13, 13, 0)
    stored = scalar(fediverse, f"SELECT $${STATUS}$$::jsonb::text")
    assert "1.10" in stored
    assert "117024236332527350123" in stored
    assert rows(fediverse, EVENTS) == [
        ("update", stored),
        ("delete", "117024236332527350"),
        ("delete", '"117024236332527350"'),
        ("delete", '"01HWRRWYV739R3GG41NDQEYZ86"'),
        ("delete", '"9e12345678"'),
        ("update", r'"{\"id\": \"2\", \"content\": \"\\u00e9\"}"'),
        ("filters_changed", None),
        ("a.new.one", '{"x": null}'),
        ("status", stored),
        ("status", '{"id": 3, "account": {}}'),
        ("status", '{"id": "9zxk3abcde", "createdAt": "2026-11-20T11:00:00Z"}'),
        ("status", stored),
        ("history", '{"history": [], "status_id": "5"}'),
    ]
    assert rows(
        fediverse, "SELECT base_url, last_seen_at IS NOT NULL FROM fediverse.instances"
    ) == [(INSTANCE, True)]
    unprocessed = "SELECT count(*) FROM fediverse.stream_events WHERE processed_at IS NULL"
    assert scalar(fediverse, unprocessed) == 13


def test_lines_that_cannot_be_used_are_rejected_with_the_reason(
    fediverse: Engine, tmp_path: Path
) -> None:
    wrong = {
        "{": "no valid JSON",
        "[]": "expected a JSON object, found an array",
        "{}": "expected an event (event, payload), a status",
        '{"event": ""}': "event: expected a name",
        '{"event": 1, "payload": 1}': "event: expected a name",
        r'{"event": "a\u0000b", "payload": 1}': "event: contains a NUL byte",
        '{"event": "update", "payload": [1]}': "found an array",
        '{"event": "update", "payload": true}': "found a truth value",
        '{"event": "update", "payload": "not json"}': "payload: the string is no valid JSON",
        r'{"id": 1, "content": "a\u0000b"}': r"the payload contains \u0000",
        r'{"id": 1, "content": "a\ud83d"}': "half of a surrogate pair",
        r'{"event": "update", "payload": "{\"content\": \"\\u0000\"}"}': r"contains \u0000",
        '{"id": 1, "content": "a", "n": 1e400000}': "PostgreSQL cannot hold it: value",
        '{"id": 1, "content": "a", "n": NaN}': "PostgreSQL cannot hold it: invalid input syntax",
        '{"id": 1, "content": ' + "[" * 900 + "]" * 900 + "}": "",
        '{"id": 1, "content": ' + "[" * 50_000 + "]" * 50_000 + "}": "nested too deeply",
        '{"id": true, "content": "a"}': "id: expected an id",
        '{"id": "x y", "content": "a"}': "id: expected an id",
        '{"event": "delete", "payload": "x y"}': "payload: the string is no valid JSON",
        '{"status": {"content": "a"}}': "status.id: expected an id",
        '{"status_id": null, "history": []}': "status_id: expected an id",
        '{"status_id": 1, "history": {}}': "history: expected an array",
        '{"id": 1, "content": "a", "received_at": 5}': "received_at: expected an ISO 8601 time",
        '{"id": 1, "content": "a", "received_at": "x"}': "is no ISO 8601 time",
        '{"id": 1, "content": "a", "received_at": "2999-01-01"}': "expected a moment from 2010 to",
        '{"id": 1, "content": "a", "received_at": "0001-01-01"}': "expected a moment from 2010 to",
    }
    lines: list[str | bytes] = [
        *wrong,
        b'{"id": 1, "content": "\xff"}',
        '{"event": "delete", "payload": 9}',
    ]
    loaded = load(fediverse, write(tmp_path, *lines))
    found = reasons(loaded)
    for number, (line, reason) in enumerate(wrong.items(), 1):
        if reason:
            assert reason in found.pop(number), line
    assert found == {len(wrong) + 1: "is not UTF-8"}
    assert (loaded.read, loaded.inserted, loaded.rejected) == (len(lines), 2, len(wrong))
    types = "SELECT event_type FROM fediverse.stream_events ORDER BY id"
    assert rows(fediverse, types) == [("status",), ("delete",)]


def test_a_backslash_before_u0000_is_no_nul(fediverse: Engine, tmp_path: Path) -> None:
    good = r'{"id": 1, "content": "a\\u0000 \ud83d\ude00"}'
    assert load(fediverse, write(tmp_path, good)).inserted == 1
    assert scalar(fediverse, "SELECT payload ->> 'content' FROM fediverse.stream_events") == (
        r"a\u0000 😀"
    )


def test_lines_are_received_when_they_say_and_else_now_in_the_files_order(
    fediverse: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "CHUNK_LINES", 3)
    lines = [f'{{"event": "delete", "payload": {n}}}' for n in range(10)]
    deletion = '{"event": "delete", "payload": 99, "received_at": "2025-11-20T23:30:00-03:00"}'
    before = datetime.now(UTC)
    load(fediverse, write(tmp_path, deletion, *lines))
    order = "SELECT payload::int FROM fediverse.stream_events ORDER BY received_at, id"
    assert [n for (n,) in rows(fediverse, order)] == [99, *range(10)]
    received = "SELECT received_at FROM fediverse.stream_events ORDER BY received_at"
    found = [moment for (moment,) in rows(fediverse, received)]
    assert found[0] == datetime(2025, 11, 21, 2, 30, tzinfo=UTC)
    assert before <= found[1] <= found[-1] <= datetime.now(UTC)
    assert scalar(fediverse, "SELECT count(*) FROM fediverse.stream_events_20251121") == 1
    assert scalar(fediverse, "SELECT count(*) FROM fediverse.stream_events_default") == 0
    last_seen = "SELECT last_seen_at FROM fediverse.instances"
    assert scalar(fediverse, last_seen) == found[-1]
    load(fediverse, write(tmp_path, deletion))
    assert scalar(fediverse, last_seen) == found[-1]


def test_loading_again_appends_the_events_again(fediverse: Engine, tmp_path: Path) -> None:
    path = write(tmp_path, STATUS)
    load(fediverse, path)
    load(fediverse, path)
    assert scalar(fediverse, "SELECT count(*) FROM fediverse.stream_events") == 2
    assert scalar(fediverse, "SELECT count(*) FROM fediverse.instances") == 1


def test_hosts_are_distinguished_only_where_that_is_asked_for(
    fediverse: Engine, tmp_path: Path
) -> None:
    lines = ['{"host": "B.Example", "status": {"id": 1}}', '{"status": {"id": 2}}']
    wrong = ['{"host": "b/c", "status": {"id": 3}}', '{"host": 4, "status": {"id": 4}}']
    path = write(tmp_path, *lines, *wrong)
    per_instance = (
        "SELECT base_url, count(*) FROM fediverse.stream_events JOIN fediverse.instances AS i"
        " ON i.id = instance_id GROUP BY 1 ORDER BY 1"
    )
    assert load(fediverse, path).inserted == 4
    assert rows(fediverse, per_instance) == [(INSTANCE, 4)]
    execute(fediverse, "TRUNCATE fediverse.stream_events")
    loaded = load(fediverse, path, by_host=True)
    assert rows(fediverse, per_instance) == [(INSTANCE, 1), ("https://b.example", 1)]
    found = reasons(loaded)
    assert "host: expected an instance's address" in found[3]
    assert "host: expected a name like mastodon.social, found 4" in found[4]


def test_a_chunk_with_many_wrong_lines_keeps_the_order_of_the_others(
    fediverse: Engine, tmp_path: Path
) -> None:
    lines = [f'{{"event": "delete", "payload": {n if n % 3 else "1e400000"}}}' for n in range(50)]
    loaded = load(fediverse, write(tmp_path, *lines))
    assert loaded.rejected == 17
    order = "SELECT payload::int FROM fediverse.stream_events ORDER BY id"
    assert [n for (n,) in rows(fediverse, order)] == [n for n in range(50) if n % 3]


def test_a_compressed_file_and_progress(fediverse: Engine, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl.gz"
    path.write_bytes(gzip.compress(f"{STATUS}\n".encode() * 3))
    seen: list[tuple[int, int, int | None]] = []
    load(fediverse, path, progress=lambda rows, done, total: seen.append((rows, done, total)))
    size = path.stat().st_size
    assert seen == [(3, size, size)]


def test_what_is_no_file_of_events_is_refused(fediverse: Engine, tmp_path: Path) -> None:
    (tmp_path / "events.csv").touch()
    with pytest.raises(LoadError, match=r"name one in JSON Lines"):
        load(fediverse, tmp_path / "events.csv")
    with pytest.raises(LoadError, match="cannot be opened"):
        load(fediverse, tmp_path / "none.jsonl")
    (tmp_path / "a.jsonl").mkdir()
    with pytest.raises(LoadError, match="is a folder"):
        load(fediverse, tmp_path / "a.jsonl")
    with pytest.raises(LoadError, match="--instance: expected an instance's address"):
        load_fediverse(fediverse, write(tmp_path, STATUS), instance="ftp://x")
    broken = tmp_path / "broken.jsonl.gz"
    broken.write_bytes(gzip.compress(b"x" * 1000)[:20])
    with pytest.raises(LoadError, match="get a complete copy"):
        load(fediverse, broken)


def test_without_the_tables_it_says_how_to_make_them(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"no table fediverse.instances .* --with-sources"):
        load(engine, write(tmp_path, STATUS))


def test_a_payload_is_what_the_line_says_whatever_else_stands_in_it(
    fediverse: Engine, tmp_path: Path
) -> None:
    payload = {"content": 'a "payload": {} \\ é', "list": [{"}": "{"}], "": None}
    line = json.dumps({"a": {"payload": 2}, "payload": 3, "event": "x", "z": [1]})
    line = line[:-1] + ', "payload" :\t' + json.dumps(payload, ensure_ascii=False) + " }"
    load(fediverse, write(tmp_path, line))
    assert scalar(fediverse, "SELECT payload FROM fediverse.stream_events") == payload


def test_a_chunk_that_deadlocks_is_written_again(fediverse: Engine, tmp_path: Path) -> None:
    # The server ends the first attempt as if it had been in a deadlock.
    execute(
        fediverse,
        "CREATE SEQUENCE fediverse.attempts",
        "CREATE FUNCTION fediverse.fail_once() RETURNS trigger LANGUAGE plpgsql AS $$"
        "BEGIN IF nextval('fediverse.attempts') = 1 THEN"
        " RAISE 'deadlock detected' USING ERRCODE = 'deadlock_detected';"
        " END IF; RETURN NEW; END $$",
        "CREATE TRIGGER fail_once BEFORE INSERT ON fediverse.stream_events"
        " FOR EACH ROW EXECUTE FUNCTION fediverse.fail_once()",
    )
    assert load(fediverse, write(tmp_path, STATUS, STATUS)).inserted == 2
    assert scalar(fediverse, "SELECT count(*) FROM fediverse.stream_events") == 2


def test_a_fault_of_the_database_is_no_fault_of_a_line(fediverse: Engine, tmp_path: Path) -> None:
    execute(fediverse, "ALTER TABLE fediverse.stream_events ADD CHECK (event_type <> 'status')")
    with pytest.raises(IntegrityError, match="violates check constraint"):
        load(fediverse, write(tmp_path, STATUS))

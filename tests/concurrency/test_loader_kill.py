"""kill -9 of each loader at random moments: loading again makes what one undisturbed load makes.

Every kill begins with an empty database. After it the input is loaded once more, by a load that is
let through; then sources and derived tables are those of a database that was loaded once. A few
kills are part of all tests, `TALLY_TEST_KILLS` names how many there are of each input.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import Engine

from assets.classroom.load import load_classroom
from assets.classroom.tallies import system as classroom
from assets.fediverse.load import load_fediverse
from assets.fediverse.processing.batches import process
from assets.fediverse.tallies import system as fediverse
from assets.gallery.load import load_gallery
from assets.gallery.tallies import system as gallery
from assets.media.load import load_media
from assets.media.tallies import system as media
from tallykeeper import System, refresh, verify
from tallykeeper.database.connections import open_engine
from tallykeeper.input.loading import Loaded, ProgressCallback
from tests.concurrency.conftest import new_seed
from tests.concurrency.harness import processes
from tests.fediverse_events import INSTANCES, derived, events_of
from tests.integration.support import create, rows
from tests.servers import VERSIONS, Servers

KILLS = int(os.environ.get("TALLY_TEST_KILLS", "2"))
ATTEMPTS_OF_EACH = 10
# Of every loader: small chunks, so that there are many moments between two of them.
CHUNKS = {
    "assets.media.input.listing": ("Listing", "chunk", 40),
    "assets.media.input.folder": ("Folder", "chunk", 5),
    "assets.gallery.load": (None, "CHUNK_ITEMS", 30),
    "assets.classroom.load": (None, "CHUNK", 30),
    "assets.fediverse.load": (None, "CHUNK_LINES", 20),
}

# A process that is forked from one which has imported the loaders starts in milliseconds.
processes.set_forkserver_preload(["tests.concurrency.harness", __name__])

pytestmark = [pytest.mark.concurrency, pytest.mark.slow]


def _media_list(folder: Path) -> Path:
    path = folder / "files.csv"
    lines = [f"{n % 500}.jpg,2024-02-{n % 28 + 1:02},2024-03-01" for n in range(600)]
    path.write_text("\n".join(["path,original_created_at,created_at", *lines]))
    return path


def _pictures(folder: Path) -> Path:
    for number in range(60):
        tags = Image.Exif()
        tags.get_ifd(0x8769)[0x9003] = f"2024:02:{number % 28 + 1:02} 12:00:00"
        path = folder / f"{number}.jpg"
        Image.new("RGB", (8, 8)).save(path, exif=tags.tobytes() if number % 3 else b"")
        os.utime(path, (1_600_000_000, 1_600_000_000))
    return folder


def _items(folder: Path) -> Path:
    path = folder / "items.jsonl"
    lines = [
        {
            "id": n % 300,
            "source": ("regular", "auto")[n % 2],
            "creator": f"creator {n % 50}",
            "tags": [f"tag {n % 7}", f"tag {n % 11}", f"once {n}"],
            "created_at": "2024-02-29T12:00:00Z",
        }
        for n in range(360)
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def _events(folder: Path) -> Path:
    path = folder / "MainTable.csv"
    lines = [
        f"{('Run.Program', 'File.Edit', 'Submit')[n % 3]},{n % 330},s{n % 17},x,0,"
        f"2024-02-29T{n % 24:02}:{n % 60:02}:00,c{n % 2},a{n % 5}"
        for n in range(360)
    ]
    header = "EventType,EventID,SubjectID,ToolInstances,CodeStateID,ServerTimestamp"
    path.write_text("\n".join([f"{header},CourseID,AssignmentID", *lines]))
    return path


def _stream(folder: Path) -> Path:
    path = folder / "events.jsonl"
    lines = [
        {
            "event": each.event_type,
            "payload": each.payload,
            "received_at": each.received_at.isoformat(),
            "host": INSTANCES[each.instance - 1].removeprefix("https://"),
        }
        for each in events_of("killed", 200, 15)
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def _load_stream(engine: Engine, path: Path, *, progress: ProgressCallback | None = None) -> Loaded:
    return load_fediverse(engine, path, instance=INSTANCES[0], by_host=True, progress=progress)


@dataclass(frozen=True)
class Input:
    """An input of a system, what loads it, and queries that show the result, without ids."""

    system: System
    write: Callable[[Path], Path]
    load: Callable[..., Loaded]
    queries: Sequence[str] = ()


_FILES = "SELECT path, original_created_at, created_at FROM media.media_files ORDER BY 1"
# A file with a date of its own was created when it was loaded.
_PICTURES = """
SELECT path, original_created_at, CASE WHEN original_created_at IS NULL THEN created_at END
FROM media.media_files ORDER BY 1"""
_SEEN = "SELECT path, size, original_created_at, created_at FROM {} ORDER BY 1"
_ITEMS = """
SELECT i.id, u.username, i.created_at, i.is_private,
  ARRAY(SELECT t.name FROM unnest(i.tags) WITH ORDINALITY AS n (id, place)
    JOIN gallery.tags AS t USING (id) ORDER BY n.place)
FROM gallery.{} AS i JOIN gallery.users AS u ON u.id = i.creator_id ORDER BY 1"""
_LOG = """
SELECT u.name, c.name, a.name, k.event_id, event_type, category, l.date_created
FROM classroom.submission_log AS l JOIN classroom.submissions AS s ON s.id = submission_id
JOIN classroom.users AS u ON u.id = s.user_id JOIN classroom.courses AS c ON c.id = s.course_id
JOIN classroom.assignments AS a ON a.id = s.assignment_id
LEFT JOIN tallykeeper.classroom_loaded_events AS k ON k.log_id = l.id
WHERE l.assignment_id = a.id AND l.course_id = c.id AND l.subject_id = u.id ORDER BY l.id"""
_NAMES = "SELECT name, count(*) FROM classroom.{} GROUP BY 1 ORDER BY 1"
INPUTS = {
    "media list": Input(media, _media_list, load_media, [_FILES]),
    "media folder": Input(
        media, _pictures, load_media, [_PICTURES, _SEEN.format("tallykeeper.media_loaded_files")]
    ),
    "gallery": Input(
        gallery,
        _items,
        load_gallery,
        [
            _ITEMS.format("content_items"),
            _ITEMS.format("content_items_auto"),
            "SELECT username, count(*) FROM gallery.users GROUP BY 1 ORDER BY 1",
            "SELECT name FROM gallery.tags ORDER BY 1",
        ],
    ),
    "classroom": Input(
        classroom,
        _events,
        load_classroom,
        [_LOG, *(_NAMES.format(t) for t in ("users", "courses", "assignments", "roles"))],
    ),
    "fediverse": Input(fediverse, _stream, _load_stream),
}


def _in_small_chunks() -> None:
    for module, (owner, name, value) in CHUNKS.items():
        found: Any = sys.modules[module]
        setattr(getattr(found, owner) if owner else found, name, value)


def _load(name: str, url: str, path: Path, chunks: Any) -> None:
    """Load in small chunks, in a process of its own that counts them."""
    _in_small_chunks()

    def count(*_: object) -> None:
        chunks.value += 1

    INPUTS[name].load(open_engine(url), path, progress=count)


def _outcome(engine: Engine, of: Input) -> list[Any]:
    """The sources and, refreshed and verified, what is derived of them."""
    found: list[Any] = [rows(engine, query) for query in of.queries]
    if of.system is fediverse:
        process(engine)
        processed = derived(engine)
        del processed["stream_events"]
        found.append(processed)
    for tally in of.system.tallies:
        refresh(engine, tally)
        assert verify(engine, tally).ok, tally.name
    return found


@pytest.fixture
def databases(postgres_servers: Servers) -> Iterator[Callable[[System], tuple[str, Engine]]]:
    """Makes databases with a system's empty tables, one at a time."""
    with postgres_servers.fresh_database(VERSIONS[0]) as url:
        engines = []

        def make(system: System) -> tuple[str, Engine]:
            engine = open_engine(url)
            engines.append(engine)
            for schema in (system.metadata.schema, "tallykeeper"):
                with engine.begin() as connection:
                    connection.exec_driver_sql("SET LOCAL client_min_messages = error")
                    connection.exec_driver_sql(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
            create(engine, system)
            return url, engine

        yield make
        for engine in engines:
            engine.dispose()


@pytest.mark.parametrize("name", INPUTS)
def test_a_load_killed_at_any_moment_can_simply_be_run_again(
    databases: Callable[[System], tuple[str, Engine]], tmp_path: Path, name: str
) -> None:
    seed = new_seed()
    rng = random.Random(seed)
    of = INPUTS[name]
    path = of.write(tmp_path)
    url, engine = databases(of.system)
    chunks = processes.Value("i", 0)
    process = _started(name, url, path, chunks)
    process.join(60)
    assert process.exitcode == 0
    steps, expected = chunks.value, _outcome(engine, of)
    assert steps > 5
    killed = 0
    for _ in range(KILLS * ATTEMPTS_OF_EACH):
        if killed == KILLS:
            break
        engine.dispose()
        url, engine = databases(of.system)
        if not _killed(name, url, path, rng, steps):
            continue
        killed += 1
        of.load(engine, path)
        assert _outcome(engine, of) == expected, f"seed {seed}"
    assert killed == KILLS


def _started(name: str, url: str, path: Path, chunks: Any) -> Any:
    process = processes.Process(target=_load, args=(name, url, path, chunks), daemon=True)
    process.start()
    return process


def _killed(name: str, url: str, path: Path, rng: random.Random, steps: int) -> bool:
    """Kill a load after so many of its chunks; False where it was through before."""
    chunks = processes.Value("i", 0)
    process = _started(name, url, path, chunks)
    wanted = rng.randrange(steps)
    deadline = time.monotonic() + 60
    while chunks.value < wanted and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.0005)
    time.sleep(rng.uniform(0, 0.02))
    process.kill()
    process.join(30)
    assert process.exitcode in {0, -signal.SIGKILL}, "the load failed by itself"
    return bool(process.exitcode)

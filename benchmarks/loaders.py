"""How quick each loader is, and against the loaders of another checkout of the project.

Each load runs in a process of its own, with the code of its checkout, into an empty database that
this code made; importing and migrating are not timed. What is loaded is written once.
"""

from __future__ import annotations

import csv
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.bench import Bench
from benchmarks.progress import announce
from benchmarks.report import Row, count
from benchmarks.server import Server
from benchmarks.timing import Sample, turns

REPETITIONS = 5
HERE = Path(__file__).parent.parent
NOW, BEFORE = "now", "the release before"
_SCRIPT = """
import importlib, sys
from pathlib import Path
from sqlalchemy import create_engine
from tallykeeper.installation.migrate import migrate
system, url, path = sys.argv[1:]
engine = create_engine(url)
found = importlib.import_module(f"assets.{system}.tallies").system
migrate(engine, [found], with_sources=True)
load = getattr(importlib.import_module(f"assets.{system}.load"), f"load_{system}")
options = {"instance": "https://bench.example"} if system == "fediverse" else {}
loaded = load(engine, Path(path), **options)
assert loaded.read == loaded.inserted + loaded.unchanged, loaded
print(loaded.read, loaded.seconds)
"""

_random = random.Random(4)
_FIRST = datetime(2015, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Input:
    """What is loaded: of which system, how many rows, and what writes it into a folder."""

    system: str
    what: str
    rows: int
    write: Callable[[Path, int], Path]


def measure(bench: Bench) -> list[Row]:
    """A row for each loader and kind of input; compared where `bench.before` names a checkout."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="tally-loads-") as folder:
        for number, of in enumerate(INPUTS):
            announce(f"loads {of.what}")
            place = Path(folder) / str(number)
            place.mkdir()
            took = _alternate(bench, of, of.write(place, of.rows))
            rate = round(of.rows / took[NOW].median, -2)
            rows.append(
                Row(
                    f"`tally load {of.system}` of {of.what}, {rate:,.0f} a second",
                    count(of.rows),
                    took[NOW],
                    BEFORE if BEFORE in took else "",
                    took.get(BEFORE),
                )
            )
    return rows


def _alternate(bench: Bench, of: Input, path: Path) -> dict[str, Sample]:
    checkouts = {NOW: HERE} | ({BEFORE: bench.before} if bench.before is not None else {})
    seconds: dict[str, list[float]] = {name: [] for name in checkouts}
    for name in turns(list(checkouts), REPETITIONS):
        seconds[name].append(_load(bench.server, checkouts[name], of, path))
    return {name: Sample(tuple(values)) for name, values in seconds.items()}


def _load(server: Server, checkout: Path, of: Input, path: Path) -> float:
    """How many seconds the load took, by its own account."""
    engine = server.database("loads")
    url = engine.url.render_as_string(hide_password=False)
    ran = subprocess.run(
        [sys.executable, "-c", _SCRIPT, of.system, url, str(path)],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=False,
    )
    server.drop("loads")
    if ran.returncode:
        raise RuntimeError(f"the load of {of.what} failed: {ran.stderr.strip()[-2_000:]}")
    read, seconds = ran.stdout.split()[-2:]
    assert int(read) == of.rows, ran.stdout
    return float(seconds)


def _moments(number: int) -> Iterator[str]:
    for _ in range(number):
        yield (_FIRST + timedelta(seconds=_random.randrange(315_000_000))).isoformat()


def _csv(path: Path, header: list[str], rows: Iterator[list[object]]) -> Path:
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def _files(folder: Path, number: int) -> Path:
    rows: Iterator[list[object]] = (
        [f"/library/{n % 1_000}/{n}.jpg", moment, ""] for n, moment in enumerate(_moments(number))
    )
    return _csv(folder / "files.csv", ["path", "original_created_at", "created_at"], rows)


def _pictures(folder: Path, number: int) -> Path:
    image = Image.new("RGB", (64, 64))
    for n, moment in enumerate(_moments(number)):
        tags = Image.Exif()
        tags.get_ifd(0x8769)[0x9003] = moment[:19].replace("-", ":").replace("T", " ")
        image.save(folder / f"{n}.jpg", exif=tags.tobytes())
    return folder


ITEM = ["id", "source", "creator", "tags", "created_at", "title"]


def _items(number: int) -> Iterator[list[object]]:
    for n, moment in enumerate(_moments(number), 1):
        tags = [f"tag {int(5_000 ** _random.random())}" for _ in range(8)]
        source = ("regular", "auto")[n % 2]
        yield [n, source, f"creator {n % 2_000}", sorted(set(tags)), moment, f"item {n}"]


def _items_csv(folder: Path, number: int) -> Path:
    rows: Iterator[list[object]] = (
        [*row[:3], ";".join(map(str, row[3])), *row[4:]]  # type: ignore[call-overload]
        for row in _items(number)
    )
    return _csv(folder / "items.csv", ITEM, rows)


def _items_jsonl(folder: Path, number: int) -> Path:
    path = folder / "items.jsonl"
    with path.open("w") as stream:
        for row in _items(number):
            stream.write(json.dumps(dict(zip(ITEM, row, strict=True))) + "\n")
    return path


def _items_parquet(folder: Path, number: int) -> Path:
    path = folder / "items.parquet"
    columns = zip(*_items(number), strict=True)
    pq.write_table(pa.table(dict(zip(ITEM, map(list, columns), strict=True))), path)
    return path


def _events(folder: Path, number: int) -> Path:
    header = "EventType EventID SubjectID ToolInstances CodeStateID ServerTimestamp CourseID"
    kinds = ("Run.Program", "File.Edit", "File.Edit", "Submit", "Compile.Error")
    rows: Iterator[list[object]] = (
        [kinds[n % 5], n, f"s{n % 500}", "x", 0, moment, f"c{n % 4}", f"a{n % 40}"]
        for n, moment in enumerate(_moments(number))
    )
    return _csv(folder / "MainTable.csv", [*header.split(), "AssignmentID"], rows)


def _stream(folder: Path, number: int) -> Path:
    path = folder / "events.jsonl"
    with path.open("w") as stream:
        for n in range(number):
            at = (datetime(2026, 11, 1, tzinfo=UTC) + timedelta(seconds=n)).isoformat()
            status = {
                "id": str(110_000_000_000_000_000 + n),
                "created_at": at,
                "visibility": "public",
                "content": "<p>" + "so many words " * 40 + "</p>",
                "account": {"id": str(n % 999), "acct": f"a{n % 999}", "note": "x" * 400},
                "tags": [{"name": f"tag{n % 77}"}],
                "favourites_count": n % 9,
            }
            event = {"event": "update", "received_at": at, "payload": status}
            stream.write(json.dumps(event) + "\n")
    return path


INPUTS = [
    Input("media", "a CSV of files", 200_000, _files),
    Input("media", "a folder of pictures", 3_000, _pictures),
    Input("gallery", "items in CSV", 60_000, _items_csv),
    Input("gallery", "items in JSON Lines", 60_000, _items_jsonl),
    Input("gallery", "items in Parquet", 60_000, _items_parquet),
    Input("classroom", "events in CSV", 60_000, _events),
    Input("fediverse", "events in JSON Lines", 40_000, _stream),
]

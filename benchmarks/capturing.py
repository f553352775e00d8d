"""What capture costs the applications: the same write on two equal tables, one with, one without.

Both tallies of the media system hang on the one table. One-row transactions go through psycopg on
one connection, each committed, on the two tables in turn. Bulk loads are files over ten years, so
that nearly every hour of them gets a log row; they go into empty tables, where a load is cheapest.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable
from functools import partial

import psycopg

from assets.media.tallies import system
from benchmarks import loaders
from benchmarks.bench import Bench
from benchmarks.library import FILES, MOMENT, Library
from benchmarks.progress import announce
from benchmarks.report import Row, Section, count
from benchmarks.server import libpq
from benchmarks.timing import Contender, Sample, alternate

AT_MOST = 1.10
FILES_BEFORE = 1_000_000
TRANSACTIONS = 6_000
WARM_UP = 300
LOADED = 500_000
LOADS = 9

PLAIN = "bench.media_files"
SIDES = {"with capture": FILES, "without": PLAIN}

# A statement with {files} for the table, and the parameters of the transaction of a given number.
Write = tuple[str, Callable[[int], tuple[object, ...]]]

_random = random.Random(2)


def transactions(bench: Bench) -> Section:
    """One-row transactions: insert, update, delete, and the three together."""
    library = two_tables(bench)
    apart = library.files // (TRANSACTIONS + WARM_UP)
    writes: dict[str, Write] = {
        "insert": (
            "INSERT INTO {files} (path, original_created_at)"
            " VALUES (%s, now() - %s * interval '1 day')",
            lambda _: (uuid.uuid4().hex, _days()),
        ),
        "update that moves the file to another day": (
            "UPDATE {files} SET original_created_at = now() - %s * interval '1 day' WHERE id = %s",
            lambda _: (_days(), _random.randint(1, library.files)),
        ),
        "delete": ("DELETE FROM {files} WHERE id = %s", lambda number: (number * apart + 1,)),
        "update that moves nothing": (
            "UPDATE {files} SET updated_at = now() WHERE id = %s",
            lambda _: (_random.randint(1, library.files),),
        ),
    }
    took = {name: _turns(library, name, write) for name, write in writes.items()}
    changing = [took[name] for name in list(writes)[:3]]
    took["all three in turn"] = {side: _together([t[side] for t in changing]) for side in SIDES}
    rows = [
        Row(
            f"one-row transaction: {name}",
            count(library.files),
            sides["with capture"],
            "without capture",
            sides["without"],
            AT_MOST,
        )
        for name, sides in took.items()
    ]
    return Section("transactions", rows)


def loads(bench: Bench) -> Section:
    """Bulk loads by COPY and by INSERT ... SELECT; and each loader."""
    library = two_tables(bench)
    library.execute(
        "CREATE TABLE bench.incoming AS"
        f" SELECT 'load/' || i AS path, {MOMENT} AS original_created_at"
        f" FROM generate_series(1, {LOADED}) AS i",
        "ANALYZE bench.incoming",
    )
    with _connect(library) as connection:
        with connection.cursor().copy("COPY bench.incoming TO STDOUT") as copy:
            incoming = b"".join(bytes(block) for block in copy)
        logs = ", ".join(tally.log_name for tally in system.tallies)

        def empty() -> None:
            connection.execute(f"TRUNCATE {FILES}, {PLAIN}, {logs}".encode())
            connection.commit()

        def copy_in(files: str) -> None:
            statement = f"COPY {files} (path, original_created_at) FROM STDIN"
            with connection.cursor().copy(statement.encode()) as into:
                into.write(incoming)
            connection.commit()

        def insert(files: str) -> None:
            connection.execute(
                f"INSERT INTO {files} (path, original_created_at)"
                " SELECT path, original_created_at FROM bench.incoming".encode()
            )
            connection.commit()

        rows = []
        for how, load in (("COPY", copy_in), ("INSERT ... SELECT", insert)):
            contenders = {
                side: Contender(partial(load, files), empty) for side, files in SIDES.items()
            }
            alternate(contenders, 1)
            took = alternate(contenders, LOADS)
            rows.append(
                Row(
                    f"`{how}` of {count(LOADED)} files",
                    "empty",
                    took["with capture"],
                    "without capture",
                    took["without"],
                    AT_MOST,
                )
            )
    return Section("loads", rows + loaders.measure(bench))


def two_tables(bench: Bench) -> Library:
    """A library in a database of its own, and an equal table beside it that has no capture."""
    library = Library(bench.server, min(FILES_BEFORE, bench.sizes[0]), "capture")
    columns = "id, path, original_created_at, created_at, updated_at"
    library.execute(
        "CREATE SCHEMA bench",
        f"CREATE TABLE {PLAIN} (LIKE {FILES} INCLUDING ALL)",
        f"INSERT INTO {PLAIN} ({columns}) OVERRIDING SYSTEM VALUE"
        f" SELECT {columns} FROM {FILES} ORDER BY id",
        f"SELECT setval(pg_get_serial_sequence('{PLAIN}', 'id'), {library.files})",
        f"REINDEX TABLE {PLAIN}",
    )
    library.vacuum()
    return library


def _turns(library: Library, name: str, write: Write) -> dict[str, Sample]:
    """The transaction on both tables in turn, with the same parameters."""
    announce(f"one-row transactions: {name}")
    statement, parameters = write
    statements = {side: statement.format(files=files).encode() for side, files in SIDES.items()}
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    order = list(SIDES)
    with _connect(library) as connection:
        for number in range(TRANSACTIONS + WARM_UP):
            given = parameters(number)
            _random.shuffle(order)
            for side in order:
                started = time.perf_counter()
                connection.execute(statements[side], given)
                connection.commit()
                seconds[side].append(time.perf_counter() - started)
    return {side: Sample(tuple(values[WARM_UP:])) for side, values in seconds.items()}


def _together(samples: list[Sample]) -> Sample:
    rounds = zip(*(sample.seconds for sample in samples), strict=True)
    return Sample(tuple(sum(one_round) for one_round in rounds))


def _connect(library: Library) -> psycopg.Connection:
    return psycopg.connect(libpq(library.engine.url))


def _days() -> float:
    return _random.random() * 3652

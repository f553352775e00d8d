"""Every way to write media files: through the table, or straight into a partition of it."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.concurrency.writers import Cursor, Operation

DAYS = tuple(range(1, 9))
FIRST, LAST = min(DAYS), max(DAYS)
HOURS = (0, 0, 1, 12, 23, 23)
ODD_INSTANTS = (
    "infinity",
    "-infinity",
    "1904-01-01 00:00:00+00",
    "2036-02-07 06:28:15+00",
    "0044-03-15 12:00:00+00 BC",
)
ODDS_OF_ODD = 0.03


@dataclass(frozen=True)
class Target:
    """A table that statements may name, and the days of `created_at` that it takes."""

    name: str
    first: int = FIRST
    last: int = LAST


@dataclass
class MediaWrites:
    """Statements against `targets`, of which the first is the whole table.

    `identity` are the columns of a unique key, for upserts.
    """

    targets: Sequence[Target]
    identity: str
    paths: itertools.count[int] = field(default_factory=itertools.count)

    def operations(self) -> tuple[Operation, ...]:
        """All of them, with weights that keep the table at a few hundred rows."""
        kinds = (
            ("insert", 6, self.insert),
            ("insert many", 3, self.insert_many),
            ("insert or nothing", 1, self.insert_or_nothing),
            ("copy", 2, self.copy),
            ("upsert", 4, self.upsert),
            ("merge", 3, self.merge),
            ("move one", 5, self.move_one),
            ("move many", 3, self.move_many),
            ("move what decides the partition", 4, self.move_created),
            ("change nothing", 1, self.change_nothing),
            ("change what does not count", 2, self.change_irrelevant),
            ("change the primary key", 1, self.change_id),
            ("delete one", 3, self.delete_one),
            ("delete many", 3, self.delete_many),
            ("delete and insert in one", 2, self.delete_and_insert),
            ("truncate", 0.25, self.truncate),
        )
        return tuple(Operation(name, weight, run) for name, weight, run in kinds)

    def insert(self, cursor: Cursor, rng: random.Random) -> None:
        into = rng.choice(self.targets)
        cursor.execute(
            f"INSERT INTO {into.name} (path, original_created_at, created_at) VALUES (%s, %s, %s)",
            self.file(rng, into),
        )

    def insert_many(self, cursor: Cursor, rng: random.Random) -> None:
        into = rng.choice(self.targets)
        files = [self.file(rng, into) for _ in range(rng.randint(2, 15))]
        cursor.execute(
            f"INSERT INTO {into.name} (path, original_created_at, created_at) SELECT * FROM"
            " unnest(%s::text[], %s::timestamptz[], %s::timestamptz[])",
            [list(column) for column in zip(*files, strict=True)],
        )

    def insert_or_nothing(self, cursor: Cursor, rng: random.Random) -> None:
        into = rng.choice(self.targets)
        cursor.execute(
            f"INSERT INTO {into.name} (path, original_created_at, created_at)"
            f" VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
            self.shared_file(rng, into),
        )

    def copy(self, cursor: Cursor, rng: random.Random) -> None:
        into = rng.choice(self.targets)
        statement = f"COPY {into.name} (path, original_created_at, created_at) FROM STDIN"
        with cursor.copy(statement) as copy:
            for _ in range(rng.randint(1, 15)):
                copy.write_row(self.file(rng, into))

    def upsert(self, cursor: Cursor, rng: random.Random) -> None:
        into = rng.choice(self.targets)
        files = [self.shared_file(rng, into) for _ in range(rng.randint(1, 4))]
        cursor.execute(
            f"INSERT INTO {into.name} (path, original_created_at, created_at)"
            " SELECT DISTINCT ON (path) * FROM"
            " unnest(%s::text[], %s::timestamptz[], %s::timestamptz[]) AS f (path, o, c)"
            f" ON CONFLICT ({self.identity}) DO UPDATE"
            " SET original_created_at = excluded.original_created_at",
            [list(column) for column in zip(*files, strict=True)],
        )

    def merge(self, cursor: Cursor, rng: random.Random) -> None:
        into = rng.choice(self.targets)
        files = [self.shared_file(rng, into) for _ in range(rng.randint(1, 6))]
        cursor.execute(
            f"MERGE INTO {into.name} AS m USING ("
            " SELECT DISTINCT ON (path) * FROM"
            " unnest(%s::text[], %s::timestamptz[], %s::timestamptz[]) AS f (path, o, c)) AS f"
            " ON m.path = f.path"
            f" WHEN MATCHED AND mod(m.id, 3) = {rng.randrange(3)} THEN DELETE"
            " WHEN MATCHED THEN UPDATE SET original_created_at = f.o"
            " WHEN NOT MATCHED THEN INSERT (path, original_created_at, created_at)"
            " VALUES (f.path, f.o, f.c)",
            [list(column) for column in zip(*files, strict=True)],
        )

    def move_one(self, cursor: Cursor, rng: random.Random) -> None:
        name = rng.choice(self.targets).name
        cursor.execute(
            f"UPDATE {name} SET original_created_at = %s WHERE id = ({_any_id(name)})",
            [_maybe(rng)],
        )

    def move_many(self, cursor: Cursor, rng: random.Random) -> None:
        cursor.execute(
            f"UPDATE {rng.choice(self.targets).name} SET original_created_at ="
            f" original_created_at + interval '25 hours' WHERE {_some(rng)}"
        )

    def move_created(self, cursor: Cursor, rng: random.Random) -> None:
        # Only the whole table can hand a row from one partition to another.
        name = self.targets[0].name
        which = rng.choice((_some(rng), f"id = ({_any_id(name)})"))
        cursor.execute(
            f"UPDATE {name} SET created_at = %s WHERE {which}", [instant(rng, FIRST, LAST)]
        )

    def change_nothing(self, cursor: Cursor, rng: random.Random) -> None:
        cursor.execute(
            f"UPDATE {rng.choice(self.targets).name} SET original_created_at = original_created_at"
            f" WHERE {_some(rng)}"
        )

    def change_irrelevant(self, cursor: Cursor, rng: random.Random) -> None:
        cursor.execute(
            f"UPDATE {rng.choice(self.targets).name} SET updated_at = clock_timestamp()"
            f" WHERE {_some(rng)}"
        )

    def change_id(self, cursor: Cursor, rng: random.Random) -> None:
        name = rng.choice(self.targets).name
        cursor.execute(f"UPDATE {name} SET id = -id WHERE {_some(rng)}")

    def delete_one(self, cursor: Cursor, rng: random.Random) -> None:
        name = rng.choice(self.targets).name
        cursor.execute(f"DELETE FROM {name} WHERE id = ({_any_id(name)})")

    def delete_many(self, cursor: Cursor, rng: random.Random) -> None:
        cursor.execute(f"DELETE FROM {rng.choice(self.targets).name} WHERE {_some(rng)}")

    def delete_and_insert(self, cursor: Cursor, rng: random.Random) -> None:
        into = self.targets[0]
        cursor.execute(
            f"WITH gone AS (DELETE FROM {into.name} WHERE {_some(rng)} RETURNING path)"
            f" INSERT INTO {into.name} (path, original_created_at, created_at)"
            " SELECT path || '+', %s, %s FROM gone WHERE length(path) < 20",
            self.file(rng, into)[1:],
        )

    def truncate(self, cursor: Cursor, rng: random.Random) -> None:
        cursor.execute(f"TRUNCATE {rng.choice(self.targets).name}")

    def file(self, rng: random.Random, into: Target) -> tuple[str, str | None, str]:
        """A file whose path nobody else writes."""
        path = f"{rng.getrandbits(32):08x}-{next(self.paths)}"
        return path, _maybe(rng), instant(rng, into.first, into.last)

    def shared_file(self, rng: random.Random, into: Target) -> tuple[str, str | None, str]:
        """A file that other writers write too."""
        # Its time of creation follows from its path, or no two would ever conflict on both.
        number = rng.randrange(60)
        day = into.first + number % (into.last - into.first + 1)
        return f"shared-{number}", _maybe(rng), f"2024-03-{day:02} 12:00:00+00"


def instant(rng: random.Random, first: int, last: int) -> str:
    """A time on one of the days, with an offset of its own."""
    day, hour = rng.randint(first, last), rng.choice(HOURS)
    return f"2024-03-{day:02} {hour:02}:{rng.randrange(60):02}:{rng.randrange(60):02}+00"


def _maybe(rng: random.Random) -> str | None:
    """A time of taking: none, far out, or one of the days."""
    draw = rng.random()
    if draw < ODDS_OF_ODD:
        return rng.choice(ODD_INSTANTS)
    return None if draw < 0.4 else instant(rng, FIRST, LAST)


def _some(rng: random.Random) -> str:
    """A condition that holds for about a seventh of the rows."""
    return f"mod(abs(id), 7) = {rng.randrange(7)}"


def _any_id(name: str) -> str:
    return f"SELECT id FROM {name} ORDER BY random() LIMIT 1"

"""Writers: connections that change source tables in every way PostgreSQL offers, at random.

A writer draws transactions; a transaction draws its isolation, time zone, statements, savepoints
and end. What the statements are is the subject's business (`subjects.py`). Nothing here knows of
tallies, and nothing here may expect a statement to succeed: writers collide, that is the point.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import errors

Cursor = psycopg.Cursor[Any]
Statement = Callable[[Cursor, random.Random], object]

# What a writer may run into because of others, or of its own random choices.
COLLISIONS = (
    errors.UniqueViolation,
    errors.ForeignKeyViolation,
    errors.CheckViolation,
    errors.CardinalityViolation,
    errors.SerializationFailure,
    errors.DeadlockDetected,
    errors.LockNotAvailable,
)
ZONES = ("UTC", "America/St_Johns", "Asia/Kathmandu", "Pacific/Kiritimati")
ISOLATIONS = ("READ COMMITTED",) * 4 + ("REPEATABLE READ", "SERIALIZABLE")
# The odds per transaction.
LONG = 0.04
REPLICA = 0.06
ROLLED_BACK = 0.10
PREPARED = 0.08
# The odds per statement.
SAVEPOINT = 0.2


@dataclass(frozen=True)
class Operation:
    """A kind of statement, and how often it is drawn."""

    name: str
    weight: float
    run: Statement


class Writer:
    """One connection that writes until it is asked to stop, and counts what it committed."""

    def __init__(self, url: str, name: str, seed: str, operations: Sequence[Operation]) -> None:
        self.name = name
        self.random = random.Random(f"{seed} {name}")
        self.operations = operations
        self.weights = [o.weight for o in operations]
        self.connection: psycopg.Connection[Any] = psycopg.connect(url, autocommit=True)
        self.connection.execute("SET lock_timeout = '200ms'")
        self.done: Counter[str] = Counter()
        self.prepared = 0

    def transaction(self) -> None:
        """Write one transaction, and end it in some way."""
        draw = self.random.random
        drawn: Counter[str] = Counter()
        cursor = self.connection.cursor()
        isolation = self.random.choice(ISOLATIONS)
        cursor.execute(f"BEGIN ISOLATION LEVEL {isolation}")
        try:
            cursor.execute(f"SET LOCAL timezone = '{self.random.choice(ZONES)}'")
            if draw() < REPLICA:
                cursor.execute("SET LOCAL session_replication_role = replica")
                drawn["as a replica"] += 1
            pause = self.random.uniform(0.02, 0.12) if draw() < LONG else 0.0
            for _ in range(self.random.choice((1, 1, 1, 2, 3, 6))):
                drawn += self._statement(cursor)
                time.sleep(pause)
            drawn[isolation.lower()] += 1
            drawn["long"] += pause > 0
            self._end(cursor, drawn)
        except COLLISIONS as collision:
            self.done[f"collided: {type(collision).__name__}"] += 1
            cursor.execute("ROLLBACK")

    def resolve_prepared(self) -> bool:
        """Commit or roll back some writer's prepared transaction; False: there is none.

        Those of `ledger.py` are left alone: it counts on their being committed.
        """
        row = self.connection.execute(
            "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"
            " AND gid NOT LIKE 'ledger%' ORDER BY random() LIMIT 1"
        ).fetchone()
        if row is None:
            return False
        end = self.random.choice(("COMMIT PREPARED", "COMMIT PREPARED", "ROLLBACK PREPARED"))
        try:
            self.connection.execute(f"{end} '{row[0]}'")
            self.done[end.lower()] += 1
        except (errors.UndefinedObject, errors.ObjectNotInPrerequisiteState):
            self.done["another writer was first"] += 1
        return True

    def _statement(self, cursor: Cursor) -> Counter[str]:
        """One drawn statement, perhaps in a savepoint that is rolled back."""
        operation = self.random.choices(self.operations, self.weights)[0]
        if self.random.random() >= SAVEPOINT:
            operation.run(cursor, self.random)
            return Counter([operation.name])
        cursor.execute("SAVEPOINT part")
        try:
            operation.run(cursor, self.random)
        except (errors.SerializationFailure, errors.DeadlockDetected):
            raise
        except COLLISIONS:
            cursor.execute("ROLLBACK TO SAVEPOINT part")
            return Counter(["rolled back to a savepoint"])
        if self.random.random() < 0.5:
            cursor.execute("ROLLBACK TO SAVEPOINT part")
            return Counter(["rolled back to a savepoint"])
        cursor.execute("RELEASE SAVEPOINT part")
        return Counter([operation.name, "released a savepoint"])

    def _end(self, cursor: Cursor, drawn: Counter[str]) -> None:
        draw = self.random.random()
        if draw < ROLLED_BACK:
            cursor.execute("ROLLBACK")
            self.done["rolled back"] += 1
            return
        if draw < ROLLED_BACK + PREPARED:
            self.prepared += 1
            cursor.execute(f"PREPARE TRANSACTION '{self.name} {self.prepared}'")
            self.done["prepared"] += 1
            return
        cursor.execute("COMMIT")
        self.done += drawn
        self.done["committed"] += 1

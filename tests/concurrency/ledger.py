"""A writer that keeps its own account of what the server said is committed.

After any crash the database must hold exactly what the account says. One transaction may be in
doubt, the one whose COMMIT got no answer: reading back decides it, all of it or nothing.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import errors

from tests.concurrency.server import connect

DAYS = 60
# Files that a writer owns at most, about.
FILES = 120
RECONNECT_SECONDS = 60.0

Account = dict[str, str]


class LedgerBroken(AssertionError):
    """The database holds something else than what was acknowledged as committed."""


@dataclass
class LedgerWriter:
    """Writes files whose paths begin with `name`, which nobody else does."""

    url: str
    name: str
    seed: str
    account: Account = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.random = random.Random(f"{self.seed} {self.name}")
        # It may be down just then: a process takes its time to start.
        self.connection = reconnected(self.url)
        self.number = 0

    def transaction(self) -> None:
        """One transaction; where the server dies under it, find out what became of it."""
        after = dict(self.account)
        self.number += 1
        gid = f"{self.name} {self.number}"
        # What is true if the server dies now: `before` until a COMMIT is on its way.
        possible = [self.account]
        try:
            self.connection.execute("BEGIN")
            for _ in range(self.random.randint(1, 4)):
                self._change(after)
            ending = self.random.random()
            if ending < 0.1:
                self.connection.execute("ROLLBACK")
                self.counts["rolled back"] += 1
                return
            possible = [self.account, after]
            if ending < 0.3:
                self.connection.execute(f"PREPARE TRANSACTION '{gid}'")
                self.connection.execute(f"COMMIT PREPARED '{gid}'")
                self.counts["in two phases"] += 1
            else:
                self.connection.execute("COMMIT")
            self.account = after
            self.counts["committed"] += 1
        except psycopg.OperationalError:
            self._recover(gid, possible)

    def read_back(self) -> Account:
        """What the database says of the writer's files."""
        rows = self.connection.execute(
            "SELECT path, to_char(coalesce(original_created_at, created_at) AT TIME ZONE 'UTC',"
            " 'YYYY-MM-DD HH24:MI') FROM media.media_files WHERE path LIKE %s",
            [f"{self.name}/%"],
        )
        return dict(rows.fetchall())

    def _change(self, after: Account) -> None:
        draw = self.random.random() * max(1.0, len(after) / FILES)
        if not after or draw < 0.5:
            files = [(f"{self.name}/{self.number}-{i}", self._at()) for i in self._few()]
            self.connection.execute(
                "INSERT INTO media.media_files (path, original_created_at)"
                " SELECT p, (a || 'Z')::timestamptz FROM unnest(%s::text[], %s::text[]) AS f (p, a)"
                " ON CONFLICT (path)"
                " DO UPDATE SET original_created_at = excluded.original_created_at",
                [[path for path, _ in files], [at for _, at in files]],
            )
            after.update(files)
            return
        chosen = self.random.sample(sorted(after), min(len(after), len(self._few())))
        if draw < 0.75:
            at = self._at()
            self.connection.execute(
                "UPDATE media.media_files SET original_created_at = NULL, created_at = %s"
                " WHERE path = ANY (%s)",
                [f"{at}Z", chosen],
            )
            after.update(dict.fromkeys(chosen, at))
        else:
            self.connection.execute("DELETE FROM media.media_files WHERE path = ANY (%s)", [chosen])
            for path in chosen:
                del after[path]

    def _few(self) -> range:
        return range(self.random.choice((1, 1, 2, 10)))

    def _at(self) -> str:
        month, day = divmod(self.random.randrange(DAYS), 28)
        hour = self.random.choice((0, 23))
        return f"2024-{month + 1:02}-{day + 1:02} {hour:02}:{self.random.randrange(60):02}"

    def _recover(self, gid: str, possible: list[Account]) -> None:
        in_doubt = len(possible) > 1
        self.counts["in doubt" if in_doubt else "interrupted"] += 1
        found = None
        while found is None:
            self.connection.close()
            self.connection = reconnected(self.url)
            # The server may die again.
            with suppress(psycopg.OperationalError):
                try:
                    self.connection.execute(f"COMMIT PREPARED '{gid}'")
                    possible = possible[1:]
                except errors.UndefinedObject:
                    pass  # Never prepared, or committed already: what is there says which.
                found = self.read_back()
        if found not in possible:
            wrong = set(found.items()) ^ set(possible[-1].items())
            raise LedgerBroken(
                f"{self.name}: after the crash the database holds neither what was committed nor"
                f" that with the transaction in doubt; differing from the latter: {sorted(wrong)}"
            )
        self.counts["in doubt, committed"] += in_doubt and found == possible[-1]
        self.account = found


def reconnected(url: str) -> psycopg.Connection[Any]:
    """A connection as soon as the server takes one again."""
    deadline = time.monotonic() + RECONNECT_SECONDS
    while True:
        try:
            return connect(url)
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)

"""What keeps the tallies of a case: an interface, and a stand-in that computes them anew."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import psycopg


class Refused(Exception):
    """A SELECT that is not kept, with the reason."""


@dataclass
class Kept:
    """A tally that is kept, and the relations to compare, quoted.

    `strategy` is the whole tally's, `nodes` those of its parts.
    """

    name: str
    definition: str
    derived: str
    strategy: str
    nodes: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    engine_data: Any = field(default=None, repr=False)


Check = Callable[[psycopg.Connection[tuple[object, ...]]], None]
"""Compares in the refresh's own transaction, on its connection."""


class Adapter(Protocol):
    """Keeps tallies in one database."""

    def keep(self, name: str, select: str) -> Kept:
        """Keep the SELECT; raises Refused."""

    def refresh(self, kept: Kept, before_commit: Check | None = None) -> None:
        """Bring the derived table up to date."""

    def live(self, kept: Kept) -> str:
        """The relation that shows what is pending too."""

    def close(self) -> None:
        """Close what it opened."""


class Whole:
    """Computes each derived table anew at each refresh; the live view is the definition.

    `skip_after`: a pattern; a refresh is left out where the last write matched it, to see that the
    harness finds what is wrong.
    """

    def __init__(self, url: str, skip_after: str | None = None) -> None:
        self.connection = psycopg.connect(url, autocommit=True, prepare_threshold=None)
        self.connection.execute("CREATE SCHEMA IF NOT EXISTS kept")
        self.skip_after = re.compile(skip_after) if skip_after else None
        self.last_write = ""

    def keep(self, name: str, select: str) -> Kept:
        definition, derived = f"kept.{name}_definition", f"kept.{name}"
        self.connection.execute(f"CREATE VIEW {definition} AS {select}")
        self.connection.execute(f"CREATE TABLE {derived} AS TABLE {definition}")
        return Kept(name, definition, derived, "whole", ("whole",))

    def refresh(self, kept: Kept, before_commit: Check | None = None) -> None:
        if self.skip_after is not None and self.skip_after.search(self.last_write):
            return
        with self.connection.transaction():
            # Before the snapshot, which is not to be older than a TRUNCATE.
            self.connection.execute(
                "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;"
                f"LOCK TABLE {kept.definition} IN ACCESS SHARE MODE"
            )
            self.connection.execute(f"DELETE FROM {kept.derived}")
            self.connection.execute(f"INSERT INTO {kept.derived} TABLE {kept.definition}")
            if before_commit is not None:
                before_commit(self.connection)

    def live(self, kept: Kept) -> str:
        return kept.definition

    def close(self) -> None:
        self.connection.close()

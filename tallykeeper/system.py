"""A system: the tallies that one application needs, over source tables that belong together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from sqlalchemy import Connection, Engine, MetaData, Table

from tallykeeper.database.sql import name_of
from tallykeeper.declarations.tally import Tally
from tallykeeper.errors import DeclarationError
from tallykeeper.partitions.sources import ArchivedSource


@dataclass(frozen=True)
class Waiting:
    """Rows of a raw table that are still to be processed, and when the oldest of them came."""

    rows: int
    oldest: datetime | None


@dataclass(frozen=True)
class Access:
    """What roles need of a system beyond its derived tables, live views and sources (`roles.py`).

    Readers may see the source tables `read`, of others the columns `counted`, and may call the
    functions `asked`. The refresher may set the columns `marked` of raw tables, change the rows of
    `kept`, tables in the engine's schema, and call `called`. Functions are written with the types
    of their arguments.
    """

    read: Sequence[Table] = ()
    counted: Mapping[Table, Sequence[str]] = field(default_factory=dict)
    asked: Sequence[str] = ()
    marked: Mapping[Table, Sequence[str]] = field(default_factory=dict)
    kept: Sequence[str] = ()
    called: Sequence[str] = ()


class System:
    """A named group of tallies that are installed together.

    `metadata` holds all their tables, sources and derived. Its tallies over one source share
    their capture functions; another system over the same source has its own.

    A system may derive the tables that its tallies count itself, by processing others: `processed`
    are those, in the order of their making, `raw` the tables that are processed, and `prepare`
    puts into a database what processing needs there beyond tables, idempotently; it returns what
    it did, a sentence each. `process` processes all that waits, and says what it did, or None
    where nothing waited; `waiting` counts that. `access` is what roles are granted besides.
    `archived` are partitioned sources whose old partitions are written to files before they are
    dropped.
    `advice` is what can be done, in a few words, where existing tables are not as they should be.
    `distribution` says by which column the rows of each source table are divided among places;
    None: each place has all rows of that table. A table may be named with its schema.

    `package` is the Python package that the system is declared in. Its modules `assets`, `routes`,
    `load`, `demo` and `commands`, as far as there are such, bring what Dagster, the HTTP service
    and the command line have of this system alone. Its module `upgrades` has a function
    `upgrade(connection)`, which `tally migrate` calls where the system is installed, before tables
    are compared with their declarations: it changes what is in tables of earlier versions, each
    step only where the catalog shows that it is needed, and returns what it did, a sentence each.
    """

    def __init__(
        self,
        name: str,
        metadata: MetaData,
        tallies: Sequence[Tally],
        *,
        raw: Sequence[Table] = (),
        processed: Sequence[Table] = (),
        prepare: Callable[[Connection], list[str]] | None = None,
        process: Callable[[Engine], str | None] | None = None,
        waiting: Callable[[Connection], Waiting] | None = None,
        access: Access | None = None,
        archived: Sequence[ArchivedSource] = (),
        advice: str = "",
        package: str | None = None,
        distribution: Mapping[Table, str | None] | Mapping[str, str | None] | None = None,
    ) -> None:
        self.name = name
        self.metadata = metadata
        self.tallies = tuple(tallies)
        self.raw = tuple(raw)
        self.processed = tuple(processed)
        self.prepare = prepare
        self.process = process
        self.waiting = waiting
        self.access = access or Access()
        self.archived = tuple(archived)
        self.advice = advice
        self.package = package
        self.distribution: dict[str, str | None] = {
            each if isinstance(each, str) else f"{each.schema or 'public'}.{each.name}": column
            for each, column in (distribution or {}).items()
        }
        for tally in self.tallies:
            tally.enter(metadata)
        names = [t.table.name for t in self.tallies]
        if len(set(names)) != len(names):
            raise DeclarationError(f"{name}: two tallies keep the same table ({', '.join(names)})")
        for tally in self.tallies:
            if tally.system != name:
                raise DeclarationError(f"{tally.name} does not belong to the system {name!r}")
            tally.siblings = self.tallies
        for tally in self.tallies:
            self._check_upstream(tally)

    def __repr__(self) -> str:
        return f"<System {self.name}>"

    @property
    def sources(self) -> tuple[Table, ...]:
        """The source tables, each once; a derived table that another tally counts is none."""
        derived = {name_of(table) for table in self.derived}
        counted = (s for t in self.tallies for s in t.sources if name_of(s) not in derived)
        return tuple(dict.fromkeys((*self.raw, *counted)))

    @property
    def derived(self) -> tuple[Table, ...]:
        """The tables that Tallykeeper alone writes: processed ones, then those of the tallies."""
        return (*self.processed, *(t.table for t in self.tallies))

    def with_tallies(self, tallies: Sequence[Tally]) -> System:
        """The same system with more tallies."""
        return System(
            self.name,
            self.metadata,
            (*self.tallies, *tallies),
            raw=self.raw,
            processed=self.processed,
            prepare=self.prepare,
            process=self.process,
            waiting=self.waiting,
            access=self.access,
            archived=self.archived,
            advice=self.advice,
            package=self.package,
            distribution=self.distribution,
        )

    def part(self, name: str) -> ModuleType | None:
        """Import the module `name` of the system's package; None where there is no such module.

        Raises whatever the import of that module raises.
        """
        module = f"{self.package}.{name}"
        return import_module(module) if self.package and find_spec(module) else None

    def _check_upstream(self, tally: Tally) -> None:
        for upstream in tally.upstream:
            if self.tallies.index(upstream) > self.tallies.index(tally):
                raise DeclarationError(
                    f"{tally.name} counts {upstream.name}, which must come before it in the system"
                )
            if not tally.may_count_derived:
                raise DeclarationError(
                    f"{tally.name} counts {upstream.name}; only counts and sums can be taken of a"
                    " derived table, and only where its rows are no counts and sums of single rows"
                )
            if upstream.upstream:
                raise DeclarationError(
                    f"{tally.name} counts {upstream.name}, which itself counts a derived table"
                )

"""`tally migrate`: everything that tallies need in a database, in one transaction.

The schema `tallykeeper` at its version, the derived tables as they are declared, then capture,
change logs and live views. A failure anywhere changes nothing. Existing derived tables are adopted
where their columns fit or can be made to, and moved aside only on request. Source tables are never
moved or dropped, and created only on request; a raw log gets columns that processing alone writes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, Engine, Table, select

from tallykeeper.catalog import schema_version, state
from tallykeeper.catalog.privileges import act_as_owner, require_privileges
from tallykeeper.catalog.transactions import retried, wanted_for_installing
from tallykeeper.database.sessions import begin_work
from tallykeeper.database.sql import CLAIM_WRITING, name_of
from tallykeeper.declarations.tally import Tally
from tallykeeper.discovery import chosen_systems, is_kept, left_out, missing_sources
from tallykeeper.drift import dependencies, event_triggers, suspension
from tallykeeper.errors import DoesNotFit
from tallykeeper.installation import derived_tables, roles, select_plans
from tallykeeper.installation.conversion import complete, convert, move_aside
from tallykeeper.installation.install import INSTALL_KEY, INSTALL_LOCK, install_all
from tallykeeper.installation.schema_check import (
    derived_mismatches,
    processed_mismatches,
    require_fit,
)
from tallykeeper.partitions import drops
from tallykeeper.settings import event_triggers as wanted_event_triggers
from tallykeeper.system import System

OF_SOURCES = (
    "of a source table alter those columns (where they are always filled: `ALTER TABLE ... ALTER"
    " COLUMN ... SET NOT NULL`), say how they are named"
)


@dataclass
class Migrated:
    """What a migration did, a sentence each.

    And which systems, and which tallies of others, it left out for want of tables, with these.
    """

    done: list[str] = field(default_factory=list)
    systems: list[System] = field(default_factory=list)
    skipped: dict[str, Sequence[str]] = field(default_factory=dict)
    left_out: dict[str, Sequence[str]] = field(default_factory=dict)


def migrate(
    engine: Engine,
    systems: Sequence[System] | None = None,
    *,
    with_sources: bool = False,
    move_aside: bool = False,
    dry_run: bool = False,
    on_progress: Callable[[int, int], object] = lambda _done, _total: None,
) -> Migrated:
    """Bring the database in line with the declarations of `systems`, by default the chosen ones.

    A tally whose source tables are missing is left out, a system of which none has its own is
    skipped; `with_sources` they are made. A derived table that does not fit is refused; with
    `move_aside` it is moved to a schema of its own, and another is made. Idempotent. A `dry_run` is
    rolled back; what it says was done is what would be done. `on_progress` is called with how many
    of how many steps are done, each about as long as another.

    Raises SettingError, NotPermitted, DoesNotFit, TallyBusy, or SQLAlchemy's errors; nothing is
    changed then.
    """
    chosen = chosen_systems() if systems is None else systems

    def attempt() -> Migrated:
        with engine.begin() as connection:
            begin_work(connection)
            # What migrations do to derived tables is not by hand.
            connection.exec_driver_sql(CLAIM_WRITING)
            connection.exec_driver_sql(INSTALL_LOCK)
            act_as_owner(connection)
            result = _migrate(connection, chosen, with_sources, move_aside, on_progress)
            if dry_run:
                connection.rollback()
            return result

    tallies = [tally for system in chosen for tally in system.tallies]
    wanted = [w for tally in tallies for w in wanted_for_installing(tally)]
    with dependencies.explaining(engine, tallies):
        return retried(attempt, "the migration", engine, wanted, INSTALL_KEY)


def _migrate(
    connection: Connection,
    systems: Sequence[System],
    with_sources: bool,
    aside: bool,
    on_progress: Callable[[int, int], object],
) -> Migrated:
    result = Migrated()
    without: dict[Tally, list[str]] = {}
    for system in systems:
        if with_sources or is_kept(connection, system):
            result.systems.append(system)
            without |= {} if with_sources else left_out(connection, system)
        else:
            result.skipped[system.name] = missing_sources(connection, system)
    if not result.systems:
        return result
    result.left_out = {tally.name: lacking for tally, lacking in without.items()}
    groups = [[t for t in system.tallies if t not in without] for system in result.systems]
    kept = [tally for group in groups for tally in group]
    require_privileges(connection, kept)
    schema_version.bring_up(connection)
    suspension.install(connection)
    if with_sources:
        result.done += _create_read_sources(connection, result.systems)
    tables = [_Tables(connection, system, without) for system in result.systems]
    for each in tables:
        result.done += each.upgrade() + each.adapt(aside) + each.create_counted()
    # Before the SELECTs are compiled, which says less of what is wrong with a table.
    _require_fit(connection, result.systems, [t for t in kept if not t.has_plain_table])
    # Each tally is compiled, and then installed.
    steps = 2 * len(kept)
    result.done += select_plans.prepare(connection, kept, lambda n: on_progress(n, steps))
    for each in tables:
        result.done += each.adapt_plain(aside)
    _require_fit(connection, result.systems, kept)
    created = [said for each in tables for said in each.create(with_sources)]
    if created:
        _require_fit(connection, result.systems, kept)
    result.done += created
    for system in result.systems:
        result.done += _prepare(connection, system)

    def installed(tallies: int) -> None:
        on_progress(len(kept) + tallies, steps)

    result.done += install_all(connection, groups, installed)
    suspension.end(connection, [tally.name for tally in kept])
    result.done += roles.keep(connection, kept, result.systems)
    result.done += event_triggers.keep(connection, wanted_event_triggers())
    return result


def _prepare(connection: Connection, system: System) -> list[str]:
    """What a system needs beyond tables: its own functions, and those of its archived sources."""
    done = [] if system.prepare is None else system.prepare(connection)
    return done + [said for source in system.archived for said in drops.install(connection, source)]


def _create_read_sources(connection: Connection, systems: Sequence[System]) -> list[str]:
    """Create the declared source tables of systems with SELECTs, before these are compiled."""
    done = []
    for system in systems:
        if any(tally.kind == "select" for tally in system.tallies):
            own = set(system.derived)
            sources = [t for t in system.metadata.sorted_tables if t not in own and len(t.c)]
            done += derived_tables.create(connection, sources, "source")
    return done


class _Tables:
    """The tables of one system, and what this database knows of them."""

    def __init__(
        self, connection: Connection, system: System, without: Collection[Tally] = ()
    ) -> None:
        self._connection = connection
        self._system = system
        self._kept = [tally for tally in system.tallies if tally not in without]
        names = [tally.name for tally in system.tallies]
        state_of = state.tally_state.c.tally
        self._installed = set(connection.scalars(select(state_of).where(state_of.in_(names))))
        # Whether Tallykeeper has written the tables that the system processes.
        self._has_begun = bool(self._installed)
        self._made: list[Table] = []

    @property
    def _derived(self) -> tuple[Table, ...]:
        # Of a SELECT it is another object once the SELECT is compiled.
        return (*self._system.processed, *(tally.table for tally in self._kept))

    @property
    def _new(self) -> list[Table]:
        """The derived tables that Tallykeeper has not written yet."""
        known = {tally.table for tally in self._kept if tally.name in self._installed}
        known |= {*(self._system.processed if self._has_begun else ()), *self._made}
        return [table for table in self._derived if table not in known]

    def create_counted(self) -> list[str]:
        """Create what is missing of the derived tables that SELECTs read, before they are compiled.

        As far as their columns are declared; what was created, a sentence each.
        """
        if not any(tally.kind == "select" for tally in self._kept):
            return []
        own = [t.table for t in self._kept if not t.has_plain_table]
        wanted = [*self._system.processed, *own]
        there = derived_tables.existing(self._connection, wanted)
        self._made = [table for table in wanted if table not in there]
        return derived_tables.create(self._connection, wanted, "derived")

    def upgrade(self) -> list[str]:
        """Change what is in the tables of an earlier release as the system itself says."""
        upgrades = self._system.part("upgrades") if self._has_begun else None
        return upgrades.upgrade(self._connection) if upgrades is not None else []

    def adapt(self, aside: bool) -> list[str]:
        """Let existing tables fit as far as they can, or move derived ones out of the way.

        Those whose columns are declared: others are known once the SELECTs are compiled.
        """
        connection, system = self._connection, self._system
        done = []
        for raw in system.raw:
            done += complete(connection, raw, system.access.marked.get(raw, ()))
        declared = [tally for tally in self._kept if not tally.has_plain_table]
        for tally in declared:
            done += convert(connection, tally)
        adopted = [table for table in system.processed if table in self._new]
        completed = [*system.processed, *(tally.table for tally in declared)]
        done += derived_tables.complete(connection, completed, declared, adopted)
        if aside:
            done += self._move_processed_aside()
            done += self._move_aside(declared)
        return done

    def adapt_plain(self, aside: bool) -> list[str]:
        """The same for tables whose columns follow from compiled SELECTs."""
        connection = self._connection
        done = []
        plain = [tally for tally in self._kept if tally.has_plain_table]
        # Who declares no table has not said that one of that name may be written.
        own = [tally for tally in plain if tally.table not in self._new]
        for tally in own:
            done += derived_tables.remake(connection, tally) + convert(connection, tally)
        done += derived_tables.complete(connection, [t.table for t in own], self._kept)
        if aside:
            done += self._move_aside(plain)
        return done

    def _move_aside(self, tallies: Sequence[Tally]) -> list[str]:
        return [
            move_aside(self._connection, tally.table, own=self._live_names)
            for tally in tallies
            if derived_mismatches(self._connection, tally)
        ]

    def create(self, with_sources: bool) -> list[str]:
        """Create the tables that are missing; what was created and adopted, a sentence each."""
        connection = self._connection
        adopted = derived_tables.existing(connection, self._new)
        done = []
        if with_sources:
            own = set(self._system.derived)
            sources = [t for t in self._system.metadata.sorted_tables if t not in own]
            done += derived_tables.create(connection, sources, "source")
        done += derived_tables.create(connection, self._derived, "derived")
        return done + [f"adopted the derived table {name_of(table)}" for table in adopted]

    def _move_processed_aside(self) -> list[str]:
        """Move all processed tables where one does not fit: they name each other's rows by number.

        Raises DoesNotFit where Tallykeeper has written them. A processed event is not processed
        again, and the log need not reach back to the first one any more.
        """
        connection, processed = self._connection, self._system.processed
        mismatches = {t: found for t in processed if (found := processed_mismatches(connection, t))}
        if not mismatches:
            return []
        if self._has_begun:
            said = "; ".join(f"{name_of(t)}: {', '.join(found)}" for t, found in mismatches.items())
            raise DoesNotFit(
                f"`--move-aside` cannot make room for {said}. What was derived of events that are"
                " processed would be missing in another table. Nothing was changed; alter those"
                " columns"
            )
        there = derived_tables.existing(connection, processed)
        own = [*self._live_names, *(name_of(t) for t in there)]
        together = f"which goes with {name_of(next(iter(mismatches)))}"
        return [
            move_aside(connection, t, "which does not fit" if t in mismatches else together, own)
            for t in there
        ]

    @property
    def _live_names(self) -> list[str]:
        return [tally.live_name for tally in self._system.tallies]


def _require_fit(connection: Connection, systems: Sequence[System], kept: Sequence[Tally]) -> None:
    names = {system.name for system in systems}
    require_fit(
        connection,
        [tally for tally in kept if tally.system in names],
        [table for system in systems for table in system.processed],
        [table for system in systems for table in system.raw],
        of_sources=f"{OF_SOURCES} in TALLY_NAMES, or leave the system out of TALLY_SYSTEMS",
        of_systems=[
            ((*system.sources, *system.derived), system.advice)
            for system in systems
            if system.advice
        ],
    )

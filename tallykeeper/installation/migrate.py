"""`tally migrate`: everything that tallies need in a database, in one transaction.

The derived tables as they are declared, or by Alembic where a system's package has `migrations`,
one branch per system; then capture, change logs and
live views by the engine. A failure anywhere changes nothing. Existing derived tables are adopted
where their columns fit or can be made to, and moved aside only on request. Source tables are never
moved or dropped, and created only on request; a raw log gets columns that processing alone writes.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, Table, inspect, text

from tallykeeper.catalog import state
from tallykeeper.catalog.privileges import act_as_owner, require_privileges
from tallykeeper.catalog.transactions import retried, wanted_for_installing
from tallykeeper.database.sessions import begin_work
from tallykeeper.database.sql import CLAIM_WRITING, name_of, quote
from tallykeeper.declarations.tally import Tally
from tallykeeper.discovery import all_systems, chosen_systems, is_kept, left_out, missing_sources
from tallykeeper.drift import dependencies, event_triggers
from tallykeeper.errors import DoesNotFit
from tallykeeper.installation import roles
from tallykeeper.installation.conversion import complete, convert, move_aside
from tallykeeper.installation.install import INSTALL_KEY, INSTALL_LOCK, install_all
from tallykeeper.installation.schema_check import (
    derived_mismatches,
    processed_mismatches,
    require_fit,
)
from tallykeeper.settings import event_triggers as wanted_event_triggers
from tallykeeper.system import System

VERSION_TABLE = "alembic_version"
OF_SOURCES = (
    "of a source table alter those columns (where they are always filled: `ALTER TABLE ... ALTER"
    " COLUMN ... SET NOT NULL`), say how they are named"
)
SCRIPTS = Path(__file__).parent / "alembic"


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
) -> Migrated:
    """Bring the database in line with the declarations of `systems`, by default the chosen ones.

    A tally whose source tables are missing is left out, a system of which none has its own is
    skipped; `with_sources` they are made. A derived table that does not fit is refused; with
    `move_aside` it is moved to a schema of its own, and another is made. Idempotent.

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
            return _migrate(connection, chosen, with_sources, move_aside)

    tallies = [tally for system in chosen for tally in system.tallies]
    wanted = [w for tally in tallies for w in wanted_for_installing(tally)]
    with dependencies.explaining(engine, tallies):
        return retried(attempt, "the migration", engine, wanted, INSTALL_KEY)


def _migrate(
    connection: Connection, systems: Sequence[System], with_sources: bool, aside: bool
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
    histories = [_history(connection, system, without) for system in result.systems]
    # A table that is behind its declaration by known migrations is judged after them.
    judged = [h for h in histories if not h.is_behind]
    result.done += _convert(connection, judged, kept, aside)
    _require_fit(connection, [h.system for h in judged], kept)
    state.create(connection)
    for history in histories:
        if with_sources:
            result.done += _create_sources(connection, history.system)
        result.done += history.bring_up()
    _require_fit(connection, result.systems, kept)
    for system in result.systems:
        if system.prepare is not None:
            result.done += system.prepare(connection)
    result.done += install_all(connection, groups)
    result.done += roles.keep(connection, kept, result.systems)
    result.done += event_triggers.keep(connection, wanted_event_triggers())
    return result


def _convert(
    connection: Connection, histories: Sequence[Declared], kept: Sequence[Tally], aside: bool
) -> list[str]:
    """Let existing tables fit as far as they can, or move derived ones out of the way."""
    done = []
    for history in histories:
        system = history.system
        for raw in system.raw:
            done += complete(connection, raw, system.access.marked.get(raw, ()))
        if aside:
            done += _move_processed_aside(connection, history)
        for tally in (tally for tally in kept if tally.system == system.name):
            done += convert(connection, tally)
            if aside and derived_mismatches(connection, tally):
                done.append(move_aside(connection, tally.table, own=_live_names(system)))
    return done


def _history(connection: Connection, system: System, without: Collection[Tally]) -> Declared:
    migrated = _migrations(system) is not None
    return (History if migrated else Declared)(connection, system, without)


def _migrations(system: System) -> Path | None:
    """The folder of the system's migrations; None where its derived tables follow declarations."""
    if system.package is None or find_spec(system.package) is None:
        return None
    spec = find_spec(f"{system.package}.migrations")
    return Path(spec.origin).parent if spec is not None and spec.origin else None


class Declared:
    """The derived tables of one system, made as they are declared."""

    is_behind = False
    # Whether Tallykeeper has written the tables that the system processes.
    has_begun = True

    def __init__(
        self, connection: Connection, system: System, without: Collection[Tally] = ()
    ) -> None:
        self.system = system
        without_tables = {tally.table for tally in without}
        self._derived = [table for table in system.derived if table not in without_tables]
        self._connection = connection

    def bring_up(self) -> list[str]:
        """Create the tables that are missing; what was done, a sentence each."""
        return _create(self._connection, self._derived, "derived")


def _move_processed_aside(connection: Connection, history: Declared) -> list[str]:
    """Move all processed tables where one does not fit: they name each other's rows by number.

    Raises DoesNotFit where Tallykeeper has written them. A processed event is not processed
    again, and the log need not reach back to the first one any more.
    """
    system = history.system
    mismatches = {
        t: found for t in system.processed if (found := processed_mismatches(connection, t))
    }
    if not mismatches:
        return []
    if history.has_begun:
        said = "; ".join(f"{name_of(t)}: {', '.join(found)}" for t, found in mismatches.items())
        raise DoesNotFit(
            f"`--move-aside` cannot make room for {said}. What was derived of events that are"
            " processed would be missing in another table. Nothing was changed; alter those columns"
        )
    there = [t for t in system.processed if _exists(connection, t)]
    own = [*_live_names(system), *(name_of(t) for t in there)]
    together = f"which goes with {name_of(next(iter(mismatches)))}"
    return [
        move_aside(connection, t, "which does not fit" if t in mismatches else together, own)
        for t in there
    ]


def _live_names(system: System) -> list[str]:
    return [tally.live_name for tally in system.tallies]


class History(Declared):
    """One system's branch of migrations, and how far this database has come in it.

    Whatever a migration finds there already it passes over, so that running the branch from its
    start creates what is missing and adopts the rest.
    """

    def __init__(
        self, connection: Connection, system: System, without: Collection[Tally] = ()
    ) -> None:
        super().__init__(connection, system, without)
        without_tables = {tally.table for tally in without}
        self._config = Config(attributes={"connection": connection})
        self._config.set_main_option("script_location", str(SCRIPTS))
        folders = [
            str(folder)
            for each in (system, *all_systems())
            if (folder := _migrations(each)) is not None
        ]
        self._config.set_main_option("version_locations", os.pathsep.join(dict.fromkeys(folders)))
        self._config.set_main_option("path_separator", "os")
        # Tables that cannot be made, because they refer to one that is missing.
        self._config.attributes["left_out"] = {(t.schema, t.name) for t in without_tables}
        script = ScriptDirectory.from_config(self._config)
        head = f"{system.name}@head"
        self._revisions = [r.revision for r in script.iterate_revisions(head, "base")]
        context = MigrationContext.configure(
            connection,
            opts={"version_table": VERSION_TABLE, "version_table_schema": state.metadata.schema},
        )
        heads = set(context.get_current_heads())
        unknown = [h for h in heads if h.startswith(f"{system.name}_") and h not in self._revisions]
        if unknown:
            raise DoesNotFit(
                f"the database's {system.name} tables are at {unknown[0]}, which this version does"
                " not know; update Tallykeeper. Nothing was changed"
            )
        self._head = self._revisions[0]
        self._version = next((r for r in self._revisions if r in heads), None)
        # Whether there are migrations after those that ran here.
        self.is_behind = self._version is not None and self._version != self._head
        self.has_begun = self._version is not None

    def bring_up(self) -> list[str]:
        """Run what has not run yet; all of it where a derived table is not there (any more)."""
        derived = self._derived
        before = [t for t in derived if _exists(self._connection, t)]
        if self._version == self._head and before == derived:
            return []
        if before != derived and self._version is not None:
            self._forget()
        command.upgrade(self._config, f"{self.system.name}@head")
        created = [f"created the derived table {name_of(t)}" for t in derived if t not in before]
        if self._version is None:
            return created + [f"adopted the derived table {name_of(t)}" for t in before]
        if self.is_behind:
            created.append(f"brought the derived tables of {self.system.name} to {self._head}")
        return created

    def _forget(self) -> None:
        self._connection.execute(
            text(
                f"DELETE FROM {state.metadata.schema}.{VERSION_TABLE}"
                " WHERE version_num = ANY (:revisions)"
            ),
            {"revisions": self._revisions},
        )


def _create_sources(connection: Connection, system: System) -> list[str]:
    """Create the tables that the system's application would have, as far as they are missing."""
    derived = set(system.derived)
    wanted = [t for t in system.metadata.sorted_tables if t not in derived]
    return _create(connection, wanted, "source")


def _create(connection: Connection, wanted: Sequence[Table], kind: str) -> list[str]:
    missing = [t for t in wanted if not _exists(connection, t)]
    done = []
    for schema in dict.fromkeys(t.schema for t in missing if t.schema):
        if not inspect(connection).has_schema(schema):
            connection.exec_driver_sql(f"CREATE SCHEMA {quote(schema)}")
            done.append(f"created the schema {schema}")
    for metadata in dict.fromkeys(table.metadata for table in missing):
        own = [table for table in missing if table.metadata is metadata]
        metadata.create_all(connection, tables=own, checkfirst=False)
    return done + [f"created the {kind} table {name_of(table)}" for table in missing]


def _exists(connection: Connection, table: Table) -> bool:
    return inspect(connection).has_table(table.name, schema=table.schema)


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

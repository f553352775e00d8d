"""`tally drop`: everything that a tally has in a database goes, but for its derived table.

In one transaction, so that capture and change log go together: a statement of an application runs
with both or with neither. Invariants: no source table and no row of one is touched; nothing of
others is dropped with it; what serves other tallies goes on for them, and no change of theirs is
missed.

A trigger can be dropped only while nobody uses its table. The locks for that are given up after
half a second, all together, and tried again: less than the second after which PostgreSQL looks for
deadlocks, so that it never ends an application's transaction for them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, Engine, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import OID
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import cast

from tallykeeper.capture.triggers import drop_calling
from tallykeeper.catalog import dependents, state
from tallykeeper.catalog.privileges import act_as_owner
from tallykeeper.catalog.transactions import retried
from tallykeeper.database import sessions, sql
from tallykeeper.database.lock_holders import ROWS, Wanted
from tallykeeper.declarations.tally import Tally
from tallykeeper.discovery import all_systems
from tallykeeper.drift import dependencies
from tallykeeper.errors import DoesNotFit, HasDependents, NotInstalled, NotPermitted
from tallykeeper.faults.incidents import incidents
from tallykeeper.installation import install
from tallykeeper.installation.removal.footprint import (
    GUARD,
    Footprint,
    carriers,
    footprint,
    guarded_alone,
    installed_names,
)
from tallykeeper.system import System

PATIENCE_SECONDS = 0.5
"""How long the locks of one attempt are waited for, all together."""
RESOLVED_BY = "the tally was dropped"

# Of what may stand on a relation: all else goes with it, or is the relation's own.
_OF_OTHERS = (
    "view",
    "materialized view",
    "function",
    "procedure",
    "table constraint",
    "table column",
)


@dataclass
class Dropped:
    """What was dropped of which tallies, and what is left of them; a few words each."""

    tallies: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)


def drop(
    engine: Engine,
    *names: str,
    with_table: bool = False,
    dry_run: bool = False,
    systems: Sequence[System] | None = None,
) -> Dropped:
    """Take the named tallies out of the database, all or none of them.

    Names are as in `shop.revenue_daily`; the declarations are not needed. The derived tables stay
    as of their last refresh, unless `with_table`. With `dry_run` nothing is changed, and what would
    be is returned. `systems` are those that declare the tallies beside them, by default all.

    Raises NotInstalled, HasDependents where another tally or something of others reads what would
    go, NotPermitted, DoesNotFit, TallyBusy, or SQLAlchemy's errors; nothing is changed then.
    """
    tallies = list(dict.fromkeys(names))
    # Tables that were not free, which the next attempt locks first: applications that lock them
    # before others wait there then, and hold nothing meanwhile that this waits for.
    busy: list[str] = []

    def attempt() -> Dropped:
        with engine.begin() as connection:
            sessions.begin_work(connection)
            act_as_owner(connection)
            if not dry_run:
                sql.execute(connection, install.INSTALL_LOCK)
                sql.execute(connection, sql.CLAIM_WRITING)
            removal = _Removal(connection, tallies, with_table, systems, busy)
            removal.check()
            if not dry_run:
                removal.run()
            return removal.said()

    with engine.connect() as connection:
        if not state.is_there(connection, state.stands_on):
            raise NotInstalled("nothing is installed in this database")
        wanted = [
            Wanted(name, ROWS)
            for tally in tallies
            for found in [footprint(connection, tally)]
            for name in (found.derived, *found.sources)
        ]
    return retried(attempt, f"dropping {', '.join(tallies)}", engine, wanted, install.INSTALL_KEY)


class _Removal:
    """One attempt to drop tallies together, in the caller's transaction."""

    def __init__(
        self,
        connection: Connection,
        names: Sequence[str],
        with_table: bool,
        systems: Sequence[System] | None,
        busy: list[str],
    ) -> None:
        self._connection = connection
        self._busy = busy
        self._names = names
        self._with_table = with_table
        self._systems = systems
        self._found = [footprint(connection, name) for name in names]
        dropped = frozenset(names)
        capturing: dict[str, frozenset[str]] = {}
        for found in self._found:
            for function, others in found.capturing.items():
                capturing[function] = others - dropped
        self._functions = [function for function, others in capturing.items() if not others]
        self._sharing = sorted({other for others in capturing.values() for other in others})
        self._sources = {s for found in self._found for s in found.sources}
        self._carriers = carriers(connection, self._functions)
        self._guarded = guarded_alone(connection, self._functions)
        self._remaining: list[Tally] = []

    def check(self) -> None:
        """Raise where something is in the way."""
        dropped = frozenset(self._names)
        for found in self._found:
            if readers := sorted(found.readers - dropped):
                raise HasDependents(
                    f"{found.tally}: {', '.join(readers)} {_verb(readers, 'reads', 'read')} its"
                    f" derived table {found.derived}. Nothing was changed; drop"
                    f" {_verb(readers, 'it', 'them')} first, or together with it"
                )
            self._check_dependents(found)
        self._check_half_loaded()
        self._check_owner()
        self._remaining = self._find_remaining()

    def said(self) -> Dropped:
        """What goes and what stays."""
        result = Dropped(tallies=list(self._names))
        for found in self._found:
            views = " and ".join(f"the view {name}" for name in found.views)
            result.removed.append(f"{found.tally}: {views}")
            pending = f", with {found.pending:,} pending changes" if found.pending else ""
            result.removed.append(f"{found.tally}: the change log {found.log}{pending}")
            result.removed += [f"{found.tally}: the table {name}" for name in found.states]
            if found.functions:
                functions = ", ".join(found.functions)
                result.removed.append(f"{found.tally}: the functions {functions}")
            result.removed.append(f"{found.tally}: what is recorded of it")
            kept = result.removed if self._with_table else result.kept
            rows = "" if self._with_table else ", as of the last refresh"
            kept.append(f"{found.tally}: the derived table {found.derived}{rows}")
        for relation in self._carriers:
            result.removed.append(f"the triggers on {relation}")
        if self._sharing:
            result.kept.append(
                f"the triggers that {', '.join(self._sharing)}"
                f" {_verb(self._sharing, 'has', 'have')} on the same tables"
            )
        return result

    def run(self) -> None:
        """Drop it all."""
        others = [n for n in installed_names(self._connection) if n not in self._names]
        with dependencies.unchanged(self._connection, others):
            self._lock()
            self._drop_functions()
            for source in dict.fromkeys(s for t in self._remaining for s in t.sources):
                over = [t for t in self._remaining if source in t.sources]
                if sql.name_of(source) in self._sources:
                    install.install_capture(self._connection, source, over)
        self._forget()

    def _lock(self) -> None:
        """Wait for who uses what is dropped or altered, and keep others away until the end."""
        connection = self._connection
        started = time.monotonic()

        def run(statement: str) -> None:
            left = PATIENCE_SECONDS - (time.monotonic() - started)
            sql.execute(connection, f"{sessions.lock_timeout_of(max(left, 0))}; {statement}")

        # Who reads a view locks it before what it reads.
        for found in self._found:
            for view in found.views:
                run(f"DROP VIEW IF EXISTS {view}")
        derived = [found.derived for found in self._found]
        modes = dict.fromkeys(sorted(self._sources), "SHARE ROW EXCLUSIVE")
        modes |= dict.fromkeys([*self._guarded, *self._carriers, *derived], "ACCESS EXCLUSIVE")
        # A table before its partitions, as a statement on it locks them.
        first = [*self._busy, *self._guarded]
        for relation in sorted(modes, key=lambda n: first.index(n) if n in first else len(first)):
            if _oid(connection, relation) is None:
                continue
            try:
                run(f"LOCK TABLE {relation} IN {modes[relation]} MODE")
            except DBAPIError:
                self._busy[:] = [relation, *(n for n in self._busy if n != relation)]
                raise
        tables = [name for found in self._found for name in found.tables]
        if self._with_table:
            tables += derived
        run(f"DROP TABLE IF EXISTS {', '.join(tables)}")

    def _drop_functions(self) -> None:
        connection = self._connection
        for function in self._functions:
            install.drop_trigger_function(connection, function)
        for function in dict.fromkeys(f for found in self._found for f in found.functions):
            sql.execute(connection, f"DROP FUNCTION {function}")
        for relation in self._guarded:
            drop_calling(connection, relation, [GUARD])

    def _forget(self) -> None:
        """Delete what is recorded of them, and close what was found wrong with them."""
        connection, names = self._connection, list(self._names)
        for table in state.metadata.sorted_tables:
            if "tally" in table.c and state.is_there(connection, table):
                connection.execute(delete(table).where(table.c.tally.in_(names)))
        if state.is_there(connection, incidents):
            connection.execute(
                update(incidents)
                .where(incidents.c.subject.in_(names), incidents.c.resolved_at.is_(None))
                .values(resolved_at=func.now(), resolved_by=RESOLVED_BY)
            )
        relations = state.captured_relations
        read = select(state.stands_on.c.name).where(state.stands_on.c.role == "source")
        logs = select(state.stands_on.c.name).where(state.stands_on.c.role == "log")
        connection.execute(delete(relations).where(relations.c.source.not_in(read)))
        identities = state.captured_identities
        connection.execute(
            delete(identities)
            .where(identities.c.relation.not_in(select(relations.c.relation)))
            .where(identities.c.relation.not_in(logs))
        )

    def _check_dependents(self, found: Footprint) -> None:
        dropped = [*found.views, *found.tables, *([found.derived] if self._with_table else [])]
        own = {name for each in self._found for name in (*each.views, *each.tables)}
        connection = self._connection
        found_on = [
            each
            for relation in dropped
            if (oid := _oid(connection, relation)) is not None
            for each in dependents.on_relation(connection, oid)
        ]
        for function in found.functions:
            oid = connection.scalar(select(cast(func.to_regprocedure(function), OID)))
            found_on += dependents.on_function(connection, oid) if oid is not None else []
        in_the_way = dict.fromkeys(
            str(each)
            for each in found_on
            if each.kind in _OF_OTHERS
            and each.name not in own
            and not each.name.endswith(tuple(f" on {name}" for name in dropped))
        )
        if in_the_way:
            raise HasDependents(
                f"{found.tally}: this depends on what would be dropped: {', '.join(in_the_way)}."
                " Nothing was changed; drop that first"
            )

    def _check_half_loaded(self) -> None:
        if self._with_table or not state.is_there(self._connection, state.unbuilt):
            return
        unbuilt = select(state.unbuilt.c.tally).where(state.unbuilt.c.tally.in_(self._names))
        if half := sorted(set(self._connection.scalars(unbuilt))):
            raise DoesNotFit(
                f"{', '.join(half)}: a backfill has dropped indexes of the derived table and not"
                " built them again. Nothing was changed; run `tally backfill` to its end, or drop"
                " the table with it"
            )

    def _check_owner(self) -> None:
        relations = [self._guarded, self._carriers, sorted(self._sources)]
        relations += [[found.derived, *found.tables, *found.views] for found in self._found]
        rows = self._connection.execute(
            text(
                "SELECT r AS name, pg_get_userbyid(c.relowner) AS owner, current_user AS me"
                " FROM unnest(CAST(:relations AS text[])) WITH ORDINALITY AS u (r, n)"
                " JOIN pg_class AS c ON c.oid = to_regclass(r)"
                " WHERE NOT pg_has_role(c.relowner, 'USAGE') ORDER BY n"
            ),
            {"relations": list(dict.fromkeys(name for each in relations for name in each))},
        ).all()
        if rows:
            lacking = ", ".join(f"{row.name} belongs to {row.owner!r}" for row in rows)
            raise NotPermitted(
                f"the role {rows[0].me!r} may not drop {', '.join(self._names)}: {lacking}."
                " Nothing was changed; connect as the owner of these"
            )

    def _find_remaining(self) -> list[Tally]:
        """The declared tallies that trigger functions are shared with, each with its siblings.

        Raises HasDependents where one is declared nowhere: its function could not be written.
        """
        systems = all_systems() if self._systems is None else self._systems
        declared = {tally.name: system for system in systems for tally in system.tallies}
        lost = [name for name in self._sharing if name not in declared]
        if lost:
            raise HasDependents(
                f"{', '.join(self._names)}: {', '.join(lost)} {_verb(lost, 'is', 'are')} captured"
                " by the same functions, and declared nowhere here. Nothing was changed; drop"
                f" {_verb(lost, 'it', 'them')} together with it, as in"
                f" `tally drop {' '.join([*self._names, *lost])}`"
            )
        installed = set(installed_names(self._connection)) - set(self._names)
        remaining = [
            tally
            for system in dict.fromkeys(declared[name] for name in self._sharing)
            for tally in system.tallies
            if tally.name in installed
        ]
        for tally in remaining:
            tally.bind(self._connection)
        return remaining


def _oid(connection: Connection, name: str) -> int | None:
    oid: int | None = connection.scalar(select(cast(func.to_regclass(name), OID)))
    return oid


def _verb(names: Sequence[str], one: str, several: str) -> str:
    return one if len(names) == 1 else several

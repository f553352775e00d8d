"""Putting tallies into a database: change logs, capture, live views, state.

Idempotent, and quiet where nothing is to do: not even a lock is taken then. Whatever may have
let a change slip by (capture that was missing, disabled or different) marks the tally stale in
the same transaction, so that its next refresh rebuilds it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from functools import cache

from sqlalchemy import Connection, Table, or_, select, text

from tallykeeper.capture import (
    change_log,
    derived_triggers,
    former_logs,
    trigger_bodies,
    trigger_names,
    triggers,
)
from tallykeeper.catalog import function_rights, identities, presence, schema_version, state
from tallykeeper.catalog.state import stale_marks
from tallykeeper.catalog.table_kinds import require_keepable
from tallykeeper.database import sessions, sql
from tallykeeper.declarations.tally import Tally
from tallykeeper.drift.reinstallation import Drifted
from tallykeeper.installation import live_views, select_plans, view_replacement
from tallykeeper.select import node_states
from tallykeeper.select.tally import SelectTally
from tallykeeper.strategies import pruned_rows

NEVER_BUILT = "never built"
INSTALL_KEY = "hashtext('tallykeeper.install')"
# The body of a source's capture function for an event.
Bodies = Callable[[Table, str], str]
INSTALL_LOCK = f"SELECT pg_advisory_xact_lock({INSTALL_KEY})"


def install(connection: Connection, tallies: Sequence[Tally]) -> list[str]:
    """Bring the database's capture, logs and live views in line with the declarations.

    `tallies` are all tallies over their sources: capture is one function per source. The
    connection's transaction is left open, so that all of it happens or nothing. SELECTs are
    compiled first. Returns what was done, a sentence each.

    Raises NotInstalled where a source or derived table is missing.
    """
    sql.execute(connection, INSTALL_LOCK)
    sql.execute(connection, sql.CLAIM_WRITING)
    schema_version.bring_up(connection)
    trigger_names.require_own_names(connection, tallies)
    for tally in tallies:
        _require_tables(connection, tally)
    return [*select_plans.prepare(connection, tallies), *install_all(connection, [tallies])]


def install_all(
    connection: Connection,
    groups: Sequence[Sequence[Tally]],
    on_progress: Callable[[int], object] = lambda _done: None,
) -> list[str]:
    """The same for several systems, each a group of tallies that share no source with another.

    `on_progress` is called with how many tallies are installed.

    What all of them need is found out first, so that the locks on sources, behind which writers
    wait until the transaction ends, are held for no longer than it takes to write it down.
    """
    sql.execute(connection, INSTALL_LOCK)
    # What an installation drops and makes is no change that event triggers react to.
    sql.execute(connection, sql.CLAIM_WRITING)
    schema_version.bring_up(connection)
    trigger_names.require_own_names(connection, [t for tallies in groups for t in tallies])
    found = [_Needed(connection, tallies) for tallies in groups]
    done = []
    installed = 0
    for needed in found:
        done += needed.bring_up(connection)
        installed += len(needed.tallies)
        on_progress(installed)
    done += function_rights.close(connection)
    # Recorded last: what one system installs, another may depend on too.
    done += [said for needed in found for said in needed.record(connection)]
    return list(dict.fromkeys(done))


class _Needed:
    """What is to be done for tallies that are installed together."""

    def __init__(self, connection: Connection, tallies: Sequence[Tally]) -> None:
        for tally in tallies:
            tally.bind(connection)
            _require_tables(connection, tally)
        self.tallies = tallies
        self.beside = state.bound(connection, presence.beside(connection, tallies))
        # Tallies over one source share its functions.
        bodies = _bodies(self.beside)
        self.wanted = [_Wanted(connection, t, bodies) for t in dict.fromkeys(tallies)]
        self.installed = False
        self.drifted = Drifted(connection, tallies)
        sources = dict.fromkeys(s for t in tallies for s in t.sources)
        self.faults: dict[Table, list[triggers.Fault]] = {s: [] for s in sources}
        self.own: dict[Tally, list[triggers.Fault]] = {}
        if not self.drifted.are_recorded:
            # What an older release installed is compared with the declarations, once.
            for source in sources:
                found = triggers.faults(connection, source, _over(source, self.beside))
                self.faults[source] = _mendable(found)
            own = {t: derived_triggers.own_faults(connection, t) for t in tallies}
            self.own = {tally: found for tally, found in own.items() if found}
        self.changed = [w for w in self.wanted if w.differs]

    def bring_up(self, connection: Connection) -> list[str]:
        """Do it; what was done, a sentence each. Nothing, not even a lock, where nothing is."""
        drifted = [w for w in self.wanted if self.drifted.concerns(w.tally)]
        new = {w.tally for w in self.wanted if w.present is None}
        before = [tally for tally in self.beside if tally not in new]
        quiet = [w for w in drifted if not w.differs]
        quiet += [w for w in self.changed if w.was_installed_beside(before)]
        again = {f"installed {w.tally.name}" for w in quiet}
        for wanted in drifted:
            wanted.drifted = True
        done: list[str] = []
        if self.changed or drifted or any(self.faults.values()) or self.own:
            self.installed = True
            said = _bring_up(
                connection, self.tallies, self.beside, self.wanted, self.faults, self.own
            )
            done = [sentence for sentence in said if sentence not in again]
        self._remember(connection)
        return done

    def record(self, connection: Connection) -> list[str]:
        """Repair what is no part of an installation, and record how all of it is now."""
        return self.drifted.settle(connection, self.installed)

    def _remember(self, connection: Connection) -> None:
        """Record which tables these are, as far as it is not: after an upgrade, or a restore."""
        below = [triggers.relations_below(connection, source) for source in self.faults]
        relations = [relation for each in below for relation in each]
        relations += [tally.log_name for tally in self.tallies]
        if not identities.are_recorded(connection, relations):
            identities.record(connection, relations)


def _mendable(faults: Sequence[triggers.Fault]) -> list[triggers.Fault]:
    return [fault for fault in faults if not fault.lasting]


class _Wanted:
    """What one tally's installation should be, against what it is."""

    def __init__(self, connection: Connection, tally: Tally, bodies: Bodies) -> None:
        self.tally = tally
        self.live = view_replacement.LiveView(
            tally,
            live_views.create_functions(tally),
            live_views.create_view(tally, live_views.naive_columns(connection, tally)),
        )
        self.states_differ = isinstance(tally, SelectTally) and bool(
            node_states.missing(connection, tally)
        )
        self.sums_missing = pruned_rows.is_missing(connection, tally)
        self.capture_hash = self._capture_hash(bodies)
        self.declaration_hash = tally.declaration_hash()
        self.present = state.installed(connection, tally)
        self.missing = [
            name
            for name in (tally.log_name, tally.live_name)
            if connection.scalar(text("SELECT to_regclass(:name)"), {"name": name}) is None
        ]
        self.misread = live_views.misread(connection, tally, self.live.view)
        self.log_replaced = bool(identities.replaced(connection, [tally.log_name]))
        # Something that belongs to its installation is not as it was left.
        self.drifted = False

    def _capture_hash(self, bodies: Bodies) -> str:
        events = (*triggers.EVENTS, triggers.TRUNCATE)
        shared = [bodies(source, event) for source in self.tally.sources for event in events]
        own = [hook.body for hook in derived_triggers.own_hooks(self.tally)]
        made = [change_log.ddl(self.tally), *self.live.functions, self.live.view]
        parts = [*made, *trigger_bodies.asked_when_planned(), *shared, *own]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def was_installed_beside(self, tallies: Sequence[Tally]) -> bool:
        """Whether it differs only because others are captured with its sources now."""
        if self.present is None:
            return False
        return self.present.capture_hash == self._capture_hash(_bodies(tallies))

    @property
    def differs(self) -> bool:
        return (
            self.present is None
            or self.present.declaration_hash != self.declaration_hash
            or self.present.capture_hash != self.capture_hash
            or bool(self.missing)
            or self.states_differ
            or self.sums_missing
            or bool(self.misread)
            or self.log_replaced
            or self.drifted
        )


def _bring_up(
    connection: Connection,
    tallies: Sequence[Tally],
    beside: Sequence[Tally],
    wanted: Sequence[_Wanted],
    before: dict[Table, list[triggers.Fault]],
    own: dict[Tally, list[triggers.Fault]],
) -> list[str]:
    # The refreshes' lock first, in their order; then the sources, until their writers are done:
    # a statement that ran under the old capture must not commit under the new declaration.
    # New writers queue behind these locks, so all of them together are not waited for long.
    started = time.monotonic()
    for table in (*(tally.table for tally in tallies), *before):
        left = sessions.LOCK_TIMEOUT_SECONDS - (time.monotonic() - started)
        lock = f"LOCK TABLE {sql.name_of(table)} IN SHARE ROW EXCLUSIVE MODE"
        sql.execute(connection, f"{sessions.lock_timeout_of(max(left, 0))}; {lock}")
    sql.execute(connection, sessions.lock_timeout_of())
    known_before = set(connection.scalars(select(state.tally_state.c.tally)))
    changed = [each for each in wanted if each.differs]
    done = [
        _install_tally(
            connection,
            each,
            [w.live for w in wanted if each.tally in w.tally.upstream],
            [w.tally for w in changed[place + 1 :]],
        )
        for place, each in enumerate(changed)
    ]
    broken: set[Tally] = set()
    for source, found in before.items():
        over = _over(source, beside)
        upgraded = any(w.tally in over for w in changed)
        unexplained = [f for f in found if not (f.of_function_text and upgraded)]
        known = [t for t in over if t.name in known_before]
        if unexplained and known:
            broken.update(known)
            done += [f"repaired {fault}" for fault in unexplained]
        install_capture(connection, source, over)
    done += leave_out(connection, list(before), beside)
    for tally, found in own.items():
        if tally.name in known_before:
            upgraded = any(w.tally is tally for w in changed)
            done += _judge_own(connection, tally, found, upgraded, broken)
    for tally in tallies:
        install_own(connection, tally)
        _drop_outgrown(connection, tally)
    for tally in beside:
        if tally in broken:
            state.mark_stale(connection, tally, state.CAPTURE_REPAIRED)
            done.append(f"{tally.name} is stale: changes may have been missed")
    return done + function_rights.close(connection)


def leave_out(
    connection: Connection, sources: Sequence[Table], tallies: Sequence[Tally]
) -> list[str]:
    """Mark those stale that are installed over the sources, but were not captured along.

    They are declared nowhere any more, or elsewhere, and would be wrong without a word. Returns
    what was done, a sentence each.
    """
    if not tallies:
        return []
    installed, named = state.tally_state.c.tally, state.stands_on.c
    of_system = [installed.startswith(f"{t.system}.", autoescape=True) for t in tallies]
    names = [sql.name_of(source) for source in sources]
    over = select(named.tally).where(named.kind == "relation", named.name.in_(names))
    marked = select(stale_marks.c.tally).where(stale_marks.c.reason == state.NOT_CAPTURED)
    left = connection.scalars(
        select(installed).where(
            or_(*of_system),
            installed.not_in([t.name for t in tallies]),
            installed.in_(over),
            installed.not_in(marked),
        )
    ).all()
    for name in left:
        connection.execute(stale_marks.insert().values(tally=name, reason=state.NOT_CAPTURED))
    return [f"{name} is stale: {state.NOT_CAPTURED}" for name in left]


def _judge_own(
    connection: Connection,
    tally: Tally,
    found: Sequence[triggers.Fault],
    upgraded: bool,
    broken: set[Tally],
) -> list[str]:
    """What of the derived table's own triggers is repaired, and what has to be looked at for it."""
    explained = [f for f in found if upgraded and (f.of_function_text or f.of_hand)]
    unexplained = [fault for fault in found if fault not in explained]
    if not unexplained:
        return []
    if all(fault.of_hand for fault in unexplained):
        # It may have been written by hand meanwhile, of which nothing was noted.
        state.record_written(connection, tally, [], True)
    else:
        broken.add(tally)
    return [f"repaired {fault}" for fault in unexplained]


def _install_tally(
    connection: Connection,
    wanted: _Wanted,
    downstream: Sequence[view_replacement.LiveView],
    afterwards: Sequence[Tally],
) -> str:
    tally = wanted.tally
    fresh_declaration = wanted.present is None or not tally.continues(
        wanted.present.declaration_hash
    )
    log_is_there = tally.log_name not in wanted.missing
    log_differs = not log_is_there or not change_log.fits(connection, tally)
    former = former_logs.read(connection, tally) if log_is_there and log_differs else None
    if not log_is_there:
        change_log.create(connection, tally)
    if isinstance(tally, SelectTally):
        node_states.bring_up(connection, tally)
    pruned_rows.bring_up(connection, tally)
    view_replacement.replace(
        connection,
        wanted.live,
        downstream,
        alter_log=log_is_there and log_differs,
        afterwards=afterwards,
    )
    if log_is_there and log_differs:
        is_carried = former is not None and former_logs.carry_over(connection, former)
        log_differs = fresh_declaration or not is_carried
    reason = _why_stale(wanted, fresh_declaration, log_differs)
    if reason:
        state.mark_stale(connection, tally, reason)
    identities.record(connection, [tally.log_name])
    state.record_installed(connection, tally, wanted.declaration_hash, wanted.capture_hash)
    return f"installed {tally.name}" + (f" ({reason})" if reason else "")


def _why_stale(wanted: _Wanted, fresh_declaration: bool, log_differs: bool) -> str:
    """Why the tally has to be built anew; empty where it has not."""
    if wanted.present is None:
        return NEVER_BUILT
    if fresh_declaration:
        return state.DECLARATION_CHANGED
    if log_differs or wanted.log_replaced:
        return state.LOG_DIFFERED
    if wanted.states_differ:
        return state.STATE_MISSING
    if wanted.tally.live_name in wanted.missing:
        # A derived table cannot be dropped without its view: it may be another table by now.
        return state.VIEW_MISSING
    # What was declared by hand had another view.
    as_declared = wanted.present.declaration_hash == wanted.declaration_hash
    return state.VIEW_MISREAD if wanted.misread and as_declared else ""


def drop_trigger_function(connection: Connection, function: str) -> None:
    """Drop a function, and before it the triggers that call it, wherever they are."""
    calling = connection.execute(
        text(
            "SELECT quote_ident(t.tgname), format('%I.%I', n.nspname, c.relname)"
            " FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid"
            " JOIN pg_namespace AS n ON n.oid = c.relnamespace"
            " WHERE t.tgfoid = CAST(:function AS regproc) AND t.tgparentid = 0"
        ),
        {"function": function},
    )
    for trigger, relation in calling.all():
        sql.execute(connection, f"DROP TRIGGER {trigger} ON {relation}")
    sql.execute(connection, f"DROP FUNCTION {function}")


def _drop_outgrown(connection: Connection, tally: Tally) -> None:
    """Drop the capture of sources that the tally alone had, and has no more.

    It would write into a log that has other columns now. Where other tallies have the source, its
    functions are theirs, and are written anew for them.
    """
    former_logs.drop_functions(connection, tally)
    for source, functions in trigger_names.of_former_sources(connection, tally).items():
        for function in functions:
            drop_trigger_function(connection, function)
        recorded = state.captured_relations
        connection.execute(recorded.delete().where(recorded.c.source == source))


def install_capture(connection: Connection, source: Table, tallies: Sequence[Tally]) -> None:
    """Write the source's capture for these tallies, and for no others of their system."""
    wanted = triggers.hooks(connection, source, tallies)
    for relation in triggers.left_behind(connection, source, wanted):
        triggers.drop_triggers(connection, source, tallies, relation)
    relations = list(dict.fromkeys(hook.relation for hook in wanted))
    for function in trigger_names.outgrown(connection, source, tallies, relations):
        drop_trigger_function(connection, function)
    for function in trigger_bodies.asked_when_planned():
        sql.execute(connection, function)
    _install_hooks(connection, wanted)
    recorded, name = state.captured_relations, sql.name_of(source)
    connection.execute(recorded.delete().where(recorded.c.source == name))
    rows = [{"source": name, "relation": relation} for relation in relations]
    connection.execute(recorded.insert(), rows)
    identities.record(connection, relations)


def install_own(connection: Connection, tally: Tally) -> None:
    """Put its own triggers on the derived table, and take them off what had its name before."""
    wanted = derived_triggers.own_hooks(tally)
    for relation in triggers.carriers(connection, wanted):
        triggers.drop_calling(connection, relation, [hook.function for hook in wanted])
    _install_hooks(connection, wanted)


def _install_hooks(connection: Connection, wanted: Sequence[triggers.Hook]) -> None:
    for statement in dict.fromkeys(hook.create_function() for hook in wanted):
        sql.execute(connection, statement)
    for hook in wanted:
        if triggers.is_guarded(connection, hook):
            # Several systems share it: written again, it would seem changed to the others.
            continue
        for statement in hook.create_trigger():
            sql.execute(connection, statement)


def _bodies(tallies: Sequence[Tally]) -> Bodies:
    """The capture functions' bodies of these tallies, each written once, when first asked for."""
    return cache(lambda s, event: trigger_bodies.function_body(s, event, _over(s, tallies)))


def _over(source: Table, tallies: Sequence[Tally]) -> list[Tally]:
    return [t for t in tallies if source in t.sources]


def _require_tables(connection: Connection, tally: Tally) -> None:
    for source in tally.sources:
        require_keepable(connection, tally.name, source, "source")
    require_keepable(connection, tally.name, tally.table, "derived")

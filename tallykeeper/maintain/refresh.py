"""Bringing a derived table up to date: by its pending changes, or by rebuilding windows of it.

Either is one transaction and one snapshot (see `transactions.py`). What dies half way leaves
nothing behind; a change whose transaction the snapshot does not see stays pending.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine

from tallykeeper.catalog import state
from tallykeeper.catalog.state import Installed
from tallykeeper.catalog.transactions import lock_referenced
from tallykeeper.database import sql
from tallykeeper.declarations.tally import Between, Everything, KeyFilter, Keys, Tally
from tallykeeper.drift import dependencies
from tallykeeper.drift.differences import Drift
from tallykeeper.errors import BadWindow, TallyBusy
from tallykeeper.faults import incidents, manual_writes, quarantine
from tallykeeper.installation.declaration_version import writing_as_declared
from tallykeeper.maintain import select_changes
from tallykeeper.maintain.backfill.run import Backfilled, Progress, backfill
from tallykeeper.maintain.derived_rows import (
    KEYS,
    PENDING,
    Outcome,
    Refreshed,
    added,
    compute,
    expect_growth,
    fill,
    forget,
    outcome_of,
    record,
    rewrite,
    temporary,
    vacuum_log,
    write_differences,
)
from tallykeeper.select import node_states, refresh_costs
from tallykeeper.strategies import pruned_rows

# A source that is truncated meanwhile makes the tally stale again; not often, one hopes.
BACKFILLS = 3


@dependencies.explained
def refresh(
    engine: Engine, tally: Tally, *, on_progress: Callable[[Progress], None] | None = None
) -> Refreshed:
    """Take all pending changes of `tally` and apply them; the cost follows the changes.

    A tally that is stale, or whose declaration changed, is rebuilt instead; in batches, where it
    is built so, and then what is pending is consumed. `on_progress` is called for the batches.

    Raises NotInstalled, TallyBusy, or SQLAlchemy's errors; the derived table is then unchanged,
    but for the batches of a rebuild that were committed.
    """
    if tally.batches is not None:
        return _in_batches(engine, tally, False, on_progress)
    started = time.perf_counter()

    def work(connection: Connection, known: Installed) -> Refreshed:
        standing = dependencies.noticed_since(connection, tally, known)
        faults = standing.faults
        reasons = dependencies.reasons_to_rebuild(connection, tally, standing)
        pruned_rows.note_changes(connection, tally)
        if reasons:
            outcome = _rebuild(connection, tally, Everything())
            dependencies.stay_stale(connection, tally, faults)
            why = "; ".join(reasons)
            return _with(faults, record(connection, tally, "rebuild", why, outcome, started, True))
        outcome = consume(connection, tally)
        return _with(faults, record(connection, tally, "refresh", None, outcome, started, False))

    result = writing_as_declared(engine, tally, work)
    vacuum_log(engine, tally, result.pending_consumed)
    return result


@dependencies.explained
def rebuild(
    engine: Engine,
    tally: Tally,
    start: datetime | None = None,
    end: datetime | None = None,
    *,
    on_progress: Callable[[Progress], None] | None = None,
) -> Refreshed:
    """Compute the keys of a window anew from the sources, and write those rows that differ.

    The window is half-open, [start, end), in aware datetimes that begin one of `tally.windows`
    each; None is an open end, and two of them are everything. The window's pending deltas are
    consumed with it. Marks of a recomputed tally stay pending unless everything is rebuilt, for one
    may concern other windows too. A tally that is built in batches is so here too, from the start;
    `on_progress` is called for them.

    Raises BadWindow, NotInstalled, TallyBusy, or SQLAlchemy's errors; nothing is changed then.
    """
    everything = start is None and end is None
    scope: KeyFilter = Everything()
    if not everything:
        if tally.time_key is None:
            raise BadWindow(f"{tally.name} has no windows; rebuild all of it")
        scope = Between(tally.time_key, start, end)
    if tally.batches is not None:
        return _in_batches(engine, tally, True, on_progress)
    return _rebuild_scope(engine, tally, scope, lambda _: tally)


@dependencies.explained
def rebuild_from(engine: Engine, tally: Tally, reading: Callable[[Connection], Tally]) -> Refreshed:
    """Rebuild all of a tally, whose rows `reading` has computed elsewhere.

    `reading` is called in the transaction of the rebuild, and computes them in its snapshot; it
    returns the same tally, which reads them in the SELECT's place. Raises as `rebuild`, and what
    `reading` raises; nothing is changed then.
    """
    return _rebuild_scope(engine, tally, Everything(), reading)


def _rebuild_scope(
    engine: Engine, tally: Tally, scope: KeyFilter, reading: Callable[[Connection], Tally]
) -> Refreshed:
    started = time.perf_counter()
    everything = isinstance(scope, Everything)

    def work(connection: Connection, _: Installed) -> Refreshed:
        faults = dependencies.noticed(connection, tally)
        pruned_rows.note_changes(connection, tally)
        outcome = _rebuild(connection, reading(connection), scope)
        if everything:
            dependencies.stay_stale(connection, tally, faults)
        return _with(
            faults, record(connection, tally, "rebuild", None, outcome, started, everything)
        )

    result = writing_as_declared(engine, tally, work)
    vacuum_log(engine, tally, result.pending_consumed)
    return result


@dependencies.explained
def rebuild_keys(engine: Engine, tally: Tally, keys: Sequence[Mapping[str, Any]]) -> Refreshed:
    """Compute single keys anew from the sources, and write those rows that differ.

    `keys` have the tally's key columns by name, as JSON has them (`Difference.key`). Pending
    deltas of these keys are consumed with it; dirty entities of a recomputed tally stay pending.

    Raises NotInstalled, TallyBusy, or SQLAlchemy's errors; nothing is changed then.
    """
    started = time.perf_counter()

    def work(connection: Connection, _: Installed) -> Refreshed:
        pruned_rows.note_changes(connection, tally)
        groups = [{name: key[name] for name in tally.group} for key in keys]
        before = Outcome(0, None, ())
        if select_changes.concern(tally):
            before = select_changes.consume_before_scope(connection, tally)
        temporary(
            connection,
            KEYS,
            f"SELECT DISTINCT {sql.columns(tally.group, 'k')} FROM jsonb_to_recordset("
            f"{sql.literal(json.dumps(groups))}::jsonb) AS k ({tally.group_types})",
        )
        scope = Keys(tally, KEYS)
        consumed, oldest = before.consumed, before.oldest
        if tally.log_has_deltas:
            consumed, oldest = forget(connection, tally, scope.condition(tally, "l"))
        compute(connection, tally, tally.rows_of(KEYS), lambda: KEYS)
        state.record_touched(connection, tally, KEYS)
        written = write_differences(connection, tally, scope)
        outcome = Outcome(consumed, oldest, added([*before.changes_by_day, *written]))
        return record(connection, tally, "rebuild", None, outcome, started, False)

    return writing_as_declared(engine, tally, work)


def _with(faults: Sequence[Drift], result: Refreshed) -> Refreshed:
    return replace(result, faults=tuple(map(str, faults)))


def _in_batches(
    engine: Engine,
    tally: Tally,
    restart: bool,
    on_progress: Callable[[Progress], None] | None,
) -> Refreshed:
    """Backfill the tally where it is stale, or is to be built anew, and take what is pending."""
    started = time.perf_counter()
    done: list[Backfilled] = []

    def work(connection: Connection, known: Installed) -> Refreshed | None:
        standing = dependencies.noticed_since(connection, tally, known)
        if dependencies.reasons_to_rebuild(connection, tally, standing, is_built=bool(done)):
            # What makes it stale was noticed here, and the backfill has to see it.
            return None
        outcome = consume(connection, tally)
        # Of such a tally the keys that were written by hand are pending, and were computed anew.
        manual_writes.resolve(connection, tally, "refreshed")
        return _with(
            standing.faults, record(connection, tally, "refresh", None, outcome, started, False)
        )

    if restart:
        done.append(backfill(engine, tally, restart=True, on_progress=on_progress))
    for _ in range(BACKFILLS):
        result = writing_as_declared(engine, tally, work)
        if result is not None:
            vacuum_log(engine, tally, result.pending_consumed)
            return _both(done, result) if done else result
        done.append(backfill(engine, tally, on_progress=on_progress))
    raise TallyBusy(
        f"{tally.name} became stale again each of the {BACKFILLS} times that it was built; see"
        " `tally status` for what makes it so, and refresh it when that is over"
    )


def _both(done: Sequence[Backfilled], after: Refreshed) -> Refreshed:
    """What backfills and the refresh that followed did together."""
    logged = [*(b.oldest_change for b in done), after.oldest_change]
    oldest = [at for at in logged if at is not None]
    reasons = [b.reason for b in done if b.reason is not None]
    return replace(
        after,
        how="rebuild",
        reason="; ".join(dict.fromkeys(reasons)) or None,
        pending_consumed=sum(b.consumed for b in done) + after.pending_consumed,
        oldest_change=min(oldest, default=None),
        changes_by_day=added([*(w for b in done for w in b.written), *after.changes_by_day]),
    )


def _rebuild(connection: Connection, tally: Tally, scope: KeyFilter) -> Outcome:
    started = time.perf_counter()
    whole = isinstance(scope, Everything)
    before = Outcome(0, None, ())
    if select_changes.concern(tally):
        if whole:
            node_states.build(connection, tally)
        else:
            before = select_changes.consume_before_scope(connection, tally)
    consumed, oldest = before.consumed, before.oldest
    if whole or tally.log_has_deltas:
        consumed, oldest = forget(connection, tally, scope.condition(tally, "l"))
    if sql.execute(connection, f"SELECT FROM {sql.name_of(tally.table)} LIMIT 1").first() is None:
        windows = fill(connection, tally, scope)
    else:
        windows = rewrite(connection, tally, scope)
    if whole:
        edits = manual_writes.resolve(connection, tally, "rebuilt")
        incidents.record_stale(connection, tally, edits_are_known=edits is not None)
        state.clear_stale(connection, tally)
    if select_changes.concern(tally) and whole:
        refresh_costs.record_all(connection, tally, time.perf_counter() - started)
    return Outcome(consumed, oldest, added([*before.changes_by_day, *windows]))


def consume(connection: Connection, tally: Tally) -> Outcome:
    """Consume the pending changes, and write what they alter."""
    if select_changes.concern(tally):
        return select_changes.consume(connection, tally)
    at_once = tally.consume_at_once()
    if at_once is not None:
        done = _apply(connection, tally, at_once)
        if done is not None:
            return done
    names = sql.columns([c.name for c in tally.log_columns()])
    temporary(connection, PENDING, f"SELECT {names} FROM {tally.log_name}")
    consumed, oldest = forget(connection, tally, "true")
    held = quarantine.held(connection, tally)
    if not consumed and not held:
        return Outcome(0, None, ())
    groups = tally.touched_groups(PENDING)
    if held:
        groups = f"({groups})\nUNION {quarantine.keys(tally)}"
    temporary(connection, KEYS, groups)
    if at_once is None:
        state.record_touched(connection, tally, KEYS)
    compute(connection, tally, tally.desired_rows(KEYS, PENDING), lambda: KEYS)
    return Outcome(consumed, oldest, write_differences(connection, tally, Keys(tally, KEYS)))


def _apply(connection: Connection, tally: Tally, statement: str) -> Outcome | None:
    """Consume and apply all of it; None where keys are in quarantine, or have to go there."""
    state.record_touched(connection, tally, tally.log_name)
    if quarantine.held(connection, tally):
        return None

    def apply() -> Outcome:
        expect_growth(connection, tally)
        lock_referenced(connection, tally, tally.log_name)
        return outcome_of(connection, statement)

    return quarantine.attempt(connection, apply)

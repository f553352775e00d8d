"""Bringing a derived table up to date: by its pending changes, or by rebuilding windows of it.

Either is one transaction and one snapshot (see `transactions.py`). What dies half way leaves
nothing behind; a change whose transaction the snapshot does not see stays pending.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine

from tallies import sql, state
from tallies.additive import AdditiveTally
from tallies.errors import BadWindow, NotInstalled, TallyBusy
from tallies.install import install
from tallies.recomputed import RecomputedTally
from tallies.tally import LOGGED_AT, Between, Everything, Keys, Scope, Tally
from tallies.transactions import hold_referenced, retried, writing
from tallies.writing import (
    FRESH,
    Outcome,
    Refreshed,
    expect_growth,
    fill,
    forget,
    outcome_of,
    record,
    replace,
    temporary,
    vacuum_log,
    write_differences,
)

PENDING = "pg_temp.tally_pending"
KEYS = "pg_temp.tally_keys"


def refresh(engine: Engine, tally: Tally) -> Refreshed:
    """Take all pending changes of `tally` and apply them; the cost follows the changes.

    A tally that is stale, or whose declaration changed, is rebuilt instead.

    Raises NotInstalled, TallyBusy, or SQLAlchemy's errors; the derived table is then unchanged.
    """
    _adopt_declaration(engine, tally)
    started = time.perf_counter()

    def work(connection: Connection) -> Refreshed:
        _require_same_declaration(connection, tally)
        reasons = state.stale_reasons(connection, tally)
        if reasons:
            outcome = _rebuild(connection, tally, Everything())
            return record(connection, tally, "rebuild", "; ".join(reasons), outcome, started, True)
        if isinstance(tally, AdditiveTally):
            expect_growth(connection, tally)
            hold_referenced(connection, tally, tally.log_name)
            outcome = outcome_of(connection, tally.take_and_apply())
        elif isinstance(tally, RecomputedTally):
            outcome = _recompute(connection, tally)
        else:
            raise TypeError(f"{tally!r} is kept in no way that refresh knows")
        return record(connection, tally, "refresh", None, outcome, started, False)

    result = writing(engine, tally, work)
    vacuum_log(engine, tally, result.pending_taken)
    return result


def rebuild(
    engine: Engine,
    tally: Tally,
    start: datetime | None = None,
    end: datetime | None = None,
) -> Refreshed:
    """Compute the keys of a window anew from the sources, and write those rows that differ.

    The window is half-open, [start, end), in aware datetimes; None is an open end, and two of
    them are everything. The window's pending deltas are consumed with it. Marks of a recomputed
    tally stay pending unless everything is rebuilt, for one may concern other windows too.

    Raises BadWindow, NotInstalled, TallyBusy, or SQLAlchemy's errors; nothing is changed then.
    """
    _check_window(tally, start, end)
    _adopt_declaration(engine, tally)
    everything = start is None and end is None
    scope: Scope = Everything()
    if not everything and tally.window is not None:
        scope = Between(tally.window, start, end)
    started = time.perf_counter()

    def work(connection: Connection) -> Refreshed:
        _require_same_declaration(connection, tally)
        outcome = _rebuild(connection, tally, scope)
        return record(connection, tally, "rebuild", None, outcome, started, everything)

    result = writing(engine, tally, work)
    vacuum_log(engine, tally, result.pending_taken)
    return result


def _check_window(tally: Tally, start: datetime | None, end: datetime | None) -> None:
    if (start or end) and tally.window is None:
        raise BadWindow(f"{tally.name} has no windows; rebuild all of it")
    for moment in (start, end):
        if moment is not None and moment.tzinfo is None:
            raise BadWindow(f"{moment} has no time zone; windows are in UTC")
        if moment is not None and moment != _midnight(moment):
            raise BadWindow(f"{moment} is not midnight UTC; windows are whole days")
    if start is not None and end is not None and start >= end:
        raise BadWindow(
            f"the window ends ({end:%Y-%m-%d}) at or before it starts ({start:%Y-%m-%d});"
            " the end is exclusive and must be later"
        )


def _midnight(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _adopt_declaration(engine: Engine, tally: Tally) -> None:
    with engine.connect() as connection:
        installed = state.installed(connection, tally)
    if installed is None:
        raise NotInstalled(f"{tally.name} is not installed in this database; run `tally migrate`")
    if installed.declaration_hash == tally.declaration_hash():
        return

    def adopt() -> None:
        with engine.begin() as connection:
            install(connection, tally.siblings)

    retried(adopt, tally.name)


def _require_same_declaration(connection: Connection, tally: Tally) -> None:
    installed = state.installed(connection, tally)
    if installed is None or installed.declaration_hash != tally.declaration_hash():
        raise TallyBusy(
            f"{tally.name}: another process has installed another declaration of it just now;"
            " nothing was changed. Run only one version of the code against a database"
        )


def _rebuild(connection: Connection, tally: Tally, scope: Scope) -> Outcome:
    whole = isinstance(scope, Everything)
    taken, oldest = 0, None
    if whole or isinstance(tally, AdditiveTally):
        taken, oldest = forget(connection, tally, scope.condition(tally, "l"))
    if sql.execute(connection, f"SELECT FROM {sql.name_of(tally.table)} LIMIT 1").first() is None:
        windows = fill(connection, tally, scope)
    else:
        windows = replace(connection, tally, scope)
    if whole:
        state.clear_stale(connection, tally)
    return Outcome(taken, oldest, windows)


def _recompute(connection: Connection, tally: RecomputedTally) -> Outcome:
    names = sql.columns([c.name for c in tally.log_columns()])
    temporary(connection, PENDING, f"SELECT {names}, {LOGGED_AT} FROM {tally.log_name}")
    taken, oldest = forget(connection, tally, "true")
    if not taken:
        return Outcome(0, None, ())
    temporary(connection, KEYS, sql.render(tally.pending_keys(PENDING)))
    temporary(connection, FRESH, tally.rows_of(KEYS))
    return Outcome(taken, oldest, write_differences(connection, tally, Keys(tally, KEYS)))

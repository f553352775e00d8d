"""Comparing a derived table with its sources, in one statement over one snapshot.

What the derived table and its pending changes together claim must equal the aggregate over the
sources. Nothing that writers do meanwhile can make it differ, so a difference is a real fault.
All keys of a big tally are compared in stretches, each in a snapshot of its own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, Engine, Row, Table

from tallykeeper.catalog import state
from tallykeeper.catalog.transactions import comparing, comparing_retried
from tallykeeper.database import sql
from tallykeeper.declarations.tally import Between, Everything, InWindows, KeyFilter, Keys, Tally
from tallykeeper.declarations.windows import Bounds
from tallykeeper.drift import dependencies
from tallykeeper.errors import NotInstalled
from tallykeeper.faults import manual_writes, quarantine
from tallykeeper.faults.quarantine import Quarantined
from tallykeeper.maintain import audit_rounds
from tallykeeper.maintain.derived_rows import TRIED, temporary
from tallykeeper.maintain.stretches import KeyRange, Stretch, axis_of, next_stretch
from tallykeeper.select import node_states
from tallykeeper.select.tally import SelectTally
from tallykeeper.strategies import pruned_rows
from tallykeeper.strategies.pruned_rows import Pruning

TOUCHED = "pg_temp.tally_windows"
TOUCHED_KEYS = "pg_temp.tally_touched"
SHOWN_DIFFERENCES = 100


@dataclass(frozen=True)
class Difference:
    """One key at which derived table and sources disagree.

    `stored` and `expected` are the measures by name, as JSON has them; None: no such row. `day`
    is the window to rebuild, null for a tally without windows.
    """

    day: str | None
    key: dict[str, Any]
    stored: dict[str, Any] | None
    expected: dict[str, Any] | None


@dataclass(frozen=True)
class Verification:
    """The outcome of a verify.

    `differing` counts all differing keys, `differences` shows the first of them, `days` the
    windows they are in. A stale tally has nothing to compare; `stale` then says why. `quarantined`
    counts the keys that the derived table cannot hold, which are not compared; `quarantine` shows
    the first of them.
    `faults` say what is not as it was when the tally was installed: what was found equal is not
    proven then. `pruned` are the sources whose deleted rows count still, of which nothing can be
    compared but that what was kept of them is there.
    """

    tally: str
    whole: bool
    compared: int
    differing: int
    differences: tuple[Difference, ...]
    days: tuple[str, ...]
    stale: tuple[str, ...]
    as_of: datetime
    seconds: float = field(compare=False)
    quarantined: int = 0
    quarantine: tuple[Quarantined, ...] = ()
    faults: tuple[str, ...] = ()
    pruned: tuple[Pruning, ...] = ()

    @property
    def ok(self) -> bool:
        """Proven equal: a stale tally is not, nor one with keys in quarantine or broken capture."""
        return not (self.differing or self.stale or self.quarantined or self.faults)


@dataclass(frozen=True)
class Progress:
    """How far a comparison of all keys is: keys so far, of about how many, the last stretch."""

    tally: str
    keys: int
    total: int | None
    stretch: str


@dependencies.explained
def verify(
    engine: Engine,
    tally: Tally,
    windows: Sequence[Bounds] | Literal["touched"] | None = None,
    limit: int = SHOWN_DIFFERENCES,
    on_progress: Callable[[Progress], None] | None = None,
) -> Verification:
    """Compare all keys, or those of `windows`, or those that were written since the last verify.

    `windows` are half-open pairs of aware datetimes that begin one of `tally.windows` each, None
    being an open end. At most `limit`
    differences are returned with their values; all are counted. All keys of a big tally are
    compared in stretches of a snapshot each; `on_progress` is called after each stretch.

    Raises BadWindow, NotInstalled, or SQLAlchemy's errors.
    """
    if windows is None:
        return _everything(engine, tally, limit, on_progress)
    wanted, seen = windows, Seen()

    def choose(connection: Connection) -> list[KeyFilter]:
        if isinstance(wanted, str):
            seen.look(connection, tally)
        return _scopes(connection, tally, wanted)

    result = compared(engine, tally, choose, limit)
    if result is None:
        return _everything(engine, tally, limit, on_progress)
    if not result.stale:
        with engine.begin() as connection:
            conclude(connection, tally, result, seen)
    return result


def _everything(
    engine: Engine,
    tally: Tally,
    limit: int,
    on_progress: Callable[[Progress], None] | None,
) -> Verification:
    """Compare all keys, from the first to the last: a round of the audit by itself."""
    seen, parts = Seen(), list[Verification]()
    after: str | None = None
    axis: str | None = None
    with engine.connect() as connection:
        known = audit_rounds.read(connection, tally)
    size = audit_rounds.size_of(known)
    while True:
        stretch, found = compare_stretch(
            engine, tally, axis, after, size.rows, limit, None if parts else seen
        )
        if stretch is None:
            return found
        parts.append(found)
        after, axis = stretch.upto, stretch.axis.name
        size = size.after(found.seconds, after is None)
        if after is None:
            break
        if on_progress is not None:
            keys, total = sum(part.compared for part in parts), known and known.table_rows
            on_progress(Progress(tally.name, keys, total, stretch.in_words))
    result = combined(parts, limit, whole=True)
    with engine.begin() as connection:
        conclude(connection, tally, result, seen)
        if not result.faults:
            audit_rounds.record_complete(connection, tally, result.as_of, result, size)
    return result


def compare_stretch(
    engine: Engine,
    tally: Tally,
    axis: str | None,
    after: str | None,
    rows: int,
    limit: int,
    seen: Seen | None = None,
) -> tuple[Stretch | None, Verification]:
    """Compare the stretch after the position `after` on the axis of that name, in one snapshot.

    What is unverified in that snapshot is put into `seen`. The stretch is None where the tally is
    stale. Nothing is recorded.
    """
    chosen: list[Stretch] = []

    def choose(connection: Connection) -> list[KeyFilter]:
        if seen is not None:
            seen.look(connection, tally)
        along = axis_of(connection, tally, axis)
        start = after if along.name == axis else None
        chosen[:] = [next_stretch(connection, tally, along, start, rows)]
        return [chosen[0].scope]

    result = compared(engine, tally, choose, limit, everything=True)
    assert result is not None
    return (None if result.stale else chosen[0]), result


def compared(
    engine: Engine,
    tally: Tally,
    choose: Callable[[Connection], list[KeyFilter]],
    limit: int,
    *,
    everything: bool = False,
) -> Verification | None:
    """Compare in one snapshot what `choose` says there; None where it says everything.

    With `everything` that is compared too. Nothing is recorded.
    """
    started = time.perf_counter()
    return comparing_retried(
        engine,
        tally,
        lambda: _verify_once(engine, tally, choose, limit, started, everything),
    )


def conclude(connection: Connection, tally: Tally, result: Verification, seen: Seen) -> None:
    """Record a comparison: what differed is to be compared again, what was right is verified."""
    if not result.differing and not result.faults:
        seen.forget(connection, tally)
    _remember(connection, tally, result)
    state.record_verified(
        connection,
        tally,
        as_of=result.as_of,
        whole=result.whole,
        differing=result.differing,
        seconds=result.seconds,
    )


def combined(
    parts: Sequence[Verification], limit: int, *, whole: bool | None = None
) -> Verification:
    """Several comparisons of one tally as one, as of the first; a key that is in two counts once.

    `whole` says whether they are all keys together; by default, whether one of them is.
    """
    keys: dict[str, Difference] = {}
    for each in parts:
        for difference in each.differences:
            keys.setdefault(json.dumps(difference.key, sort_keys=True, default=str), difference)
    shown = sum(len(each.differences) for each in parts)
    return Verification(
        parts[0].tally,
        any(each.whole for each in parts) if whole is None else whole,
        sum(each.compared for each in parts),
        sum(each.differing for each in parts) - (shown - len(keys)),
        tuple(keys.values())[:limit],
        tuple(sorted({day for each in parts for day in each.days})),
        (),
        parts[0].as_of,
        sum(each.seconds for each in parts),
        quarantined=parts[-1].quarantined,
        quarantine=parts[-1].quarantine,
        faults=tuple(dict.fromkeys(fault for each in parts for fault in each.faults)),
        pruned=parts[-1].pruned,
    )


def _verify_once(
    engine: Engine,
    tally: Tally,
    choose: Callable[[Connection], list[KeyFilter]],
    limit: int,
    started: float,
    everything: bool,
) -> Verification | None:
    with comparing(engine, tally) as connection:
        installed = state.installed(connection, tally)
        if installed is None:
            raise NotInstalled(f"{tally.name} is not installed here; run `tally migrate` first")
        stale = installed.stale
        if installed.declaration_hash != tally.declaration_hash():
            stale = (*stale, state.DECLARATION_CHANGED)
        now = sql.execute(connection, "SELECT now()").scalar_one()
        faults = tuple(map(str, dependencies.noticed(connection, tally)))
        if stale:
            return Verification(
                tally.name,
                everything,
                0,
                0,
                (),
                (),
                stale,
                now,
                _since(started),
                faults=faults,
            )
        scopes = choose(connection)
        if not everything and any(isinstance(scope, Everything) for scope in scopes):
            return None
        keys, differing = 0, 0
        differences: list[Difference] = []
        days: set[str] = set()
        held = quarantine.held(connection, tally)
        for scope in scopes:
            total, *shown = _compared(connection, tally, scope, limit, held > 0)
            keys += total.compared
            differing += total.differing
            days.update(total.days or ())
            differences += [Difference(r.day, r.key, r.stored, r.expected) for r in shown]
        if isinstance(tally, SelectTally) and everything and any(map(_is_last, scopes)):
            faults += tuple(_state_faults(connection, tally))
        return Verification(
            tally.name,
            any(isinstance(scope, Everything) for scope in scopes),
            keys,
            differing,
            tuple(differences[:limit]),
            tuple(sorted(days)),
            (),
            now,
            _since(started),
            quarantined=held,
            quarantine=quarantine.listed(connection, tally, limit) if held else (),
            faults=faults,
            pruned=tuple(pruned_rows.pruned(connection, tally)),
        )


def _state_faults(connection: Connection, tally: SelectTally) -> list[str]:
    """What is wrong with stored intermediate results, for which the tally becomes stale."""
    found = node_states.faults(connection, tally)
    if found and dependencies.may_mark(connection):
        state.mark_stale(connection, tally, state.STATE_WRONG)
    return found


def _is_last(scope: KeyFilter) -> bool:
    """Whether it is the last part of all keys, or all of them."""
    return isinstance(scope, Everything) or (isinstance(scope, KeyRange) and scope.upto is None)


def _since(started: float) -> float:
    return time.perf_counter() - started


def _scopes(
    connection: Connection, tally: Tally, windows: Sequence[Bounds] | str
) -> list[KeyFilter]:
    """What is to be compared."""
    if tally.time_key is None:
        return _touched_keys(connection, tally) if isinstance(windows, str) else [Everything()]
    if not isinstance(windows, str):
        return [Between(tally.time_key, start, end) for start, end in windows]
    sql.execute(
        connection,
        "CREATE TEMPORARY TABLE tally_windows ON COMMIT DROP AS"
        " SELECT lower(w) AS starts_at, upper(w) AS ends_at"
        f" FROM (SELECT range_agg(windows) AS all_of_them FROM {sql.ENGINE_SCHEMA}.unverified"
        f" WHERE tally = {sql.literal(tally.name)}) AS u CROSS JOIN unnest(all_of_them) AS w",
    )
    seen = sql.execute(
        connection,
        "SELECT bool_and(starts_at IS NOT NULL AND ends_at IS NOT NULL) AS bounded,"
        f" count(*) AS windows FROM {TOUCHED}",
    ).one()
    if _seen(connection, tally, state.unverified_keys):
        # Of the time before the tally had windows.
        return [Everything()]
    if not seen.windows:
        return []
    if not seen.bounded:
        return [Everything()]
    sql.execute(connection, f"ANALYZE {TOUCHED}")
    return [InWindows(tally.time_key, TOUCHED)]


def _touched_keys(connection: Connection, tally: Tally) -> list[KeyFilter]:
    """The keys of a tally without windows that were written, or everything where all of it was."""
    if _seen(connection, tally, state.unverified):
        return [Everything()]
    found = sql.execute(
        connection,
        f"CREATE TEMPORARY TABLE {TOUCHED_KEYS.partition('.')[2]} ON COMMIT DROP AS"
        f" SELECT DISTINCT {sql.columns(tally.group, 'k')}"
        f" FROM {sql.name_of(state.unverified_keys)} AS u,"
        f" jsonb_to_recordset(u.keys) AS k ({tally.group_types})"
        f" WHERE u.tally = {sql.literal(tally.name)}",
    )
    sql.execute(connection, f"ANALYZE {TOUCHED_KEYS}")
    return [Keys(tally, TOUCHED_KEYS)] if found.rowcount else []


def _compared(
    connection: Connection, tally: Tally, scope: KeyFilter, limit: int, held: bool
) -> Sequence[Row[Any]]:
    """What `_comparison` finds in the scope, without the keys in quarantine.

    Where a key fails it, the keys are computed one by one, and one that cannot be computed is
    expected to have nulls.
    """
    stored, expected = tally.stored(scope), tally.expected(scope)
    free = f"SELECT * FROM (\n{{}}\n) AS s WHERE NOT {quarantine.is_held(tally, 's')}"
    if held:
        stored, expected = free.format(stored), free.format(expected)

    def compared() -> Sequence[Row[Any]]:
        return sql.execute(connection, _comparison(tally, stored, expected, limit)).all()

    found = quarantine.attempt(connection, compared)
    if found is not None:
        return found
    group = sql.columns(tally.group, "s")
    groups = free.format(tally.groups_of(scope)) if held else tally.groups_of(scope)
    parts = tally.lenient_rows(
        f"(SELECT {group} FROM (\n{stored}\n) AS s UNION SELECT {group} FROM (\n{groups}\n) AS s)"
    )
    if parts is not None:
        temporary(connection, TRIED, parts)
        expected = f"SELECT {sql.columns(tally.columns)} FROM {TRIED}"
    else:
        stored = free.format(tally.stored(scope, wide=True))
    return compared()


def _comparison(tally: Tally, stored: str, expected: str, limit: int) -> str:
    """Both sides with opposite signs: what does not cancel, differs.

    First a row with the numbers of keys compared and differing and the differing days, then up
    to `limit` rows of (day, key, stored, expected).
    """
    columns = sql.columns(tally.columns)
    key = ", ".join(f"{sql.literal(n)}, b.{sql.quote(n)}" for n in tally.key)
    if tally.measures:
        pairs = ", ".join(f"{sql.literal(n)}, b.{sql.quote(n)}" for n in tally.measures)
        measures = f"jsonb_build_object({pairs})"
    else:
        measures = "'{}'::jsonb"
    by_key = sql.columns(tally.key, "b")
    return f"""
WITH both_sides AS MATERIALIZED (
  SELECT {columns}, sum(tally_side) AS tally_surplus FROM (
    SELECT {columns}, 1 AS tally_side FROM (
{stored}
    ) AS stored
    UNION ALL SELECT {columns}, -1 FROM (
{expected}
    ) AS expected
  ) AS rows GROUP BY {columns}
), differing AS (
  SELECT {tally.day_of("b")} AS day, jsonb_build_object({key}) AS key,
         jsonb_agg({measures}) FILTER (WHERE tally_surplus > 0) -> 0 AS stored,
         jsonb_agg({measures}) FILTER (WHERE tally_surplus < 0) -> 0 AS expected,
         row_number() OVER (ORDER BY {by_key}) AS place
  FROM both_sides AS b WHERE tally_surplus <> 0 GROUP BY {by_key}
)
SELECT 0 AS place, (SELECT count(*) FROM both_sides WHERE tally_surplus = 0) + count(*) AS compared,
       count(*) AS differing, array_agg(DISTINCT day) FILTER (WHERE day IS NOT NULL) AS days,
       NULL AS day, NULL AS key, NULL AS stored, NULL AS expected FROM differing
UNION ALL
SELECT place, NULL, NULL, NULL, day, key, stored, expected FROM differing WHERE place <= {limit:d}
ORDER BY place"""


class Seen:
    """What a snapshot knows to be unverified: what it finds right needs no further look.

    Hand edits are among it, so that they are known until all was found right after them. Rows are
    known by place and writer: a place may be another row's by the time that all is compared.
    """

    def __init__(self) -> None:
        self._rows: dict[Table, list[Row[Any]]] = {}

    def look(self, connection: Connection, tally: Tally) -> None:
        """Remember what is unverified in the connection's snapshot."""
        tables = [state.unverified, state.unverified_keys]
        if state.is_there(connection, state.hand_edits):
            tables.append(state.hand_edits)
        self._rows = {table: _seen(connection, tally, table) for table in tables}

    def forget(self, connection: Connection, tally: Tally) -> None:
        """Delete what was seen."""
        for table, rows in self._rows.items():
            if rows and table is state.hand_edits:
                manual_writes.resolve(connection, tally, "compared: all is right", rows)
            elif rows:
                connection.exec_driver_sql(
                    f"DELETE FROM {sql.name_of(table)} AS t"
                    " USING unnest(%s::tid[], %s::text[]) AS s (place, writer)"
                    " WHERE t.ctid = s.place AND t.xmin::text = s.writer",
                    ([row.place for row in rows], [row.writer for row in rows]),
                )


def _remember(connection: Connection, tally: Tally, found: Verification) -> None:
    """Have what differs compared again by the next verify of what was written.

    Otherwise one that looks at other windows would say that all is well again.
    """
    if not found.differing:
        return
    if tally.time_key is not None:
        state.record_written(connection, tally, list(found.days), False)
    elif len(found.differences) == found.differing:
        state.record_keys(connection, tally, [d.key for d in found.differences])
    else:
        state.record_written(connection, tally, [], True)


def _seen(connection: Connection, tally: Tally, table: Table) -> list[Row[Any]]:
    found = connection.exec_driver_sql(
        "SELECT ctid::text AS place, xmin::text AS writer"
        f" FROM {sql.name_of(table)} WHERE tally = %s",
        (tally.name,),
    )
    return list(found.all())

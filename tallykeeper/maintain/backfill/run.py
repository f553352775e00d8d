"""Building a big tally in batches, which can be killed at any moment and resumed.

A batch is one transaction and one snapshot (see `transactions.py`): it computes the rows of one
stretch of positions, writes them, and moves the position that `tallykeeper.backfills` remembers.
A key is right when its batch commits, and later changes of it are in the change log; so when all
lanes are through, every key without a pending change is right. Until then a tally that was stale
stays stale, by a mark for each lane that this module sets and takes away again. A mark of another
kind that appears meanwhile is left alone: the next refresh starts over.
"""

from __future__ import annotations

import dataclasses
import math
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Row, func, select, update
from sqlalchemy.sql.elements import ColumnElement

from tallykeeper.catalog import state
from tallykeeper.catalog.transactions import writing_on
from tallykeeper.database import sql
from tallykeeper.declarations.batches import Batches
from tallykeeper.declarations.tally import Tally
from tallykeeper.errors import BadLane, TallyBusy
from tallykeeper.faults.quarantine import attempt, lift
from tallykeeper.installation import deferred_indexes
from tallykeeper.installation.declaration_version import adopt_declaration
from tallykeeper.maintain.backfill.lock import alone
from tallykeeper.maintain.backfill.plan import LOAD, REPLACE, Plan, Planner, not_built
from tallykeeper.maintain.backfill.throttle import stand_back, waiting_for_us
from tallykeeper.maintain.derived_rows import (
    DESIRED_ROWS,
    Outcome,
    Written,
    added,
    maintain,
    record,
    record_batch,
    rewrite,
    vacuum_log,
)
from tallykeeper.strategies.batches import Stretch, walk

T = TypeVar("T")

FIRST_ROWS, LEAST_ROWS, MOST_ROWS = 20_000, 1_000, 5_000_000
# A source row is not looked at for nothing: so many more than are likely needed.
SPARE_ITEMS = 1.5
LEAST_ITEMS = 100


@dataclass(frozen=True)
class Progress:
    """How far a backfill is: given after every batch, every pause, and before an index is built.

    Items are source rows, of all `lanes`; `rows` those of the derived table that the batches of
    this run computed. `paused` says why it waits just now, `building` what it builds.
    """

    tally: str
    lane: str
    lanes: tuple[str, ...]
    items_done: int
    items_total: int
    rows: int
    seconds: float
    rows_per_second: float
    eta_seconds: float | None
    batch_rows: int
    batch_seconds: float
    paused: str | None
    building: str | None = None


OnProgress = Callable[[Progress], None] | None


@dataclass(frozen=True)
class Backfilled:
    """What a backfill did: batches, source rows and computed rows of this run alone.

    `reason` says why the tally was stale, if it was; `consumed` counts the change-log rows that
    were pending when everything was begun anew, and so are in what the batches read.
    """

    tally: str
    lanes: tuple[str, ...]
    resumed: bool
    batches: int
    items: int
    rows: int
    seconds: float = field(compare=False)
    paused_seconds: float = field(compare=False)
    written: tuple[Written, ...] = ()
    reason: str | None = None
    consumed: int = 0
    oldest_change: datetime | None = None

    @property
    def keys_changed(self) -> int:
        return sum(w.keys for w in self.written)


class BackfillRunning(TallyBusy):
    """Another backfill of the tally is under way."""


def backfill(
    engine: Engine,
    tally: Tally,
    lanes: Sequence[str] | None = None,
    *,
    restart: bool = False,
    target_seconds: float = 2.0,
    on_progress: OnProgress = None,
) -> Backfilled:
    """Build the lanes of a tally, all by default, in batches that last about `target_seconds`.

    One that was interrupted goes on where it was, unless `restart`; lanes that are finished are
    processed again, and only rows that differ are written. Pending changes stay pending.

    Raises BackfillRunning, BadLane, NotInstalled, TallyBusy, or SQLAlchemy's errors; what was
    committed until then stays, and the next backfill goes on from there.
    """
    if tally.batches is None:
        raise BadLane(
            f"{tally.name} is not built in batches; `tally rebuild {tally.name}` builds it"
        )
    wanted = _wanted(tally, tally.batches, lanes)
    if not target_seconds > 0:
        raise ValueError(f"a batch must last longer than nothing, not {target_seconds} s")
    adopt_declaration(engine, tally)
    with engine.begin() as connection:
        state.create(connection)
    with alone(engine, tally, lambda c, pid: _refusal(c, tally, pid)) as connection:
        run = _Run(connection, tally, tally.batches, target_seconds, on_progress)
        done = run.go(wanted, restart)
    vacuum_log(engine, tally, done.consumed)
    if run.plan.mode == LOAD:
        _analyze(engine, tally)
    return done


def _analyze(engine: Engine, tally: Tally) -> None:
    """Let the planner know of the loaded rows at once: what it knows is that there were none."""
    maintain(engine, "ANALYZE (SKIP_LOCKED)", sql.name_of(tally.table))


def _wanted(tally: Tally, batches: Batches, lanes: Sequence[str] | None) -> tuple[str, ...]:
    unknown = [lane for lane in lanes or () if lane not in batches.lanes]
    if unknown or (lanes is not None and not lanes):
        raise BadLane(
            f"{tally.name} has no lane {', '.join(map(repr, unknown)) or 'of no name'};"
            f" it has {', '.join(batches.lanes)}"
        )
    return tuple(lane for lane in batches.lanes if lanes is None or lane in lanes)


def _refusal(connection: Connection, tally: Tally, pid: int | None) -> BackfillRunning:
    rows = state.backfilled(connection, tally).values()
    unfinished = [row for row in rows if row.finished_at is None]
    so_far = ""
    if unfinished:
        since = min(row.started_at for row in unfinished)
        done, total = sum(r.items_done for r in rows), sum(r.items_total for r in rows)
        so_far = f" since {since:%Y-%m-%d %H:%M:%S %Z}, {done:,} of {total:,} items done"
    session = f" by the session with process id {pid}" if pid else ""
    return BackfillRunning(
        f"{tally.name} is being backfilled{session}{so_far}; wait until it is through, or stop it"
        " and run this again, which goes on where it was"
    )


@dataclass(frozen=True)
class _Batch:
    items: int
    rows: int
    last: bool
    written: tuple[Written, ...]
    began: float
    waited: float
    waiting: int


class _Run:
    """One run of a backfill, on the connection that alone may do it."""

    def __init__(
        self,
        connection: Connection,
        tally: Tally,
        batches: Batches,
        target_seconds: float,
        on_progress: OnProgress,
    ) -> None:
        self.connection = connection
        self.tally = tally
        self.batches = batches
        self.target_seconds = target_seconds
        self.on_progress = on_progress
        self.id = uuid.uuid4()
        self.started = time.perf_counter()
        self.wanted_rows = FIRST_ROWS
        self.count = self.items = self.rows = 0
        self.paused_seconds = 0.0
        self.written: tuple[Written, ...] = ()

    def go(self, wanted: tuple[str, ...], restart: bool) -> Backfilled:
        """Begin or go on, batch by batch, and finish."""
        self.plan = plan = self._begin(wanted, restart)
        self.written = (Written(None, 0, 0, plan.strays),) if plan.strays else ()
        for lane in self._unfinished():
            self._run_lane(lane, last_lane=lane == plan.lanes[-1])
        if plan.mode == LOAD:
            self._finish_load()
        return Backfilled(
            tally=self.tally.name,
            lanes=plan.lanes,
            resumed=plan.resumed,
            batches=self.count,
            items=self.items,
            rows=self.rows,
            seconds=time.perf_counter() - self.started,
            paused_seconds=self.paused_seconds,
            written=self.written,
            reason=plan.reason,
            consumed=plan.consumed,
            oldest_change=plan.oldest,
        )

    def _begin(self, wanted: tuple[str, ...], restart: bool) -> Plan:
        asked = Planner(self.tally, self.batches, wanted, restart, self.id)
        try:
            return self._write(asked.begin, patience=0)
        except TallyBusy:
            # Its indexes cannot be dropped while others use the table; do with it as it is.
            return self._write(dataclasses.replace(asked, strip=False).begin)

    def _write(self, work: Callable[[Connection], T], patience: float | None = None) -> T:
        return writing_on(self.connection, self.tally, lambda c, _waited: work(c), patience)

    def _unfinished(self) -> list[str]:
        """The lanes that need batches; counts what is done already."""
        with self.connection.begin():
            known = state.backfilled(self.connection, self.tally)
        mine = [known[lane] for lane in self.plan.lanes]
        self.items_before = sum(row.items_done for row in mine)
        self.items_total = sum(row.items_total for row in mine)
        return [row.lane for row in mine if row.finished_at is None]

    def _run_lane(self, lane: str, last_lane: bool) -> None:
        last = False
        while not last:
            batch = writing_on(
                self.connection, self.tally, lambda c, waited: self._batch(c, lane, waited)
            )
            seconds = time.perf_counter() - batch.began
            self.count += 1
            self.items += batch.items
            self.rows += batch.rows
            self.written = added([*self.written, *batch.written])
            self._tell(lane, batch.rows, seconds)
            self._adapt(seconds)
            last = batch.last
            if not (last and last_lane):
                self._stand_back(lane, batch, seconds)

    def _stand_back(self, lane: str, batch: _Batch, seconds: float) -> None:
        self.paused_seconds += stand_back(
            self.connection,
            waited=batch.waited,
            waiting=batch.waiting,
            batch_seconds=seconds,
            tell=lambda why: self._tell(lane, batch.rows, seconds, paused=why),
        )

    def _batch(self, connection: Connection, lane: str, waited: float) -> _Batch:
        began = time.perf_counter()
        row = self._own_row(connection, lane)
        end = walk(
            connection, self.batches.lanes[lane], row.position, self.wanted_rows, self._most()
        )
        last = end.upto is None
        computed, written = self._write_stretch(
            connection, Stretch(self.batches, lane, row.position, end.upto)
        )
        moved: dict[str, Any] = {
            "position": row.position if last else end.upto,
            "items_done": row.items_done + end.items,
            "rows": row.rows + computed,
            "updated_at": func.now(),
            "finished_at": func.now() if last else None,
        }
        connection.execute(update(state.backfills).where(*self._at(lane)).values(moved))
        if last and self.plan.mode == REPLACE:
            state.clear_reason(connection, self.tally, not_built(lane))
            if lane == self.plan.lanes[-1]:
                self._record(connection, added([*self.written, *written]))
        waiting = waiting_for_us(connection)
        return _Batch(end.items, computed, last, written, began, waited, waiting)

    def _write_stretch(
        self, connection: Connection, stretch: Stretch
    ) -> tuple[int, tuple[Written, ...]]:
        """How many rows the stretch has, and what was written."""
        loading = self.plan.mode == LOAD
        if loading:
            loaded = attempt(
                connection, partial(deferred_indexes.insert, connection, self.tally, stretch)
            )
            if loaded is not None:
                lift(connection, self.tally, stretch)
                return loaded, ((Written(None, loaded, 0, 0),) if loaded else ())
        written = rewrite(connection, self.tally, stretch, empty=loading)
        computed = sql.execute(connection, f"SELECT count(*) FROM {DESIRED_ROWS}").scalar_one()
        record_batch(connection, self.tally, written)
        return int(computed), written

    def _own_row(self, connection: Connection, lane: str) -> Row[Any]:
        """The lane's state. Raises BackfillRunning where another run has replaced it."""
        query = select(state.backfills).where(*self._at(lane), state.backfills.c.run == self.id)
        row = connection.execute(query).one_or_none()
        if row is None:
            raise BackfillRunning(
                f"{self.tally.name}: another backfill replaced this one, so it ends; what it"
                " has committed stays"
            )
        return row

    def _own(self, connection: Connection) -> None:
        for lane in self.plan.lanes:
            self._own_row(connection, lane)

    def _at(self, lane: str) -> tuple[ColumnElement[bool], ...]:
        columns = state.backfills.c
        return (columns.tally == self.tally.name, columns.lane == lane)

    def _finish_load(self) -> None:
        """Build what was dropped, and only then let the tally be read."""
        deferred_indexes.build(self.connection, self.tally, self._own, self._tell_building)

        def work(connection: Connection) -> None:
            self._own(connection)
            for lane in self.batches.lanes:
                state.clear_reason(connection, self.tally, not_built(lane))
            self._record(connection, self.written)

        self._write(work)

    def _record(self, connection: Connection, written: tuple[Written, ...]) -> None:
        """Say in the tally's state that it is built, where all of it is."""
        plan = self.plan
        whole = plan.lanes == tuple(self.batches.lanes)
        if whole or (plan.reason and not state.stale_reasons(connection, self.tally)):
            outcome = Outcome(plan.consumed, plan.oldest, written)
            record(connection, self.tally, "rebuild", plan.reason, outcome, self.started, True)

    def _most(self) -> int:
        """How many source rows a batch may look at, by what those before made of theirs."""
        per_item = max(1.0, self.rows / self.items) if self.items else 1.0
        return max(LEAST_ITEMS, math.ceil(SPARE_ITEMS * self.wanted_rows / per_item))

    def _adapt(self, seconds: float) -> None:
        factor = self.target_seconds / max(seconds, 0.001)
        wanted = self.wanted_rows * min(2.0, max(0.5, factor))
        self.wanted_rows = int(min(MOST_ROWS, max(LEAST_ROWS, wanted)))

    def _tell_building(self, what: str) -> None:
        self._tell(self.plan.lanes[-1], 0, 0.0, building=what)

    def _tell(
        self,
        lane: str,
        batch_rows: int,
        batch_seconds: float,
        *,
        paused: str | None = None,
        building: str | None = None,
    ) -> None:
        if self.on_progress is None:
            return
        seconds = time.perf_counter() - self.started
        left = self.items_total - self.items_before - self.items
        self.on_progress(
            Progress(
                tally=self.tally.name,
                lane=lane,
                lanes=self.plan.lanes,
                items_done=self.items_before + self.items,
                items_total=max(self.items_total, self.items_before + self.items),
                rows=self.rows,
                seconds=seconds,
                rows_per_second=self.rows / seconds,
                eta_seconds=max(left, 0) * seconds / self.items if self.items else None,
                batch_rows=batch_rows,
                batch_seconds=batch_seconds,
                paused=paused,
                building=building,
            )
        )

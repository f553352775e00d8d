"""Where a backfill begins: anew, or where an interrupted one was; and with which marks.

All of it is one transaction under the derived table's lock. Everything is begun anew where the
tally is stale for a reason that is no mark of a backfill: then those marks, seen in this snapshot,
give way to a mark for each lane, and the change log's rows are consumed, for each batch reads a
later snapshot and the live view reads the sources until the last lane is through.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, func, update

from tallykeeper.catalog import state
from tallykeeper.catalog.privileges import require_loader
from tallykeeper.database import sql
from tallykeeper.declarations.batches import Batches
from tallykeeper.declarations.tally import Tally
from tallykeeper.errors import TallyBusy
from tallykeeper.faults import incidents, manual_writes
from tallykeeper.installation import deferred_indexes
from tallykeeper.installation.declaration_version import require_same_declaration
from tallykeeper.maintain.derived_rows import Written, forget, record_batch
from tallykeeper.strategies.batches import count_items

LOAD, REPLACE = "load", "replace"


@dataclass(frozen=True)
class Plan:
    """What a run is about: its lanes, of which those that are finished need no more batches.

    `reason` says why the tally is stale, if it is; `strays` counts rows in no lane, which were
    deleted; `consumed` counts the change-log rows that were
    consumed, `oldest` is when the oldest of them was logged.
    """

    lanes: tuple[str, ...]
    mode: str
    resumed: bool
    reason: str | None
    strays: int = 0
    consumed: int = 0
    oldest: datetime | None = None


def not_built(lane: str) -> str:
    """The reason by which a tally is stale while a lane is not through."""
    return f"lane {lane} is not built yet"


@dataclass(frozen=True)
class Planner:
    """What was asked for: which lanes, from their start or not, by which run.

    `strip`: an empty table may lose its indexes and foreign keys while it is loaded.
    """

    tally: Tally
    batches: Batches
    wanted: tuple[str, ...]
    restart: bool
    run: uuid.UUID
    strip: bool = True

    def begin(self, connection: Connection) -> Plan:
        """Set marks and positions, in the caller's transaction, which holds the derived table.

        Raises TallyBusy, NotPermitted; or a lock timeout where the table cannot be stripped just
        now.
        """
        tally = self.tally
        require_same_declaration(connection, tally)
        reasons = state.stale_reasons(connection, tally)
        known = state.backfilled(connection, tally)
        marks = {not_built(lane): lane for lane in self.batches.lanes}
        marked = [marks[reason] for reason in reasons if reason in marks]
        reason = "; ".join(reasons) or None
        stripped = deferred_indexes.is_stripped(connection, tally)
        loading = stripped or any(known[n].mode == LOAD for n in marked if n in known)
        if loading:
            require_loader(connection, tally)
        whole = loading or self.wanted == tuple(self.batches.lanes)
        anew = any(r not in marks for r in reasons) or any(lane not in known for lane in marked)
        if anew or (self.restart and marked and whole):
            return self._anew(connection, stripped, reason)
        self._take_over(connection)
        if loading:
            # Its marks go all at once, when its indexes are there; so it is resumed as a whole.
            return Plan(tuple(self.batches.lanes), LOAD, True, reason)
        left = () if self.restart else _unfinished(known, self.wanted)
        if left:
            return Plan(left, REPLACE, True, reason)
        self._from_the_start(connection, self.wanted, REPLACE)
        strays = self._delete_strays(connection) if whole else 0
        return Plan(self.wanted, REPLACE, False, reason, strays)

    def _anew(self, connection: Connection, stripped: bool, reason: str | None) -> Plan:
        tally, lanes = self.tally, tuple(self.batches.lanes)
        edits = manual_writes.resolve(connection, tally, "rebuilt")
        incidents.record_stale(connection, tally, edits_are_known=edits is not None)
        state.clear_stale(connection, tally)
        for lane in lanes:
            state.mark_stale(connection, tally, not_built(lane))
        consumed, oldest = forget(connection, tally, "true")
        connection.execute(delete(state.backfills).where(state.backfills.c.tally == tally.name))
        mode = self._mode(connection, stripped)
        self._from_the_start(connection, lanes, mode)
        strays = self._delete_strays(connection) if mode == REPLACE else 0
        left = lanes if mode == LOAD else self.wanted
        return Plan(left, mode, False, reason, strays, consumed, oldest)

    def _delete_strays(self, connection: Connection) -> int:
        """Delete rows that lie in no lane: how many they were."""
        derived = sql.name_of(self.tally.table)
        strays = f"DELETE FROM {derived} AS d WHERE {self.batches.strays('d')}"
        deleted = sql.execute(connection, strays).rowcount
        record_batch(connection, self.tally, (Written(None, 0, 0, deleted),))
        return deleted

    def _mode(self, connection: Connection, stripped: bool) -> str:
        tally = self.tally
        if stripped:
            if not self.strip:
                raise TallyBusy(
                    f"{tally.name}: its table is half loaded, and others use it, so that it could"
                    " not be emptied to begin anew. Nothing was changed; try later"
                )
            deferred_indexes.empty(connection, tally)
            return LOAD
        if not self.strip or self.wanted != tuple(self.batches.lanes):
            return REPLACE
        derived = sql.name_of(tally.table)
        if sql.execute(connection, f"SELECT FROM {derived} LIMIT 1").first() is not None:
            return REPLACE
        return LOAD if deferred_indexes.strip(connection, tally) else REPLACE

    def _from_the_start(self, connection: Connection, lanes: Iterable[str], mode: str) -> None:
        table = state.backfills
        of_lanes = table.c.lane.in_(tuple(lanes))
        connection.execute(delete(table).where(table.c.tally == self.tally.name, of_lanes))
        rows: list[dict[str, Any]] = [
            {
                "tally": self.tally.name,
                "lane": lane,
                "items_total": count_items(connection, self.batches.lanes[lane]),
                "mode": mode,
                "run": self.run,
            }
            for lane in lanes
        ]
        connection.execute(table.insert(), rows)

    def _take_over(self, connection: Connection) -> None:
        table = state.backfills
        of_tally = update(table).where(table.c.tally == self.tally.name)
        connection.execute(of_tally.values(run=self.run, updated_at=func.now()))


def _unfinished(known: dict[str, Row[Any]], lanes: Iterable[str]) -> tuple[str, ...]:
    return tuple(lane for lane in lanes if lane in known and known[lane].finished_at is None)

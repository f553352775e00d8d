"""How an installation handles changes since the last one: refuse, repair, invalidate, record."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from tallykeeper.catalog import state
from tallykeeper.database import sql
from tallykeeper.declarations.tally import Everything, Tally
from tallykeeper.drift import dependencies
from tallykeeper.drift.differences import GRANTS, MOVED, Consequence, Drift
from tallykeeper.errors import DoesNotFit


class Drifted:
    """The differences of tallies that are installed together. Raises DoesNotFit for some."""

    def __init__(self, connection: Connection, tallies: Sequence[Tally]) -> None:
        self._tallies = list(dict.fromkeys(tallies))
        recorded = dependencies.recorded_among(connection, self._tallies)
        self.are_recorded = recorded == self._tallies
        self._unrecorded = {t.name for t in self._tallies if t not in recorded}
        self._found = dependencies.drifts(connection, recorded)
        self._known = {t.name for t in self._tallies if state.installed(connection, t) is not None}
        self._refuse(self._found)

    def concerns(self, tally: Tally) -> bool:
        """Whether something of the tally has to be installed again."""
        found = self._found.get(tally.name, ())
        return any(d.consequence is Consequence.REINSTALL and not d.repairs for d in found)

    def settle(self, connection: Connection, reinstalled: bool) -> list[str]:
        """Repair and invalidate what differed, and record how all of it is now; what was done."""
        done: list[str] = []
        for tally in self._tallies:
            found = [d for d in self._found.get(tally.name, ()) if d.is_fault]
            if found:
                # What is recorded as it is now has to be something that the SELECT can depend on.
                sql.execute(connection, f"EXPLAIN {sql.render(tally.aggregate(Everything()))}")
            for drift in found:
                for statement in drift.repairs:
                    sql.execute(connection, statement)
            done += self._marked(connection, tally, found)
        if self.are_recorded and not reinstalled and not any(self._found.values()):
            return done
        dependencies.record(connection, self._tallies)
        self._refuse(dependencies.drifts(connection, self._tallies))
        for tally in self._tallies:
            moved = any(drift.kind == MOVED for drift in self._found.get(tally.name, ()))
            if tally.name in self._known and (moved or tally.name in self._unrecorded):
                # What changed before it was recorded, or between dump and restore, nobody compared.
                state.record_written(connection, tally, [], True)
        return list(dict.fromkeys(done))

    def _marked(self, connection: Connection, tally: Tally, found: Sequence[Drift]) -> list[str]:
        """Mark the tally stale where changes may have been missed; a sentence for each."""
        if tally.name not in self._known or not found:
            return []
        for drift in found:
            if drift.consequence is Consequence.STALE:
                state.mark_stale(connection, tally, str(drift))
        broken = [d for d in found if d.consequence is not Consequence.STALE]
        # Rights are closed by every installation, which says nothing of it either.
        done = [f"repaired {drift}" for drift in broken if drift.kind != GRANTS]
        missed = any(drift.missed for drift in broken)
        if missed and not set(state.stale_reasons(connection, tally)) & set(state.FAULTS):
            state.mark_stale(connection, tally, state.CAPTURE_REPAIRED)
        if missed:
            state.clear_reason(connection, tally, dependencies.CAPTURE_BROKEN)
        elif any(drift.of_hand for drift in broken):
            state.record_written(connection, tally, [], True)
        if any(drift.missed for drift in found):
            done.append(f"{tally.name} is stale: changes may have been missed")
        return done

    def _refuse(self, found: dict[str, list[Drift]]) -> None:
        refused = [d for drifts in found.values() for d in drifts]
        refused = [d for d in refused if d.consequence is Consequence.REFUSE]
        if refused:
            said = "; ".join(dict.fromkeys(str(drift) for drift in refused))
            raise DoesNotFit(
                f"what tallies depend on cannot be kept exact: {said}. Nothing was changed"
            )

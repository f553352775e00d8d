"""Why a derived table may differ from its sources: what the database still shows of it.

Asked when a difference was found, before anything is mended. A cause is told only where there is
evidence for it; without any there is None, and nobody guesses.
"""

from __future__ import annotations

from datetime import UTC

from sqlalchemy import Connection, func, select

from tallies import state
from tallies.status import faults_of
from tallies.tally import Tally

MOST_TOLD = 3


def likely_cause(connection: Connection, tally: Tally) -> str | None:
    """The evidence there is for why `tally` differs, in one sentence; None: there is none."""
    told = [*_broken_capture(connection, tally), *_hand_edits(connection, tally)]
    if not told:
        return None
    more = f"; and {len(told) - MOST_TOLD} more" if len(told) > MOST_TOLD else ""
    return "; ".join(told[:MOST_TOLD]) + more


def _broken_capture(connection: Connection, tally: Tally) -> list[str]:
    return [str(fault) for fault in faults_of(connection, tally) if not fault.of_hand]


def _hand_edits(connection: Connection, tally: Tally) -> list[str]:
    """Who wrote the derived table by hand since all of it was last found right."""
    edits = state.hand_edits.c
    if not state.is_there(connection, state.hand_edits):
        return []
    rows = connection.execute(
        select(
            edits.operation,
            edits.role,
            edits.application,
            func.count().label("times"),
            func.max(edits.at).label("last"),
        )
        .where(edits.tally == tally.name)
        .group_by(edits.operation, edits.role, edits.application)
        .order_by(func.max(edits.at).desc())
    )
    return [
        f"edited by hand: {row.operation} by {row.role}"
        + (f" through {row.application}" if row.application else "")
        + (f", {row.times} times, the last" if row.times > 1 else "")
        + f" at {row.last.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        for row in rows
    ]

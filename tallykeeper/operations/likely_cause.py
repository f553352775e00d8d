"""Why a derived table may differ from its sources: what the database still shows of it.

Asked when a difference was found, before anything is resolved. A cause is named only where there is
evidence for it; without any there is None, and nobody guesses.
"""

from __future__ import annotations

from sqlalchemy import Connection

from tallykeeper.declarations.tally import Tally
from tallykeeper.faults import manual_writes
from tallykeeper.maintain.status import faults_of

MOST_CAUSES = 3


def likely_cause(connection: Connection, tally: Tally) -> str | None:
    """The evidence there is for why `tally` differs, in one sentence; None: there is none."""
    causes = [*_broken_capture(connection, tally), *manual_writes.sentences(connection, tally)]
    if not causes:
        return None
    more = f"; and {len(causes) - MOST_CAUSES} more" if len(causes) > MOST_CAUSES else ""
    return "; ".join(causes[:MOST_CAUSES]) + more


def _broken_capture(connection: Connection, tally: Tally) -> list[str]:
    return [str(fault) for fault in faults_of(connection, tally) if not fault.of_hand]

"""When a backfill stands back between two batches: other users of the database come first.

Three signs: it waited for its own locks, others waited for what it held, a replica falls behind.
Nothing is asked of the server that an ordinary role may not see; what it may not see counts as
nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlalchemy import Connection

from tallykeeper.database import sql

PATIENT_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 10.0
MOST_LAG_SECONDS = 10.0
LOOK_AT_LAG_SECONDS = 1.0

# Null where there is no replica, where all are up to date, and to whom it is not shown.
LAG = "SELECT max(extract(epoch FROM replay_lag)) FROM pg_stat_replication"
WAITING = (
    "SELECT count(DISTINCT pid) FROM pg_locks"
    " WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))"
)


def waiting_for_us(connection: Connection) -> int:
    """How many sessions wait for locks that the open transaction holds."""
    return int(sql.execute(connection, WAITING).scalar_one())


def stand_back(
    connection: Connection,
    *,
    waited: float,
    waiting: int,
    batch_seconds: float,
    tell: Callable[[str], None],
) -> float:
    """Pause after a batch as long as need be; the seconds that it took.

    `waited` is how long the batch waited for its locks, `waiting` how many waited for it; `tell` is
    called with the reason before each pause.
    """
    paused = 0.0
    if waiting:
        # They waited for up to as long as the batch took, and may have as much to do.
        who = "another session" if waiting == 1 else f"{waiting} other sessions"
        paused += _pause(batch_seconds, f"{who} waited for the last batch", tell)
    elif waited > PATIENT_SECONDS:
        paused += _pause(waited, f"the last batch waited {waited:.1f} s for its locks", tell)
    while (lag := _lag(connection)) > MOST_LAG_SECONDS:
        paused += _pause(LOOK_AT_LAG_SECONDS, f"a replica is {lag:,.0f} s behind", tell)
    return paused


def _pause(seconds: float, why: str, tell: Callable[[str], None]) -> float:
    tell(why)
    started = time.perf_counter()
    time.sleep(min(max(seconds, PATIENT_SECONDS), LONGEST_PAUSE_SECONDS))
    return time.perf_counter() - started


def _lag(connection: Connection) -> float:
    with connection.begin():
        return float(sql.execute(connection, LAG).scalar() or 0)

"""The rolling audit: every key of a tally is compared with its sources again and again.

A round compares all keys, a few stretches at each hourly check, so that it takes at most
`ROUND` and no hour much. Each key is compared at least once within two rounds, which together
take less than a day. What a stretch finds to differ is compared again by the next verify, as
anything that differed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, Row, exists, func, select

from tallykeeper.catalog import state
from tallykeeper.declarations.tally import Tally
from tallykeeper.maintain import audit_rounds
from tallykeeper.maintain.stretches import Size, Stretch
from tallykeeper.maintain.verify import (
    SHOWN_DIFFERENCES,
    Seen,
    Verification,
    combined,
    compare_stretch,
    conclude,
)

HOUR = timedelta(hours=1)
ROUND = timedelta(hours=10)
# What is later than this is a fault: each key was to be compared within it.
LATEST = timedelta(hours=24)
# A round that takes no more than this is made anew every hour.
CHEAP_SECONDS = 5.0
CHEAP_EVERY = timedelta(minutes=45)
# What a check may spend on it: a twentieth of an hour for all tallies of a system together. Of a
# tally that is late by more than this share of its round more, up to half an hour.
MOST_SECONDS = HOUR.total_seconds() / 20
LATE = 0.2
MOST_LATE_SECONDS = HOUR.total_seconds() / 2


@dataclass(frozen=True)
class Audit:
    """How the audit of a tally stands as of `as_of`.

    `compared_since`: since then every key has been compared; None before the first complete round.
    `started_at`, `done` and `complete_by` are of the round under way; None where none is.
    """

    compared_since: datetime | None
    compared_at: datetime | None
    started_at: datetime | None
    done: float | None
    as_of: datetime

    @property
    def complete_by(self) -> datetime | None:
        """When the round under way is due to be complete."""
        return None if self.started_at is None else self.started_at + ROUND


@dataclass(frozen=True)
class Audited:
    """What one turn of the audit did: what it found, which stretches it compared, what is left.

    `found` is None where nothing was due, or the tally is stale.
    """

    found: Verification | None
    stretches: tuple[str, ...]
    audit: Audit | None


def audit(engine: Engine, tally: Tally, limit: int = SHOWN_DIFFERENCES) -> Audited:
    """Compare the stretches that are due by now, each in a snapshot of its own.

    Goes on where the last turn was. A round that is late has more of them compared. Nothing is
    done before `tally migrate` has made a place for what is known of it.

    Raises NotInstalled, or SQLAlchemy's errors.
    """
    parts: list[Verification] = []
    stretches: list[str] = []
    known = _begun(engine, tally)
    while known is not None and _is_due(tally, known, sum(p.seconds for p in parts)):
        stretch, found = compare_stretch(
            engine, tally, known.along, known.position, known.rows, limit
        )
        if stretch is None:
            break
        size = audit_rounds.size_of(known).after(found.seconds, stretch.upto is None)
        moved = _record(engine, tally, known, stretch, found, size)
        parts.append(found)
        stretches.append(stretch.in_words)
        # Where it did not move, another session is at it, or nothing can be proven.
        known = _read(engine, tally) if moved and stretch.upto is not None else None
    result = combined(parts, limit, whole=False) if parts else None
    with engine.connect() as connection:
        return Audited(result, tuple(stretches), audit_of(connection, tally))


def audit_of(connection: Connection, tally: Tally) -> Audit | None:
    """How the audit of the tally stands; None where nothing is known of it."""
    known = audit_rounds.read(connection, tally)
    if known is None:
        return None
    return Audit(
        compared_since=known.compared_since,
        compared_at=known.compared_at,
        started_at=known.started_at,
        done=None if known.started_at is None else _done(known),
        as_of=known.now,
    )


def late(connection: Connection) -> dict[str, datetime]:
    """The tallies of which not every key was compared within `LATEST`, and since when all was.

    Of one that is stale there is nothing to compare, and of one whose first round never began
    nothing is known yet.
    """
    if not state.is_there(connection, state.audits):
        return {}
    since = func.coalesce(state.audits.c.compared_since, state.audits.c.started_at)
    is_stale = exists().where(state.stale_marks.c.tally == state.audits.c.tally)
    found = select(state.audits.c.tally, since.label("since")).where(
        since < func.now() - LATEST, ~is_stale
    )
    return {row.tally: row.since for row in connection.execute(found)}


def _begun(engine: Engine, tally: Tally) -> Row[Any] | None:
    """The round under way, begun where it is time for one; None where it is not."""
    known = _read(engine, tally)
    if known is not None:
        if known.started_at is not None:
            return known
        if not _is_time(known):
            return None
    with engine.begin() as connection:
        if not state.is_there(connection, state.audits):
            return None
        audit_rounds.begin(connection, tally)
    return _read(engine, tally)


def _read(engine: Engine, tally: Tally) -> Row[Any] | None:
    with engine.connect() as connection:
        return audit_rounds.read(connection, tally)


def _is_time(known: Row[Any]) -> bool:
    """Whether a new round is to begin."""
    if known.compared_since is None:
        return True
    cheap = (known.compared_seconds or 0.0) <= CHEAP_SECONDS
    return bool(known.now - known.compared_since >= (CHEAP_EVERY if cheap else ROUND))


def _done(known: Row[Any]) -> float:
    """Which share of all keys the round under way has compared; never all before its end."""
    total = max(known.compared_keys or 0, known.table_rows or 0, 1)
    return min(float(known.keys) / total, 0.99)


def _is_due(tally: Tally, known: Row[Any], spent: float) -> bool:
    """Whether another stretch is to be compared at this turn, which has spent so many seconds."""
    if known.started_at is None:
        return False
    # What is to be done by the next turn.
    due = min((known.now - known.started_at + HOUR) / ROUND, 1.0)
    behind = due - _done(known)
    if behind <= 0:
        return False
    if behind > LATE:
        return bool(spent < max(MOST_SECONDS, MOST_LATE_SECONDS * behind))
    return spent < MOST_SECONDS / len(tally.siblings)


def _record(
    engine: Engine,
    tally: Tally,
    known: Row[Any],
    stretch: Stretch,
    found: Verification,
    size: Size,
) -> bool:
    """Remember what the stretch found and that it was compared; False where it was already."""
    with engine.begin() as connection:
        if found.faults:
            moved = False
        elif stretch.upto is None:
            moved = audit_rounds.finish(connection, tally, known, found)
        else:
            moved = audit_rounds.advance(
                connection, tally, known, stretch.axis.name, stretch.upto, found
            )
        audit_rounds.resize(connection, tally, size)
        if found.differing:
            conclude(connection, tally, found, Seen())
    return moved

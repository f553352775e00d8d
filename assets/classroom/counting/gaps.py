"""How long things took: the gaps between the events of a submission, and what is made of them.

A *gap* is the time between two consecutive events of a submission, by the server's clock, and by
id where that shows no difference. It belongs to the event that ends it. An *edit gap* is the time
from one edit to the next, and an *attempt gap* from one attempt to the next, whatever happened
between them. Invariants: all is computed in whole milliseconds, so that two computations of the
same log agree to the last digit.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Numeric,
    case,
    cast,
    extract,
    func,
    select,
)

from assets.classroom import tables
from assets.classroom.counting import events

log = tables.submission_log

PERCENTILES = {"median_edit_ms": 0.5, "p90_edit_ms": 0.9}
"""Of the edit gaps: the shortest that at least this part of them does not exceed."""


def _milliseconds(instant: ColumnElement[Any]) -> ColumnElement[int]:
    """Whole milliseconds since 1970, rounded down; null for no instant, and for the ends of time.

    Exact, and unlike the difference of two instants without an end to what it can hold.
    """
    elapsed = cast(func.floor(extract("epoch", instant) * 1000), BigInteger)
    return case((func.isfinite(instant), elapsed))


def _gaps() -> FromClause:
    """Each event of the log, and how long it came after those before it of its submission.

    gap = ms(event) - ms(event before), by the server's time, of those at one instant by id;
    since_edit of an edit likewise, from the edit before, and since_attempt of an attempt; null
    where there is none before.
    """
    at = log.c.date_created
    happened = events.happened(log.c)

    def since(before: Any, **frame: Any) -> ColumnElement[Any]:
        order = (log.c.date_created, log.c.id)
        instant = before.over(partition_by=log.c.submission_id, order_by=order, **frame)
        return _milliseconds(at) - _milliseconds(instant)

    def since_last(kind: str) -> ColumnElement[Any]:
        # In this order the latest instant before is that of the last event before.
        between = since(func.max(at).filter(happened[kind]), rows=(None, -1))
        return case((happened[kind], between))

    return select(
        log.c.submission_id,
        *(what.label(name) for name, what in happened.items()),
        since(func.lag(at)).label("gap"),
        since_last("edits").label("since_edit"),
        since_last("attempts").label("since_attempt"),
    ).subquery("gaps")


def totals(idle_ms: int) -> FromClause:
    """The figures of each submission that has events."""
    gaps = _gaps()
    gap, edit, attempt = gaps.c.gap, gaps.c.edits, gaps.c.attempts
    between_edits, between_attempts = gaps.c.since_edit, gaps.c.since_attempt

    def total(value: ColumnElement[Any]) -> ColumnElement[Any]:
        return cast(func.coalesce(value, 0), BigInteger)

    counts = (func.count().filter(gaps.c[name]).label(name) for name in events.happened(log.c))
    percentiles = (
        total(func.percentile_disc(fraction).within_group(between_edits).filter(edit)).label(name)
        for name, fraction in PERCENTILES.items()
    )
    return (
        select(
            gaps.c.submission_id,
            *counts,
            func.count(between_edits).filter(edit).label("edit_gaps"),
            total(func.sum(between_edits).filter(edit)).label("edit_ms"),
            # As numeric: the square of five weeks in milliseconds is too long for a bigint.
            func.coalesce(
                func.sum(cast(between_edits, Numeric) * between_edits).filter(edit),
                0,
            ).label("edit_ms_squared"),
            *percentiles,
            func.count(between_attempts).filter(attempt).label("attempt_gaps"),
            total(func.sum(between_attempts).filter(attempt)).label("attempt_ms"),
            # The first event has no gap, which LEAST would take for the threshold.
            total(func.sum(func.least(gap, idle_ms)).filter(gap.is_not(None))).label(
                "time_spent_ms"
            ),
            func.count(gap).filter(edit).label("before_edit_gaps"),
            total(func.sum(gap).filter(edit)).label("before_edit_ms"),
            func.count(gap).filter(attempt).label("before_attempt_gaps"),
            total(func.sum(gap).filter(attempt)).label("before_attempt_ms"),
        )
        .group_by(gaps.c.submission_id)
        .subquery("totals")
    )

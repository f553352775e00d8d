"""A submission's counts the way they were kept by hand: fetch its log, count in Python, write.

What the classroom's tallies are compared with. It counts what they count, so that both can be
asserted to agree.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import psycopg

from assets.classroom import tables
from assets.classroom.counting import events
from assets.classroom.settings import idle_seconds
from tallykeeper.database import sql

COUNTERS = "bench.counters"
FIGURES = (
    *("runs", "edits", "attempts", "syntax_errors", "runtime_errors", "failed_instructor_tests"),
    *("edit_gaps", "edit_ms", "edit_ms_squared", "median_edit_ms", "p90_edit_ms"),
    *("attempt_gaps", "attempt_ms", "time_spent_ms"),
    *("before_edit_gaps", "before_edit_ms", "before_attempt_gaps", "before_attempt_ms"),
)
_LOG = (
    "SELECT event_type, category, label, date_created"
    f" FROM {sql.name_of(tables.submission_log)} WHERE submission_id = %s"
    " ORDER BY date_created, id"
)
_WRITE = (
    f"INSERT INTO {COUNTERS} (submission_id, {', '.join(FIGURES)})"
    f" VALUES ({', '.join(['%s'] * (1 + len(FIGURES)))}) ON CONFLICT (submission_id) DO UPDATE"
    f" SET {', '.join(f'{name} = EXCLUDED.{name}' for name in FIGURES)}"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def recalculate(connection: psycopg.Connection[Any], submissions: Iterable[int]) -> None:
    """Fetch, count and write each submission; one transaction around all, which favours it."""
    with connection.transaction():
        for submission in submissions:
            log = connection.execute(_LOG, [submission]).fetchall()
            connection.execute(_WRITE.encode(), [submission, *counted(log)])


def counted(log: list[tuple[Any, ...]]) -> list[int]:
    """The figures of a log in order: rows of event type, category, label, time."""
    kinds = [0] * 6
    edit_gaps: list[int] = []
    attempt_gaps: list[int] = []
    before_edits: list[int] = []
    before_attempts: list[int] = []
    last_edit: int | None = None
    last_attempt: int | None = None
    time_spent, before, idle = 0, None, 1000 * idle_seconds()
    for event_type, category, label, created in log:
        is_run, is_edit = event_type in events.RUNS, event_type in events.EDITS
        is_attempt = event_type in events.ATTEMPTS
        said = ((category or "").lower(), (label or "").lower())
        errors = (_is_error(event_type, said, kind) for kind in events.ERRORS.values())
        kinds = [n + k for n, k in zip(kinds, (is_run, is_edit, is_attempt, *errors), strict=True)]
        at = _milliseconds(created)
        if before is not None:
            gap = at - before
            time_spent += min(gap, idle)
            if is_edit:
                before_edits.append(gap)
            if is_attempt:
                before_attempts.append(gap)
        if is_edit:
            edit_gaps += [] if last_edit is None else [at - last_edit]
            last_edit = at
        if is_attempt:
            attempt_gaps += [] if last_attempt is None else [at - last_attempt]
            last_attempt = at
        before = at
    return [
        *kinds,
        *(len(edit_gaps), sum(edit_gaps), sum(g * g for g in edit_gaps)),
        *(_percentile(edit_gaps, 0.5), _percentile(edit_gaps, 0.9)),
        *(len(attempt_gaps), sum(attempt_gaps), time_spent),
        *(len(before_edits), sum(before_edits), len(before_attempts), sum(before_attempts)),
    ]


def _milliseconds(moment: datetime) -> int:
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000


def _is_error(event_type: str, said: tuple[str, str], kind: events.Kind) -> bool:
    if event_type in kind.events:
        return True
    if event_type in events.FEEDBACK:
        return any(word in text for word in kind.words for text in said)
    results = [result.lower() for result in kind.results]
    return event_type in events.RUNS and any(text in results for text in said)


def _percentile(gaps: list[int], fraction: float) -> int:
    return sorted(gaps)[math.ceil(fraction * len(gaps)) - 1] if gaps else 0

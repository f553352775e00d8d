"""Writes of derived tables that are not the engine's: who did them, as incidents.

The triggers in `derived_triggers.py` note them in `hand_edits`, make the tally stale or its keys
pending in the same statement, and write nothing else, so that no application waits for another one
there. Here the notes become an incident: opened by whatever looks first, and resolved by what
writes the table anew. Invariant: no note is deleted without an incident that says what it said.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select, text

from tallykeeper.catalog import state
from tallykeeper.dagster_names import asset_address
from tallykeeper.database import sql
from tallykeeper.declarations.tally import Tally
from tallykeeper.faults import incidents
from tallykeeper.faults.incidents import Incident

# As JSON: what an earlier release made has no column for the number of rows yet.
_NOTES = """
SELECT e.tally, e.operation, e.role, e.application, count(*) AS times, min(e.at) AS first,
  max(e.at) AS last, sum((to_jsonb(e) ->> 'rows')::bigint) AS touched
FROM {} AS e WHERE e.tally = ANY (:tallies)
GROUP BY e.tally, e.operation, e.role, e.application ORDER BY max(e.at) DESC, e.operation
"""
_TABLE = sql.name_of(state.hand_edits)


def sentences(connection: Connection, tally: Tally) -> list[str]:
    """Who wrote the derived table past the engine since it was last written anew, latest first."""
    return [_sentence(note) for note in _notes(connection, [tally.name], _TABLE)]


def look(connection: Connection, tallies: Sequence[str]) -> set[int]:
    """Open an incident for each tally that was written by hand; the ids of those with news.

    One that is open is counted where there is more to say, and resolved where nothing is noted
    any more, because the table was written anew.
    """
    by_tally: dict[str, list[Row[Any]]] = {}
    for note in _notes(connection, tallies, _TABLE):
        by_tally.setdefault(note.tally, []).append(note)
    known = {
        incident.subject: incident
        for incident in incidents.listed(connection, open_only=True, limit=10_000)
        if incident.kind == incidents.EDITED and incident.subject in tallies
    }
    found = set()
    for tally, notes in by_tally.items():
        what = _what(notes)
        if tally not in known or known[tally].what != what:
            found.add(_report(connection, tally, what).id)
    for tally in known.keys() - by_tally.keys():
        incidents.resolve(connection, tally, incidents.EDITED, "a refresh wrote it anew")
    return found


def resolve(
    connection: Connection, tally: Tally, by: str, only: Sequence[Row[Any]] | None = None
) -> Incident | None:
    """Delete the notes that the snapshot sees, and have the incident say `by` what it is right.

    `only` are the places and writers of some of them; of what is noted besides the incident stays
    open. None where nothing is noted.
    """
    if not state.is_there(connection, state.hand_edits):
        return None
    condition = "e.tally = :tally"
    values: dict[str, Any] = {"tally": tally.name}
    if only is not None:
        condition += (
            " AND (e.ctid::text, e.xmin::text) IN"
            " (SELECT * FROM unnest(CAST(:places AS text[]), CAST(:writers AS text[])))"
        )
        values |= {"places": [o.place for o in only], "writers": [o.writer for o in only]}
    deleted = "(SELECT * FROM deleted)"
    notes = connection.execute(
        text(
            f"WITH deleted AS (DELETE FROM {_TABLE} AS e WHERE {condition} RETURNING e.*)"
            + _NOTES.format(deleted)
        ),
        {**values, "tallies": [tally.name]},
    ).all()
    if not notes:
        return None
    what = _what(notes)
    open_one = incidents.open_of(connection, tally.name, incidents.EDITED)
    left = _notes(connection, [tally.name], _TABLE)
    if open_one is None or left:
        first: datetime = min(note.first for note in notes)
        if open_one is not None and open_one.what != _what(left):
            _report(connection, tally.name, _what(left))
        return incidents.record_resolved(
            connection, tally.name, incidents.EDITED, what, by, found_at=first
        )
    if open_one.what != what:
        _report(connection, tally.name, what)
    # It may have been found while this transaction, begun before, waited for its locks.
    begun: datetime = connection.execute(select(func.now())).scalar_one()
    at = max(begun, open_one.last_found_at)
    return incidents.resolve(connection, tally.name, incidents.EDITED, by, at=at)


def _notes(connection: Connection, tallies: Sequence[str], relation: str) -> Sequence[Row[Any]]:
    if not state.is_there(connection, state.hand_edits):
        return []
    return connection.execute(text(_NOTES.format(relation)), {"tallies": list(tallies)}).all()


def _report(connection: Connection, tally: str, what: str) -> Incident:
    details = {"asset": asset_address(tally), "to_resolve": f"tally refresh {tally}"}
    return incidents.report(connection, tally, incidents.EDITED, what, details=details)


def _what(notes: Sequence[Row[Any]]) -> str:
    return "; ".join(_sentence(note) for note in notes)


def _sentence(note: Row[Any]) -> str:
    of = ""
    if note.touched is not None:
        # What a rolled back savepoint wrote is counted too; TRUNCATE has the refresh's own number.
        most = "" if note.operation == "TRUNCATE" or not note.touched else "up to "
        of = f" of {most}{note.touched:,} {'row' if note.touched == 1 else 'rows'}"
    return (
        f"{state.EDITED}{note.operation}{of} by {note.role}"
        + (f" through {note.application}" if note.application else "")
        + (f", in {note.times:,} transactions, the last" if note.times > 1 else "")
        + f" at {note.last.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    )

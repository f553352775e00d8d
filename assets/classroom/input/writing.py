"""Events in order, written to the log: which are known, what that leaves to write, and the ids.

The events are those of `staging.py`, their submissions those of `entities.py`. Invariants:
- Which row of the log is which event of an input stands in a table of Tallykeeper's own, for the
  log has no column for it. A known event whose row is missing from the log is written anew.
- What a known event left open is filled in; nothing else that is in the log is changed.
- No statement looks at more of the log than the chunk's own events, however long it is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)

from assets.classroom import tables
from assets.classroom.input.entities import WORKS, one_load_at_a_time, resolve
from assets.classroom.input.staging import EVENTS
from tallykeeper.catalog import state
from tallykeeper.database import sql

loaded = Table(
    "classroom_loaded_events",
    MetaData(schema=sql.ENGINE_SCHEMA),
    Column("submission_id", BigInteger),
    Column("event_id", Text),
    Column("log_id", BigInteger, nullable=False, comment="the row of the log"),
    PrimaryKeyConstraint("submission_id", "event_id"),
    comment="Which events of inputs were loaded into the classroom's log.",
)

_CHUNK = "tallykeeper_chunk"
_FILLED = ["category", "label", "message", "file_path"]

# OFFSET 0: looked up event by event. A join might read all of the log for each chunk.
_FIND = f"""
CREATE TEMPORARY TABLE {_CHUNK} ON COMMIT DROP AS
SELECT e.*, w.submission_id, w.assignment_id, w.course_id, w.user_id, l.id AS log_id,
  l.event_type = e.event_type AND l.date_created = e.at
    AND {" AND ".join(f"coalesce(l.{c} = e.{c}, true)" for c in _FILLED)}
    AND coalesce(l.client_timestamp = e.client_at, true) AS fits,
  {" OR ".join(f"(l.{c} IS NULL AND e.{c} IS NOT NULL)" for c in _FILLED)}
    OR (l.client_timestamp IS NULL AND e.client_at IS NOT NULL) AS fills
FROM {EVENTS} AS e
JOIN {WORKS} AS w ON w.work = e.work
LEFT JOIN LATERAL (
  SELECT log_id FROM {{loaded}} AS k
  WHERE k.submission_id = w.submission_id AND k.event_id = e.event_id OFFSET 0
) AS k ON true
LEFT JOIN LATERAL (
  SELECT * FROM {{log}} AS l WHERE l.id = k.log_id AND l.submission_id = w.submission_id OFFSET 0
) AS l ON true
WHERE e.n BETWEEN :first AND :last
"""
# Rows that are inserted in order get ascending ids: so the r-th smallest is that of the r-th event.
_INSERT = f"""
WITH missing AS MATERIALIZED (
  SELECT *, row_number() OVER (ORDER BY n) AS r FROM {_CHUNK} WHERE log_id IS NULL
), written AS (
  INSERT INTO {{log}} (submission_id, assignment_id, course_id, subject_id, event_type, category,
    label, message, file_path, client_timestamp, date_created)
  SELECT submission_id, assignment_id, course_id, user_id, event_type, category,
    label, message, file_path, client_at, at
  FROM missing ORDER BY n
  RETURNING id
)
INSERT INTO {{loaded}} AS k (submission_id, event_id, log_id)
SELECT m.submission_id, m.event_id, w.id
FROM missing AS m JOIN (SELECT id, row_number() OVER (ORDER BY id) AS r FROM written) AS w USING (r)
ON CONFLICT (submission_id, event_id) DO UPDATE SET log_id = excluded.log_id
"""
_FILL = f"""
UPDATE {{log}} AS l SET ({", ".join(_FILLED)}, client_timestamp) = (
  {", ".join(f"coalesce(l.{c}, c.{c})" for c in _FILLED)}, coalesce(l.client_timestamp, c.client_at)
)
FROM {_CHUNK} AS c WHERE l.id = c.log_id AND c.fits AND c.fills
"""
_CONTRADICT = f"""
SELECT line, log_id, to_jsonb(c) - '{{n,work,line,fits,fills,log_id}}'::text[] AS row
FROM {_CHUNK} AS c WHERE NOT fits ORDER BY line
"""


@dataclass(frozen=True)
class Written:
    """What became of a chunk: how many were inserted, how many filled in, and those rejected."""

    inserted: int
    changed: int
    rejected: list[tuple[int, str, str]]


def prepare(connection: Connection, _again: bool) -> None:
    """Make what the events need that is not there: users, courses, assignments, submissions.

    And the table of events that were loaded.
    """
    one_load_at_a_time(connection)
    state.create(connection)
    loaded.create(connection, checkfirst=True)
    resolve(connection)


def write_chunk(connection: Connection, first: int, last: int, again: bool) -> Written:
    """Write the events numbered from `first` to `last`, in the connection's transaction.

    `again` says that the last attempt failed, perhaps because somebody deleted a submission since
    `prepare`.
    """
    one_load_at_a_time(connection)
    if again:
        resolve(connection)
    names = {"log": _name(connection, tables.submission_log), "loaded": _name(connection, loaded)}
    connection.execute(text(_FIND.format(**names)), {"first": first, "last": last})
    inserted = connection.exec_driver_sql(_INSERT.format(**names)).rowcount
    changed = connection.exec_driver_sql(_FILL.format(**names)).rowcount
    rejected = [
        (
            each.line,
            "an event of this submission with this id was loaded before, and says something else"
            f" (row {each.log_id} of {tables.submission_log.fullname})",
            json.dumps(each.row, ensure_ascii=False),
        )
        for each in connection.exec_driver_sql(_CONTRADICT)
    ]
    return Written(inserted, changed, rejected)


def _name(connection: Connection, table: Table) -> str:
    return connection.dialect.identifier_preparer.format_table(table)

"""An input's events in temporary tables: gathered, distinguished by their ids, and put in order.

Events come in any order, and of those at one instant the log tells the order by id. So all are
gathered before the first is written: then they get ids in the order in which things happened, one
submission after the other. Invariants: the tables are the connection's own, and nothing
of the application's is read or written here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, text

from assets.classroom.input.entities import ROLES, WORKS, find_works
from assets.classroom.input.fields import Event
from tallykeeper.input.loading import copy_rows

EVENTS = "tallykeeper_loaded_events"
"""The events in order, numbered by `n` from 1; `work` is the row of `WORKS` that each is of."""

_STAGED = "tallykeeper_staged_events"
_COLUMNS = {
    "number": "bigint",
    "line": "bigint",
    "place": "bigint",
    "course": "text",
    "group": "text",
    "assignment": "text",
    "subject": "text",
    "event_id": "text",
    "event_type": "text",
    "category": "text",
    "label": "text",
    "message": "text",
    "file_path": "text",
    "client_at": "timestamptz",
    "at": "timestamptz",
}
# What an event says, apart from where it stands.
_SAID = [name for name in _COLUMNS if name not in {"number", "line", "place"}]
_QUOTED = {name: f'"{name}"' for name in _COLUMNS}


def _row(alias: str) -> str:
    return f"ROW({', '.join(f'{alias}.{_QUOTED[name]}' for name in _SAID)})"


def _same(left: str, right: str) -> str:
    works = ("course", '"group"', "assignment", "subject")
    return " AND ".join(f"{left}.{name} = {right}.{name}" for name in works)


_CREATE = f"""
CREATE TEMPORARY TABLE {_STAGED} (
  {", ".join(f"{_QUOTED[name]} {type_}" for name, type_ in _COLUMNS.items())}
)
"""
_WORK = 'course, "group", assignment, subject'
# An id that a submission uses again for another time or name is not the same event's. Its second
# event gets an id made of these, so that the next load of the same input knows it.
_KEEP_APART = f"""
WITH firsts AS (
  SELECT {_WORK}, event_id, min(number) AS number FROM {_STAGED}
  GROUP BY {_WORK}, event_id HAVING count(*) > 1
)
UPDATE {_STAGED} AS s
SET event_id = s.event_id || '@' || md5(s.event_type || ' ' || extract(epoch FROM s.at))
FROM firsts AS f JOIN {_STAGED} AS k ON k.number = f.number
WHERE {_same("s", "f")} AND s.event_id = f.event_id AND s.number > f.number
  AND (s.event_type, s.at) IS DISTINCT FROM (k.event_type, k.at)
"""
# Of several events with one id the first one stays; the others say the same, or are rejected.
_TAKE_OUT = f"""
WITH firsts AS (
  SELECT {_WORK}, event_id, min(number) AS number FROM {_STAGED}
  GROUP BY {_WORK}, event_id HAVING count(*) > 1
), repeated AS (
  DELETE FROM {_STAGED} AS s USING firsts AS f, {_STAGED} AS k
  WHERE {_same("s", "f")} AND s.event_id = f.event_id AND s.number > f.number
    AND k.number = f.number
  RETURNING s.*, k.line AS first_line, {_row("s")} IS NOT DISTINCT FROM {_row("k")} AS same
)
SELECT NULL AS line, NULL AS first_line, count(*) AS events, NULL AS row FROM repeated WHERE same
UNION ALL
SELECT line, first_line, 1, to_jsonb(repeated) - '{{number,place,line,first_line,same}}'::text[]
FROM repeated WHERE NOT same
ORDER BY line NULLS FIRST
"""
_ORDER = f"""
CREATE TEMPORARY TABLE {EVENTS} AS
SELECT row_number() OVER (ORDER BY w.work, s.at, s.place, s.number) AS n, w.work, s.line,
  s.event_id, s.event_type, s.category, s.label, s.message, s.file_path, s.client_at, s.at
FROM {_STAGED} AS s JOIN {WORKS} AS w USING (course, "group", assignment, subject)
ORDER BY n
"""

Rejected = tuple[int, str, str]
"""Line, reason, and what the row said."""


def create(connection: Connection) -> None:
    """The tables that events and roles are gathered in."""
    connection.exec_driver_sql(_CREATE)
    connection.exec_driver_sql(f"CREATE TEMPORARY TABLE {ROLES} (subject text, role text)")


def gather_roles(connection: Connection, roles: Iterable[tuple[str, str]]) -> None:
    """Add subjects with a role that they have."""
    copy_rows(connection, ROLES, ["subject", "role"], dict.fromkeys(roles))


def gather(connection: Connection, events: Sequence[Event], before: int) -> None:
    """Add events; `before` is how many there are."""
    rows = (_values(number, event) for number, event in enumerate(events, start=before + 1))
    copy_rows(connection, _STAGED, list(_COLUMNS), rows)


def keep_apart(connection: Connection) -> int:
    """Give events that share an id, but not time and name, ids of their own; returns how many."""
    connection.exec_driver_sql(f"ANALYZE {_STAGED}")
    return connection.exec_driver_sql(_KEEP_APART).rowcount


def take_out_repeated(connection: Connection) -> tuple[int, Iterable[Rejected]]:
    """Leave of each event id of a submission the first event.

    Returns how many of the others say the same, and those that say something else.
    """
    same, *others = connection.execute(text(_TAKE_OUT)).all()
    return same.events, [
        (
            each.line,
            f"the event id is already that of line {each.first_line}, which says something else",
            json.dumps(each.row, ensure_ascii=False),
        )
        for each in others
    ]


def put_in_order(connection: Connection) -> int:
    """Make the tables `EVENTS` and `WORKS` of what was gathered; returns how many events."""
    find_works(connection, _STAGED)
    connection.exec_driver_sql(_ORDER)
    connection.exec_driver_sql(f"DROP TABLE {_STAGED}")
    connection.exec_driver_sql(f"CREATE UNIQUE INDEX ON {EVENTS} (n)")
    connection.exec_driver_sql(f"ANALYZE {EVENTS}")
    return connection.exec_driver_sql(f"SELECT count(*) FROM {EVENTS}").scalar_one()


def _values(number: int, event: Event) -> tuple[str | int | None, ...]:
    return (
        number,
        event.line,
        event.place,
        event.course,
        event.group or "",
        event.assignment,
        event.subject,
        event.event_id,
        event.event_type,
        event.category,
        event.label,
        event.message,
        event.file_path,
        None if event.client_at is None else event.client_at.isoformat(),
        event.at.isoformat(),
    )

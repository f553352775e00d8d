"""Who keeps the engine from what it wants: asked when it was refused, for the message.

A role sees of the sessions of others what the server shows to it: process id, role and application
always, state and times only with `pg_read_all_stats` or as a member of the same role.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row
from sqlalchemy.exc import SQLAlchemyError

from tallykeeper.database import sql

READERS = ("AccessExclusiveLock",)
"""Modes that keep from reading a table."""
WRITERS = (
    "RowExclusiveLock",
    "ShareUpdateExclusiveLock",
    "ShareLock",
    "ShareRowExclusiveLock",
    "ExclusiveLock",
    *READERS,
)
"""Modes that keep from being the only one who writes a table."""
ROWS = ("RowShareLock", *WRITERS)
"""Modes with which rows of a table may be locked."""
MOST_NAMED = 3


@dataclass(frozen=True)
class Wanted:
    """A table, by its quoted name, and the lock modes of others that stand against ours."""

    table: str
    modes: Sequence[str]


@dataclass(frozen=True)
class Holder:
    """A session that holds something; `since` is when its transaction began. None: not shown."""

    pid: int | None
    application: str | None
    role: str | None
    state: str | None
    since: datetime | None
    behind: tuple[int, ...]
    table: str | None

    def __str__(self) -> str:
        if self.pid is None:
            return f"the prepared transaction {self.application!r} (role {self.role})"
        parts = [f"application {self.application!r}" if self.application else "no application name"]
        parts.append(f"role {self.role}")
        if self.since is None:
            parts.append("since when is not shown to this role")
        else:
            parts.append(f"{self.state or 'active'} since {self.since:%Y-%m-%d %H:%M:%S %Z}")
        if self.behind:
            parts.append(f"itself waiting for {', '.join(map(str, self.behind))}")
        return f"the session with process id {self.pid} ({', '.join(parts)})"


# Who holds a table itself comes before who may hold rows of one, and older before newer.
_HOLDERS = """
WITH RECURSIVE wanted (place, relation, modes) AS (
  SELECT place, to_regclass(name)::oid, modes FROM (VALUES {wanted}) AS w (place, name, modes)
  UNION SELECT w.place, i.inhrelid, w.modes
  FROM wanted AS w JOIN pg_inherits AS i ON i.inhparent = w.relation
), held AS (
  SELECT l.pid, l.virtualtransaction, min(w.place) AS place,
         min(w.relation::regclass::text) AS relation
  FROM pg_locks AS l JOIN wanted AS w ON w.relation = l.relation AND l.mode = ANY (w.modes)
  WHERE l.granted AND l.locktype = 'relation' AND l.pid IS DISTINCT FROM pg_backend_pid()
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  GROUP BY l.pid, l.virtualtransaction
  UNION ALL
  SELECT l.pid, l.virtualtransaction, 0, NULL FROM pg_locks AS l
  WHERE l.granted AND l.locktype = 'advisory' AND l.objsubid = 1
    AND l.pid IS DISTINCT FROM pg_backend_pid()
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (l.classid::bigint << 32) + l.objid::bigint = ({advisory})
)
SELECT h.pid, coalesce(a.application_name, p.gid) AS application,
       coalesce(a.usename::text, p.owner::text) AS role, a.state, a.xact_start AS since,
       CASE WHEN h.pid IS NOT NULL THEN pg_blocking_pids(h.pid) END AS behind, h.relation
FROM held AS h LEFT JOIN pg_stat_activity AS a ON a.pid = h.pid
LEFT JOIN pg_locks AS x ON h.pid IS NULL AND x.pid IS NULL AND x.locktype = 'transactionid'
  AND x.virtualtransaction = h.virtualtransaction
LEFT JOIN pg_prepared_xacts AS p ON p.transaction = x.transactionid
WHERE h.place = (SELECT min(place) FROM held)
ORDER BY a.xact_start NULLS LAST, h.pid"""


def holders(on: Engine, wanted: Iterable[Wanted], advisory: str = "NULL") -> tuple[Holder, ...]:
    """The sessions that hold what is wanted, asked on a connection of its own.

    `advisory` is an expression of the key of an advisory lock that is wanted too. Empty where
    nobody holds it any more, and where the question cannot be asked.
    """
    values = [
        f"({place}, {sql.literal(w.table)},"
        f" ARRAY[{', '.join(sql.literal(mode) for mode in w.modes)}])"
        for place, w in enumerate(wanted)
    ]
    query = _HOLDERS.format(
        wanted=", ".join(values) or "(0, '', ARRAY['']::text[])", advisory=advisory
    )
    # A message that names nobody is better than an error about the question.
    with suppress(SQLAlchemyError, RuntimeError), on.connect() as connection:
        return tuple(_holder(row) for row in _rows(connection, query))
    return ()


def _rows(connection: Connection, query: str) -> Sequence[Row[Any]]:
    sql.execute(connection, "SET LOCAL timezone = 'UTC'")
    return sql.execute(connection, query).all()


def _holder(row: Row[Any]) -> Holder:
    behind = tuple(dict.fromkeys(pid for pid in row.behind or () if pid))
    return Holder(row.pid, row.application, row.role, row.state, row.since, behind, row.relation)


def named(found: Sequence[Holder]) -> str:
    """The holders in words; who they may be where none was found."""
    if not found:
        return "who held it is done by now, or not shown to this role"
    tables = dict.fromkeys(h.table for h in found if h.table)
    more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    what = f"locks on {', '.join(tables)} are held by" if tables else "it is held by"
    return f"{what} {', '.join(map(str, found[:MOST_NAMED]))}{more}"

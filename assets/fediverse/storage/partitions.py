"""The daily partitions of `stream_events`: made ahead, and dropped whole when they are old.

A day is one of receipt, in UTC: `stream_events_20251120`. What no day's partition takes stands in
`stream_events_default`, and is moved when the day's partition is made. Invariants:
- No event is lost: a partition that has an event still to be processed is never dropped, nor one
  whose events no file in the archive has, unless they are declared to be lost.
- Writers and readers wait for moments only, here and there: a partition is made apart and then
  attached, and a lock that is not to be had soon is let go and tried again.
- A table that is not partitioned like this is an application's own, and is left alone. So is a
  layout of its own: a day that any partition touches gets no other.
What takes the rights of the log's owner is done by functions in the database
(`partition_functions.py`), so that the role that keeps house need not have these.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import partial

from sqlalchemy import Connection, Engine, text

from assets.fediverse.storage.archive import EVENTS
from assets.fediverse.storage.partition_functions import MAKE, STRAYS
from assets.fediverse.tables import stream_events
from tallykeeper.archive.runs import drop_due
from tallykeeper.archive.store import open_store
from tallykeeper.catalog.transactions import retried
from tallykeeper.database.lock_holders import WRITERS, Wanted
from tallykeeper.database.sessions import PATIENCE
from tallykeeper.database.sql import ENGINE_SCHEMA, name_of
from tallykeeper.settings import archive_address, loses_unarchived

AHEAD_DAYS = 7
LOCK_TIMEOUT_SECONDS = 1
"""How long a lock is waited for: sessions that come after us wait behind us for as long."""

PATIENCE_SECONDS = 15.0

_EVENTS = name_of(stream_events)
_LOG = [Wanted(_EVENTS, WRITERS)]
_KEY = "RANGE (received_at)"
# Two that make the same partition: the second one looks again when the first is done.
_ALONE = "SELECT pg_advisory_xact_lock(hashtext('tallykeeper.fediverse'), hashtext('partitions'))"

# Where the caller has set no limit: sessions that come after us wait behind us.
_NOT_FOR_EVER = (
    f"SELECT set_config('lock_timeout', '{LOCK_TIMEOUT_SECONDS}s', true)"
    " WHERE current_setting('lock_timeout') = '0'"
)


@dataclass
class Dropped:
    """What was dropped, what was kept though it is old and why, and the bytes that are free now.

    `left_alone` says why nothing at all was done, and is None otherwise.
    """

    dropped: list[str] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    freed_bytes: int = 0
    left_alone: str | None = None


@dataclass(frozen=True)
class _Layout:
    """How the table is partitioned: the type of its key, and whether there is a default."""

    oid: int
    type: str
    has_default: bool


def ensure(connection: Connection, first_day: date, last_day: date) -> list[str]:
    """Make the partitions that the UTC days from `first_day` to `last_day` lack, and the default's.

    Says what was done, a sentence each; nothing where all is there, or where the table is left
    alone (`why_left_alone`). The caller commits; the transaction has to be READ COMMITTED, for
    what others made is looked at again under the lock. A lock is waited for
    as long as the caller's lock_timeout says, and LOCK_TIMEOUT_SECONDS without one: then the
    server's error 55P03 comes, which `ensure_days` retries.
    """
    layout = _layout(connection)
    if isinstance(layout, str) or not _lacks(connection, layout, first_day, last_day):
        return []
    connection.exec_driver_sql(_NOT_FOR_EVER)
    connection.exec_driver_sql(_ALONE)
    layout = _layout(connection)
    assert isinstance(layout, _Layout)
    done = [] if layout.has_default else [_make(connection, None)]
    days = _days_without(connection, layout, first_day, last_day)
    return done + [_make(connection, day) for day in days]


def ensure_around(connection: Connection, today: date, ahead: int = AHEAD_DAYS) -> list[str]:
    """Make the partitions of today and `ahead` days, and of every earlier day that has strays."""
    done = ensure(connection, today, today + timedelta(days=ahead))
    for day in _days_of_strays(connection, today):
        done += ensure(connection, day, day)
    return done


def ensure_days(engine: Engine, days: Iterable[date]) -> list[str]:
    """Make the partitions of these UTC days, each in a transaction of its own.

    Raises TallyBusy where a lock is not to be had; what was made until then stays.
    """
    done = []
    # Who listens has events to write meanwhile, and there is the default partition for them.
    brief = engine.execution_options(**{PATIENCE: PATIENCE_SECONDS})
    for day in sorted(set(days)):
        done += retried(partial(_ensure_day, engine, day), f"the partition of {day}", brief, _LOG)
    return done


def today_of(connection: Connection) -> date:
    """The day it is in UTC, by the server's clock."""
    day = connection.exec_driver_sql("SELECT (now() AT TIME ZONE 'UTC')::date").scalar_one()
    assert isinstance(day, date)
    return day


def why_left_alone(connection: Connection) -> str | None:
    """Why the table's partitions are not ours to make and drop; None where they are."""
    layout = _layout(connection)
    return layout if isinstance(layout, str) else None


def dropped(engine: Engine, keep_days: int, today: date | None = None) -> Dropped:
    """Drop the partitions of days more than `keep_days` before `today` (by default the server's).

    Those of which a file in the archive has the rows, and all where TALLY_ARCHIVE declares that
    their rows may be lost. One transaction each. Kept though old: what has events still to be
    processed, what a view or the like depends on, and what others hold locked for long.
    Raises SettingError, ArchiveUnavailable.
    """
    result = Dropped()
    with _reading_committed(engine) as connection:
        layout = _layout(connection)
        if isinstance(layout, str):
            result.left_alone = layout
            return result
        first_kept = (today or today_of(connection)) - timedelta(days=keep_days)
    lost = loses_unarchived()
    store = None if archive_address() is None else open_store()
    done = drop_due(engine, EVENTS, store, before=first_kept, lost=lost)
    result.dropped, result.kept, result.freed_bytes = done.dropped, done.kept, done.freed_bytes
    return result


def _layout(connection: Connection) -> _Layout | str:
    """How the table is partitioned, or why it is left alone."""
    found = connection.execute(
        text(
            "SELECT c.oid, pg_get_partkeydef(c.oid) AS key, pg_get_userbyid(c.relowner) AS owner,"
            " (SELECT format_type(a.atttypid, a.atttypmod) FROM pg_attribute AS a"
            "  WHERE a.attrelid = c.oid AND a.attname = 'received_at') AS type,"
            " EXISTS (SELECT FROM pg_partitioned_table AS p"
            "  WHERE p.partrelid = c.oid AND p.partdefid <> 0) AS has_default,"
            " f.oid IS NOT NULL AS installed,"
            " has_function_privilege(f.oid, 'EXECUTE') AND pg_has_role(f.proowner, c.relowner,"
            "  'USAGE') AND has_schema_privilege(f.proowner, c.relnamespace, 'CREATE') AS may"
            " FROM pg_class AS c LEFT JOIN pg_proc AS f ON f.oid = ("
            "  SELECT p.oid FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace"
            "  WHERE n.nspname = :schema AND p.proname = :make)"
            " WHERE c.oid = to_regclass(:name)"
        ),
        {"name": _EVENTS, "schema": ENGINE_SCHEMA, "make": MAKE.partition(".")[2]},
    ).one_or_none()
    if found is None:
        return f"there is no table {_EVENTS}"
    if found.key is None:
        return f"{_EVENTS} is not partitioned"
    if found.key != _KEY:
        return f"{_EVENTS} is partitioned by {found.key}, not by {_KEY}"
    if not found.installed:
        return f"there is no function {MAKE}: run `tally migrate` first"
    if not found.may:
        return f"{_EVENTS} belongs to {found.owner}, whose tables this role may not change"
    return _Layout(found.oid, found.type, found.has_default)


def _lacks(connection: Connection, layout: _Layout, first_day: date, last_day: date) -> bool:
    return not layout.has_default or bool(_days_without(connection, layout, first_day, last_day))


# The bounds as values of the key's own type: what they look like depends on the session.
_BOUNDS = """
  SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name,
    CAST((regexp_match(b.bound, 'FROM \\(''([^'']+)''\\)'))[1] AS {type}) AS lower,
    CAST((regexp_match(b.bound, 'TO \\(''([^'']+)''\\)'))[1] AS {type}) AS upper
  FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
  CROSS JOIN LATERAL (SELECT pg_get_expr(c.relpartbound, c.oid) AS bound) AS b
  WHERE i.inhparent = :oid AND b.bound <> 'DEFAULT'
"""


def _days_without(
    connection: Connection, layout: _Layout, first_day: date, last_day: date
) -> list[date]:
    """The days that no partition touches but the default one."""
    start, end = _midnight(layout, "d.day"), _midnight(layout, "d.day + 1")
    found = connection.execute(
        text(
            f"WITH bounds AS ({_BOUNDS.format(type=layout.type)}) SELECT d.day"
            " FROM (SELECT CAST(:first AS date) + n AS day"
            "  FROM generate_series(0, CAST(:last AS date) - CAST(:first AS date)) AS n) AS d"
            " WHERE NOT EXISTS (SELECT FROM bounds AS b"
            f"  WHERE (b.lower IS NULL OR b.lower < {end})"
            f"  AND (b.upper IS NULL OR b.upper > {start})) ORDER BY 1"
        ),
        {"oid": layout.oid, "first": first_day, "last": last_day},
    )
    return list(found.scalars())


def _days_of_strays(connection: Connection, until: date) -> list[date]:
    if isinstance(_layout(connection), str):
        return []
    days = text(f"SELECT day FROM {STRAYS}(CAST(:until AS date)) AS day")
    return list(connection.execute(days, {"until": until}).scalars())


def _make(connection: Connection, day: date | None) -> str:
    """Make a partition apart, with the day's strays in it, and attach it; None: the default's."""
    made = connection.scalar(text(f"SELECT {MAKE}(CAST(:day AS date))"), {"day": day})
    return str(made)


def _ensure_day(engine: Engine, day: date) -> list[str]:
    with _reading_committed(engine) as connection, connection.begin():
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'")
        return ensure(connection, day, day)


def _reading_committed(engine: Engine) -> Connection:
    return engine.connect().execution_options(isolation_level="READ COMMITTED")


def _midnight(layout: _Layout, day: str) -> str:
    start = f"CAST({day} AS timestamp)"
    return f"({start} AT TIME ZONE 'UTC')" if _has_zone(layout) else start


def _has_zone(layout: _Layout) -> bool:
    return "with time zone" in layout.type

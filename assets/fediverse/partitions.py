"""The daily partitions of `stream_events`: made ahead, and dropped whole when they are old.

A day is one of receipt, in UTC: `stream_events_20251120`. What no day's partition takes stands in
`stream_events_default`, and is moved when the day's partition is made. What must stay true:
- No event is lost: a partition that has an event still to be processed is never dropped.
- Writers and readers wait for moments only, here and there: a partition is made apart and then
  attached, and a lock that is not to be had soon is let go and tried again.
- A table that is not partitioned like this is an application's own, and is left alone. So is a
  layout of its own: a day that any partition touches gets no other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from assets.fediverse.functions import PROGRESS
from assets.fediverse.tables import stream_events
from tallies import TallyBusy
from tallies.sql import literal, name_of, quote
from tallies.transactions import retried, sqlstate

AHEAD_DAYS = 7
LOCK_TIMEOUT_SECONDS = 2
"""How long a lock is waited for: whoever comes after us waits behind us for as long."""

DEPENDENT_OBJECTS = "2BP01"

_EVENTS = name_of(stream_events)
_KEY = "RANGE (received_at)"
# Two that make the same partition: the second one looks again when the first is done.
_ALONE = "SELECT pg_advisory_xact_lock(hashtext('tallykeeper.fediverse'), hashtext('partitions'))"

# Where the caller has set no limit: whoever comes after us waits behind us.
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
    """How the table is partitioned: the type of its key, and whose it is."""

    oid: int
    type: str
    owner: str
    default: str | None


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
    done = []
    if layout.default is None:
        done += _make(connection, layout, f"{stream_events.name}_default", None)
        layout = _layout(connection)
        assert isinstance(layout, _Layout)
    for day in _days_without(connection, layout, first_day, last_day):
        done += _make(connection, layout, _name_of_day(day), day)
    return done


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
    for day in sorted(set(days)):
        done += retried(partial(_ensure_day, engine, day), f"the partition of {day}")
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

    One transaction each. Kept though old: what has events still to be processed, what a view or
    the like depends on, and what others hold locked for long.
    """
    result = Dropped()
    with _reading_committed(engine) as connection:
        layout = _layout(connection)
        if isinstance(layout, str):
            result.left_alone = layout
            return result
        first_kept = (today or today_of(connection)) - timedelta(days=keep_days)
        old = _ending_by(connection, layout, first_kept)
    for name in old:
        try:
            size, why = retried(partial(_drop, engine, name), f"dropping {name}")
        except TallyBusy as error:
            size, why = 0, str(error)
        if why is None:
            result.dropped.append(name)
            result.freed_bytes += size
        else:
            result.kept[name] = why
    return result


def _layout(connection: Connection) -> _Layout | str:
    """How the table is partitioned, or why it is left alone."""
    found = connection.execute(
        text(
            "SELECT c.oid, pg_get_partkeydef(c.oid) AS key, quote_ident(r.rolname) AS owner,"
            " pg_has_role(c.relowner, 'USAGE')"
            "  AND has_schema_privilege(c.relnamespace, 'CREATE') AS may,"
            " (SELECT format_type(a.atttypid, a.atttypmod) FROM pg_attribute AS a"
            "  WHERE a.attrelid = c.oid AND a.attname = 'received_at') AS type,"
            " (SELECT quote_ident(n.nspname) || '.' || quote_ident(d.relname)"
            "  FROM pg_partitioned_table AS p JOIN pg_class AS d ON d.oid = p.partdefid"
            "  JOIN pg_namespace AS n ON n.oid = d.relnamespace"
            "  WHERE p.partrelid = c.oid) AS default"
            " FROM pg_class AS c JOIN pg_roles AS r ON r.oid = c.relowner"
            " WHERE c.oid = to_regclass(:name)"
        ),
        {"name": _EVENTS},
    ).one_or_none()
    if found is None:
        return f"there is no table {_EVENTS}"
    if found.key is None:
        return f"{_EVENTS} is not partitioned"
    if found.key != _KEY:
        return f"{_EVENTS} is partitioned by {found.key}, not by {_KEY}"
    if not found.may:
        return f"{_EVENTS} belongs to {found.owner}, whose tables this role may not change"
    return _Layout(found.oid, found.type, found.owner, found.default)


def _lacks(connection: Connection, layout: _Layout, first_day: date, last_day: date) -> bool:
    return layout.default is None or bool(_days_without(connection, layout, first_day, last_day))


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


def _ending_by(connection: Connection, layout: _Layout, day: date) -> Sequence[str]:
    """The partitions, the oldest first, whose last day is before `day`."""
    return (
        connection.execute(
            text(
                f"WITH bounds AS ({_BOUNDS.format(type=layout.type)}) SELECT name FROM bounds"
                f" WHERE upper <= {_midnight(layout, 'CAST(:day AS date)')} ORDER BY upper"
            ),
            {"oid": layout.oid, "day": day},
        )
        .scalars()
        .all()
    )


def _days_of_strays(connection: Connection, until: date) -> list[date]:
    layout = _layout(connection)
    if isinstance(layout, str) or layout.default is None:
        return []
    days = connection.execute(
        text(
            f"SELECT DISTINCT {_day_of(layout)} AS day FROM {layout.default}"
            f" WHERE {_day_of(layout)} <= :until ORDER BY 1"
        ),
        {"until": until},
    )
    return list(days.scalars())


def _make(connection: Connection, layout: _Layout, name: str, day: date | None) -> list[str]:
    """Make a partition apart, with the day's strays in it, and attach it; None: the default's."""
    table = f"{quote(stream_events.schema or 'public')}.{name}"
    if connection.scalar(text("SELECT to_regclass(:name)"), {"name": table}) is not None:
        return [
            f"left {table} alone: it is there, but is no partition of {_EVENTS};"
            " attach it, or rename it and run `tally migrate`"
        ]
    # Nothing can be attached that numbers its rows itself; the parent does.
    connection.exec_driver_sql(
        f"CREATE TABLE {table} (LIKE {_EVENTS} INCLUDING ALL EXCLUDING IDENTITY)"
    )
    connection.exec_driver_sql(f"ALTER TABLE {table} OWNER TO {layout.owner}")
    bounds = "DEFAULT"
    if day is not None:
        bounds = f"FOR VALUES FROM ({_instant(day)}) TO ({_instant(day + timedelta(days=1))})"
        _move_strays(connection, layout, table, day)
    connection.exec_driver_sql(f"ALTER TABLE {_EVENTS} ATTACH PARTITION {table} {bounds}")
    return [f"created the partition {table}"]


def _move_strays(connection: Connection, layout: _Layout, table: str, day: date) -> None:
    if layout.default is None:
        return
    # Before the statement that looks: what a writer has just committed is then moved, too.
    connection.exec_driver_sql(f"LOCK TABLE {layout.default} IN ACCESS EXCLUSIVE MODE")
    columns = connection.execute(
        text(
            "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute"
            " WHERE attrelid = :oid AND attnum > 0 AND NOT attisdropped AND attgenerated = ''"
        ),
        {"oid": layout.oid},
    ).scalar_one()
    connection.exec_driver_sql(
        f"WITH moved AS (DELETE FROM {layout.default} WHERE received_at >= {_instant(day)}"
        f" AND received_at < {_instant(day + timedelta(days=1))} RETURNING {columns})"
        f" INSERT INTO {table} ({columns}) SELECT {columns} FROM moved"
    )


def _drop(engine: Engine, name: str) -> tuple[int, str | None]:
    """Drop the partition: its size in bytes, or why it is kept."""
    unprocessed = f"SELECT EXISTS (SELECT FROM {name} WHERE processed_at IS NULL)"
    with _reading_committed(engine) as connection:
        why = "has events that are still to be processed"
        if connection.exec_driver_sql(unprocessed).scalar_one():
            return 0, why
    with _reading_committed(engine) as connection, connection.begin():
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'")
        connection.exec_driver_sql("SET LOCAL timezone = 'UTC'")
        # In the order in which DROP TABLE takes them; with both, nobody writes in between.
        connection.exec_driver_sql(f"LOCK TABLE ONLY {_EVENTS} IN ACCESS EXCLUSIVE MODE")
        connection.exec_driver_sql(f"LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE")
        if connection.exec_driver_sql(unprocessed).scalar_one():
            return 0, why
        size = connection.exec_driver_sql(f"SELECT pg_total_relation_size({literal(name)})")
        freed = int(size.scalar_one())
        # Posts that were seen before this cannot be derived again from what is left of the log.
        connection.exec_driver_sql(
            f"UPDATE {PROGRESS} SET dropped_before = greatest(dropped_before, ("
            f"SELECT CAST(max(received_at) AS timestamptz) + interval '1 microsecond' FROM {name}))"
        )
        try:
            connection.exec_driver_sql(f"DROP TABLE {name}")
        except DBAPIError as error:
            if sqlstate(error) != DEPENDENT_OBJECTS:
                raise
            return 0, f"something depends on it ({str(error.orig).splitlines()[0]})"
    return freed, None


def _ensure_day(engine: Engine, day: date) -> list[str]:
    with _reading_committed(engine) as connection, connection.begin():
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'")
        return ensure(connection, day, day)


def _reading_committed(engine: Engine) -> Connection:
    return engine.connect().execution_options(isolation_level="READ COMMITTED")


def _name_of_day(day: date) -> str:
    return f"{stream_events.name}_{day.isoformat().replace('-', '')}"


def _instant(day: date) -> str:
    """The start of the day as an SQL string; without time zone the offset is passed over."""
    return literal(datetime(day.year, day.month, day.day, tzinfo=UTC).isoformat(" "))


def _midnight(layout: _Layout, day: str) -> str:
    start = f"CAST({day} AS timestamp)"
    return f"({start} AT TIME ZONE 'UTC')" if _has_zone(layout) else start


def _day_of(layout: _Layout) -> str:
    instant = "(received_at AT TIME ZONE 'UTC')" if _has_zone(layout) else "received_at"
    return f"CAST({instant} AS date)"


def _has_zone(layout: _Layout) -> bool:
    return "with time zone" in layout.type

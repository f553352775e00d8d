"""`mastodon_posts` in partitions by month: the conversion, and the months to come.

A month is one of creation, in UTC: `mastodon_posts_202512`. The table as it was becomes the
partition of all that came before, so that no row of it is copied; what no month covers (a server
with a wrong clock) is in `mastodon_posts_default`. Invariants:
- No write is missed: the conversion holds the table's lock, and leaves it captured.
- A month is made empty. One that has posts elsewhere already is left where it is.
- What others have built on the table is refused: it would depend on a part of the posts alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial

from sqlalchemy import Connection, Engine, text
from sqlalchemy.schema import CreateIndex

from assets.fediverse.tables import mastodon_posts
from tallykeeper import DoesNotFit, HasDependents, NotInstalled, Tally, install
from tallykeeper.catalog import attributes, dependents
from tallykeeper.catalog.privileges import act_as_owner
from tallykeeper.catalog.transactions import retried
from tallykeeper.database import sql
from tallykeeper.database.lock_holders import READERS, Wanted
from tallykeeper.database.sessions import begin_work

AHEAD_MONTHS = 24

POSTS = sql.name_of(mastodon_posts)
BEFORE, DEFAULT = f"{mastodon_posts.name}_before", f"{mastodon_posts.name}_default"
KEY = ("instance_id", "id", "created_at")
_BY_MONTH = "RANGE (created_at)"
_BUILT = ("view", "materialized view", "function", "rule")
_NEW_KEY = f"{mastodon_posts.name}_by_month"


@dataclass(frozen=True)
class _Table:
    """The table of posts as it is; `key` is None where it is not partitioned."""

    oid: int
    key: str | None
    has_default: bool


def partition_posts(
    engine: Engine, tallies: Sequence[Tally], months_ahead: int = AHEAD_MONTHS
) -> list[str]:
    """Partition the table of posts by month, from the next month on; what was done.

    Nothing where it is so already. The index that the key needs is built first, beside writers;
    then the table is locked for one look at all its rows. `tallies` are all that count posts; they
    are stale afterwards, since their source is another table. Raises NotInstalled, DoesNotFit,
    HasDependents, TallyBusy, or SQLAlchemy's errors; no row is changed then.
    """
    with engine.connect() as connection:
        if _require(connection).key is not None:
            return []
    _build_key(engine)
    return retried(
        partial(_convert_once, engine, tallies, months_ahead),
        f"partitioning {POSTS}",
        engine,
        [Wanted(POSTS, READERS)],
    )


def _convert_once(engine: Engine, tallies: Sequence[Tally], months_ahead: int) -> list[str]:
    with engine.begin() as connection:
        begin_work(connection)
        act_as_owner(connection)
        sql.execute(connection, f"LOCK TABLE {POSTS} IN ACCESS EXCLUSIVE MODE")
        done = _convert(connection, months_ahead)
        return done + (install(connection, tallies) if done else [])


def ensure_months(
    connection: Connection, today: date, months_ahead: int = AHEAD_MONTHS
) -> list[str]:
    """Make the months to come that the table lacks; nothing where it is not partitioned by month.

    The caller installs capture in the same transaction.
    """
    found = _look(connection)
    if found is None or found.key != _BY_MONTH or not found.has_default:
        return []
    covered = _covered_until(connection, found.oid)
    if covered is None:
        return []
    months = _months(_first_of_next(today), months_ahead)
    return [
        said for month in months if month >= covered for said in _make(connection, month, found)
    ]


def _look(connection: Connection) -> _Table | None:
    row = connection.execute(
        text(
            "SELECT c.oid, pg_get_partkeydef(c.oid) AS key,"
            " EXISTS (SELECT FROM pg_partitioned_table AS p"
            "  WHERE p.partrelid = c.oid AND p.partdefid <> 0) AS has_default"
            " FROM pg_class AS c WHERE c.oid = to_regclass(:name)"
        ),
        {"name": POSTS},
    ).one_or_none()
    return None if row is None else _Table(row.oid, row.key, row.has_default)


def _require(connection: Connection) -> _Table:
    """The table of posts, plain or by month; checks that nobody's objects depend on a plain one."""
    found = _look(connection)
    if found is None:
        raise NotInstalled(f"fediverse: there is no {POSTS}; run `tally migrate` first")
    if found.key is not None:
        if found.key != _BY_MONTH:
            raise DoesNotFit(
                f"{POSTS} is partitioned by {found.key}, expected {_BY_MONTH} or none; it is an"
                " application's own, and is left alone. Nothing was changed"
            )
        return found
    standing = [
        one
        for one in dependents.on_relation(connection, found.oid)
        if one.kind in _BUILT and not one.name.startswith(f"{sql.ENGINE_SCHEMA}.")
    ]
    dependents.require_none(standing, f"{POSTS} becomes a partition of another table of its name")
    others = _others_on(connection, found.oid)
    if others:
        raise HasDependents(
            f"{POSTS} becomes a partition of another table of its name, which would not have:"
            f" {', '.join(others)}. Nothing was changed; drop these first, and create them again"
            " on the partitioned table as far as they still hold"
        )
    return found


def _others_on(connection: Connection, oid: int) -> Sequence[str]:
    """What depends on the table and does not go along: constraints, unique indexes, settings."""
    return connection.scalars(
        text(
            "SELECT 'the foreign key ' || conname || ' of ' || conrelid::regclass"
            " FROM pg_constraint WHERE confrelid = :oid AND contype = 'f' AND conparentid = 0"
            " UNION ALL SELECT CASE contype WHEN 'c' THEN 'the check ' || conname"
            " WHEN 'f' THEN 'the foreign key ' || conname || ' to ' || confrelid::regclass"
            " ELSE 'the exclusion constraint ' || conname END"
            " FROM pg_constraint WHERE conrelid = :oid AND contype IN ('c', 'f', 'x')"
            " UNION ALL SELECT 'the unique index ' || indexrelid::regclass FROM pg_index"
            " JOIN pg_class AS c ON c.oid = indexrelid WHERE indrelid = :oid"
            " AND indisunique AND NOT indisprimary AND c.relname <> :new_key"
            " UNION ALL SELECT 'the trigger ' || tgname FROM pg_trigger"
            " JOIN pg_proc AS p ON p.oid = tgfoid"
            " WHERE tgrelid = :oid AND NOT tgisinternal"
            " AND p.pronamespace <> CAST(:engine AS regnamespace)"
            " UNION ALL SELECT 'row level security' FROM pg_class WHERE oid = :oid"
            " AND (relrowsecurity OR relforcerowsecurity)"
            " UNION ALL SELECT 'the policy ' || polname FROM pg_policy WHERE polrelid = :oid"
            " UNION ALL SELECT 'the publication ' || pubname FROM pg_publication_rel AS r"
            " JOIN pg_publication AS p ON p.oid = r.prpubid WHERE r.prrelid = :oid"
            " UNION ALL SELECT 'the replica identity' FROM pg_class WHERE oid = :oid"
            " AND relreplident <> 'd'"
            " UNION ALL SELECT 'the inheritance of ' || inhrelid::regclass || ' from '"
            " || inhparent::regclass FROM pg_inherits WHERE :oid IN (inhparent, inhrelid)"
        ),
        {"oid": oid, "engine": sql.ENGINE_SCHEMA, "new_key": _NEW_KEY},
    ).all()


def _build_key(engine: Engine) -> None:
    """Build the index of the new primary key while others write."""
    schema = sql.quote(mastodon_posts.schema or "public")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        # One that was interrupted is there, and is not valid.
        sql.execute(connection, f"DROP INDEX CONCURRENTLY IF EXISTS {schema}.{_NEW_KEY}")
        sql.execute(
            connection,
            f"CREATE UNIQUE INDEX CONCURRENTLY {_NEW_KEY} ON {POSTS} ({', '.join(KEY)})",
        )


def _convert(connection: Connection, months_ahead: int) -> list[str]:
    found = _require(connection)
    if found.key is not None:
        return []
    schema = sql.quote(mastodon_posts.schema or "public")
    before, default = f"{schema}.{BEFORE}", f"{schema}.{DEFAULT}"
    today = connection.scalar(text("SELECT (now() AT TIME ZONE 'UTC')::date"))
    assert isinstance(today, date)
    months = _months(_first_of_next(today), months_ahead)
    set_on_it = [a for a in attributes.of_view(connection, found.oid) if "SET (" not in a.after]
    old_key = connection.scalar(
        text("SELECT conname FROM pg_constraint WHERE conrelid = :oid AND contype = 'p'"),
        {"oid": found.oid},
    )
    for index in mastodon_posts.indexes:
        sql.execute(
            connection,
            f"ALTER INDEX IF EXISTS {schema}.{index.name} RENAME TO {index.name}_before",
        )
    drop_key = "" if old_key is None else f"DROP CONSTRAINT {sql.quote(old_key)}, "
    names = ", ".join(sql.quote(c.name) for c in mastodon_posts.c if c.computed is None)
    first = _instant(months[0])
    statements = [
        f"ALTER TABLE {POSTS} {drop_key}ADD CONSTRAINT {BEFORE}_pkey PRIMARY KEY"
        f" USING INDEX {_NEW_KEY}",
        f"ALTER TABLE {POSTS} RENAME TO {BEFORE}",
        f"CREATE TABLE {POSTS} (LIKE {before} INCLUDING DEFAULTS INCLUDING GENERATED"
        " INCLUDING COMMENTS INCLUDING STORAGE INCLUDING COMPRESSION,"
        f" CONSTRAINT {mastodon_posts.name}_pkey PRIMARY KEY ({', '.join(KEY)}))"
        f" PARTITION BY {_BY_MONTH}",
    ]
    for statement in statements:
        sql.execute(connection, statement)
    for index in mastodon_posts.indexes:
        connection.execute(CreateIndex(index))
    attributes.set_again(connection, POSTS, set_on_it, [c.name for c in mastodon_posts.c])
    sql.execute(connection, f"CREATE TABLE {default} PARTITION OF {POSTS} DEFAULT")
    for month in months:
        _create(connection, month)
    # Of servers whose clock is ahead; all else stays where it is.
    sql.execute(
        connection,
        f"WITH moved AS (DELETE FROM {before} WHERE created_at >= {first} RETURNING {names})"
        f" INSERT INTO {POSTS} ({names}) SELECT {names} FROM moved",
    )
    sql.execute(
        connection,
        f"ALTER TABLE {POSTS} ATTACH PARTITION {before} FOR VALUES FROM (MINVALUE) TO ({first})",
    )
    return [
        f"partitioned {POSTS} by month: {BEFORE} up to {months[0]:%Y-%m}, {len(months)} months from"
        f" there on, and {DEFAULT}"
    ]


def _make(connection: Connection, month: date, posts: _Table) -> list[str]:
    """Make a month; not where posts of it stand in the default partition."""
    default = connection.scalar(
        text(
            "SELECT p.partdefid::regclass::text FROM pg_partitioned_table AS p"
            " WHERE p.partrelid = :oid"
        ),
        {"oid": posts.oid},
    )
    strays = connection.scalar(
        text(
            f"SELECT EXISTS (SELECT FROM {default} WHERE created_at >= {_instant(month)}"
            f" AND created_at < {_instant(_first_of_next(month))})"
        )
    )
    if strays:
        return []
    _create(connection, month)
    return [f"created the partition {POSTS}_{month:%Y%m}"]


def _create(connection: Connection, month: date) -> None:
    sql.execute(
        connection,
        f"CREATE TABLE IF NOT EXISTS {POSTS}_{month:%Y%m} PARTITION OF {POSTS}"
        f" FOR VALUES FROM ({_instant(month)}) TO ({_instant(_first_of_next(month))})",
    )


def _covered_until(connection: Connection, oid: int) -> date | None:
    """The first day after the last month, in UTC; None where no partition ends."""
    until = connection.scalar(
        text(
            "SELECT (max(CAST(b.bound[1] AS timestamptz)) AT TIME ZONE 'UTC')::date"
            " FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid CROSS JOIN LATERAL"
            " (SELECT regexp_match(pg_get_expr(c.relpartbound, c.oid), 'TO \\(''([^'']+)''\\)')"
            "  AS bound) AS b WHERE i.inhparent = :oid"
        ),
        {"oid": oid},
    )
    assert until is None or isinstance(until, date)
    return until


def _months(first: date, number: int) -> list[date]:
    months = [first]
    while len(months) < number:
        months.append(_first_of_next(months[-1]))
    return months


def _first_of_next(day: date) -> date:
    return date(day.year + day.month // 12, day.month % 12 + 1, 1)


def _instant(day: date) -> str:
    return f"timestamptz '{day.isoformat()} 00:00Z'"

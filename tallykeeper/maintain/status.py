"""What can be said of a tally at a glance, cheaply."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from tallykeeper.capture import derived_triggers, triggers
from tallykeeper.catalog import presence, state
from tallykeeper.database import sql
from tallykeeper.database.sqlstates import LOCK_NOT_AVAILABLE, sqlstate_of
from tallykeeper.declarations.tally import LOGGED_AT, Tally
from tallykeeper.drift import dependencies
from tallykeeper.drift.differences import Drift
from tallykeeper.errors import NotInstalled
from tallykeeper.faults import quarantine
from tallykeeper.maintain.audit import Audit, audit_of
from tallykeeper.maintain.backfill.lock import holder
from tallykeeper.strategies import pruned_rows
from tallykeeper.strategies.pruned_rows import Pruning

# How long to wait for a table that another session has to itself, before saying nothing of it.
PATIENCE_MILLISECONDS = 200


@dataclass(frozen=True)
class UnfinishedLane:
    """A lane of which a backfill has done some: source rows done, of how many, and since when."""

    lane: str
    items_done: int
    items_total: int
    started_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class Status:
    """A tally's state as of `as_of`.

    `pending` counts change-log rows, `oldest_pending` is when the oldest was logged; `rows` are
    those of the derived table after its last refresh. `stale` says why the next refresh will
    rebuild it; empty if it will not. `verified_at`, `verified_whole` and `differing` tell of the
    last verify; None before the first. `unfinished` are the lanes of a backfill that is under way
    or was interrupted; `backfilling` is the process id of the session that is at it, if one is.
    `table_bytes` is what the derived table takes on disk with its indexes, `log_bytes` its change
    log; both None while another session has either to itself. `quarantined` counts the keys that
    the derived table cannot hold.
    `faults` are sentences of what is not as it was when the tally was installed, so that its
    figures are not proven. `audit` tells since when every key has been compared; None before
    `tally migrate` made a place for it. `pruned` are the sources whose deleted rows count still.
    """

    tally: str
    how: str
    rows: int | None
    built_at: datetime | None
    refreshed_at: datetime | None
    seconds: float | None
    pending: int
    oldest_pending: datetime | None
    stale: tuple[str, ...]
    verified_at: datetime | None
    verified_whole: bool | None
    differing: int | None
    as_of: datetime
    unfinished: tuple[UnfinishedLane, ...] = ()
    backfilling: int | None = None
    table_bytes: int | None = None
    log_bytes: int | None = None
    quarantined: int = 0
    faults: tuple[str, ...] = ()
    audit: Audit | None = None
    pruned: tuple[Pruning, ...] = ()


def status(engine: Engine, tally: Tally) -> Status:
    """The tally's state; the cost follows the pending changes.

    Raises NotInstalled.
    """
    with engine.connect() as connection:
        installed = state.installed(connection, tally)
        if installed is None:
            raise NotInstalled(f"{tally.name} is not installed here; run `tally migrate` first")
        row = connection.exec_driver_sql(
            f"SELECT s.*, s.rows - (SELECT coalesce(sum(c.rows), 0)"
            f" FROM {sql.ENGINE_SCHEMA}.cascaded AS c WHERE c.tally = s.tally) AS rows_left,"
            f" v.verified_at, v.whole, v.differing, l.pending, l.oldest,"
            f" statement_timestamp() AS as_of"
            f" FROM {sql.ENGINE_SCHEMA}.tally_state AS s"
            f" LEFT JOIN {sql.ENGINE_SCHEMA}.verifications AS v USING (tally)"
            f" CROSS JOIN (SELECT count(*) AS pending, min({LOGGED_AT}) AS oldest"
            f" FROM {tally.log_name}) AS l WHERE s.tally = %s",
            (tally.name,),
        ).one()
        table_bytes, log_bytes = _sizes(connection, tally)
        faults = tuple(capture_faults(connection, tally))
        return Status(
            tally=tally.name,
            how=tally.kind,
            rows=None if row.rows is None else int(row.rows_left),
            built_at=row.built_at,
            refreshed_at=row.refreshed_at,
            seconds=row.seconds,
            pending=row.pending,
            oldest_pending=row.oldest,
            stale=_stale(installed, tally),
            verified_at=row.verified_at,
            verified_whole=row.whole,
            differing=row.differing,
            as_of=row.as_of,
            unfinished=_unfinished(connection, tally),
            backfilling=holder(connection, tally),
            table_bytes=table_bytes,
            log_bytes=log_bytes,
            quarantined=quarantine.held(connection, tally),
            faults=faults,
            audit=audit_of(connection, tally),
            pruned=tuple(pruned_rows.pruned(connection, tally)),
        )


def _stale(installed: state.Installed, tally: Tally) -> tuple[str, ...]:
    if installed.declaration_hash == tally.declaration_hash():
        return installed.stale
    return tuple(dict.fromkeys((*installed.stale, state.DECLARATION_CHANGED)))


def _sizes(connection: Connection, tally: Tally) -> tuple[int | None, int | None]:
    """What the derived table and its change log take on disk, with their indexes."""
    savepoint = connection.begin_nested()
    try:
        sql.execute(connection, f"SET LOCAL lock_timeout = {PATIENCE_MILLISECONDS}")
        row = sql.execute(
            connection,
            # Of a partitioned table its partitions; of any other the tree is empty.
            "SELECT coalesce((SELECT sum(pg_total_relation_size(relid))"
            " FROM pg_partition_tree(t)), pg_total_relation_size(t))::bigint AS table_bytes,"
            " pg_total_relation_size(l) AS log_bytes"
            f" FROM (VALUES (to_regclass({sql.literal(sql.name_of(tally.table))}),"
            f" to_regclass({sql.literal(tally.log_name)}))) AS r (t, l)",
        ).one()
    except DBAPIError as error:
        if sqlstate_of(error) != LOCK_NOT_AVAILABLE:
            raise
        return None, None
    finally:
        savepoint.rollback()
    return row.table_bytes, row.log_bytes


def _unfinished(connection: Connection, tally: Tally) -> tuple[UnfinishedLane, ...]:
    lanes = state.backfilled(connection, tally).values()
    return tuple(
        UnfinishedLane(row.lane, row.items_done, row.items_total, row.started_at, row.updated_at)
        for row in lanes
        if row.finished_at is None
    )


def pending_up_to(connection: Connection, tally: Tally, most: int) -> int:
    """How many changes are pending, counted no further than `most`, so cheap always."""
    return int(
        connection.exec_driver_sql(
            f"SELECT count(*) FROM (SELECT FROM {tally.log_name} LIMIT %s) AS pending", (most,)
        ).scalar_one()
    )


def capture_faults(connection: Connection, tally: Tally) -> list[str]:
    """What the tally depends on and is not as it was installed, a sentence each.

    Of what an older release installed, only capture is compared, with the declarations.
    """
    return [str(fault) for fault in faults_of(connection, tally)]


def faults_of(connection: Connection, tally: Tally) -> list[Drift] | list[triggers.Fault]:
    """The same, with more of a fault than its sentence."""
    if dependencies.is_recorded(connection, tally):
        return [d for d in dependencies.drifts_of(connection, tally) if d.is_fault]
    found: list[triggers.Fault] = []
    siblings = presence.beside(connection, [tally])
    for source in tally.sources:
        over = [t for t in siblings if source in t.sources]
        found += triggers.faults(connection, source, over)
    return found + derived_triggers.own_faults(connection, tally)

"""Checks of what processing made of the log: that it made something of every event, and the right.

`events_processed` looks at the events, `matches_log` derives posts again and compares. Both judge
the data only: a database that cannot be reached is an error of the run, never a failed check.
"""

# No `from __future__ import annotations` here: Dagster judges an op's context by the annotation
# as it stands.

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import dagster as dg
from sqlalchemy import Connection, Engine, text

from assets.fediverse.dagster.processed import POSTS
from assets.fediverse.replay import LogDifference, LogVerification, verify_log
from assets.fediverse.storage.log import zoned
from assets.fediverse.tables import stream_events
from tallykeeper.dagster.database import Database
from tallykeeper.database.sql import name_of
from tallykeeper.settings import fresh_seconds

EVENTS_PROCESSED = "events_processed"
MATCHES_LOG = "matches_log"
FAILED_WITHIN = timedelta(days=1)
MOST_REASONS = 20
MOST_DIFFERENCES = 20
RECENT_EVENTS = 2_000
"""Of how many events, those received last, a run compares the posts."""

Metadata = dict[str, dg.MetadataValue]


@dataclass(frozen=True)
class Reason:
    """Why events failed: how many did for that, and the one of them that was received last."""

    reason: str
    events: int
    example: int


@dataclass(frozen=True)
class LogState:
    """What is still to be processed, and what failed within a day before `as_of`.

    `failed_kept` are all failed events in the log.
    """

    as_of: datetime
    unprocessed: int
    oldest: datetime | None
    failed: int
    failed_kept: int
    reasons: tuple[Reason, ...]

    @property
    def age_seconds(self) -> float:
        """For how long the oldest has waited."""
        if self.oldest is None:
            return 0.0
        return max(0.0, (self.as_of - self.oldest).total_seconds())


def log_state(connection: Connection) -> LogState:
    """How the log stands, as of the last commit."""
    events = name_of(stream_events)
    since = {"since": FAILED_WITHIN, "most": MOST_REASONS}
    # Times without a zone are in UTC.
    connection.exec_driver_sql("SET LOCAL timezone = 'UTC'")
    waiting = connection.execute(
        text(
            "SELECT now() AS as_of, count(*) AS unprocessed, min(received_at) AS oldest"
            f" FROM {events} WHERE processed_at IS NULL"
        )
    ).one()
    failed = connection.execute(
        text(
            "SELECT count(*) FILTER (WHERE processed_at >= now() - :since) AS failed,"
            f" count(*) AS kept FROM {events} WHERE process_error IS NOT NULL"
        ),
        since,
    ).one()
    reasons = connection.execute(
        text(
            "SELECT process_error, count(*), (array_agg(id ORDER BY received_at DESC, id DESC))[1]"
            f" FROM {events} WHERE process_error IS NOT NULL AND processed_at >= now() - :since"
            " GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT :most"
        ),
        since,
    )
    return LogState(
        waiting.as_of,
        waiting.unprocessed,
        zoned(waiting.oldest),
        failed.failed,
        failed.kept,
        tuple(Reason(*row) for row in reasons),
    )


@dg.asset_check(
    asset=POSTS,
    name=EVENTS_PROCESSED,
    description=(
        "No event that was processed within a day has failed, and none has waited for longer than"
        " TALLY_FRESH_SECONDS. What fails is kept in the log, with the reason."
    ),
)
def events_processed(tally_database: Database) -> dg.AssetCheckResult:
    """Warn of events that failed or wait."""
    with tally_database.engine().connect() as connection:
        found = log_state(connection)
    limit = fresh_seconds()
    wrong = []
    if found.failed:
        wrong.append(
            f"Nothing could be made of {_counted(found.failed, 'event')} of the last 24 hours; the"
            " table says why. Once the cause is repaired, replay their time of receipt."
        )
    if found.age_seconds > limit:
        wrong.append(
            f"Still to be processed: {_counted(found.unprocessed, 'event')}, the oldest for"
            f" {timedelta(seconds=int(found.age_seconds))}; the limit is"
            f" {timedelta(seconds=limit)}. Does the hourly schedule run?"
        )
    return dg.AssetCheckResult(
        passed=not wrong,
        severity=dg.AssetCheckSeverity.WARN,
        description=" ".join(wrong) or None,
        metadata=_of_state(found, limit),
    )


@dg.asset_check(
    asset=POSTS,
    name=MATCHES_LOG,
    description=(
        "Posts and their dependent rows are exactly what the stored events say. Run with"
        f" the asset it compares the posts of the last {RECENT_EVENTS:,} events; run alone"
        " (the daily run, the job audit, or Execute) it compares all."
    ),
)
def matches_log(
    context: dg.AssetCheckExecutionContext, tally_database: Database
) -> dg.AssetCheckResult:
    """Derive posts again, and compare."""
    engine = tally_database.engine()
    with_asset = POSTS in context.job_def.asset_layer.selected_asset_keys
    start = recent(engine) if with_asset else None
    return verdict(verify_log(engine, start, limit=MOST_DIFFERENCES), start)


def recent(engine: Engine) -> datetime | None:
    """From when on the last RECENT_EVENTS events were received; None where there are no more."""
    with engine.connect() as connection:
        found: datetime | None = connection.scalar(
            text(
                f"SELECT received_at FROM {name_of(stream_events)}"
                " ORDER BY id DESC LIMIT 1 OFFSET :events"
            ),
            {"events": RECENT_EVENTS},
        )
    return zoned(found)


def verdict(found: LogVerification, start: datetime | None) -> dg.AssetCheckResult:
    """The outcome of a comparison as a check result: what differs, and what repairs it."""
    scope = "everything that is kept" if start is None else f"events received since {start}"
    metadata: Metadata = {
        "posts": dg.MetadataValue.int(found.posts),
        "skipped": dg.MetadataValue.int(found.skipped),
        "differing": dg.MetadataValue.int(found.differing),
        "scope": dg.MetadataValue.text(scope),
        "seconds": dg.MetadataValue.float(round(found.seconds, 3)),
    }
    if found.ok:
        return dg.AssetCheckResult(passed=True, metadata=metadata)
    config = {"replay_all": True} if start is None else {"replay_from": start.isoformat()}
    metadata["rows"] = differences_table(found.differences)
    metadata["to_resolve"] = dg.MetadataValue.json(
        {"ops": {f"{POSTS.path[0]}__processing": {"config": config}}}
    )
    return dg.AssetCheckResult(
        passed=False,
        severity=dg.AssetCheckSeverity.ERROR,
        description=(
            f"Not what the log says: {_counted(found.differing, 'row')}. Materialize"
            f" {POSTS.to_user_string()} with the run config under `to_resolve`: it replays these"
            " events, and writes what differs."
        ),
        metadata=metadata,
    )


def differences_table(differences: Sequence[LogDifference]) -> dg.TableMetadataValue:
    """One record per row that differs: its table and key, and the columns that are not alike."""
    names = ("table", "key", "problem", "stored", "expected")
    records = [
        dg.TableRecord(
            dict(
                zip(
                    names,
                    (
                        each.table,
                        _pairs(each.key),
                        each.problem,
                        _unlike(each.stored, each.expected),
                        _unlike(each.expected, each.stored),
                    ),
                    strict=True,
                )
            )
        )
        for each in differences
    ]
    return dg.MetadataValue.table(records, dg.TableSchema([dg.TableColumn(n) for n in names]))


def _unlike(side: dict[str, object] | None, other: dict[str, object] | None) -> str:
    """What one side says where the other says something else."""
    if side is None:
        return "no row"
    if other is None:
        return "present"
    return _pairs({name: value for name, value in side.items() if other.get(name) != value})


def _pairs(values: dict[str, object]) -> str:
    shown = {name: "null" if value is None else str(value) for name, value in values.items()}
    return ", ".join(f"{name} {value[:100]}" for name, value in shown.items())


def _of_state(found: LogState, limit: int) -> Metadata:
    metadata: Metadata = {
        "unprocessed": dg.MetadataValue.int(found.unprocessed),
        "age_seconds": dg.MetadataValue.float(round(found.age_seconds, 1)),
        "limit_seconds": dg.MetadataValue.int(limit),
        "failed": dg.MetadataValue.int(found.failed),
        "failed_kept": dg.MetadataValue.int(found.failed_kept),
    }
    if found.oldest is not None:
        metadata["oldest"] = dg.MetadataValue.timestamp(found.oldest)
    if found.reasons:
        names = ("reason", "events", "example")
        metadata["reasons"] = dg.MetadataValue.table(
            [
                dg.TableRecord({"reason": r.reason, "events": r.events, "example": str(r.example)})
                for r in found.reasons
            ],
            dg.TableSchema([dg.TableColumn(n) for n in names]),
        )
    return metadata


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"

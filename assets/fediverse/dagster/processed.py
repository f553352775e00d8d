"""The tables that follow from the raw log, as assets: one op processes what has come, and says how.

Invariants: the hourly run processes before it refreshes, for the tallies count these
tables; and an event that cannot be read stops nobody, but is seen here and in `log_checks.py`.
"""

# No `from __future__ import annotations` here: Dagster reads the types of an op's context and
# config from the annotations as they stand.

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Optional

import dagster as dg
from pydantic import Field
from sqlalchemy import Connection, Engine, Row, text

from assets.fediverse.processing.batches import Processed, process
from assets.fediverse.replay import Replayed, replay
from assets.fediverse.tables import instances, mastodon_posts, stream_events
from assets.fediverse.tallies import system
from tallykeeper.archive.store import open_store
from tallykeeper.dagster.assets import processed_specs
from tallykeeper.dagster.database import Database
from tallykeeper.dagster.materialization import retry_while_busy
from tallykeeper.database.sql import name_of

TELL_EVERY_SECONDS = 5.0
MOST_ERRORS = 10
POSTS = dg.AssetKey([system.name, mastodon_posts.name])

Metadata = dict[str, dg.MetadataValue]
_A_MOMENT = "a day or a moment, like 2025-11-20 or 2025-11-20T08:00Z (without a zone it is UTC)"


class ProcessingConfig(dg.Config):
    """What to do besides processing the events that are not processed yet."""

    replay_from: Optional[str] = Field(  # noqa: UP045 -- Dagster's config knows Optional
        default=None,
        description=(
            "Derive again the posts that have an event received from here on, and write the rows"
            f" that differ: {_A_MOMENT}."
        ),
    )
    replay_to: Optional[str] = Field(  # noqa: UP045
        default=None, description=f"Replay the events received before this: {_A_MOMENT}."
    )
    replay_all: bool = Field(
        default=False, description="Replay everything that is kept of the log."
    )
    replay_archive: bool = Field(
        default=False,
        description="Let a replay read the archive as well: days that are dropped from the log.",
    )


@dg.multi_asset(
    name=f"{system.name}__processing",
    specs=processed_specs(system),
)
def processed_tables(
    context: dg.AssetExecutionContext, config: ProcessingConfig, tally_database: Database
) -> Iterator[dg.MaterializeResult]:
    """Process the events that have come, then replay others if that is asked for."""
    window = _window_of(config)
    engine = tally_database.engine()
    telling = Telling(context)
    done = retry_while_busy(lambda: process(engine, on_batch=telling))
    telling.finish()
    metadata: Metadata = {**of_processing(done), **last_errors(engine)}
    if window is not None:
        again = retry_while_busy(lambda: _replay(engine, window, config.replay_archive))
        metadata = {**metadata, **of_replay(again)}
    estimates = _estimates(engine)
    for key in sorted(context.selected_asset_keys):
        rows = estimates.get(key.path[-1])
        known = {} if rows is None else {"rows_estimated": dg.MetadataValue.int(rows)}
        reason = {"reason": dg.MetadataValue.text(why_processed(done, window))}
        more = metadata if key == POSTS else {}
        yield dg.MaterializeResult(asset_key=key, metadata={**reason, **known, **more})


def _replay(
    engine: Engine, window: tuple[datetime | None, datetime | None], archive: bool
) -> Replayed:
    if not archive:
        return replay(engine, *window)
    from assets.fediverse.storage import archive_replay

    return archive_replay.replay(engine, open_store(), *window)


@dataclass
class Telling:
    """Tells the run of the processing's progress, not after every batch but every few seconds."""

    context: dg.AssetExecutionContext
    _reported_at: float = field(default_factory=time.monotonic)
    _unreported: Processed | None = None

    def __call__(self, done: Processed) -> None:
        """Tell of what was `done` so far, or keep it until there is reason to."""
        self._unreported = done
        if time.monotonic() - self._reported_at >= TELL_EVERY_SECONDS:
            self.finish()

    def finish(self) -> None:
        """Report what was not reported yet."""
        if self._unreported is None:
            return
        done, self._unreported, self._reported_at = self._unreported, None, time.monotonic()
        said = (
            f"{done.events:,} events processed, {done.failed:,} of them failed,"
            f" {done.events_per_second:,.0f} events/s"
        )
        self.context.log.info(said)


def why_processed(done: Processed, window: tuple[object, object] | None = None) -> str:
    """What was done, in a few words."""
    said = f"{done.events:,} events processed" if done.events else "no event was unprocessed"
    if window is None:
        return said
    start, end = window
    since = f" from {start}" if start else ""
    until = f" to {end}" if end else ""
    return f"{said}; replay of the log{since}{until}"


def of_processing(done: Processed) -> Metadata:
    """What a processing did, in numbers that the UI plots over time."""
    return {
        "events": dg.MetadataValue.int(done.events),
        "failed": dg.MetadataValue.int(done.failed),
        "ignored": dg.MetadataValue.int(done.ignored),
        "posts": dg.MetadataValue.int(done.posts),
        "late_posts": dg.MetadataValue.int(done.late),
        "batches": dg.MetadataValue.int(done.batches),
        "processing_seconds": dg.MetadataValue.float(round(done.seconds, 3)),
        "events_per_second": dg.MetadataValue.float(round(done.events_per_second, 1)),
    }


def of_replay(done: Replayed) -> Metadata:
    """What a replay did; `replay_rows` are those that it wrote, because they differed."""
    written = ", ".join(f"{name} {number:,}" for name, number in sorted(done.rows.items()))
    return {
        "replay_posts": dg.MetadataValue.int(done.posts),
        "replay_skipped": dg.MetadataValue.int(done.skipped),
        "replay_retried": dg.MetadataValue.int(done.retried),
        "replay_rows": dg.MetadataValue.int(sum(done.rows.values())),
        "replay_written": dg.MetadataValue.text(written or "nothing: no row differed"),
        "replay_seconds": dg.MetadataValue.float(round(done.seconds, 3)),
    }


def last_errors(engine: Engine) -> Metadata:
    """The events received last of which nothing could be made, as a table; nothing without any."""
    with engine.connect() as connection:
        found = _last_errors(connection)
    if not found:
        return {}
    names = ("received_at", "instance", "event", "id", "error")
    records = [dg.TableRecord({n: str(v) for n, v in zip(names, r, strict=True)}) for r in found]
    schema = dg.TableSchema([dg.TableColumn(name) for name in names])
    return {"last_errors": dg.MetadataValue.table(records, schema)}


def _last_errors(connection: Connection) -> list[Row[tuple[object, ...]]]:
    return list(
        connection.execute(
            text(
                "SELECT e.received_at, i.base_url, e.event_type, e.id, e.process_error"
                f" FROM {name_of(stream_events)} AS e"
                f" LEFT JOIN {name_of(instances)} AS i ON i.id = e.instance_id"
                " WHERE e.process_error IS NOT NULL"
                " ORDER BY e.received_at DESC, e.id DESC LIMIT :most"
            ),
            {"most": MOST_ERRORS},
        )
    )


def _estimates(engine: Engine) -> Mapping[str, int]:
    """About how many rows each processed table has: counting them would take as long as they do."""
    names = [table.name for table in system.processed]
    with engine.connect() as connection:
        found = connection.execute(
            text(
                "SELECT relname, CAST(reltuples AS bigint) FROM pg_class"
                " WHERE relnamespace = to_regnamespace(:schema) AND relname = ANY (:names)"
                " AND reltuples >= 0"
            ),
            {"schema": f'"{system.metadata.schema}"', "names": names},
        )
        return {row[0]: row[1] for row in found}


def _window_of(config: ProcessingConfig) -> tuple[datetime | None, datetime | None] | None:
    """The window to replay; None where there is nothing to. Raises dagster.Failure."""
    start, end = _moment(config.replay_from, "replay_from"), _moment(config.replay_to, "replay_to")
    if start is None and end is None:
        return (None, None) if config.replay_all else None
    if config.replay_all:
        raise dg.Failure(
            "replay_all is everything that is kept; leave out replay_from and replay_to, or it",
            allow_retries=False,
        )
    if start is not None and end is not None and start >= end:
        raise dg.Failure(
            f"replay_from ({start}) has to come before replay_to ({end})", allow_retries=False
        )
    return start, end


def _moment(written: str | None, name: str) -> datetime | None:
    if written is None or not written.strip():
        return None
    try:
        moment = datetime.fromisoformat(written.strip())
    except ValueError as error:
        raise dg.Failure(
            f"{name}: expected {_A_MOMENT}, but it is {written!r}; correct the run config",
            allow_retries=False,
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

"""What tests of the sensor `alerts` share: looks, incidents, and events of the log's own making."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.remote_origin import RegisteredCodeLocationOrigin
from sqlalchemy import text

from tallykeeper.dagster.checks import MATCHES_SOURCE
from tallykeeper.dagster.database import Database
from tallykeeper.dagster_names import RESOURCE, prefixed
from tallykeeper.faults import incidents
from tallykeeper.faults.incidents import Incident
from tests.dagster.location import Location

SENSOR = "alerts"


def look(
    location: Location, cursor: str | None = None, database: Database | None = None
) -> SensorExecutionData:
    """One look of the sensor, as the daemon has it: in a process that remembers nothing."""
    definitions = location.definitions
    with dg.build_sensor_context(
        instance=location.instance,
        cursor=cursor,
        repository_def=definitions.get_repository_def(),
        resources={RESOURCE: database or location.database},
    ) as context:
        if location.name is not None:
            context._code_location_origin = RegisteredCodeLocationOrigin(location.name)
        ticked: SensorExecutionData = definitions.resolve_sensor_def(
            prefixed(SENSOR)
        ).evaluate_tick(context)
        return ticked


def look_over(location: Location) -> None:
    """Have all that other tests left in the instance's log processed, long ago, and forgotten."""
    look(location)
    location.execute(
        "DELETE FROM tallykeeper.incidents",
        # Else each look of the test would read all of it again, for what may still appear behind.
        "UPDATE tallykeeper.processed_events SET processed_at = now() - interval '1 hour'",
    )


def all_incidents(location: Location) -> list[Incident]:
    """Open ones first."""
    with location.engine.connect() as connection:
        return incidents.listed(connection)


def evaluated(location: Location, table: str, check: str, *, passed: bool, **metadata: Any) -> None:
    """An evaluation of a check that no run made: of one key, where it failed `matches_source`."""
    if check == MATCHES_SOURCE and not passed:
        metadata = {"differing": 1, **metadata}
    location.instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey(["media", table]),
            check_name=check,
            passed=passed,
            metadata=metadata,
        )
    )


class Log:
    """The instance's event log, into which events can be written out of order."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.storage: Any = instance.event_log_storage

    def last(self) -> int:
        """The latest evaluation of a check."""
        return int(
            self._run(
                "SELECT max(id) FROM event_logs WHERE dagster_event_type = 'ASSET_CHECK_EVALUATION'"
            )
        )

    def reserve(self) -> int:
        """A place in the log that is given out, and not yet written."""
        return int(self._run("SELECT nextval('event_logs_id_seq')"))

    @contextmanager
    def hidden(self, event: int, place: int) -> Iterator[None]:
        """Inside the block the event is not there yet; it appears in an earlier place after it."""
        self._run(f"UPDATE event_logs SET id = -{place} WHERE id = {event} RETURNING id")
        yield
        self._run(f"UPDATE event_logs SET id = {place} WHERE id = -{place} RETURNING id")

    def repeat(self, event: int, times: int) -> None:
        """Write the same event so many times again."""
        columns = "run_id, event, dagster_event_type, timestamp, step_key, asset_key, partition"
        self._run(
            f"INSERT INTO event_logs ({columns}) SELECT {columns} FROM event_logs,"
            f" generate_series(1, {times}) WHERE id = {event} RETURNING id"
        )

    def _run(self, statement: str) -> Any:
        with self.storage.index_connection() as connection:
            return connection.execute(text(statement)).scalar()

"""Dagster's storage in PostgreSQL: finds its database by itself, and keeps its connections.

`dagster.yaml` names it, so every process of Dagster has it, however it was started. The database is
the one that DAGSTER_PG_URL names, else the tallies' own, which may be the embedded one: its schema
`dagster`. Invariants: nothing connects, and no server is started, before something is read or
written, so that definitions are listed and checked without a database; a connection that the server
has closed meanwhile is never handed out.

Dagster's own class connects anew for every event, and a run has hundreds: a server takes longer to
begin a connection than to write an event.
"""

from __future__ import annotations

import os
import threading
from typing import Any

from dagster import DagsterEventType, EventLogEntry, Field, StringSource, deserialize_value
from dagster_postgres import (
    DagsterPostgresStorage,
    PostgresEventLogStorage,
    PostgresRunStorage,
    PostgresScheduleStorage,
)
from sqlalchemy import Engine, create_engine, delete, make_url, select
from sqlalchemy.event import listen
from sqlalchemy.exc import SQLAlchemyError

from tallykeeper.dagster._internals import (
    ConfigurableClassData,
    UserConfigSchema,
    without_partitions,
)
from tallykeeper.dagster._internals.storage import check_executions, use_engine
from tallykeeper.database.connections import (
    EVENT_BATCH_SIZE,
    DatabaseUnavailable,
    close_with_embedded,
    dagster_storage_url,
)

PLANNED = "PLANNED"
_ENDED = (
    DagsterEventType.RUN_SUCCESS,
    DagsterEventType.RUN_FAILURE,
    DagsterEventType.RUN_CANCELED,
)
_STEP_FAILURE = DagsterEventType.STEP_FAILURE
_KEPT_CONNECTIONS = 2
_DRIVER = "postgresql+psycopg2://"


class _KeptEngine:
    """An engine that learns its address when it first connects, and makes the tables then."""

    def __init__(self, address: str | None) -> None:
        self._address = address
        self._ready = False
        self._lock = threading.Lock()
        self.engine: Engine = create_engine(
            _DRIVER,
            isolation_level="AUTOCOMMIT",
            pool_size=_KEPT_CONNECTIONS,
            # As many as are wanted at once; those beyond the kept ones are closed after use.
            max_overflow=-1,
            pool_pre_ping=True,
            pool_use_lifo=True,
        )
        listen(self.engine, "do_connect", self._connect)
        close_with_embedded(self.engine)

    def _connect(self, dialect: Any, *_: object) -> Any:
        try:
            address = self._prepared()
        except (DatabaseUnavailable, SQLAlchemyError) as error:
            # What Dagster expects, tries again a few times, and survives.
            raise dialect.dbapi.OperationalError(str(error)) from error
        arguments, options = dialect.create_connect_args(make_url(address))
        return dialect.connect(*arguments, **options)

    def _prepared(self) -> str:
        with self._lock:
            address = self._address = self._address or dagster_storage_url()
            if not self._ready:
                # It makes the tables where there are none.
                DagsterPostgresStorage(address)
                self._ready = True
            return address


class _EventLog(PostgresEventLogStorage):
    """The event log; of a run over many partitions it has what is said of all of them at once."""

    @property
    def supports_partition_subset_in_asset_materialization_planned_events(self) -> bool:
        # One event for the asset. By itself Dagster plans each partition: minutes before a run over
        # thousands starts, and all of them red when it is cancelled, though a partition is replaced
        # in one transaction and is as right as it was.
        return True

    def store_event(self, event: EventLogEntry) -> None:
        super().store_event(event)
        if event.dagster_event_type in _ENDED:
            self._forget_unevaluated(event.run_id)

    def _store_asset_check_evaluation_planned(
        self, event: EventLogEntry, event_id: int | None
    ) -> None:
        # The checks judge the whole table: one evaluation, without a partition, will come.
        super()._store_asset_check_evaluation_planned(without_partitions(event), event_id)

    def _forget_unevaluated(self, run_id: str) -> None:
        """Delete what is left of checks that an ended run did not come to.

        The UI would show them as skipped, above the last evaluation. One whose own step failed
        stays, as failed.
        """
        columns = check_executions.c
        failed = {
            record.step_key for record in self.get_logs_for_run(run_id, of_type=_STEP_FAILURE)
        }
        with self.index_connection() as connection:
            planned = connection.execute(
                select(columns.id, columns.evaluation_event).where(
                    columns.run_id == run_id, columns.execution_status == PLANNED
                )
            )
            unevaluated = [
                row.id
                for row in planned
                if deserialize_value(row.evaluation_event, EventLogEntry).step_key not in failed
            ]
            if unevaluated:
                connection.execute(delete(check_executions).where(columns.id.in_(unevaluated)))

    def optimize_for_webserver(self, *_: object, **__: object) -> None: ...

    def dispose(self) -> None:
        super().dispose()
        self._engine.dispose()


class _Runs(PostgresRunStorage):
    def optimize_for_webserver(self, *_: object, **__: object) -> None: ...


class _Schedules(PostgresScheduleStorage):
    def optimize_for_webserver(self, *_: object, **__: object) -> None: ...


class KeptStorage(DagsterPostgresStorage):
    """Dagster's storage in PostgreSQL, over connections that are kept while the instance is open.

    `postgres_url` in the config is for those who want another database than the settings name.
    """

    def __init__(
        self, postgres_url: str | None = None, inst_data: ConfigurableClassData | None = None
    ) -> None:
        super().__init__(_DRIVER, should_autocreate_tables=False, inst_data=inst_data)
        self._event_log_storage = _EventLog(_DRIVER, should_autocreate_tables=False)
        self._run_storage = _Runs(_DRIVER, should_autocreate_tables=False)
        self._schedule_storage = _Schedules(_DRIVER, should_autocreate_tables=False)
        kept = _KeptEngine(postgres_url)
        for storage in (self._event_log_storage, self._run_storage, self._schedule_storage):
            use_engine(storage, kept.engine)
        os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", EVENT_BATCH_SIZE)

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        return {"postgres_url": Field(StringSource, is_required=False)}

    @classmethod
    def from_config_value(  # type: ignore[override]
        cls, inst_data: ConfigurableClassData | None, config_value: dict[str, str]
    ) -> KeptStorage:
        return cls(config_value.get("postgres_url"), inst_data)

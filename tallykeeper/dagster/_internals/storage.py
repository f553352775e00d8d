"""The parts of Dagster's storage that it does not promise to keep; they bring Alembic along."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    SqlEventLogStorageTable,
)
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._core.storage.runs.schema import RunsTable
from sqlalchemy import Connection, Engine

__all__ = ["check_executions", "event_logs", "runs", "storage_connection", "use_engine"]

check_executions = AssetCheckExecutionsTable
"""The table of checks that were planned and evaluated. No API deletes from it."""

event_logs = SqlEventLogStorageTable
"""The table of events. No API says which run an event is of."""

runs = RunsTable
"""The table of runs."""


def use_engine(storage: object, engine: Engine) -> None:
    """Make a storage of dagster-postgres use this engine instead of one that keeps nothing."""
    storage._engine = engine  # type: ignore[attr-defined]  # noqa: SLF001 -- there is no public way


@contextmanager
def storage_connection(instance: dg.DagsterInstance) -> Iterator[Connection]:
    """Connect to Dagster's storage; each statement is a transaction of its own.

    Raises dg.Failure where the storage is no database.
    """
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        raise dg.Failure(
            f"expected Dagster's storage to be a database, but it is {type(storage).__name__};"
            " use the project's dagster.yaml"
        )
    with storage.index_connection() as connection:
        yield connection

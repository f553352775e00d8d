"""Observations of source tables: about how many rows each has, and how many were written so far.

Both are PostgreSQL's own statistics, read without a lock. A source is observed again where one of
them changed, so the time of its last observation says when it was last written, to the hour.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import dagster as dg
from sqlalchemy import Engine, text

from tallykeeper import System
from tallykeeper.dagster.metadata import columns
from tallykeeper.database import sql
from tallykeeper.database.sql_files import sql_file

ROWS = "rows_estimated"
WRITTEN = "rows_written"
_STATISTICS = text(sql_file(__name__, "source_rows"))


@dataclass(frozen=True)
class SourceRows:
    """Of one table with its partitions.

    `rows` is as of the last ANALYZE, None before the first; `written` counts rows inserted, updated
    and deleted since statistics were last reset.
    """

    rows: int | None
    written: int

    def as_metadata(self) -> dict[str, dg.MetadataValue]:
        """Plain numbers, which the UI plots over time."""
        found = {WRITTEN: dg.MetadataValue.int(self.written)}
        if self.rows is not None:
            found[ROWS] = dg.MetadataValue.int(self.rows)
        return dict(found)


def observe(
    instance: dg.DagsterInstance, engine: Engine, systems: Sequence[System]
) -> Iterator[dg.AssetObservation]:
    """An observation of each source that was written, or counted anew, since its last one."""
    keys = {
        sql.name_of(source): columns.key_of_table(system.tallies, source)
        for system in systems
        for source in system.sources
    }
    with engine.connect() as connection:
        found = connection.execute(_STATISTICS, {"names": list(keys)}).all()
    for name, rows, written in found:
        metadata = SourceRows(rows, written).as_metadata()
        if _latest(instance, keys[name]) != metadata:
            yield dg.AssetObservation(keys[name], metadata=metadata)


def _latest(instance: dg.DagsterInstance, key: dg.AssetKey) -> dict[str, dg.MetadataValue]:
    for record in instance.fetch_observations(key, limit=1).records:
        observation = record.asset_observation
        if observation is not None:
            return dict(observation.metadata)
    return {}

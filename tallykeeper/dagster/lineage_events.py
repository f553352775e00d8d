"""OpenLineage events of what writes a tally, sent by OpenLineage's own client.

Off unless one of the client's own settings says where to send them. Invariant: nothing fails and
nothing is undone because an event cannot be sent; the run's log says so, once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING
from uuid import UUID, uuid5

import dagster as dg
from sqlalchemy import Engine, Table

from tallykeeper import Tally, extras
from tallykeeper.dagster.metadata import columns
from tallykeeper.operations.masking import masked

if TYPE_CHECKING:
    from openlineage.client import OpenLineageClient
    from openlineage.client.event_v2 import RunEvent, RunState
    from openlineage.client.facet_v2 import DatasetFacet

SETTINGS = ("OPENLINEAGE_URL", "OPENLINEAGE_CONFIG", "OPENLINEAGE__TRANSPORT__TYPE")
NAMESPACE = "OPENLINEAGE_NAMESPACE"
_PORT = 5432


@dataclass
class Written:
    """What is said of a tally that was written: how many rows it has now; None: not known."""

    rows: int | None = None


@contextmanager
def reported(
    context: dg.OpExecutionContext | dg.AssetExecutionContext, engine: Engine, tally: Tally
) -> Iterator[Written]:
    """Send that writing the tally begins, and how it ends: with the block, or with its error."""
    written = Written()
    if not any(os.environ.get(name) for name in SETTINGS):
        yield written
        return
    sender = _Sender(context, engine, tally)
    sender.send("START", written)
    try:
        yield written
    except Exception as error:
        sender.send("FAIL", written, error)
        raise
    sender.send("COMPLETE", written)


class _Sender:
    """The client, until the first event that it cannot send."""

    def __init__(
        self,
        context: dg.OpExecutionContext | dg.AssetExecutionContext,
        engine: Engine,
        tally: Tally,
    ) -> None:
        self._context, self._engine, self._tally = context, engine, tally
        self._client: OpenLineageClient | None = None
        self._is_lost = False

    def send(self, state: str, written: Written, error: Exception | None = None) -> None:
        if self._is_lost:
            return
        try:
            extras.require("openlineage")
            from openlineage.client import OpenLineageClient
            from openlineage.client.event_v2 import RunState

            self._client = self._client or OpenLineageClient()
            self._client.emit(self._event(RunState[state], written, error))
        except Exception as failure:  # noqa: BLE001 -- whatever a transport of theirs raises
            self._is_lost = True
            what = masked(str(failure))
            self._context.log.warning("%s: no OpenLineage event: %s", self._tally.name, what)

    def _event(self, state: RunState, written: Written, error: Exception | None) -> RunEvent:
        from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent
        from openlineage.client.facet_v2 import (
            JobFacet,
            OutputDatasetFacet,
            RunFacet,
            error_message_run,
            job_type_job,
            output_statistics_output_dataset,
            parent_run,
            set_producer,
            sql_job,
        )

        tally, run = self._tally, self._context.run
        producer = f"urn:tallykeeper:{version('tallykeeper')}"
        set_producer(producer)
        namespace = os.environ.get(NAMESPACE) or "tallykeeper"
        parent = parent_run.ParentRunFacet(
            parent_run.Run(run.run_id), parent_run.Job(namespace, run.job_name)
        )
        of_run: dict[str, RunFacet] = {"parent": parent}
        if error is not None:
            said = masked(str(error))
            of_run["errorMessage"] = error_message_run.ErrorMessageRunFacet(said, "python")
        of_job: dict[str, JobFacet] = {
            "sql": sql_job.SQLJobFacet(tally.definition, "postgresql"),
            "jobType": job_type_job.JobTypeJobFacet("BATCH", "TALLYKEEPER", "TALLY"),
        }
        of_output: dict[str, OutputDatasetFacet] = {}
        if written.rows is not None:
            of_output["outputStatistics"] = (
                output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(written.rows)
            )
        place = _place(self._engine)
        return RunEvent(
            eventTime=datetime.now(UTC).isoformat(),
            producer=producer,
            eventType=state,
            run=Run(str(uuid5(UUID(run.run_id), tally.name)), of_run),
            job=Job(namespace, tally.name, of_job),
            inputs=[InputDataset(place, self._name(source)) for source in tally.sources],
            outputs=[
                OutputDataset(
                    place, self._name(tally.table), of_output, facets=self._of_columns(place)
                )
            ],
        )

    def _name(self, table: Table) -> str:
        return f"{self._engine.url.database}.{columns.table_name(table)}"

    def _of_columns(self, place: str) -> dict[str, DatasetFacet]:
        from openlineage.client.facet_v2 import column_lineage_dataset, schema_dataset

        tally = self._tally
        sources = {
            columns.key_of_table(tally.siblings, source): self._name(source)
            for source in tally.sources
        }
        lineage = {
            name: column_lineage_dataset.Fields(
                [
                    column_lineage_dataset.InputField(
                        place, sources[dep.asset_key], dep.column_name
                    )
                    for dep in deps
                ]
            )
            for name, deps in columns.lineage(tally).deps_by_column.items()
        }
        fields = [
            schema_dataset.SchemaDatasetFacetFields(each.name, each.type, each.description)
            for each in columns.schema_of_table(tally.table).columns
        ]
        return {
            "schema": schema_dataset.SchemaDatasetFacet(fields),
            "columnLineage": column_lineage_dataset.ColumnLineageDatasetFacet(lineage),
        }


def _place(engine: Engine) -> str:
    """The namespace of the database's tables, as OpenLineage names those of PostgreSQL."""
    host = engine.url.host or engine.url.query.get("host") or "localhost"
    port = engine.url.port or engine.url.query.get("port") or _PORT
    return f"postgres://{host}:{port}"

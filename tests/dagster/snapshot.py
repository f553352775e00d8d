"""The whole code location as text, so that an accidental change of it is a difference in review.

`python -m tests.dagster.snapshot` writes the file that the test compares with.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import dagster as dg

from tallykeeper.dagster.metadata.code_references import CODE_REFERENCES

FILE = Path(__file__).with_name("definitions.json")


def described(definitions: dg.Definitions) -> str:
    """All assets, checks, jobs, schedules and sensors, as JSON with sorted keys."""
    graph = definitions.resolve_asset_graph()
    whole = {
        "assets": {_name(node.key): _asset(node) for node in graph.asset_nodes},
        "checks": {
            f"{_name(key.asset_key)}: {key.name}": _check(graph, key)
            for key in graph.asset_check_keys
        },
        "jobs": {job: _job(definitions, job) for job in _jobs(definitions)},
        "schedules": {s.name: _schedule(s) for s in definitions.schedules or []},
        "sensors": {s.name: _sensor(s) for s in definitions.sensors or []},
    }
    return json.dumps(whole, indent=2, sort_keys=True) + "\n"


def _without_start(partitions: str) -> str:
    # Tests let their partitions begin with their rows.
    return re.sub(r"starting \d{4}-\d\d-\d\d", "starting on the first day", partitions)


def _asset(node: Any) -> dict[str, Any]:
    metadata = dict(node.metadata)
    schema = metadata.pop("dagster/column_schema", None)
    # A path of this machine.
    metadata.pop(CODE_REFERENCES, None)
    partitions = node.partitions_def
    return {
        "backfill": str(node.backfill_policy) if node.backfill_policy else None,
        "columns": {c.name: _column(c) for c in schema.columns} if schema else None,
        "description": node.description,
        "external": not node.is_executable,
        "fresh": str(node.freshness_policy) if node.freshness_policy else None,
        "group": node.group_name,
        "kinds": sorted(node.kinds),
        "metadata": metadata,
        "partitions": _without_start(str(partitions)) if partitions else None,
        "parents": sorted(_name(key) for key in node.parent_keys),
        "versioned": node.code_version is not None,
        "tags": {k: v for k, v in node.tags.items() if not k.startswith("dagster/kind/")},
    }


def _column(column: dg.TableColumn) -> str:
    words = [column.type]
    words += ["not null"] if not column.constraints.nullable else []
    words += ["unique"] if column.constraints.unique else []
    return ", ".join(words) + (f" -- {column.description}" if column.description else "")


def _check(graph: Any, key: dg.AssetCheckKey) -> dict[str, Any]:
    spec = graph.get_check_spec(key)
    return {"blocking": spec.blocking, "description": spec.description}


def _job(definitions: dg.Definitions, name: str) -> dict[str, Any]:
    job = definitions.resolve_job_def(name)
    return {
        "config": job.run_config,
        "description": job.description,
        "executor": job.executor_def.name,
        "partitions": _without_start(str(job.partitions_def)) if job.partitions_def else None,
        "steps": sorted(node.name for node in job.nodes),
    }


def _schedule(schedule: Any) -> dict[str, Any]:
    return {
        "cron": schedule.cron_schedule,
        "description": schedule.description,
        "job": schedule.job_name,
        "status": schedule.default_status.value,
        "timezone": schedule.execution_timezone,
    }


def _sensor(sensor: Any) -> dict[str, Any]:
    return {
        "description": sensor.description,
        "every_seconds": sensor.minimum_interval_seconds,
        "jobs": sorted(target.job_name for target in sensor.targets),
        "status": sensor.default_status.value,
    }


def _jobs(definitions: dg.Definitions) -> list[str]:
    return [job.name for job in definitions.jobs or []]


def _name(key: dg.AssetKey) -> str:
    return key.to_user_string()


if __name__ == "__main__":
    from tallykeeper.dagster import code_location

    # As in the tests: the default is of this year.
    os.environ["TALLY_START_DATE"] = "2015-01-01"
    FILE.write_text(described(code_location.definitions()))

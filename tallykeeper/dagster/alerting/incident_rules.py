"""From an event to an incident: which subject and kind it is of, and what is recorded.

A check that failed opens the incident or counts it, one that passed resolves it; so do runs. Which
events there are is `hearing`'s business. Only assets, checks and jobs of this code location count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
from dagster import EventLogRecord
from sqlalchemy import Connection

from tallykeeper import Tally
from tallykeeper.dagster._internals import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)
from tallykeeper.dagster.alerting import event_log_reader, expected_warnings
from tallykeeper.dagster.alerting.ownership import Own
from tallykeeper.dagster.automation.jobs import AUDIT
from tallykeeper.dagster.automation.repair_requests import INCIDENT_TAG
from tallykeeper.dagster.checks import CAPTURE_INTACT, FRESH, MATCHES_SOURCE
from tallykeeper.dagster.inventory import NEWS
from tallykeeper.dagster_names import REPAIR, prefixed
from tallykeeper.faults import incidents
from tallykeeper.faults.incidents import Incident
from tallykeeper.maintain.audit import audit_of
from tallykeeper.operations.likely_cause import likely_cause
from tallykeeper.operations.masking import masked

MOST_KEYS = 10
MOST_OPEN = 10_000
# In the details of a repair that broke off: what it was to repair.
INCIDENT = "incident"
# In the details of a failed run: the first and the last partition that it was asked for.
PARTITIONS = "partitions"
KINDS = {
    MATCHES_SOURCE: incidents.DIFFERS,
    CAPTURE_INTACT: incidents.CAPTURE,
    FRESH: incidents.PENDING,
}
ASSET_JOB = "__ASSET_JOB"
_LONGEST_LINE = 300


@dataclass(frozen=True)
class Place:
    """This code location: what is its own, and the warnings that are expected of it."""

    name: str | None
    sensor: str
    repository: dg.RepositoryDefinition
    own: Own
    expected: Mapping[str, str] = field(default_factory=dict)

    def covered(self, run: dg.DagsterRun) -> list[str] | None:
        """The assets that a run materializes, as `media/daily_contributions`; None: not our run."""
        origin = run.remote_job_origin
        if self.name is not None and origin is not None and origin.location_name != self.name:
            return None
        if not self.repository.has_job(run.job_name):
            return None
        keys, checks = run.asset_selection, run.asset_check_selection or frozenset()
        if not keys and not checks:
            keys = self.repository.get_job(run.job_name).asset_layer.selected_asset_keys
        covered = self.own.assets & (keys or frozenset())
        if run.job_name not in self.own.names and not covered and not self.own.checks & checks:
            return None
        return sorted(key.to_user_string() for key in covered)


def place_of(context: dg.SensorEvaluationContext, sensor: str, own: Own) -> Place:
    """The code location that the sensor of that name is in, of which `own` is ours."""
    repository = context.repository_def
    if repository is None:
        raise dg.DagsterInvariantViolationError("a sensor is evaluated with its repository")
    origin = context.code_location_origin
    name = origin.location_name if origin is not None else None
    return Place(name, sensor, repository, own, expected_warnings.expected(context.instance))


def find(
    instance: dg.DagsterInstance,
    connection: Connection,
    place: Place,
    events: event_log_reader.NewEvents,
) -> set[int]:
    """Turn new events into incidents, opened, counted or resolved; the ids of those found."""
    is_open = {(i.subject, i.kind) for i in _open(connection)}
    found: list[Incident | None] = []
    for record in events.fresh:
        if event_log_reader.kind_of(record) is not event_log_reader.CHECKED:
            found.append(_run(instance, connection, place, record))
            continue
        found.append(_evaluation(connection, place, record, is_open))
        later = events.known.get(event_log_reader.evaluation_of(record).asset_check_key)
        # Of one that appeared late, what came after it and was processed before it counts.
        if later is not None and later.storage_id > record.storage_id:
            _overtaken(connection, place, later, is_open)
    _settle_repairs(connection)
    return {incident.id for incident in found if incident is not None}


def _evaluation(
    connection: Connection, place: Place, record: EventLogRecord, is_open: set[tuple[str, str]]
) -> Incident | None:
    evaluation = event_log_reader.evaluation_of(record)
    if evaluation.asset_check_key not in place.own.checks:
        return None
    metadata: dict[str, Any] = {name: value.value for name, value in evaluation.metadata.items()}
    tally = place.own.tallies.get(evaluation.asset_key)
    subject = tally.name if tally is not None else ".".join(evaluation.asset_key.path)
    kind = KINDS.get(evaluation.check_name, evaluation.check_name)
    at = event_log_reader.time_of(record)
    if evaluation.passed:
        incidents.resolve(connection, subject, kind, f"the check {evaluation.check_name}", at=at)
        is_open.discard((subject, kind))
        return None
    if _is_stale(evaluation) or _is_no_news(record, metadata):
        return None
    if expected_warnings.is_expected(place.expected, evaluation):
        return None
    # Asked once: what is found again has its cause, and evidence may be of the repair by then.
    is_new = (subject, kind) not in is_open
    is_open.add((subject, kind))
    return incidents.report(
        connection,
        subject,
        kind,
        evaluation.description or f"the check {evaluation.check_name} failed",
        cause=_cause(connection, tally, kind, metadata) if is_new else None,
        differing=metadata.get("differing"),
        details=_details(record, evaluation, metadata),
        at=at,
    )


def _overtaken(
    connection: Connection, place: Place, later: EventLogRecord, is_open: set[tuple[str, str]]
) -> None:
    if event_log_reader.evaluation_of(later).passed:
        _evaluation(connection, place, later, is_open)


def _settle_repairs(connection: Connection) -> None:
    """A repair that broke off is no matter any more once what it was to repair is right."""
    known = _open(connection)
    still_open = {str(incident.id) for incident in known}
    for failed in known:
        repaired = failed.details.get(INCIDENT)
        if failed.kind == incidents.RUN and repaired and repaired not in still_open:
            by = "what it was to repair is right again"
            incidents.resolve(connection, failed.subject, incidents.RUN, by)


def _open(connection: Connection) -> list[Incident]:
    return incidents.listed(connection, open_only=True, limit=MOST_OPEN)


def _is_stale(evaluation: dg.AssetCheckEvaluation) -> bool:
    """Whether there is nothing to compare yet: that is how things go, or the engine records it."""
    return (
        evaluation.check_name == MATCHES_SOURCE
        and evaluation.severity is dg.AssetCheckSeverity.WARN
    )


def _is_no_news(record: EventLogRecord, metadata: Mapping[str, Any]) -> bool:
    """Whether all that an inventory lists is an incident of its own, or will be.

    In the audit it runs beside the checks that find the same, which are not processed yet. What
    they do not find, the next inventory finds.
    """
    news = metadata.get(NEWS)
    return news is not None and (news == 0 or record.event_log_entry.job_name == prefixed(AUDIT))


def _cause(
    connection: Connection, tally: Tally | None, kind: str, metadata: Mapping[str, Any]
) -> str | None:
    if kind == incidents.CAPTURE:
        faults: str | None = metadata.get("what")
        return faults
    if kind == incidents.DIFFERS and tally is not None:
        return likely_cause(connection, tally)
    return None


def _details(
    record: EventLogRecord, evaluation: dg.AssetCheckEvaluation, metadata: Mapping[str, Any]
) -> dict[str, Any]:
    details: dict[str, Any] = {
        "check": evaluation.check_name,
        "asset": "/".join(evaluation.asset_key.path),
        "evaluation": record.storage_id,
        "run": record.run_id,
        "job": record.event_log_entry.job_name,
    }
    details |= {
        k: metadata[k] for k in ("windows", "to_resolve", incidents.REPAIR) if k in metadata
    }
    table = evaluation.metadata.get("keys")
    if isinstance(table, dg.TableMetadataValue):
        details["keys"] = [dict(record.data) for record in table.records[:MOST_KEYS]]
    return details


def _run(
    instance: dg.DagsterInstance, connection: Connection, place: Place, record: EventLogRecord
) -> Incident | None:
    run = instance.get_run_by_id(record.run_id)
    covered = place.covered(run) if run is not None else None
    if run is None or covered is None:
        return None
    subject = _run_subject(run, covered)
    at = event_log_reader.time_of(record)
    if event_log_reader.kind_of(record) is event_log_reader.RUN_FAILED:
        if run.job_name == prefixed(REPAIR) and INCIDENT_TAG not in run.tags:
            return None  # Somebody who wrote its config is looking at it.
        details: dict[str, Any] = {"run": run.run_id, "job": run.job_name, "assets": covered}
        partitions = _partitions(run)
        if partitions is not None:
            details[PARTITIONS] = list(partitions)
        if INCIDENT_TAG in run.tags:
            details[INCIDENT] = run.tags[INCIDENT_TAG]
        what = _what_failed(instance, record)
        return incidents.report(connection, subject, incidents.RUN, what, details=details, at=at)
    known = _open(connection)
    differing = {i.subject for i in known if i.kind == incidents.DIFFERS}
    for failed in known:
        if failed.kind == incidents.RUN and (
            _resolves(run, subject, covered, failed)
            or _needs_no_more(connection, place, failed, differing)
        ):
            incidents.resolve(
                connection, failed.subject, incidents.RUN, f"a run of {subject}", at=at
            )
    return None


def _run_subject(run: dg.DagsterRun, covered: Sequence[str]) -> str:
    if run.job_name != ASSET_JOB:
        return run.job_name
    if covered:
        partitions = " to ".join(dict.fromkeys(_partitions(run) or ()))
        names = ", ".join(name.replace("/", ".") for name in covered)
        return f"materialize {names}{f' ({partitions})' if partitions else ''}"
    checks = sorted(run.asset_check_selection or (), key=str)
    return "check " + ", ".join(f"{'.'.join(c.asset_key.path)}: {c.name}" for c in checks)


def _partitions(run: dg.DagsterRun) -> tuple[str, str] | None:
    """The first and the last partition that somebody asked to be materialized; None: no such.

    The hourly jobs take what is pending, whatever partition they are launched for.
    """
    if run.job_name != ASSET_JOB:
        return None
    one = run.tags.get(PARTITION_NAME_TAG)
    first = run.tags.get(ASSET_PARTITION_RANGE_START_TAG, one)
    last = run.tags.get(ASSET_PARTITION_RANGE_END_TAG, one)
    return (first, last) if first and last else None


def _resolves(run: dg.DagsterRun, subject: str, covered: Sequence[str], failed: Incident) -> bool:
    """Whether the run did what the one that failed was to do."""
    wanted = failed.details.get(PARTITIONS)
    if wanted:
        done = _partitions(run)
        if done is None or not done[0] <= wanted[0] <= wanted[1] <= done[1]:
            return False
    assets = failed.details.get("assets") or []
    return failed.subject == subject or (bool(assets) and set(assets) <= set(covered))


def _needs_no_more(
    connection: Connection, place: Place, failed: Incident, differing: Set[str]
) -> bool:
    """Whether what was to be rebuilt has since been found right, all keys of it."""
    if PARTITIONS not in failed.details:
        return False
    names = {name.replace("/", ".") for name in failed.details.get("assets") or ()}
    if names & differing:
        return False
    audits = [audit_of(connection, t) for t in place.own.tallies.values() if t.name in names]
    return bool(audits) and all(
        audit is not None
        and audit.compared_since is not None
        and audit.compared_since > failed.last_found_at
        for audit in audits
    )


def _what_failed(instance: dg.DagsterInstance, record: EventLogRecord) -> str:
    """Which step failed, and the first line of its error; without one, what Dagster says."""
    failures = instance.all_logs(record.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    for entry in failures:
        event = entry.get_dagster_event()
        error = event.step_failure_data.error
        if error is None:
            continue
        # Dagster wraps what a step raised.
        raised = error.cause if error.cause and "ExecutionStep" in (error.cls_name or "") else error
        return f"the step {event.step_key} failed: {one_line(raised.message)}"
    said = record.event_log_entry.get_dagster_event().message or "the run failed"
    return one_line(said)


def one_line(text: str) -> str:
    """The first line of an error that says anything, without passwords, not too long."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "without a word")
    line = masked(line)
    return line if len(line) <= _LONGEST_LINE else line[: _LONGEST_LINE - 3] + "..."

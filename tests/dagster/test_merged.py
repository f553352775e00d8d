"""Tallies in a code location of others: with a prefix no name collides, and nothing is mixed up."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import Engine

from assets.media.tallies import system as media
from tallykeeper.dagster.code_location import assets_of
from tallykeeper.dagster.instance.housekeeping import why_not_read
from tallykeeper.dagster.partitions import daily
from tallykeeper.dagster_names import RESOURCE
from tallykeeper.database.sql import CLAIM_WRITING
from tallykeeper.settings import project_root
from tests.dagster.location import Location
from tests.dagster.watching import all_incidents, look
from tests.templates import migrated

PREFIX = "tk"
PROJECT = project_root()


@dg.asset(group_name="media")
def daily_contributions(database: dg.ResourceParam[str]) -> None:
    """A stranger's asset, in a group that is called as our system is."""
    raise ValueError(database)


@dg.asset_check(asset=daily_contributions)
def matches_source() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=False)


@dg.job
def repair() -> None:
    """A stranger's job."""


@dg.schedule(name="inventory", job_name="audit", cron_schedule="0 0 * * *")
def inventory() -> dg.SkipReason:
    return dg.SkipReason("never")


THEIRS = dg.Definitions(
    assets=[daily_contributions],
    asset_checks=[matches_source],
    jobs=[dg.define_asset_job("audit", [daily_contributions]), repair],
    schedules=[inventory],
    resources={"database": "a stranger's"},
    executor=dg.multiprocess_executor,
)


@dataclass(frozen=True)
class Merged(Location):
    """The systems beside the definitions of a stranger."""

    @property
    def definitions(self) -> dg.Definitions:
        return dg.Definitions.merge(THEIRS, super().definitions)


@pytest.fixture
def merged(
    instance: dg.DagsterInstance, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Merged:
    (tmp_path / "pyproject.toml").write_text(f'[tool.tallykeeper]\ndagster_prefix = "{PREFIX}"\n')
    monkeypatch.setenv("TALLY_PROJECT", str(tmp_path))
    migrated(engine, media)
    return Merged(instance, engine, [assets_of(media, daily())])


def test_without_a_prefix_the_same_names_are_refused(location: Location) -> None:
    with pytest.raises(dg.DagsterInvariantViolationError, match="executor"):
        dg.Definitions.merge(THEIRS, location.definitions)


def test_the_example_of_the_page_keeps_resource_executor_and_partitions_of_others(
    merged: Merged, tmp_path: Path
) -> None:
    declared = 'systems = ["assets.media:system"]\n'
    with (tmp_path / "pyproject.toml").open("a") as file:
        file.write(declared)
    page = (PROJECT / "docs/how-to/own-project.md").read_text(encoding="utf-8")
    example = page.partition('```python title="definitions.py"\n')[2].partition("```")[0]
    found: dict[str, Any] = {}
    code = compile(example, "definitions.py", "exec", dont_inherit=True)
    exec(code, found)  # noqa: S102 -- what the page says
    defs: dg.Definitions = found["defs"]
    dg.Definitions.validate_loadable(defs)
    assert defs.executor is dg.multiprocess_executor
    assert set(defs.resources or {}) == {"database", RESOURCE}
    report = defs.resolve_asset_graph().get(dg.AssetKey("report"))
    assert report.partitions_def is not None
    assert report.partitions_def.get_partition_keys() == ["de", "fr"]
    assert report.parent_keys == {dg.AssetKey(["tk", "shop", "revenue_daily"])}
    ours = defs.resolve_job_def(f"{PREFIX}_media_hourly")
    assert ours.executor_def.name == dg.in_process_executor.name
    assert merged.run(f"{PREFIX}_media_hourly").succeeded


def test_every_name_carries_the_prefix(merged: Merged) -> None:
    dg.Definitions.validate_loadable(merged.definitions)
    repository = merged.definitions.get_repository_def()
    ours = {"media_hourly", "audit", "inventory", "housekeeping", "repair"}
    assert {job.name for job in repository.get_all_jobs()} == {
        "__ASSET_JOB",
        "audit",
        "repair",
        *(f"{PREFIX}_{name}" for name in ours),
    }
    schedules = {schedule.name for schedule in repository.schedule_defs}
    assert schedules == {"inventory", "tk_inventory", "tk_media_hourly", "tk_housekeeping"}
    sensors = {sensor.name for sensor in repository.sensor_defs}
    assert sensors == {"tk_pending_pressure", "tk_alerts"}
    keys = {key.to_user_string() for key in repository.asset_graph.get_all_asset_keys()}
    assert keys == {
        "daily_contributions",
        "tk/media/media_files",
        "tk/media/daily_contributions",
        "tk/media/hourly_contributions",
        "tk/tallykeeper/incidents",
    }


def test_jobs_run_what_is_ours_alone(merged: Merged) -> None:
    merged.add("2025-06-01 12:00Z")
    for job in ("tk_media_hourly", "tk_audit", "tk_inventory"):
        assert merged.run(job).succeeded, job
    assert merged.instance.get_latest_materialization_event(daily_contributions.key) is None
    nightly = merged.definitions.resolve_job_def("tk_housekeeping")
    assert {node.name for node in nightly.nodes} == {"delete_old_incidents"}, "runs of others stay"


def test_what_fails_of_others_is_no_incident(merged: Merged) -> None:
    merged.build()
    look(merged)
    for job in ("audit", "__ASSET_JOB"):
        failed = merged.run(job, asset_selection=[daily_contributions.key])
        assert not failed.succeeded
    theirs = dg.AssetCheckEvaluation(
        asset_key=daily_contributions.key, check_name="matches_source", passed=False, metadata={}
    )
    merged.instance.report_runless_asset_event(theirs)
    look(merged)
    assert all_incidents(merged) == []


def test_what_is_wrong_is_found_and_repaired(merged: Merged) -> None:
    merged.add("2025-06-01 12:00Z", "2025-06-02 12:00Z")
    merged.build()
    look(merged)
    merged.execute(CLAIM_WRITING, "UPDATE media.daily_contributions SET count = 7")
    merged.audit()
    (request,) = look(merged).run_requests or ()
    assert request.job_name == "tk_repair"
    (open_one,) = all_incidents(merged)
    assert open_one.details["asset"] == "tk/media/daily_contributions"
    assert merged.run("tk_repair", request.run_config).succeeded
    look(merged)
    assert not any(incident.is_open for incident in all_incidents(merged))


def test_a_storage_that_does_not_say_which_one_it_is_is_not_read() -> None:
    storage = SimpleNamespace(is_run_sharded=False)
    unnamed: Any = SimpleNamespace(event_log_storage=storage, run_storage=SimpleNamespace())
    assert "as in Dagster+" in (why_not_read(unnamed) or "")


def test_an_instance_that_keeps_events_in_files_is_no_failure(location: Location) -> None:
    with dg.DagsterInstance.local_temp() as instance:
        own = replace(location, instance=instance)
        skipped = own.look("alerts")
        assert "name PostgreSQL as `storage` in its dagster.yaml" in skipped.skip_message
        nightly = own.run("housekeeping")
        assert nightly.succeeded
        assert "no run is deleted: Dagster keeps its events" in nightly.logged()

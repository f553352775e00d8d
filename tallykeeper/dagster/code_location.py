"""A Dagster code location: assets, checks, jobs, schedules and sensors of every chosen system.

Assembled by one function, so that tests and other code locations can swap the database. Loading
touches no database, and imports what is heavy (drawing, migrations) only where it is used.
"""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from tallykeeper import System
from tallykeeper.dagster import partitions
from tallykeeper.dagster.alerting.sensor import alerts
from tallykeeper.dagster.assets import SystemAssets, build_assets
from tallykeeper.dagster.automation import jobs, pressure_sensor, schedules
from tallykeeper.dagster.automation.repair_job import repair_job
from tallykeeper.dagster.database import Database
from tallykeeper.dagster.instance.housekeeping import housekeeping, housekeeping_schedule
from tallykeeper.dagster.inventory import incidents_asset, inventory_check
from tallykeeper.dagster.project_database import ProjectDatabase
from tallykeeper.dagster_names import RESOURCE
from tallykeeper.discovery import chosen_systems
from tallykeeper.settings import dagster_prefix


def definitions(
    *, systems: Sequence[System] | None = None, database: Database | None = None
) -> dg.Definitions:
    """Everything that Dagster runs, for `systems` (by default those that TALLY_SYSTEMS chooses).

    `database` is by default the one that the environment names when a run starts. With
    `dagster_prefix` in [tool.tallykeeper] every name carries it and there is no executor, so that
    `dagster.Definitions.merge` can put them together with others.

    Raises SettingError.
    """
    chosen = chosen_systems() if systems is None else systems
    daily = partitions.daily()
    return assemble([assets_of(system, daily) for system in chosen], database)


def assets_of(system: System, daily: dg.DailyPartitionsDefinition) -> SystemAssets:
    """What the module `assets` of the system's package builds, else the assets of its tallies."""
    part = system.part("assets")
    built: SystemAssets = part.build(daily) if part else build_assets(system, daily)
    return built


def assemble(
    built: Sequence[SystemAssets],
    database: Database | None = None,
    *,
    shared: bool | None = None,
) -> dg.Definitions:
    """The systems' assets and checks, with the jobs, schedules and sensors that run them.

    Those that are `shared` are merged with others: they have no executor, and delete no runs. They
    are by default if names have a prefix.
    """
    if shared is None:
        shared = bool(dagster_prefix())
    return dg.Definitions.merge(of_systems(built), of_location(built, database, shared=shared))


def of_systems(
    built: Sequence[SystemAssets], *, cron: str = schedules.EVERY_HOUR
) -> dg.Definitions:
    """What each system has for itself, but its hourly job; `cron` is when that runs."""
    assets: list[dg.AssetSpec | dg.AssetsDefinition] = []
    for system in built:
        assets += [*system.sources, *system.assets, *system.housekeeping]
    tidied = [system for system in built if system.housekeeping]
    return dg.Definitions(
        assets=assets,
        asset_checks=[check for system in built for check in system.checks],
        jobs=[jobs.daily(system) for system in tidied],
        schedules=[
            *(schedules.hourly_schedule(system, cron) for system in built),
            *(schedules.daily_schedule(system) for system in tidied),
        ],
    )


def of_location(
    built: Sequence[SystemAssets],
    database: Database | None,
    *,
    shared: bool,
    with_alerts: bool = True,
) -> dg.Definitions:
    """What a code location has once, for all its systems, with the jobs that its sensor starts.

    Without `with_alerts` nothing is reported, nor repaired.
    """
    hourly = [jobs.hourly(system) for system in built]
    inventory = inventory_check([system.system for system in built])
    nightly = housekeeping(shared=shared)
    checks = [*(check for system in built for check in system.checks), inventory]
    return dg.Definitions(
        assets=[incidents_asset()],
        asset_checks=[inventory],
        jobs=[*hourly, jobs.audit(checks), jobs.inventory(), nightly, repair_job(built)],
        schedules=[schedules.inventory_schedule(built), housekeeping_schedule(nightly)],
        sensors=[
            pressure_sensor.pending_pressure(built, hourly),
            *([alerts(built)] if with_alerts else []),
        ],
        resources={RESOURCE: database or ProjectDatabase()},
        # A process for each step would cost seconds, for steps that take milliseconds. Definitions
        # can be merged with others where these have an executor of their own.
        executor=None if shared else dg.in_process_executor,
    )

"""When it runs by itself: each system every hour, its housekeeping every night. On by default.

A system whose source tables are not in the database is passed over, with the reason on the tick;
that is looked up at the tick, never while definitions load.
"""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg
from sqlalchemy import Engine

from tallykeeper import System
from tallykeeper.dagster.assets import SystemAssets
from tallykeeper.dagster.automation.jobs import INVENTORY, daily_name, hourly_name
from tallykeeper.dagster.database import Database
from tallykeeper.dagster_names import prefixed
from tallykeeper.discovery import is_kept, missing_sources
from tallykeeper.places.finding import is_divided
from tallykeeper.settings import wanted_systems

EVERY_HOUR = "0 * * * *"
# When the refreshes of the hour are done.
AFTER_THE_REFRESHES = "20 * * * *"
# A quiet hour in UTC, and not on the hour, where the refreshes are.
EVERY_NIGHT = "30 1 * * *"


def hourly_schedule(built: SystemAssets, cron: str = EVERY_HOUR) -> dg.ScheduleDefinition:
    """The refresh of one system, by default every hour."""
    system = built.system

    @dg.schedule(
        name=hourly_name(system.name),
        job_name=hourly_name(system.name),
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=(
            f"{'Every hour' if cron == EVERY_HOUR else cron}: refresh the tallies of {system.name},"
            " and check them."
        ),
    )
    def every_hour(tally_database: Database) -> dg.RunRequest | dg.SkipReason:
        why_not = why_passed_over(tally_database.engine(), system)
        return dg.SkipReason(why_not) if why_not else refresh_request(built)

    return every_hour


def daily_schedule(built: SystemAssets) -> dg.ScheduleDefinition:
    """The nightly housekeeping of one system."""
    system = built.system

    @dg.schedule(
        name=daily_name(system.name),
        job_name=daily_name(system.name),
        cron_schedule=EVERY_NIGHT,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Every night: the housekeeping of {system.name}.",
    )
    def every_night(tally_database: Database) -> dg.RunRequest | dg.SkipReason:
        why_not = why_passed_over(tally_database.engine(), system)
        return dg.SkipReason(why_not) if why_not else dg.RunRequest()

    return every_night


def inventory_schedule(systems: Sequence[SystemAssets]) -> dg.ScheduleDefinition:
    """The hourly look for what is left undone."""

    @dg.schedule(
        name=prefixed(INVENTORY),
        job_name=prefixed(INVENTORY),
        cron_schedule=AFTER_THE_REFRESHES,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Every hour: is anything unbuilt, uncaptured, stuck or still wrong?",
    )
    def every_hour(tally_database: Database) -> dg.RunRequest | dg.SkipReason:
        engine = tally_database.engine()
        passed_over = [why_passed_over(engine, s.system) for s in systems]
        if all(passed_over):
            return dg.SkipReason("; ".join(why for why in passed_over if why))
        return dg.RunRequest()

    return every_hour


def refresh_request(
    built: SystemAssets, run_key: str | None = None, tags: dict[str, str] | None = None
) -> dg.RunRequest:
    """A run of the system's hourly job.

    Without a partition: what it touches it reports itself. Dagster would plan each check for the
    partition, and call that evaluation skipped.
    """
    return dg.RunRequest(job_name=hourly_name(built.system.name), run_key=run_key, tags=tags)


def why_passed_over(engine: Engine, system: System) -> str | None:
    """Why nothing is to be done for a system in this database; None where something is.

    A system that TALLY_SYSTEMS names is never passed over: what it lacks is then an error. The
    tables of one that is kept at places are there.
    """
    if wanted_systems() is not None or is_divided(engine, system):
        return None
    with engine.connect() as connection:
        if is_kept(connection, system):
            return None
        missing = missing_sources(connection, system)
    return (
        f"{system.name} is not kept here: no table {', '.join(missing)}. Create the source tables"
        " and run `tally migrate`, or name the systems that you want in TALLY_SYSTEMS"
    )

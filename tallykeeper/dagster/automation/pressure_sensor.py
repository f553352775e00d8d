"""Refreshing early: when a tally has very many pending changes, for which its live reads pay.

What stands between this and runs piling up is the run key: it names the last refresh, so that
after one request there is none until a refresh has happened.
"""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg
from sqlalchemy import Connection, select

from tallykeeper import NotInstalled, System, Tally, pending_up_to
from tallykeeper.catalog.state import installed, tally_state
from tallykeeper.dagster._internals import AssetJob
from tallykeeper.dagster.assets import SystemAssets
from tallykeeper.dagster.automation.schedules import refresh_request, why_passed_over
from tallykeeper.dagster.database import Database
from tallykeeper.dagster_names import prefixed
from tallykeeper.settings import pressure_rows

PENDING_PRESSURE = "pending_pressure"
WHY_TAG = "tallykeeper/why"
LOOK_EVERY_SECONDS = 60


def pending_pressure(
    systems: Sequence[SystemAssets], hourly: Sequence[AssetJob]
) -> dg.SensorDefinition:
    """Request a refresh of each system that has a tally with very many pending changes."""

    @dg.sensor(
        name=prefixed(PENDING_PRESSURE),
        jobs=hourly,
        minimum_interval_seconds=LOOK_EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Refresh before the hour when very many changes are pending.",
    )
    def every_minute(tally_database: Database) -> dg.SensorResult | dg.SkipReason:
        engine, limit = tally_database.engine(), pressure_rows()
        requests = []
        for built in systems:
            if why_passed_over(engine, built.system):
                continue
            with engine.connect() as connection:
                pressed = [t for t in built.system.tallies if _is_pressed(connection, t, limit)]
                if pressed:
                    key = f"{built.system.name} after {_last_refresh(connection, built.system)}"
                    why = f"{PENDING_PRESSURE}: {', '.join(t.table.name for t in pressed)}"
                    requests.append(refresh_request(built, key, {WHY_TAG: why}))
        if not requests:
            return dg.SkipReason(f"no tally has {limit:,} or more pending changes")
        return dg.SensorResult(run_requests=requests)

    return every_minute


def _is_pressed(connection: Connection, tally: Tally, limit: int) -> bool:
    # What is not installed has no log; its hourly run says what to do about that.
    try:
        if installed(connection, tally) is None:
            return False
    except NotInstalled:
        connection.rollback()
        return False
    return pending_up_to(connection, tally, limit) >= limit


def _last_refresh(connection: Connection, system: System) -> str:
    names = [tally.name for tally in system.tallies]
    columns = tally_state.c
    times = connection.scalars(select(columns.refreshed_at).where(columns.tally.in_(names)))
    latest = max((at for at in times if at is not None), default=None)
    return latest.isoformat() if latest else "nothing"

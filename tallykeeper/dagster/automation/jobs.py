"""The jobs: each system's hourly refresh and housekeeping; for all of them inventory and audit.

The hourly jobs compare every key at least once in 24 hours, a stretch at a time. The job audit
compares all keys at once, and runs when somebody launches it.

A backfill or a click on Materialize needs no job of its own: the assets' own default is to rebuild
the partitions chosen.
"""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from tallykeeper.dagster._internals import AssetJob, of_any_partitions
from tallykeeper.dagster.assets import SystemAssets
from tallykeeper.dagster.inventory import inventory_key
from tallykeeper.dagster_names import prefixed

AUDIT = "audit"
INVENTORY = "inventory"


def hourly_name(system: str) -> str:
    """The name of a system's hourly job, and of its schedule."""
    return prefixed(f"{system}_hourly")


def daily_name(system: str) -> str:
    """The name of a system's daily job, and of its schedule."""
    return prefixed(f"{system}_daily")


def hourly(built: SystemAssets) -> AssetJob:
    """Take all pending changes of a system's tallies, and check them."""
    name = built.system.name
    return of_any_partitions(
        hourly_name(name),
        dg.AssetSelection.assets(*(key for each in built.assets for key in each.keys)),
        f"Bring the tallies of {name} up to date: the cost follows the changes, wherever they are."
        " Then check what was touched. It runs without a partition; partitions that are chosen are"
        " rebuilt, as on the assets' own pages.",
        dg.in_process_executor,
    )


def daily(built: SystemAssets) -> AssetJob:
    """A system's housekeeping: what keeps its tables from growing for ever."""
    name = built.system.name
    daily_checks = [key for check in built.daily_checks for key in check.check_keys]
    return dg.define_asset_job(
        daily_name(name),
        selection=_housekeeping(built) | dg.AssetSelection.checks(*daily_checks),
        description=(
            f"Housekeeping of {name}: thin out and drop what is past its retention; then the"
            " checks that compare too much for every hour."
        ),
        executor_def=dg.in_process_executor,
    )


def audit(checks: Sequence[dg.AssetChecksDefinition]) -> AssetJob:
    """Verify everything now: all `checks`, without their assets."""
    return dg.define_asset_job(
        prefixed(AUDIT),
        selection=dg.AssetSelection.checks(*(key for check in checks for key in check.check_keys)),
        description=(
            "Compare every derived table with its sources, all of it, now; change nothing. No"
            " schedule runs it: the hourly jobs compare every key at least once in 24 hours."
        ),
        executor_def=dg.in_process_executor,
    )


def inventory() -> AssetJob:
    """Look for what is left undone, without comparing anything."""
    return dg.define_asset_job(
        prefixed(INVENTORY),
        selection=dg.AssetSelection.checks(inventory_key()),
        description="Check whether anything is unbuilt, uncaptured, stuck or still wrong.",
        executor_def=dg.in_process_executor,
    )


def _housekeeping(built: SystemAssets) -> dg.AssetSelection:
    return dg.AssetSelection.assets(*(key for a in built.housekeeping for key in a.keys))

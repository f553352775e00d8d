"""What of a code location belongs to the tallies: its assets, checks, jobs, schedules and sensors.

Definitions of others may be merged with these. What fails of theirs is none of our incidents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import dagster as dg

from tallykeeper import Tally
from tallykeeper.dagster.assets import SystemAssets, key_of
from tallykeeper.dagster.automation import jobs
from tallykeeper.dagster.automation.pressure_sensor import PENDING_PRESSURE
from tallykeeper.dagster.instance.housekeeping import HOUSEKEEPING
from tallykeeper.dagster.inventory import incidents_key, inventory_key
from tallykeeper.dagster_names import REPAIR, prefixed


@dataclass(frozen=True)
class Own:
    """The tallies by their assets, all assets and checks, and the names of all that runs them."""

    tallies: Mapping[dg.AssetKey, Tally]
    assets: frozenset[dg.AssetKey]
    checks: frozenset[dg.AssetCheckKey]
    names: frozenset[str]


def own_of(systems: Sequence[SystemAssets]) -> Own:
    """What these systems bring into a code location. Raises SettingError."""
    tallies = [tally for built in systems for tally in built.system.tallies]
    kept = [asset for built in systems for asset in (*built.assets, *built.housekeeping)]
    checks = [check for built in systems for check in built.checks]
    names = (jobs.AUDIT, jobs.INVENTORY, HOUSEKEEPING, REPAIR, PENDING_PRESSURE)
    each = (jobs.hourly_name, jobs.daily_name)
    return Own(
        tallies={key_of(tally): tally for tally in tallies},
        assets=frozenset({incidents_key(), *(key for asset in kept for key in asset.keys)}),
        checks=frozenset({inventory_key(), *(key for c in checks for key in c.check_keys)}),
        names=frozenset(
            {
                *map(prefixed, names),
                *(name(built.system.name) for built in systems for name in each),
            }
        ),
    )

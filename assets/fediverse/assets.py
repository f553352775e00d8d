"""The fediverse in Dagster: from the raw log by way of posts and tallies to what is trending.

The hourly run processes the log, refreshes the tallies and reports, in this order; a daily one
keeps house, and compares the whole log. What each of these does is in the files named here.
"""

from __future__ import annotations

import dagster as dg

from assets.fediverse.dagster.housekeeping import (
    due_days_archived,
    snapshot_thinning,
    stream_archive,
    stream_retention,
)
from assets.fediverse.dagster.log_checks import events_processed, matches_log
from assets.fediverse.dagster.processed import processed_tables
from assets.fediverse.dagster.reports import trending
from assets.fediverse.tallies import system
from tallykeeper.dagster.assets import SystemAssets, build_assets


def build(partitions: dg.DailyPartitionsDefinition) -> SystemAssets:
    """The assets and checks of the fediverse."""
    return build_assets(
        system,
        partitions,
        checks=[events_processed, matches_log, due_days_archived],
        more=[processed_tables, trending],
        housekeeping=[snapshot_thinning, stream_archive, stream_retention],
        daily_checks=[matches_log, due_days_archived],
    )

"""The media system in Dagster: its tallies as assets, the daily one with its calendar heat map."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta

import dagster as dg
from sqlalchemy import Engine

from assets.factory import SystemAssets, build_assets
from assets.media.tallies import daily_contributions, system


def build(partitions: dg.DailyPartitionsDefinition) -> SystemAssets:
    """The assets and checks of the media system."""
    return build_assets(
        system, partitions, extras={daily_contributions: contribution_graph}
    )


def contribution_graph(engine: Engine) -> Mapping[str, dg.MetadataValue]:
    """The year's files per day as a calendar heat map, from the live view."""
    return {}

"""The media system in Dagster: its tallies as assets, the daily one with its calendar heat map."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime

import dagster as dg
from sqlalchemy import Engine

from assets.media.heatmap import first_day_of, heatmap_markdown, strip_markdown
from assets.media.reads import daily_counts
from assets.media.tallies import daily_contributions, system
from tallykeeper.dagster.assets import SystemAssets, build_assets
from tallykeeper.dagster.metadata.pictures import drawn

PICTURES = ("last_year", "contribution_graph")


def build(partitions: dg.DailyPartitionsDefinition) -> SystemAssets:
    """The assets and checks of the media system."""
    return build_assets(system, partitions, extras={daily_contributions: contribution_graph})


def contribution_graph(
    engine: Engine, before: Mapping[str, dg.MetadataValue]
) -> Mapping[str, dg.MetadataValue]:
    """A year of files per day as a calendar heat map, from the live view.

    The year up to today; for a library without files in it, the year up to the newest one.
    """
    today = datetime.now(UTC).date()
    with engine.connect() as connection:
        counts = daily_counts(connection, end=today)["daily_counts"]
    # Days that Python cannot hold are written at other lengths, and are in nobody's last year.
    by_day = {
        date.fromisoformat(day): n for day, n in counts.items() if len(day) == len("0000-00-00")
    }
    newest = max(by_day, default=today)
    last_day = today if newest >= first_day_of(today) else newest

    def draw() -> Mapping[str, dg.MetadataValue]:
        # The UI shows short Markdown in place, and long Markdown behind a link.
        pictures = strip_markdown(by_day, last_day), heatmap_markdown(by_day, last_day)
        return dict(zip(PICTURES, map(dg.MetadataValue.md, pictures), strict=True))

    first_day = first_day_of(last_day)
    shown = sorted((day, n) for day, n in by_day.items() if first_day <= day <= last_day)
    return drawn(before, PICTURES, (last_day, shown), draw)

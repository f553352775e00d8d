"""The classroom in Dagster: its tallies as assets, the daily one with a chart of activity."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta

import dagster as dg
from sqlalchemy import Connection, Engine, text

from assets.classroom.activity_chart import (
    COUNTED,
    DAYS,
    Day,
    activity_chart_markdown,
    strip_markdown,
)
from assets.classroom.tallies import submission_daily_activity, system
from tallykeeper.dagster.assets import SystemAssets, build_assets
from tallykeeper.dagster.metadata.pictures import drawn
from tallykeeper.reads.live_reads import read

PICTURES = ("last_weeks", "activity_per_day")


def build(partitions: dg.DailyPartitionsDefinition) -> SystemAssets:
    """The assets and checks of the classroom."""
    return build_assets(system, partitions, extras={submission_daily_activity: activity})


def activity(
    engine: Engine, before: Mapping[str, dg.MetadataValue]
) -> Mapping[str, dg.MetadataValue]:
    """Eight weeks of what happened per day in all courses together, from the live view.

    The weeks up to today; where nothing happened in them, those up to the latest day that has
    events.
    """
    today = datetime.now(UTC).date()
    with engine.connect() as connection:
        last_day, days = today, _days(connection, today)
        if not days:
            last_day = _latest_day(connection, today) or today
            days = _days(connection, last_day)

    def draw() -> Mapping[str, dg.MetadataValue]:
        # The UI shows short Markdown in place, and long Markdown behind a link.
        pictures = strip_markdown(days, last_day), activity_chart_markdown(days, last_day)
        return dict(zip(PICTURES, map(dg.MetadataValue.md, pictures), strict=True))

    return drawn(before, PICTURES, (last_day, sorted(days.items())), draw)


_LIVE = f"the live view {submission_daily_activity.live_name}"
_DAY = "(day AT TIME ZONE 'UTC')::date"


def _days(connection: Connection, last_day: date) -> dict[date, Day]:
    """The days with events among those that a chart up to `last_day` shows."""
    counts = ", ".join(f"sum({name})::bigint AS {name}" for name in COUNTED)
    query = text(
        f"SELECT {_DAY} AS date, {counts} FROM {submission_daily_activity.live_name}"
        " WHERE day > CAST(:before AS timestamp) AT TIME ZONE 'UTC'"
        " AND day <= CAST(:last AS timestamp) AT TIME ZONE 'UTC' GROUP BY day"
    )
    bounds = {"before": last_day - timedelta(days=DAYS), "last": last_day}
    found = read(connection, query.bindparams(**bounds), _LIVE)
    return {row.date: Day(*(getattr(row, name) for name in COUNTED)) for row in found}


def _latest_day(connection: Connection, today: date) -> date | None:
    """The latest day up to today that has events, of those that Python knows."""
    query = text(
        f"SELECT max({_DAY}) AS date FROM {submission_daily_activity.live_name} WHERE events > 0"
        " AND day BETWEEN '0002-01-01Z' AND CAST(:last AS timestamp) AT TIME ZONE 'UTC'"
    )
    (row,) = read(connection, query.bindparams(last=today), _LIVE)
    latest: date | None = row.date
    return latest

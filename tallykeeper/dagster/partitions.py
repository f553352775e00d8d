"""The partitions of tallies that have windows: one for each window, the present one included.

By default days in UTC, also for hourly tables: a partition is the unit of a rebuild, and the UI
suffers from very many of them. A tally whose time column is the start of a unit in a time zone, or
whose declaration says so, has partitions of that unit and zone. Their keys are the windows' labels.
"""

from __future__ import annotations

from datetime import UTC, date, datetime

import dagster as dg

from tallykeeper.declarations.windows import DAYS, Unit, Windows
from tallykeeper.settings import start_date

DAY = "%Y-%m-%d"
HOUR = "%Y-%m-%dT%H:%MZ"
_CRON: dict[Unit, str] = {
    "day": "0 0 * * *",
    "week": "0 0 * * 1",
    "month": "0 0 1 * *",
    "quarter": "0 0 1 1,4,7,10 *",
    "year": "0 0 1 1 *",
}


def daily(start: date | None = None) -> dg.DailyPartitionsDefinition:
    """One partition per UTC day, from `start` (TALLY_START_DATE) up to and including today.

    Raises SettingError.
    """
    return dg.DailyPartitionsDefinition(
        start_date=(start or start_date()).isoformat(), end_offset=1, timezone="UTC", fmt=DAY
    )


def of_windows(windows: Windows) -> dg.TimeWindowPartitionsDefinition:
    """One partition per window, from that of TALLY_START_DATE to the present one, included.

    Raises SettingError.
    """
    if windows == DAYS:
        return daily()
    is_hourly = windows.unit == "hour"
    return dg.TimeWindowPartitionsDefinition(
        start=windows.of_day(start_date()),
        # Hours are numbered in UTC, where none is there twice.
        cron_schedule=f"{windows.minute} * * * *" if is_hourly else _CRON[windows.unit],
        timezone="UTC" if is_hourly else windows.zone,
        fmt=HOUR if is_hourly else DAY,
        end_offset=1,
    )


def today(now: datetime | None = None) -> str:
    """The partition that `now` (aware; by default the present) belongs to."""
    return DAYS.label(now or datetime.now(UTC))

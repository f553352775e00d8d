"""Daily partitions in UTC, for every tally that has windows, today included.

Days for hourly tables too: a partition is the unit of a rebuild, and the UI suffers from very many
of them. UTC, because elsewhere a day may have 23 or 25 hours.
"""

from __future__ import annotations

from datetime import UTC, date, datetime

import dagster as dg

from tallykeeper.settings import start_date

DAY = "%Y-%m-%d"


def daily(start: date | None = None) -> dg.DailyPartitionsDefinition:
    """One partition per UTC day, from `start` (TALLY_START_DATE) up to and including today.

    Raises SettingError.
    """
    return dg.DailyPartitionsDefinition(
        start_date=(start or start_date()).isoformat(), end_offset=1, timezone="UTC", fmt=DAY
    )


def today(now: datetime | None = None) -> str:
    """The partition that `now` (aware; by default the present) belongs to."""
    return (now or datetime.now(UTC)).astimezone(UTC).strftime(DAY)

"""What the environment says of the classroom alone; read anew at every call."""

from __future__ import annotations

from tallykeeper import settings

DEFAULT_IDLE_SECONDS = 5 * 60


def idle_seconds() -> int:
    """For how much a pause counts as time spent at most: TALLY_CLASSROOM_IDLE_SECONDS, 300.

    Raises SettingError where it is no whole number from 1.
    """
    return settings.count("TALLY_CLASSROOM_IDLE_SECONDS", DEFAULT_IDLE_SECONDS, "seconds")

"""The project's code location, but what it does every hour it does every minute."""

from __future__ import annotations

from tallykeeper.dagster.automation import schedules

schedules.EVERY_HOUR = "* * * * *"

from tallykeeper.dagster import code_location  # noqa: E402 -- after the hour was shortened

defs = code_location.definitions()

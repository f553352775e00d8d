"""The project's code location, but what it does every hour it does every minute."""

from __future__ import annotations

from pipelines import schedules

schedules.EVERY_HOUR = "* * * * *"

from pipelines.definitions import build_definitions  # noqa: E402 -- after the hour was shortened

defs = build_definitions()

"""Tallies in Dagster: assets, checks, jobs, schedules, sensors. Only this package imports it.

`definitions` makes a code location, `Database` is the resource that its assets read and write.
"""

# Imported when they are asked for: what Dagster's own processes load of this package is less.
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tallykeeper.dagster.code_location import definitions
    from tallykeeper.dagster.database import Database

__all__ = ["Database", "definitions"]


def __getattr__(name: str) -> Any:
    if name == "definitions":
        from tallykeeper.dagster.code_location import definitions

        return definitions
    if name == "Database":
        from tallykeeper.dagster.database import Database

        return Database
    raise AttributeError(name)

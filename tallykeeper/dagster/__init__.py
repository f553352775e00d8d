"""Tallies in Dagster: assets, checks, jobs, schedules, sensors. Only this package imports it.

`definitions` makes a code location, `Tallies` is the component for a `defs.yaml`, `Database` the
resource that assets read and write.
"""

# Imported when they are asked for: what Dagster's own processes load of this package is less.
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tallykeeper.dagster.code_location import definitions
    from tallykeeper.dagster.component.tallies import Tallies
    from tallykeeper.dagster.database import Database

__all__ = ["Database", "Tallies", "definitions"]


def __dir__() -> list[str]:
    """What there is, for `dg`, which looks for components so."""
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    if name == "definitions":
        from tallykeeper.dagster.code_location import definitions

        return definitions
    if name == "Database":
        from tallykeeper.dagster.database import Database

        return Database
    if name == "Tallies":
        from tallykeeper.dagster.component.tallies import Tallies

        return Tallies
    raise AttributeError(name)

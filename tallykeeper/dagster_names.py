"""How assets, jobs, schedules, sensors and the resource are called in Dagster.

For Dagster's definitions and for all that ask Dagster for them. With `dagster_prefix` in
[tool.tallykeeper] every name carries it, so that none collides with those of other definitions that
these are merged with. The resource is called by one name always: nobody else's is called so.
"""

from __future__ import annotations

from tallykeeper.settings import dagster_prefix

RESOURCE = "tally_database"
REPAIR = "repair"


def prefixed(name: str) -> str:
    """The name of a job, schedule or sensor. Raises SettingError."""
    prefix = dagster_prefix()
    return f"{prefix}_{name}" if prefix else name


def pool() -> str:
    """The pool of all steps that write the tallies of a database. Raises SettingError."""
    return prefixed(RESOURCE)


def asset_address(tally: str) -> str:
    """The asset of the tally of that name, as it stands in addresses. Raises SettingError."""
    return "/".join(asset_path(*tally.split(".")))


def asset_path(*names: str) -> list[str]:
    """The parts of the key of an asset, of which `names` are the last. Raises SettingError."""
    prefix = dagster_prefix()
    return [prefix, *names] if prefix else [*names]

"""The environment that other processes are started with: this one's, without any setting.

Fixtures of the tests set some, for as long as they live: Dagster's storage among them. A process
that took these over would work in a database that is not its own.
"""

from __future__ import annotations

import os

SETTINGS = ("TALLY_", "DAGSTER_", "PG")


def environment(**settings: str) -> dict[str, str]:
    """This process's environment, with these settings and no others."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
    return kept | settings

"""The tallies' database as a Dagster resource, so that runs, schedules and tests can be given one.

Only a thin face of `tallykeeper.database.connections`: which database it is, and how it is opened,
is decided there. Nothing is opened before it is asked for, so definitions load without a database.
"""

from __future__ import annotations

import dagster as dg
from pydantic import Field, PrivateAttr
from sqlalchemy import Engine

from tallykeeper.database.connections import open_engine


class Database(dg.ConfigurableResource):
    """The database that holds sources and tallies."""

    url: str | None = Field(
        default=None,
        description=(
            "Unset: what TALLY_DATABASE_URL names when a run starts, else the embedded server. Best"
            " left unset, for what stands here is shown in the UI, a password too."
        ),
    )

    _engine: Engine | None = PrivateAttr(default=None)

    def engine(self) -> Engine:
        """The engine, opened at the first call.

        Raises tallykeeper.database.connections.DatabaseUnavailable, or SettingError.
        """
        if self._engine is None:
            self._engine = open_engine(self.url)
        return self._engine

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Close the connections that the run used."""
        del context
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

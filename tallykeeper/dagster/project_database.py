"""The database of the code location, ready where the caller brings none.

`tally up` and `tally demo` make the tables of the embedded database. So that `dg dev` and `dg
launch` work from a fresh clone as well, the first run or tick does. One's own database is the
business of `tally migrate` alone.
"""

from __future__ import annotations

from sqlalchemy import Engine

from tallykeeper import settings
from tallykeeper.catalog import state
from tallykeeper.dagster.database import Database


class ProjectDatabase(Database):
    """The database that the settings name; the embedded one has its tables from its first use."""

    def engine(self) -> Engine:
        """The engine, opened at the first call.

        Raises what opening and, for a new embedded database, a migration raises.
        """
        opened = self._engine is not None
        engine = super().engine()
        if not opened and self.url is None and settings.database_url() is None:
            _make_ready(engine)
        return engine


def _make_ready(engine: Engine) -> None:
    with engine.connect() as connection:
        if state.is_there(connection, state.tally_state):
            return
    # Heavy, and wanted here alone.
    from tallykeeper.installation.migrate import migrate

    migrate(engine, with_sources=True)

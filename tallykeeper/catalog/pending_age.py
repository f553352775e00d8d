"""How long changes have been pending, over many tallies at once and cheaply."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from tallykeeper.database import sql
from tallykeeper.declarations.tally import LOGGED_AT, Tally


def installed_among(connection: Connection, tallies: Sequence[Tally]) -> list[Tally]:
    """Those of the tallies that have their change log in this database."""
    if not tallies:
        return []
    logs = ", ".join(f"to_regclass({sql.literal(t.log_name)}) IS NOT NULL" for t in tallies)
    found = sql.execute(connection, f"SELECT {logs}").one()
    return [tally for tally, there in zip(tallies, found, strict=True) if there]


def oldest_pending(connection: Connection, tallies: Sequence[Tally]) -> datetime | None:
    """When the oldest change that is pending for any of the tallies was logged; None: none is.

    The cost follows the pending changes. SQLAlchemy's errors where a tally is not installed.
    """
    if not tallies:
        return None
    logs = " UNION ALL ".join(f"SELECT min({LOGGED_AT}) AS at FROM {t.log_name}" for t in tallies)
    oldest: datetime | None = sql.execute(
        connection, f"SELECT min(at) FROM ({logs}) AS logs"
    ).scalar_one()
    return oldest

"""What a database needs for the fediverse beyond tables: functions, and partitions of the log.

Run by every migration, so it has to be idempotent, and says nothing where nothing is to do.
"""

from __future__ import annotations

from sqlalchemy import Connection

from assets.fediverse.functions import create_functions
from assets.fediverse.partitions import ensure_around, today_of


def prepare(connection: Connection) -> list[str]:
    """Create the functions that processing calls, and partitions for this week's events."""
    return create_functions(connection) + ensure_around(connection, today_of(connection))

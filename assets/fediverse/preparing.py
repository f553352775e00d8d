"""What a database needs for the fediverse beyond tables: functions, and partitions of the log.

Run by every migration, so it has to be idempotent, and says nothing where nothing is to do.
"""

from __future__ import annotations

from sqlalchemy import Connection

from assets.fediverse import partition_functions
from assets.fediverse.functions import create_functions
from assets.fediverse.partitions import ensure_around, today_of


def prepare(connection: Connection) -> list[str]:
    """Create the functions that processing calls, and partitions for this week's events."""
    done = create_functions(connection, partition_functions.statements())
    return done + ensure_around(connection, today_of(connection))

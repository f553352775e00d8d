"""What a database needs for the fediverse beyond tables: functions, and partitions to come.

Run by every migration, so it has to be idempotent, and says nothing where nothing is to do.
"""

from __future__ import annotations

from sqlalchemy import Connection

from assets.fediverse import partition_functions
from assets.fediverse.functions import create_functions
from assets.fediverse.partitions import ensure_around, today_of
from assets.fediverse.post_months import ensure_months


def prepare(connection: Connection) -> list[str]:
    """Create the functions that processing calls, and partitions for this week's events.

    Where posts are partitioned by month also the months to come, which the migration captures.
    """
    done = create_functions(connection, partition_functions.statements())
    today = today_of(connection)
    done += ensure_around(connection, today)
    return done + ensure_months(connection, today)

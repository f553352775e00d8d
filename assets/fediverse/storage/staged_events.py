"""Events of archived days while posts are derived from them: a table beside the raw log.

It has the columns of the log, and the number of the file that an event is of. Days that are still
in the log are never in it, so that both together have each event once. It is empty but while a
replay reads the archive, or until an interrupted one is gone on with.
"""

from __future__ import annotations

from sqlalchemy import Connection

from assets.fediverse.processing.parsing import FOLLOW, UNFOLLOW
from assets.fediverse.processing.rederive import Log
from assets.fediverse.tables import stream_events
from tallykeeper.database.sql import execute, in_engine_schema, literal, name_of

STAGED = in_engine_schema("fediverse_archived_events")
_EVENTS = name_of(stream_events)
# What processing reads of an event.
_READ = (
    "id, received_at, instance_id, event_type, payload, payload_status_id, payload_reblog_id,"
    " processed_at, process_error"
)
LOG = Log(f"(SELECT {_READ} FROM {_EVENTS} UNION ALL SELECT {_READ} FROM {STAGED})", "lost_before")
"""The events of the log and the loaded ones, as a relation."""

_COLUMNS = (
    "SELECT array_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || ' ' ||"
    " a.attcollation ORDER BY a.attnum) FROM pg_attribute AS a"
    " WHERE a.attrelid = to_regclass({name}) AND a.attnum > 0 AND NOT a.attisdropped"
    " AND a.attgenerated = '' AND a.attname <> 'archived_file'"
)


def create(connection: Connection) -> list[str]:
    """Make the table, or make it anew where the log has other columns; what was done."""
    wanted, present = (
        execute(connection, _COLUMNS.format(name=literal(name))).scalar_one()
        for name in (_EVENTS, STAGED)
    )
    if wanted is None or wanted == present or not _is_read(wanted):
        return []
    execute(connection, f"DROP TABLE IF EXISTS {STAGED}")
    execute(connection, f"CREATE TABLE {STAGED} (LIKE {_EVENTS})")
    execute(connection, f"ALTER TABLE {STAGED} ADD COLUMN archived_file bigint NOT NULL")
    for column in ("payload_status_id", "payload_reblog_id"):
        execute(connection, f"CREATE INDEX ON {STAGED} (instance_id, {column})")
    execute(connection, f"CREATE INDEX ON {STAGED} (archived_file)")
    return [f"created {STAGED}"]


def _is_read(columns: list[str]) -> bool:
    """Whether the log has what processing reads; an application's own may still lack some."""
    return {each.split(" ")[0] for each in columns} >= set(_READ.split(", "))


def of_pass(passes: int, number: int, column: str, alias: str = "e") -> str:
    """SQL: whether the post that the column names is one of a pass."""
    post = f"{alias}.instance_id::text || ':' || ({alias}.{column}::text COLLATE \"C\")"
    return f"((hashtextextended({post}, 0) & 2147483647) % {passes} = {number})"


def wanted_in(passes: int, number: int) -> str:
    """SQL: whether an event `r` of a file is needed in a pass."""
    posts = " OR ".join(
        f"(r.{column} IS NOT NULL AND {of_pass(passes, number, column, 'r')})"
        for column in ("payload_status_id", "payload_reblog_id")
    )
    # Who follows whom is of no post, and is derived in the first pass.
    follows = f"r.event_type IN ('{FOLLOW}', '{UNFOLLOW}')" if number == 0 else "false"
    return f"({posts} OR {follows})"

"""Captures that are wrong on purpose, to show that the oracle sees it.

Some miss an event, or a whole source. One is the plausible mistake: it looks up, inside the
trigger, which keys a change concerns, and the refresh believes it. It is right as long as writers
take turns.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Select, Table, select

from tallykeeper import RecomputedTally, System, TimeKey
from tallykeeper.capture import trigger_names, triggers
from tallykeeper.database import sql
from tallykeeper.declarations.tally import Event
from tests import tag_hours
from tests.oracle import TAG_HOURS


def miss_updates(connection: Connection, source: Table) -> None:
    """Replace the trigger function for UPDATE of the source by one that records nothing."""
    connection.exec_driver_sql(
        f"CREATE OR REPLACE FUNCTION {trigger_names.function_name(source, 'update')}()"
        " RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
    )


def miss_all_of(connection: Connection, source: Table) -> None:
    """Drop the source's triggers, but for TRUNCATE."""
    for event in triggers.EVENTS:
        connection.exec_driver_sql(f"DROP TRIGGER tallykeeper_{event} ON {sql.name_of(source)}")


def miss_cascades(connection: Connection, derived: Table) -> None:
    """Drop the derived table's trigger that returns to the log what a cascade takes."""
    connection.exec_driver_sql(f"DROP TRIGGER tallykeeper_cascade ON {sql.name_of(derived)}")


def unnoticed(connection: Connection) -> None:
    """Delete the record of what tallies depend on, by which a fault makes them stale at once."""
    for table in ("dependencies", "stands_on"):
        connection.exec_driver_sql(f"DELETE FROM {sql.in_engine_schema(table)}")


class JoiningInTheTrigger(RecomputedTally):
    """Logs keys rather than entities: whatever the trigger's snapshot joins to the changed rows."""

    def capture_one(self, source: Any, event: Event) -> list[str]:
        return self.capture_many(source, event)

    def capture_many(self, source: Any, event: Event) -> list[str]:
        sides = {"insert": ("new_rows",), "delete": ("old_rows",)}.get(
            event, ("old_rows", "new_rows")
        )
        posts = source is tag_hours.posts
        rows = " UNION ".join(f"SELECT * FROM {side}" for side in sides)
        joined = (
            f"({rows}) AS p JOIN forum.post_tags AS t ON t.post_id = p.id"
            if posts
            else f"({rows}) AS t JOIN forum.posts AS p ON p.id = t.post_id"
        )
        return [
            f"INSERT INTO {self.log_name} (part, post_id, tag_id, hour)"
            " SELECT DISTINCT 0, p.id, t.tag_id, date_trunc('hour', p.created_at, 'UTC')"
            f" FROM {joined}"
        ]

    def pending_keys(self, log: str) -> Select[Any]:
        marks = sql.relation(log, self.log_columns()).alias("marks")
        return select(marks.c.tag_id, marks.c.hour).distinct()


joining_tally = JoiningInTheTrigger(
    system="forum",
    table=tag_hours.tag_hours,
    key=["tag_id", "hour"],
    measures=["posts", "authors"],
    captures=tag_hours.captures,
    aggregate=tag_hours.aggregate,
    time_key=TimeKey("hour", "hour"),
)

joining_system = System("forum", tag_hours.metadata, [joining_tally])

# What is pending is what the log names: the point is that it names too little.
JOINING_ORACLE = replace(
    TAG_HOURS, pending="SELECT tag_id, hour FROM tallykeeper.forum_tag_hours_log"
)

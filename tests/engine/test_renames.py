"""Tables and columns that an earlier release named otherwise: renamed in place, with their rows."""

from __future__ import annotations

from sqlalchemy import Engine

from tallykeeper.catalog import schema_version, state
from tests.integration.support import execute, rows, scalar

# What this release has, as the earlier one had it.
BACK = (
    "ALTER TABLE tallykeeper.incidents RENAME resolved_at TO mended_at",
    "ALTER TABLE tallykeeper.incidents RENAME resolved_by TO mended_by",
    "ALTER TABLE tallykeeper.processed_events RENAME processed_at TO heard_at",
    "ALTER TABLE tallykeeper.processed_events RENAME TO heard",
    "ALTER TABLE tallykeeper.tally_state RENAME pending_consumed TO pending_taken",
    "ALTER TABLE tallykeeper.unbuilt RENAME repair TO mending",
    "DROP TABLE tallykeeper.schema_version",
)
COLUMNS = (
    "SELECT attrelid::regclass::text, attname FROM pg_attribute AS a"
    " JOIN pg_class AS c ON c.oid = a.attrelid WHERE a.attnum > 0 AND c.relkind = 'r'"
    " AND c.relnamespace = 'tallykeeper'::regnamespace ORDER BY 1, 2"
)
INCIDENT = (
    "INSERT INTO tallykeeper.incidents (subject, kind, what, details, mended_at, mended_by) VALUES"
    " ('media.a', 'differs', 'wrong', '{\"to_mend\": \"tally verify\", \"run\": \"1\"}',"
    " now(), 'v')"
)
MESSAGE = (
    "INSERT INTO tallykeeper.messages (incident, kind, title, body)"
    " SELECT id, unnest(ARRAY['found', 'not mended', 'mended']), 't', 'b'"
    " FROM tallykeeper.incidents"
)


def test_an_earlier_release_s_tables_and_columns_are_renamed_once_with_their_rows(
    engine: Engine,
) -> None:
    with engine.begin() as connection:
        schema_version.bring_up(connection)
    made = rows(engine, COLUMNS)
    execute(
        engine,
        *BACK,
        INCIDENT,
        MESSAGE,
        "INSERT INTO tallykeeper.heard (log, event) VALUES ('l', 7)",
        "INSERT INTO tallykeeper.stale_marks (tally, reason)"
        " VALUES ('media.a', 'its capture was found broken and mended')",
    )
    with engine.begin() as connection:
        schema_version.bring_up(connection)
    assert rows(engine, "SELECT resolved_by, details FROM tallykeeper.incidents") == [
        ("v", {"to_resolve": "tally verify", "run": "1"})
    ]
    assert rows(engine, "SELECT kind FROM tallykeeper.messages ORDER BY id") == [
        ("found",),
        ("not resolved",),
        ("resolved",),
    ]
    assert rows(engine, "SELECT log, event FROM tallykeeper.processed_events") == [("l", 7)]
    assert scalar(engine, "SELECT reason FROM tallykeeper.stale_marks") == state.CAPTURE_REPAIRED
    assert rows(engine, COLUMNS) == made
    newest = max(schema_version.migrations())
    assert scalar(engine, "SELECT array_agg(version) FROM tallykeeper.schema_version") == [newest]

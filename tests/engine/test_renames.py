"""Tables and columns that an earlier release named otherwise: renamed in place, with their rows."""

from __future__ import annotations

from sqlalchemy import Engine

from tallykeeper.catalog import renames, state
from tests.integration.support import execute, rows, scalar

# What this release has, as the earlier one had it.
BACK = [
    *(
        f"ALTER TABLE tallykeeper.{table} RENAME {new} TO {old}"
        for (table, old), new in renames.COLUMNS.items()
    ),
    *(f"ALTER TABLE tallykeeper.{new} RENAME TO {old}" for old, new in renames.TABLES.items()),
]
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
        state.create(connection)
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
        state.create(connection)
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
    with engine.begin() as connection:
        there = renames.columns_there(connection)
        state.create(connection)
        assert renames.columns_there(connection) == there
    assert not there.keys() & renames.TABLES.keys()
    assert not [(t, old) for t, old in renames.COLUMNS if old in there[t]]

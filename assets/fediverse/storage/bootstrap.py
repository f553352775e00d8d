"""What a database needs for the fediverse beyond tables: functions, and partitions to come.

Run by every migration, so it has to be idempotent, and says nothing where nothing is to do.
"""

from __future__ import annotations

from sqlalchemy import Connection, text
from sqlalchemy.schema import CreateColumn

from assets.fediverse.processing.functions import PROGRESS, create_functions
from assets.fediverse.storage import partition_functions, redaction, staged_events
from assets.fediverse.storage.partitions import ensure_around, today_of
from assets.fediverse.storage.post_months import ensure_months
from assets.fediverse.tables import (
    ID,
    PROCESSED,
    mastodon_posts,
    post_deletions,
    post_sentiments,
    stream_events,
)
from tallykeeper import DoesNotFit
from tallykeeper.database.sql import execute, name_of, render


def prepare(connection: Connection) -> list[str]:
    """Create the functions that processing calls, and partitions for this week's events.

    Where posts are partitioned by month also the months to come, which the migration captures.
    """
    _require_order(connection)
    done = _name_labels(connection)
    done += create_functions(
        connection, {**partition_functions.statements(), **redaction.statements()}
    )
    if f"created {PROGRESS}" in done:
        done += _forget_marks(connection)
    done += staged_events.create(connection)
    today = today_of(connection)
    done += ensure_around(connection, today)
    return done + ensure_months(connection, today)


def _name_labels(connection: Connection) -> list[str]:
    """Let sentiments have their label by its second name, where an application's have a label."""
    table = name_of(post_sentiments)
    columns = set(
        connection.scalars(
            text(
                "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(:table)"
                " AND attnum > 0 AND NOT attisdropped"
            ),
            {"table": table},
        )
    )
    if "label" not in columns or "sentiment_label" in columns:
        return []
    column = CreateColumn(post_sentiments.c.sentiment_label)
    execute(connection, f"ALTER TABLE {table} ADD COLUMN {render(column)}")
    return [f"added the column sentiment_label to {table}"]


def _forget_marks(connection: Connection) -> list[str]:
    """Let events be processed that another worker has marked while nothing is derived here."""
    nothing = " AND ".join(
        f"NOT EXISTS (SELECT FROM {name_of(table)})" for table in (mastodon_posts, post_deletions)
    )
    forgotten = execute(
        connection,
        f"UPDATE {name_of(stream_events)} SET processed_at = NULL, process_error = NULL"
        f" WHERE processed_at IS NOT NULL AND {nothing}",
    ).rowcount
    what = f"{forgotten:,} events that another worker has marked as processed"
    return [f"{what} will be processed again"] if forgotten else []


def _require_order(connection: Connection) -> None:
    """Check that ids of adopted tables can be compared with each other. Raises DoesNotFit."""
    ids = [(name_of(t), c.name) for t in PROCESSED for c in t.c if c.type is ID]
    found = connection.execute(
        text(
            "SELECT i.relation || '.' || i.name AS column, format('%I', c.collname) AS collation"
            " FROM unnest(CAST(:relations AS text[]), CAST(:names AS text[])) AS i (relation, name)"
            " JOIN pg_attribute AS a"
            "  ON a.attrelid = to_regclass(i.relation) AND a.attname = i.name"
            " JOIN pg_collation AS c ON c.oid = a.attcollation"
            " WHERE c.collname NOT IN ('C', 'default') ORDER BY 1"
        ),
        {"relations": [relation for relation, _ in ids], "names": [name for _, name in ids]},
    ).all()
    if found:
        said = ", ".join(f"{row.column} has the collation {row.collation}" for row in found)
        raise DoesNotFit(
            f'{said}; expected "C" or the database\'s own, for no two others can be compared.'
            " Nothing was changed; alter them: `ALTER TABLE ... ALTER COLUMN ... TYPE text COLLATE"
            ' "C"`'
        )

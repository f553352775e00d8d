"""Ids that an earlier release kept as numbers, made text: in tables, change logs and live views.

In place, within the migration's transaction. Invariants: an id is the same as before, only
written out, so that pending changes stay pending and no tally has to be built anew; an installation
that differed from its record before is judged as it would have been. Each table is rewritten while
nobody else can use it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import Column, Connection, Table, func, select, text

from assets.fediverse import tables
from assets.fediverse.processing import threads, write_posts
from assets.fediverse.tallies import system
from tallykeeper import Tally
from tallykeeper.capture import change_log
from tallykeeper.catalog import dependents
from tallykeeper.database.sql import columns, execute, is_text, name_of, quote, type_name
from tallykeeper.drift import dependencies
from tallykeeper.installation import live_views, view_replacement

_TEXT = f'{type_name(tables.ID)} COLLATE "{tables.ID.collation}"'


def convert(connection: Connection) -> list[str]:
    """Make text of ids that are numbers; what was done, a sentence a table. Idempotent.

    Raises HasDependents where something of others depends on such a column.
    """
    known = (*tables.RAW, *tables.PROCESSED, tables.post_sentiments)
    numbers = {t: found for t in known if (found := _numbers(connection, name_of(t), t.c))}
    if not numbers:
        return []
    # Before any table: processing holds it while it writes.
    execute(connection, write_posts.LOCK)
    for table in numbers:
        execute(connection, f"LOCK TABLE {name_of(table)} IN ACCESS EXCLUSIVE MODE")
    kept = [t for t in system.tallies if _is_there(connection, t.live_name)]
    with dependencies.unchanged(connection, [tally.name for tally in kept]):
        _convert(connection, kept, numbers)
    return [f"ids in {name_of(table)} became text" for table in numbers]


def _convert(connection: Connection, kept: list[Tally], numbers: Mapping[Table, list[str]]) -> None:
    # As they are now, and not as declared: what that reads may be added later.
    views = {tally: _definition(connection, tally.live_name) for tally in kept}
    for tally in kept:
        view_replacement.stand_on_nothing(connection, tally)
    for table, names in numbers.items():
        _require_free(connection, table, names)
        _rewrite(connection, name_of(table), names)
    for tally in kept:
        # The log of a SELECT, which is not compiled yet, has the columns of its table.
        columns = tally.table.c if tally.kind == "select" else tally.log_columns()
        if logged := _numbers(connection, tally.log_name, columns):
            _rewrite(connection, tally.log_name, logged)
        view = f"{live_views.creating(tally)}{views[tally]}"
        assert view_replacement.try_view(connection, tally.live_name, view)
    if {tables.mastodon_posts, tables.conversation_threads} & numbers.keys():
        _cut_circles(connection)


def _numbers(
    connection: Connection, relation: str, declared: Iterable[Column[object]]
) -> list[str]:
    """The columns that should be text and are whole numbers."""
    found = connection.execute(
        text(
            "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(:relation)"
            " AND attname = ANY (:names) AND NOT attisdropped"
            " AND atttypid = ANY (ARRAY['int2', 'int4', 'int8']::regtype[]) ORDER BY attnum"
        ),
        {"relation": relation, "names": [c.name for c in declared if is_text(c.type)]},
    )
    return list(found.scalars())


def _is_there(connection: Connection, name: str) -> bool:
    return connection.scalar(select(func.to_regclass(name))) is not None


def _definition(connection: Connection, view: str) -> str:
    found = connection.scalar(text("SELECT pg_get_viewdef(to_regclass(:view))"), {"view": view})
    return str(found)


def _require_free(connection: Connection, table: Table, names: list[str]) -> None:
    relation = name_of(table)
    oid = connection.scalar(text("SELECT CAST(:relation AS regclass)::oid"), {"relation": relation})
    found = dependents.on_relation(connection, oid, names)
    own = {*change_log.OF_A_COLUMN, "index"}
    dependents.require_none(
        [each for each in found if each.kind not in own],
        f"the columns {', '.join(names)} of {relation} become text",
    )


def _rewrite(connection: Connection, relation: str, names: list[str]) -> None:
    """All columns at once, which rewrites the table once, and what the planner knows of them."""
    changes = (f"ALTER COLUMN {quote(n)} TYPE {_TEXT} USING {quote(n)}::text" for n in names)
    execute(connection, f"ALTER TABLE {relation} {', '.join(changes)}")
    execute(connection, f"ANALYZE {relation} ({columns(names)})")


def _cut_circles(connection: Connection) -> None:
    """Place the conversations in a circle again: another id may be the smallest as text."""
    schema = write_posts.raw_schema()
    for statement in write_posts.stages(connection):
        execute(connection, statement)
    execute(
        connection,
        f"""
INSERT INTO pg_temp.touched_posts
SELECT t.instance_id, t.post_id
FROM {schema}.mastodon_posts AS p JOIN {schema}.conversation_threads AS t
  ON t.instance_id = p.instance_id AND t.root_post_id = p.id
WHERE p.in_reply_to_id IS NOT NULL AND EXISTS (
  -- Only a circle is cut at a post that itself is an answer.
  SELECT FROM {schema}.conversation_threads AS r
  WHERE r.instance_id = p.instance_id AND r.post_id = p.id AND r.root_post_id = p.id)""",
    )
    threads.update(connection, schema)

"""Replacing a live view and its functions by those of another declaration.

In place wherever PostgreSQL allows it, so that what hangs on them stays: other people's views,
materialized views with their rows, and grants. Where a function or the change log has to have other
columns, the live view stands meanwhile on nothing: it keeps its columns, without a row, until its
new query comes in the same transaction. Only a live view whose own columns change has to be
dropped, which is refused while anything of others depends on it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from tallykeeper.capture import change_log
from tallykeeper.catalog import attributes, dependents
from tallykeeper.database import sql
from tallykeeper.database.sqlstates import (
    INVALID_FUNCTION_DEFINITION,
    INVALID_TABLE_DEFINITION,
    sqlstate_of,
)
from tallykeeper.declarations.tally import Tally
from tallykeeper.installation import live_views

# What PostgreSQL says when a view or function cannot be replaced by one with other columns.
OTHER_COLUMNS = {INVALID_TABLE_DEFINITION, INVALID_FUNCTION_DEFINITION}


@dataclass(frozen=True)
class LiveView:
    """A tally's live view as it should be: its functions, and its query."""

    tally: Tally
    functions: Sequence[str]
    view: str


def replace(
    connection: Connection,
    wanted: LiveView,
    downstream: Sequence[LiveView],
    *,
    alter_log: bool,
    afterwards: Collection[Tally] = (),
) -> None:
    """Replace the live view and its functions; with `alter_log` the log's columns before.

    `downstream` are those of the tallies that count the derived table: they call its functions.
    Of them those `afterwards` are replaced in their turn, with functions that are not there yet.
    Raises HasDependents where something of others depends on what would have to be dropped.
    """
    tally = wanted.tally
    standing = [each for each in (wanted, *downstream) if _oid(connection, each.tally.live_name)]
    if alter_log:
        stand_on_nothing(connection, tally)
        change_log.alter(connection, tally)

    def free() -> None:
        for each in standing:
            stand_on_nothing(connection, each.tally)

    freed = False
    for statement in wanted.functions:
        name = next((n for n in tally.function_names() if statement.startswith(_creating(n))), None)
        if name is None:
            sql.execute(connection, statement)
        elif replace_function(connection, name, statement, tally.name, free):
            freed = True
    for each in (wanted, *downstream) if freed else (wanted,):
        if each.tally not in afterwards:
            _replace_view(connection, each)


def replace_function(
    connection: Connection,
    name: str,
    statement: str,
    what: str,
    free: Callable[[], None] = lambda: None,
) -> bool:
    """Run `statement`, which creates or replaces the function `name`; `what` it is for.

    PostgreSQL keeps owner and grants of a function that it replaces. One whose result has other
    columns is dropped first, and those of the same name with other arguments too, which an older
    declaration left: then what was set on them is set again. `free` is called before anything is
    dropped. Returns whether something was. Raises HasDependents.
    """
    before = _functions(connection, name)
    if _try(connection, statement) and len(_functions(connection, name)) == 1:
        return False
    free()
    for oid, signature in before.items():
        dependents.require_none(
            dependents.on_function(connection, oid),
            f"{what}: the columns of its function {signature} change",
        )
    kept = [a for oid in before for a in attributes.of_function(connection, oid)]
    for signature in before.values():
        sql.execute(connection, f"DROP FUNCTION {signature}")
    sql.execute(connection, statement)
    for signature in _functions(connection, name).values():
        attributes.set_again(connection, signature, kept)
    return True


def _replace_view(connection: Connection, wanted: LiveView) -> None:
    name = wanted.tally.live_name
    oid = _oid(connection, name)
    if try_view(connection, name, wanted.view):
        return
    if _try_in_present_order(connection, wanted):
        return
    assert oid is not None
    dependents.require_none(
        dependents.on_relation(connection, oid),
        f"{wanted.tally.name}: the columns of its live view {name} change",
    )
    kept = attributes.of_view(connection, oid)
    sql.execute(connection, f"DROP VIEW {name}")
    sql.execute(connection, wanted.view)
    attributes.set_again(connection, name, kept, wanted.tally.columns)


def _try_in_present_order(connection: Connection, wanted: LiveView) -> bool:
    """Replace the view in place by one that has the present columns first, as they are now."""
    present = list(_columns(connection, wanted.tally.live_name))
    if not set(present) <= set(wanted.tally.columns):
        return False
    order = (*present, *(n for n in wanted.tally.columns if n not in present))
    create = live_views.creating(wanted.tally)
    rows = wanted.view.removeprefix(create)
    ordered = f"{create}SELECT {sql.columns(order)} FROM (\n{rows}\n) AS live"
    return try_view(connection, wanted.tally.live_name, ordered)


def stand_on_nothing(connection: Connection, tally: Tally) -> None:
    """Give the live view, where there is one, a query without rows that depends on nothing."""
    columns = _columns(connection, tally.live_name)
    if not columns:
        return
    nothing = ", ".join(f"NULL::{type_} AS {sql.quote(n)}" for n, type_ in columns.items())
    standing = f"{live_views.creating(tally)}SELECT {nothing} WHERE false"
    assert try_view(connection, tally.live_name, standing)


def try_view(connection: Connection, name: str, statement: str) -> bool:
    """Try to replace the view in place, which would reset its options."""
    options = attributes.options_of_view(connection, name)
    replaced = _try(connection, statement)
    if replaced and options:
        sql.execute(connection, f"ALTER VIEW {name} SET ({options})")
    return replaced


def _try(connection: Connection, statement: str) -> bool:
    """Run the statement unless it fails because of other columns: whether it did not."""
    savepoint = connection.begin_nested()
    try:
        sql.execute(connection, statement)
    except DBAPIError as error:
        savepoint.rollback()
        if sqlstate_of(error) not in OTHER_COLUMNS:
            raise
        return False
    savepoint.commit()
    return True


def _creating(function: str) -> str:
    return f"CREATE OR REPLACE FUNCTION {function}("


def _functions(connection: Connection, name: str) -> dict[int, str]:
    """The functions of that name, and their signatures."""
    rows = connection.execute(
        text(
            "SELECT p.oid, p.oid::regprocedure::text FROM pg_proc AS p JOIN pg_namespace AS n"
            " ON n.oid = p.pronamespace"
            " WHERE ARRAY[n.nspname, p.proname]::text[] = parse_ident(:name)"
        ),
        {"name": name},
    )
    return {row[0]: row[1] for row in rows}


def _oid(connection: Connection, name: str) -> int | None:
    oid: int | None = connection.scalar(text("SELECT to_regclass(:name)::oid"), {"name": name})
    return oid


def _columns(connection: Connection, name: str) -> dict[str, str]:
    """The columns of a view with their types, limits and collations as a cast takes them."""
    rows = connection.execute(
        text(
            "SELECT a.attname, format_type(a.atttypid, a.atttypmod) || coalesce("
            " (SELECT format(' COLLATE %I.%I', n.nspname, l.collname) FROM pg_collation AS l"
            "  JOIN pg_namespace AS n ON n.oid = l.collnamespace"
            "  WHERE l.oid = a.attcollation AND a.attcollation <> t.typcollation), '')"
            " FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid"
            " WHERE a.attrelid = to_regclass(:name) AND a.attnum > 0 AND NOT a.attisdropped"
            " ORDER BY a.attnum"
        ),
        {"name": name},
    )
    return {row[0]: row[1] for row in rows}

"""The proof that a SELECT was read as PostgreSQL reads it.

The tree, printed again and made a view, must be the definition view to the letter. Its normal form
cannot be, since names and joins differ; it must return the same columns, and use the same
functions, operators and constants.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlglot import exp

from tallykeeper.database import sql
from tallykeeper.database.sqlstates import (
    DATA_EXCEPTION,
    FEATURE_NOT_SUPPORTED,
    PROGRAM_LIMIT_EXCEEDED,
    SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION,
    sqlstate_of,
)
from tallykeeper.select.definition import sources
from tallykeeper.select.definition.dependencies import columns_read
from tallykeeper.select.definition.rule_trees import rules
from tallykeeper.select.dialect import to_sql
from tallykeeper.select.resolve import (
    NotUnderstood,
    Resolved,
    Source,
    resolve,
    view_columns,
    view_text,
)
from tallykeeper.select.syntax.scopes import column

_NAME = "tally_reprint"
# What is wrong with a text itself. All other errors are of what the session or the server cannot do
# just now, and say nothing of the SELECT.
_OF_THE_SELECT = (
    DATA_EXCEPTION,
    FEATURE_NOT_SUPPORTED,
    PROGRAM_LIMIT_EXCEEDED,
    SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION,
)
_SCHEMA_OF = text(
    "SELECT n.nspname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
    " WHERE c.oid = to_regclass(:view)"
)
_KINDS_READ = "rpfm"
_CALLS = ("funcid", "opno", "aggfnoid", "winfnoid", "booltesttype", "nulltesttype", "subLinkType")


def understood(connection: Connection, view: str) -> tuple[Resolved, str | None]:
    """A definition view, resolved, and why its tree cannot be relied on; None where it can.

    Where it cannot, the tree is another SELECT: of the columns that the view reads, so that what
    has to be captured follows from it all the same.
    """
    try:
        resolved = resolve(connection, view)
        obstacle = gate(connection, resolved)
    except NotUnderstood as error:
        obstacle = str(error)
    if obstacle is None:
        return resolved, None
    return _columns_only(connection, view), obstacle


def _columns_only(connection: Connection, view: str) -> Resolved:
    """In place of the view's SELECT, one that reads the same columns of the same tables."""
    found: dict[tuple[str, str], Source] = {}
    tree = exp.Select()
    for number, ((schema, name), columns) in enumerate(columns_read(connection, view).items()):
        source = sources.read(connection, schema, name)
        if source is None or source.kind not in _KINDS_READ:
            continue
        found[schema, name] = source
        alias = f"{name}_{number}"
        tree.select(*(column(alias, c) for c in columns), copy=False)
        table = exp.table_(name, schema, alias=exp.to_identifier(alias, quoted=True), quoted=True)
        if tree.args.get("from_") is None:
            tree.from_(table, copy=False)
        else:
            tree.join(table, join_type="cross", copy=False)
    return Resolved(tree, view_columns(connection, view), found, tree, view)


def gate(connection: Connection, resolved: Resolved) -> str | None:
    """Why the trees cannot be relied on; None where they can."""
    try:
        texts = {view_text(connection, resolved.view)}
        with _view(connection, resolved, to_sql(resolved.parsed)) as view:
            reprinted = view_text(connection, view)
        if reprinted not in texts:
            # PostgreSQL does not always print again what it reads of its own text.
            with _view(connection, resolved, texts.pop()) as view:
                texts = {view_text(connection, view)}
        if reprinted not in texts:
            return "PostgreSQL reads it otherwise than the compiler"
        with _view(connection, resolved, to_sql(resolved.tree)) as view:
            if view_columns(connection, view) != resolved.columns:
                return "its normal form returns other columns"
            if not _same_calls(connection, view, resolved.view):
                return "its normal form uses other functions, operators or constants"
    except DBAPIError as error:
        if not sqlstate_of(error).startswith(_OF_THE_SELECT):
            raise
        return f"the compiler prints it wrongly: {str(error.orig).splitlines()[0]}"
    return None


@contextmanager
def _view(connection: Connection, resolved: Resolved, select: str) -> Iterator[str]:
    """A view of a SELECT beside the definition view, there for the moment."""
    schema = connection.execute(_SCHEMA_OF, {"view": resolved.view}).scalar_one()
    view = f"{sql.quote(schema)}.{sql.quote(_NAME)}"
    savepoint = connection.begin_nested()
    try:
        sql.execute(connection, f"CREATE VIEW {view} AS {select}")
        yield view
    finally:
        savepoint.rollback()


def _same_calls(connection: Connection, normal: str, definition: str) -> bool:
    # The columns that USING makes of two are in the tree, though nothing may read them.
    without = _used(connection, definition, joined=False)
    return without <= _used(connection, normal) <= _used(connection, definition)


def _used(connection: Connection, view: str, *, joined: bool = True) -> set[tuple[str, str]]:
    """What a view, and the views that it reads, call and name as constants."""
    used: set[tuple[str, str]] = set()
    for rule in rules(connection, view):
        for node in rule.walk(enter=lambda key: joined or key != "joinaliasvars"):
            used |= {(c, str(node.fields[c])) for c in _CALLS if c in node.fields}
            # Conditions of joins that moved may be combined by another AND.
            if node.name in ("BOOLEXPR", "BOOL") and node.fields["boolop"] != "and":
                used.add(("boolop", str(node.fields["boolop"])))
            if node.name == "CONST":
                used.add((str(node.fields["consttype"]), str(node.fields["constvalue"])))
    return used

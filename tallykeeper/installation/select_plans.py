"""Definition views and compiled plans of tallies that are declared by a SELECT.

`tally migrate` creates the view, has it compiled and stores the plan, in one transaction with all
that it installs. Everything else binds its tallies from the stored plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from sqlalchemy import Column, Connection, cast, func, select, true
from sqlalchemy.dialects.postgresql import OID, insert
from sqlalchemy.exc import DBAPIError

from tallykeeper.catalog import dependents, state
from tallykeeper.catalog.state import stale_marks
from tallykeeper.database import sql
from tallykeeper.database.sqlstates import (
    FEATURE_NOT_SUPPORTED,
    INSUFFICIENT_PRIVILEGE,
    INVALID_SCHEMA_NAME,
    INVALID_TABLE_DEFINITION,
    SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION,
    sqlstate_of,
)
from tallykeeper.declarations.column_types import holds
from tallykeeper.declarations.tally import Tally
from tallykeeper.errors import DeclarationError, DoesNotFit
from tallykeeper.installation import view_replacement
from tallykeeper.installation.schema_check import declared_type, naive_of
from tallykeeper.select import plan_json
from tallykeeper.select.column_types import column_type
from tallykeeper.select.definition.nearest_names import nearest_name
from tallykeeper.select.plan import Plan
from tallykeeper.select.tally import SelectTally

# What is wrong with a SELECT, and what is wrong with a view that is there.
_OF_A_SELECT = (
    SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION,
    FEATURE_NOT_SUPPORTED,
    INVALID_SCHEMA_NAME,
)
_TRIED = "tally_tried"
_OF_THE_VIEW = (INSUFFICIENT_PRIVILEGE,)


def prepare(
    connection: Connection,
    tallies: Iterable[Tally],
    on_progress: Callable[[int], object] = lambda _done: None,
) -> list[str]:
    """Compile those of the tallies that are SELECTs, and bind them; what was done.

    `on_progress` is called with how many are through. A tally whose changes are
    captured or stored otherwise from now on becomes stale.
    """
    done = []
    for number, tally in enumerate(tallies):
        on_progress(number)
        if not isinstance(tally, SelectTally):
            continue
        _create_view(connection, tally)
        _require_maintainable(connection, tally, tally.definition_name)
        plan = compile_plan(connection, tally)
        tally.bind_to(plan, definition_of(connection, tally) or "")
        _require_room(connection, tally)
        if _store(connection, tally, plan):
            done.append(f"compiled {tally.name}: {plan.strategy}")
    return done


def compile_plan(connection: Connection, tally: SelectTally, view: str | None = None) -> Plan:
    """How the tally's definition view is maintained; `view` is another one of its SELECT."""
    # The parser is loaded where something is compiled, and nowhere else.
    from tallykeeper.select.compiler import compile  # noqa: A004

    # PostgreSQL writes a name with its schema where another hides it.
    with _servers_own_first(connection):
        return compile(connection, tally, view)


def try_plan(connection: Connection, tally: SelectTally) -> Plan:
    """The plan that `prepare` would make; nothing stays of it but a temporary view."""
    create = f"CREATE TEMPORARY VIEW {_TRIED} AS\n"
    text = _text(connection, tally)
    with _explained(connection, tally, create), _servers_own_first(connection):
        sql.execute(connection, f"{create}{text}")
    _require_maintainable(connection, tally, f"pg_temp.{_TRIED}")
    return compile_plan(connection, tally, f"pg_temp.{_TRIED}")


@contextmanager
def _servers_own_first(connection: Connection) -> Iterator[None]:
    """Let no function of the application hide one of PostgreSQL's, as a search_path can do."""
    path = connection.scalar(select(func.current_setting("search_path")))
    connection.execute(select(func.set_config("search_path", f"pg_catalog, {path}", true())))
    yield
    connection.execute(select(func.set_config("search_path", path, true())))


@contextmanager
def _explained(connection: Connection, tally: SelectTally, create: str) -> Iterator[None]:
    """Raise DeclarationError for what is wrong in the SELECT that follows `create`."""
    try:
        with connection.begin_nested():
            yield
    except DBAPIError as error:
        code = sqlstate_of(error)
        if not code.startswith(_OF_A_SELECT) or code in _OF_THE_VIEW:
            raise
        message = _said_of(error, tally, len(create))
        meant = nearest_name(connection, code, message, tally.text)
        if code == INVALID_TABLE_DEFINITION:
            meant = "; no table can have it: list the fields of the row as columns"
        raise DeclarationError(message + meant) from error


def _require_room(connection: Connection, tally: SelectTally) -> None:
    """Raise DoesNotFit where a declared table has columns that cannot hold what the SELECT returns.

    A table that is made for the SELECT has its types.
    """
    if tally.has_plain_table:
        return
    pairs = [
        (tally.table.c[column.name], Column(column.name, column_type(column.type)))
        for column in tally.plan.columns
    ]
    typed = [(c.name, declared_type(connection, c), declared_type(connection, r)) for c, r in pairs]
    unfit = [
        f"{name} is {declared}, but the SELECT returns {returned}"
        for name, declared, returned in typed
        if not holds(declared, returned)
    ]
    if unfit:
        raise DoesNotFit(
            f"{tally.name}: the declared table {sql.name_of(tally.table)} cannot hold what its"
            f" SELECT returns: {', '.join(unfit)}. Nothing was changed; cast it in the SELECT, or"
            " declare the column so"
        )


def definition_of(connection: Connection, tally: SelectTally) -> str | None:
    """The SELECT as the definition view has it, every name qualified; None where there is none."""
    path = connection.scalar(select(func.current_setting("search_path")))
    connection.execute(select(func.set_config("search_path", "pg_catalog", true())))
    oid = cast(func.to_regclass(tally.definition_name), OID)
    definition: str | None = connection.scalar(select(func.pg_get_viewdef(oid)))
    connection.execute(select(func.set_config("search_path", path, true())))
    return definition


def _require_maintainable(connection: Connection, tally: SelectTally, view: str) -> None:
    from tallykeeper.select.definition.refusals import require_maintainable

    require_maintainable(connection, view, tally.text, name=tally.name, place=tally.place)


def _create_view(connection: Connection, tally: SelectTally) -> None:
    """Create the definition view, or replace it where the SELECT is another one."""
    name = tally.definition_name
    oid = connection.scalar(select(cast(func.to_regclass(name), OID)))
    columns = state.select_plans.c
    read = select(columns.declaration_hash, columns.definition).where(columns.tally == tally.name)
    known = connection.execute(read).one_or_none()
    as_it_was = (tally.declaration_hash(), definition_of(connection, tally))
    if oid is not None and known is not None and tuple(known) == as_it_was:
        return
    create = f"CREATE OR REPLACE VIEW {name} AS\n"
    text = _text(connection, tally)
    with _explained(connection, tally, create), _servers_own_first(connection):
        if view_replacement.try_view(connection, name, f"{create}{text}"):
            return
        if oid is not None:
            dependents.require_none(
                dependents.on_relation(connection, oid),
                f"{tally.name}: the columns of its definition view {name} change",
            )
            sql.execute(connection, f"DROP VIEW {name}")
        sql.execute(connection, f"{create}{text}")


def _text(connection: Connection, tally: SelectTally) -> str:
    """The SELECT's text, with what the tables' times lack of the declared ones added."""
    naive = [c for source in tally.sources for c in naive_of(connection, source, source.c)]
    return tally.text_over(naive)


def _said_of(error: DBAPIError, tally: SelectTally, before: int) -> str:
    """What PostgreSQL says of the SELECT, with the place in its file."""
    said = getattr(error.orig, "diag", None)
    message = getattr(said, "message_primary", None) or str(error.orig).splitlines()[0]
    hint = getattr(said, "message_hint", None)
    position = int(getattr(said, "statement_position", None) or 0) - before
    place = tally.name
    if tally.place is not None:
        place = f"{tally.place(max(position, 1))}: {tally.name}"
    return f"{place}: {message}" + (f"; {hint.rstrip('.')}" if hint else "")


def _store(connection: Connection, tally: SelectTally, plan: Plan) -> bool:
    """Store the plan; whether it is another one than before."""
    document = plan_json.to_json(plan)
    values = {
        "declaration_hash": tally.declaration_hash(),
        "plan": document,
        "definition": tally.resolved_text,
        "digest": plan_json.digest(document),
        "compiled_at": func.now(),
    }
    columns = state.select_plans.c
    names = ("digest", "declaration_hash", "definition")
    read = select(columns.plan, *(columns[name] for name in names))
    before = connection.execute(read.where(columns.tally == tally.name)).one_or_none()
    if before is not None and all(getattr(before, name) == values[name] for name in names):
        return False
    statement = insert(state.select_plans).values(tally=tally.name, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["tally"], set_=values))
    logged = ("captured", "summed")
    if before is not None and any(before.plan.get(n) != document[n] for n in logged):
        # What is pending was logged for other columns, or other conditions.
        reason = state.LOG_DIFFERED
        connection.execute(stale_marks.insert().values(tally=tally.name, reason=reason))
        # What was measured is of other sources, or of other columns of them.
        costs = state.refresh_costs
        connection.execute(costs.delete().where(costs.c.tally == tally.name))
    return True

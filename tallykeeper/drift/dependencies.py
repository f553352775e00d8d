"""What each tally depends on: recorded when it is installed, compared whenever figures are asked.

A tally names some objects itself (sources, derived table, change log, live view, functions);
partitions, triggers and functions that these call are found from them. The record is in the
tables `stands_on` and `dependencies`; one query (`facts.py`) compares it with the
catalog, and `rules.py` judges each difference.

Invariants: where nothing differs, nothing is written and no lock is taken. Where the figures of a
tally may be wrong, it is marked stale before anybody is shown them as proven.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine, Table, delete, insert, select, text
from sqlalchemy.exc import DBAPIError

from tallykeeper.capture import derived_triggers, triggers
from tallykeeper.catalog import fk_locks, state
from tallykeeper.catalog.state import Installed, dependencies, stale_marks, stands_on
from tallykeeper.database import sql
from tallykeeper.database.sqlstates import (
    FEATURE_NOT_SUPPORTED,
    INSUFFICIENT_PRIVILEGE,
    INVALID_TEXT_REPRESENTATION,
    SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION,
    sqlstate_of,
)
from tallykeeper.declarations.tally import Tally
from tallykeeper.drift import catalog_rows, facts
from tallykeeper.drift.differences import HAND, MOVED, ROW_SECURITY, Consequence, Drift
from tallykeeper.drift.rules import judge
from tallykeeper.errors import DoesNotFit

CAPTURE_BROKEN = "its capture is not intact"

P = ParamSpec("P")
T = TypeVar("T")

# A name that is not there, what cannot be done with it, or a label that its type has not; but no
# right that lacks.
_UNFIT = (
    SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION,
    FEATURE_NOT_SUPPORTED,
    INVALID_TEXT_REPRESENTATION,
)
_MOST_NAMED = 3

# A qualified name before a parenthesis: functions are called so, as no body has a search path.
_CALLED = re.compile(r"\b([a-z_][a-z0-9_$]*)\.([a-z_][a-z0-9_$]*)\s*\(")


@dataclass(frozen=True)
class Standing:
    """What differs until somebody acts, and the reasons for which the tally is stale."""

    faults: Sequence[Drift]
    stale: tuple[str, ...]


def is_recorded(connection: Connection, tally: Tally) -> bool:
    """Whether this version of the code recorded what the tally depends on, for this role to see."""
    return bool(recorded_among(connection, [tally]))


def recorded_among(connection: Connection, tallies: Sequence[Tally]) -> list[Tally]:
    """Those of the tallies of which it is."""
    known = _recorded(connection, [tally.name for tally in tallies])
    return [tally for tally in tallies if tally.name in known]


def _recorded(connection: Connection, names: Sequence[str]) -> set[str]:
    if not connection.scalar(select(state.may_read(dependencies, stands_on))):
        return set()
    found = connection.exec_driver_sql(
        f"SELECT tally FROM {sql.name_of(dependencies)} WHERE tally = ANY (%s)"
        " AND kind = 'database' AND (facts ->> 'format')::int = %s",
        (list(names), facts.FORMAT),
    )
    return set(found.scalars())


def record(connection: Connection, tallies: Sequence[Tally]) -> None:
    """Write down what the tallies stand on, as it is now."""
    names = [tally.name for tally in tallies]
    connection.execute(delete(stands_on).where(stands_on.c.tally.in_(names)))
    connection.execute(insert(stands_on), [root for t in tallies for root in _roots(connection, t)])
    facts.record(connection, names)


def drifts(connection: Connection, tallies: Sequence[Tally]) -> dict[str, list[Drift]]:
    """How what the tallies stand on differs from the record, by tally, the gravest first.

    A tally of which nothing is recorded has no entry.
    """
    return _drifts(connection, [tally.name for tally in tallies])


def _drifts(connection: Connection, names: Sequence[str]) -> dict[str, list[Drift]]:
    rows = facts.compare(connection, names) if names else []
    by_tally: dict[str, list[object]] = {}
    for row in rows:
        by_tally.setdefault(row.tally, []).append(row)
    return {name: judge(name, found) for name, found in by_tally.items()}


@contextmanager
def unchanged(connection: Connection, names: Sequence[str]) -> Iterator[None]:
    """Let what is altered meanwhile be no difference of the named tallies that had none before."""
    recorded = sorted(_recorded(connection, names))
    found = _drifts(connection, recorded)
    yield
    if same := [name for name in recorded if not found.get(name)]:
        facts.record(connection, same)


def faults_among(connection: Connection, tallies: Sequence[Tally]) -> list[str]:
    """What keeps figures of any of the tallies from being proven, a sentence each, once."""
    found = drifts(connection, recorded_among(connection, tallies))
    said = (str(drift) for each in found.values() for drift in each if drift.is_fault)
    return list(dict.fromkeys(said))


def drifts_of(connection: Connection, tally: Tally) -> list[Drift]:
    """The same of one tally."""
    return drifts(connection, [tally]).get(tally.name, [])


def notice(connection: Connection, tally: Tally, found: Sequence[Drift]) -> list[Drift]:
    """Mark the tally stale where its figures may be wrong, and write down what needs no more.

    Returns the differences that stay until somebody acts. A role that may not mark changes
    nothing.
    """
    lasting = [d for d in found if d.consequence > Consequence.STALE]
    if not found or not may_mark(connection):
        return lasting
    for drift in found:
        if drift.consequence is Consequence.STALE:
            state.mark_stale(connection, tally, str(drift))
    marked = state.stale_reasons(connection, tally)
    if any(drift.missed for drift in lasting) and CAPTURE_BROKEN not in marked:
        state.mark_stale(connection, tally, CAPTURE_BROKEN)
    if any(drift.kind == MOVED for drift in found):
        if not lasting:
            facts.record(connection, [tally.name])
            state.record_written(connection, tally, [], True)
        return lasting
    unsettled = {name for drift in lasting for _, name, _ in drift.objects}
    settled = [p for d in found for p in d.objects if p[1] not in unsettled]
    if settled:
        facts.settle(connection, tally.name, settled)
    return lasting


def noticed(connection: Connection, tally: Tally) -> list[Drift]:
    """What is to be said of the tally before its figures are used, in this snapshot.

    Raises DoesNotFit where row security would hide rows of a source from this role.
    """
    if not is_recorded(connection, tally):
        return []
    return _noticed(connection, tally, drifts_of(connection, tally))


def noticed_since(connection: Connection, tally: Tally, known: Installed) -> Standing:
    """The same, and why the tally is stale, where nothing need be compared that was before.

    `known` was read in this snapshot. Raises DoesNotFit like `noticed`.
    """
    nothing = Standing([], known.stale)
    if not known.shows_record:
        return nothing
    looked = catalog_rows.look(connection, tally, facts.FORMAT)
    if looked is None or looked.is_same:
        return nothing
    found = drifts_of(connection, tally)
    if found:
        lasting = _noticed(connection, tally, found)
        return Standing(lasting, state.stale_reasons(connection, tally))
    if looked.now is not None and may_mark(connection):
        catalog_rows.keep(connection, tally, looked.now)
    return nothing


def _noticed(connection: Connection, tally: Tally, found: Sequence[Drift]) -> list[Drift]:
    lasting = notice(connection, tally, found)
    hidden = [str(drift) for drift in lasting if drift.kind == ROW_SECURITY]
    if hidden:
        raise DoesNotFit(f"{tally.name}: {'; '.join(hidden)}. Nothing was changed")
    return lasting


def reasons_to_rebuild(
    connection: Connection, tally: Tally, standing: Standing, *, is_built: bool = False
) -> tuple[str, ...]:
    """Why the tally is to be built anew; empty where it is not.

    Broken capture keeps it stale, so that live reads go to the sources; but it is built for that
    once, and not every hour until somebody repairs the capture.
    """
    if standing.stale != (CAPTURE_BROKEN,) or not standing.faults:
        return standing.stale
    built_since = connection.exec_driver_sql(
        f"SELECT (SELECT max(marked_at) FROM {sql.name_of(stale_marks)} WHERE tally = s.tally)"
        f" <= s.built_at FROM {sql.name_of(state.tally_state)} AS s WHERE s.tally = %s",
        (tally.name,),
    ).scalar()
    return () if is_built or built_since else standing.stale


def stay_stale(connection: Connection, tally: Tally, faults: Sequence[Drift]) -> None:
    """After a rebuild, which removes all invalidations: put back that of a broken capture."""
    if any(drift.missed for drift in faults) and may_mark(connection):
        state.mark_stale(connection, tally, CAPTURE_BROKEN)


@contextmanager
def explaining(engine: Engine, tallies: Sequence[Tally]) -> Iterator[None]:
    """Let a statement that fails for what the tallies stand on say so, instead of how it fails.

    Raises DoesNotFit for it; anything else passes as it is.
    """
    try:
        yield
    except DBAPIError as error:
        code = sqlstate_of(error)
        if not code.startswith(_UNFIT) or code == INSUFFICIENT_PRIVILEGE:
            raise
        faults = _faults(engine, tallies)
        if not faults:
            raise
        said = str(error.orig).splitlines()[0]
        more = f"; and {len(faults) - _MOST_NAMED} more" if len(faults) > _MOST_NAMED else ""
        raise DoesNotFit(
            f"the SELECT of a tally cannot be run any more ({said}), for what it depends on has"
            f" changed: {'; '.join(faults[:_MOST_NAMED])}{more}. Nothing was changed; put that"
            " back, or change the declaration, and run `tally migrate`"
        ) from error


def explained(
    work: Callable[Concatenate[Engine, Tally, P], T],
) -> Callable[Concatenate[Engine, Tally, P], T]:
    """Decorate what is done with one tally with `explaining`."""

    @functools.wraps(work)
    def explaining_it(engine: Engine, tally: Tally, /, *args: P.args, **named: P.kwargs) -> T:
        with explaining(engine, [tally]):
            return work(engine, tally, *args, **named)

    return explaining_it


def _faults(engine: Engine, tallies: Sequence[Tally]) -> list[str]:
    with engine.connect() as connection:
        recorded = [tally for tally in tallies if is_recorded(connection, tally)]
        found = drifts(connection, recorded) if recorded else {}
    return list(dict.fromkeys(str(d) for each in found.values() for d in each if d.is_fault))


def may_mark(connection: Connection) -> bool:
    """Whether this role may mark tallies stale in this transaction."""
    return bool(
        connection.exec_driver_sql(
            f"SELECT has_table_privilege('{sql.name_of(stale_marks)}', 'INSERT')"
            f" AND has_table_privilege('{sql.name_of(dependencies)}', 'UPDATE')"
            " AND NOT current_setting('transaction_read_only')::boolean"
        ).scalar_one()
    )


def _roots(connection: Connection, tally: Tally) -> Iterator[dict[str, object]]:
    def relation(role: str, name: str, columns: Sequence[str] = ()) -> dict[str, object]:
        return {
            "tally": tally.name,
            "role": role,
            "kind": "relation",
            "name": name,
            "columns": list(columns),
        }

    for source in tally.sources:
        yield relation("source", sql.name_of(source), tally.relevant(source))
    yield relation("derived", sql.name_of(tally.table), tally.columns)
    yield relation("log", tally.log_name)
    yield relation("live", tally.live_name)
    yield relation("state", sql.name_of(stale_marks))
    for role, name in tally.own_relations():
        yield relation(role, name)
    names = [*tally.function_names(), *(s.partition("(")[0] for s in fk_locks.signatures(tally))]
    # A SELECT that was left out for want of a table was not compiled, and captures nothing.
    beside = state.bound(connection, tally.siblings)
    hooks = [h for s in tally.sources for h in triggers.hooks(connection, s, _over(s, beside))]
    own = derived_triggers.own_hooks(tally)
    names += [hook.function for hook in (*hooks, *own)]
    of_hand = {h.function for h in own} - {h.function for h in own if not h.of_hand}
    pairs = [(sql.ENGINE_SCHEMA, _unquoted(name.partition(".")[2])) for name in names]
    for schema, name in dict.fromkeys([*pairs, *_called(connection, tally)]):
        yield {
            "tally": tally.name,
            "role": HAND if f"{schema}.{sql.quote(name)}" in of_hand else "function",
            "kind": "function",
            "name": f"{sql.quote(schema)}.{sql.quote(name)}",
            "columns": [name, schema],
        }


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _over(source: Table, tallies: Sequence[Tally]) -> list[Tally]:
    return [t for t in tallies if source in t.sources]


def _called(connection: Connection, tally: Tally) -> Iterator[tuple[str, str]]:
    """Functions that are no part of PostgreSQL and that the tally's text calls."""
    texts = [*tally.queries(), *tally.functions()]
    texts += [
        s for source in tally.sources for e in triggers.EVENTS for s in tally.capture_one(source, e)
    ]
    texts += [insert for source in tally.sources for _, insert in tally.capture_update(source)]
    named = dict.fromkeys(pair for each in texts for pair in _CALLED.findall(each))
    if not named:
        return
    found = connection.execute(
        text(
            "SELECT DISTINCT n.nspname, p.proname FROM pg_proc AS p JOIN pg_namespace AS n"
            " ON n.oid = p.pronamespace WHERE n.nspname <> 'pg_catalog'"
            " AND n.nspname || '.' || p.proname = ANY (:names)"
        ),
        {"names": [f"{schema}.{name}" for schema, name in named]},
    )
    yield from ((row.nspname, row.proname) for row in found)

"""About how long work on a tally takes, from what the same took before, or how much there is.

None where nothing is known that the work resembles.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.exc import SQLAlchemyError

from tallykeeper.catalog import state
from tallykeeper.declarations.tally import Tally
from tallykeeper.errors import TallyError
from tallykeeper.maintain import audit_rounds
from tallykeeper.maintain.select_changes import pending_parts
from tallykeeper.select import refresh_costs
from tallykeeper.select.tally import SelectTally

_Estimate = Callable[[Engine, Tally], float | None]


def _if_known(estimate: Callable[[Connection, Tally], float | None]) -> _Estimate:
    """What is not installed, or cannot be read, is not known: the work itself says why."""

    @wraps(estimate)
    def guarded(engine: Engine, tally: Tally) -> float | None:
        try:
            with engine.connect() as connection:
                if state.installed(connection, tally) is None:
                    return None
                tally.bind(connection)
                return estimate(connection, tally)
        except (SQLAlchemyError, TallyError):
            return None

    return guarded


@_if_known
def of_refresh(connection: Connection, tally: Tally) -> float | None:
    """How long a refresh takes: everything of a stale tally, else what is pending."""
    if _is_stale(connection, tally):
        return _of_everything(connection, tally)
    if not isinstance(tally, SelectTally):
        return None
    costs = refresh_costs.read(connection, tally)
    if costs.all_seconds is None:
        return None
    expected = refresh_costs.REFRESH_SECONDS + costs.expected(pending_parts(connection, tally))
    return min(costs.all_seconds, expected)


@_if_known
def of_rebuild(connection: Connection, tally: Tally) -> float | None:
    """How long computing all of the tally takes."""
    return _of_everything(connection, tally)


@_if_known
def of_verify(connection: Connection, tally: Tally) -> float | None:
    """How long comparing all keys takes, which the audit has done before."""
    known = audit_rounds.read(connection, tally)
    return None if known is None else known.compared_seconds


@_if_known
def rows_of(connection: Connection, tally: Tally) -> float | None:
    """How many rows the derived table had after its last refresh."""
    rows: int | None = _last(connection, tally).rows
    return rows


def _is_stale(connection: Connection, tally: Tally) -> bool:
    installed = state.installed(connection, tally)
    assert installed is not None
    return bool(installed.stale) or installed.declaration_hash != tally.declaration_hash()


def _of_everything(connection: Connection, tally: Tally) -> float | None:
    if isinstance(tally, SelectTally):
        known = refresh_costs.read(connection, tally).all_seconds
        if known is not None:
            return known
    last = _last(connection, tally)
    is_whole = last.built_at is not None and last.refreshed_at == last.built_at
    return float(last.seconds) if is_whole else None


def _last(connection: Connection, tally: Tally) -> Any:
    """When all of the tally and when any was written last, how long that took, and its rows."""
    columns = state.tally_state.c
    return connection.execute(
        select(
            columns.built_at,
            columns.refreshed_at,
            func.coalesce(columns.seconds, 0.0).label("seconds"),
            columns.rows,
        ).where(columns.tally == tally.name)
    ).one()

"""By which column each derived table is divided, as its SELECT says over a database's tables."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import Connection

from tallykeeper.database import sql
from tallykeeper.database.sessions import begin_work
from tallykeeper.declarations.tally import Tally
from tallykeeper.errors import DeclarationError, DoesNotFit, NotInstalled
from tallykeeper.installation import select_plans
from tallykeeper.places.division import NotDivided, division_of
from tallykeeper.places.place import Place
from tallykeeper.places.renaming import Name, name_of
from tallykeeper.places.tallies import kept_at
from tallykeeper.select.tally import SelectTally
from tallykeeper.system import System

_TRIED = "tally_divided"


def kept_of(system: System, without: Collection[str] = ()) -> list[Tally]:
    """The tallies of the system but for those that are left out."""
    return [tally for tally in system.tallies if tally.name not in without]


def wanted_of(system: System) -> dict[Name, str | None]:
    """The column by which each source is divided, or None. Raises DoesNotFit where none is."""
    wanted = {name_of(name): column for name, column in system.distribution.items()}
    if not any(wanted.values()):
        raise DoesNotFit(
            f"the system {system.name} does not say how its sources are divided; name the column of"
            " each in `distribution`"
        )
    return wanted


def family_of(system: System) -> Name:
    """A table that all divided ones of the system are colocated with: the first that it names.

    Raises DoesNotFit where it names none.
    """
    return next(name for name, column in wanted_of(system).items() if column is not None)


def name_in(tally: Tally) -> Name:
    """Schema and name of the derived table."""
    return tally.table.schema or "public", tally.table.name


def columns_of(
    connection: Connection, tallies: Sequence[SelectTally], wanted: Mapping[Name, str | None]
) -> tuple[dict[str, str], dict[str, str]]:
    """The column by which each tally's derived table is divided; why others cannot be.

    Both by the tally's name. `wanted` are the columns of the sources. The tallies are compiled and
    bound; nothing of it stays in the database.
    """
    columns: dict[str, str] = {}
    refused: dict[str, str] = {}
    known = dict(wanted)
    for tally in tallies:
        try:
            columns[tally.name] = known[name_in(tally)] = _column_of(connection, tally, known)
        except (DeclarationError, NotInstalled) as error:
            refused[tally.name] = str(error)
    return columns, refused


def columns_at(system: System, place: Place, without: Collection[str] = ()) -> dict[str, str]:
    """The column by which the derived table of each tally is divided, by the declared name.

    As the tables of one place show it. Raises DoesNotFit where a tally cannot be kept at places.
    """
    wanted = {place.table(*name): column for name, column in wanted_of(system).items()}
    kept = kept_at(kept_of(system, without), [place])
    with place.connected() as engine, engine.connect() as connection:
        begin_work(connection)
        columns, refused = columns_of(connection, [each.tally for each in kept], wanted)
        connection.rollback()
    if refused:
        why = "; ".join(
            f"{each.declared.name}: {refused[each.tally.name]}"
            for each in kept
            if each.tally.name in refused
        )
        raise DoesNotFit(f"not kept at places: {why}. Nothing was changed")
    return {each.declared.name: columns[each.tally.name] for each in kept}


def _column_of(
    connection: Connection, tally: SelectTally, wanted: Mapping[Name, str | None]
) -> str:
    savepoint = connection.begin_nested()
    try:
        tally.bind_to(select_plans.try_plan(connection, tally), "")
    finally:
        savepoint.rollback()
    savepoint = connection.begin_nested()
    try:
        sql.execute(connection, f"CREATE TEMPORARY VIEW {_TRIED} AS\n{tally.text}")
        columns = division_of(connection, f"pg_temp.{_TRIED}", wanted)
    finally:
        savepoint.rollback()
    usable = [name for name in columns if name in tally.key]
    if not usable:
        raise NotDivided(
            f"its key ({', '.join(tally.key)}) does not contain {columns[0]}, by which rows are"
            " divided; add it to the key"
        )
    return usable[0]

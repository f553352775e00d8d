"""Where places of a system are found: in the file TALLY_PLACES, or in the cluster of a database."""

from __future__ import annotations

from sqlalchemy import Engine

from tallykeeper.declarations.tally import Tally
from tallykeeper.places.citus import divided_tables, is_coordinator, places_of
from tallykeeper.places.columns import columns_at, family_of, name_in
from tallykeeper.places.place import read_places
from tallykeeper.places.work import Places
from tallykeeper.select.tally import SelectTally
from tallykeeper.settings import places_file
from tallykeeper.system import System


def is_divided(engine: Engine, system: System) -> bool:
    """Whether the system is kept at places: it says how, and its tables are divided so.

    Raises SettingError, or SQLAlchemy's errors.
    """
    if not any(system.distribution.values()):
        return False
    if places_file() is not None:
        return True
    with engine.connect() as connection:
        return is_coordinator(connection) and family_of(system) in divided_tables(connection)


def places_for(engine: Engine, system: System) -> Places:
    """What finds the places of the system each time that something is done with it.

    Raises SettingError, or DoesNotFit where the system does not say how it is divided.
    """
    family = family_of(system)
    path = places_file()
    if path is None:
        return places_of(engine, family)
    places = read_places(path)
    return lambda: places


def tallies_at(system: System, places: Places) -> list[Tally]:
    """The tallies of the system that are kept at the places.

    On a cluster those whose derived tables are distributed; others were left out.
    """
    found = [tally for tally in system.tallies if isinstance(tally, SelectTally)]
    if places_file() is not None:
        return list(found)
    names = places()[0].tables
    return [tally for tally in found if name_in(tally) in names]


def column_for(engine: Engine, system: System, tally: str) -> str:
    """The column by which the tally's derived table is divided.

    Raises DoesNotFit where the tally cannot be kept at places.
    """
    others = [each.name for each in system.tallies if each.name != tally]
    return columns_at(system, places_for(engine, system)()[0], others)[tally]

"""Which tallies a command is about: all that the database keeps, or those that are named."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Engine

from assets.systems import active_systems, all_systems, chosen_systems
from tallies import NotInstalled, System, Tally


class UnknownTally(ValueError):
    """A name that no tally has, or more than one."""


def named_tallies(engine: Engine, names: Sequence[str]) -> list[Tally]:
    """The tallies that `names` mean, each once; without names all of the active systems.

    Raises UnknownTally, SettingError, or NotInstalled where no system is active.
    """
    if names:
        return list(dict.fromkeys(find_tally(name) for name in names))
    tallies = [tally for system in active_systems(engine) for tally in system.tallies]
    if not tallies:
        known = ", ".join(system.name for system in chosen_systems())
        raise NotInstalled(
            f"this database has the source tables of no system ({known}); make them with"
            " `tally migrate --with-sources`, or name the schema that has them in"
            " TALLY_SCHEMA_<SYSTEM>"
        )
    return tallies


def systems_of(tallies: Sequence[Tally]) -> list[System]:
    """The systems that have any of the tallies, in their own order."""
    return [system for system in all_systems() if set(system.tallies) & set(tallies)]


def find_tally(name: str) -> Tally:
    """The tally called `media.daily_contributions`, `media/daily_contributions`, or by its table.

    Raises UnknownTally, which lists the names that there are.
    """
    tallies = [tally for system in all_systems() for tally in system.tallies]
    wanted = name.replace("/", ".", 1)
    exact = [tally for tally in tallies if tally.name == wanted]
    found = exact or [tally for tally in tallies if tally.table.name == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise UnknownTally(
            f"{name!r} is ambiguous; write {' or '.join(tally.name for tally in found)}"
        )
    raise UnknownTally(
        f"no tally is called {name!r}; there are {', '.join(tally.name for tally in tallies)}"
    )

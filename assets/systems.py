"""Which systems there are, and which of them a database keeps.

A new system is a folder beside this file and one line in `all_systems`. Nothing is read from a
database at import.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, Engine, Table

from resources.settings import SettingError, wanted_systems
from tallies import System, Tally, presence


def all_systems() -> tuple[System, ...]:
    """Every system there is, in the order in which they are listed.

    Raises SettingError where a TALLY_SCHEMA_<SYSTEM> is malformed.
    """
    from assets.classroom.tallies import system as classroom
    from assets.fediverse.tallies import system as fediverse
    from assets.gallery.tallies import system as gallery
    from assets.media.tallies import system as media

    return (media, gallery, fediverse, classroom)


def chosen_systems() -> tuple[System, ...]:
    """The systems that TALLY_SYSTEMS names, in its order; every one where it is unset.

    Raises SettingError where it names one that there is not.
    """
    systems = {system.name: system for system in all_systems()}
    wanted = wanted_systems()
    if wanted is None:
        return tuple(systems.values())
    unknown = [name for name in wanted if name not in systems]
    if unknown:
        raise SettingError(
            "TALLY_SYSTEMS",
            f"systems that there are ({', '.join(systems)})",
            ",".join(unknown),
            "correct the list, or unset it for every system whose source tables exist",
        )
    return tuple(systems[name] for name in wanted)


def active_systems(engine: Engine) -> tuple[System, ...]:
    """The systems that TALLY_SYSTEMS names; unset: every one of which a tally has its sources.

    Raises SettingError, or SQLAlchemy's errors where the database is not to be reached.
    """
    return kept_systems(engine, chosen_systems())


def kept_systems(engine: Engine, systems: Sequence[System]) -> tuple[System, ...]:
    """Those of `systems` that the database keeps: all, where TALLY_SYSTEMS names them.

    Raises SettingError, or SQLAlchemy's errors where the database is not to be reached.
    """
    if wanted_systems() is not None:
        return tuple(systems)
    with engine.connect() as connection:
        return tuple(s for s in systems if is_kept(connection, s))


def is_kept(connection: Connection, system: System) -> bool:
    """Whether the database keeps any of the system: what it processes, and a tally's sources."""
    raw = presence.missing(connection, system.raw)
    return not raw and len(left_out(connection, system)) < len(system.tallies)


def left_out(connection: Connection, system: System) -> dict[Tally, list[str]]:
    """The system's tallies that lack a source table, or one that they refer to, with which."""
    return presence.left_out(connection, system.tallies, system.derived)


def why_left_out(engine: Engine, system: System, tally: Tally) -> str:
    """Why the tally is not kept though its system is, as a sentence; empty where it is kept.

    Raises SQLAlchemy's errors where the database is not to be reached.
    """
    with engine.connect() as connection:
        if not is_kept(connection, system):
            return ""
        lacking = left_out(connection, system).get(tally)
    if not lacking:
        return ""
    verb = "is" if len(lacking) == 1 else "are"
    return f"left out: {', '.join(lacking)} {verb} not in the database"


def missing_sources(connection: Connection, system: System) -> Sequence[str]:
    """The system's source tables that are not in the database, as `media.media_files`.

    Those too that its derived tables refer to, though no tally counts them.
    """
    return presence.missing(connection, (*system.sources, *_referenced(system)))


def _referenced(system: System) -> list[Table]:
    """The tables behind the foreign keys of derived tables, beyond the sources."""
    known = {*system.sources, *system.derived}
    keys = [key for tally in system.tallies for key in tally.table.foreign_keys]
    found = dict.fromkeys(key.column.table for key in keys)
    return sorted((table for table in found if table not in known), key=lambda table: table.name)

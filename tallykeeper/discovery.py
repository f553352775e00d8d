"""Which systems there are, and which of them a database keeps.

A system is found where the project's pyproject.toml names it in [tool.tallykeeper], or where an
installed distribution does, by the entry point `tallykeeper.systems`. A tally that a file declares
belongs to the system that its name begins with. Nothing is read from a database at import.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine, MetaData, Table, select

from tallykeeper.catalog import presence, state
from tallykeeper.declarations.tally import Tally
from tallykeeper.select.files import SUFFIX, Declared, read_files, tally_of
from tallykeeper.select.files.components import COMPONENT_SUFFIXES, read_components
from tallykeeper.settings import (
    SettingError,
    project_root,
    project_table,
    schema_of,
    wanted_systems,
)
from tallykeeper.system import System
from tallykeeper.table_names import require_systems

SUFFIXES = (SUFFIX, *COMPONENT_SUFFIXES)
ENTRY_POINTS = "tallykeeper.systems"
KEYS = ("systems", "tallies", "page", "dagster_prefix", "owners", "prune")
Found = TypeVar("Found", System, Tally)

WRITTEN_AS = 'module:attribute, as in "shop.tallies:system"'
TALLY_WRITTEN_AS = f'{WRITTEN_AS}, or files, as in "tallies/**/*.sql"'


def all_systems() -> tuple[System, ...]:
    """Every system there is, in the order in which they are listed.

    First those of the project: `systems`, then `tallies` grouped by the system that each names.
    Then those of entry points. A tally of a file whose system there is belongs to that.

    Raises SettingError where one is named that cannot be found, or two have one name, BadFile
    where a file is malformed.
    """
    root = project_root()
    return _systems_of(root)


@cache
def _systems_of(root: Path) -> tuple[System, ...]:
    declared = project_table(root) or {}
    if declared:
        find_modules_in(root)
    found: dict[str, System] = {}
    for where, system in (*_declared(root, declared), *_installed()):
        if found.setdefault(system.name, system) is not system:
            raise SettingError(
                where, "systems of different names", system.name, "rename one, or leave it out"
            )
    return tuple(systems_of_files(_in_files(root, declared), found).values())


def systems_of_files(
    declared: Sequence[Declared], known: Mapping[str, System] | None = None
) -> dict[str, System]:
    """The systems `known`, by their names, with the tallies that files declare, and new ones.

    Raises DeclarationError, or SettingError where two systems could not be kept side by side.
    """
    tallies: dict[str, list[Tally]] = {}
    for each in declared:
        tallies.setdefault(each.system, []).append(tally_of(each))
    found = dict(known or {})
    for name, of_system in tallies.items():
        system = found.get(name) or System(name, MetaData(schema=schema_of(name)), ())
        found[name] = system.with_tallies(of_system)
    require_systems({name: system.metadata for name, system in found.items()})
    return found


def find_modules_in(root: Path) -> None:
    """Let modules of the project be imported from its folder, as `python -m` and Dagster do."""
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))


def _declared(root: Path, table: dict[str, object]) -> Iterator[tuple[str, System]]:
    """The systems that the project names, each with the place where it does."""
    place = f"[tool.tallykeeper] of {root / 'pyproject.toml'}"
    unknown = sorted(set(table) - set(KEYS))
    if unknown:
        raise SettingError(place, " or ".join(KEYS), ", ".join(unknown), "correct the name")
    for name in _names(place, table, "systems"):
        yield f"{place}: systems", _load(f"{place}: systems", name, System)
    alone: dict[str, list[Tally]] = {}
    for name in _names(place, table, "tallies"):
        if name.endswith(SUFFIXES):
            continue
        tally = _load(f"{place}: tallies", name, Tally)  # type: ignore[type-abstract]
        alone.setdefault(tally.system, []).append(tally)
    for system, tallies in alone.items():
        yield f"{place}: tallies", System(system, tallies[0].table.metadata, tallies)


def _in_files(root: Path, table: dict[str, object]) -> list[Declared]:
    """The tallies that files declare. Raises SettingError, BadFile."""
    place = f"[tool.tallykeeper] of {root / 'pyproject.toml'}"
    patterns = [name for name in _names(place, table, "tallies") if name.endswith(SUFFIXES)]
    for pattern in patterns:
        if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
            todo = 'write it as in "tallies/**/*.sql"'
            expected = "files within the project's folder"
            raise SettingError(f"{place}: tallies", expected, pattern, todo)
    found = read_files(root, [name for name in patterns if name.endswith(SUFFIX)])
    components = [name for name in patterns if not name.endswith(SUFFIX)]
    return [*found, *read_components(root, components)] if components else found


def _names(place: str, table: dict[str, object], key: str) -> list[str]:
    names = table.get(key, [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise SettingError(f"{place}: {key}", "a list of texts", str(names), f"write {WRITTEN_AS}")
    return names


def _load(place: str, name: str, kind: type[Found]) -> Found:
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        written_as = WRITTEN_AS if kind is System else TALLY_WRITTEN_AS
        raise SettingError(place, written_as, name, "correct it")
    try:
        value = getattr(import_module(module), attribute)
    except (ModuleNotFoundError, AttributeError) as error:
        if isinstance(error, ModuleNotFoundError) and not f"{module}.".startswith(f"{error.name}."):
            raise  # What is missing is something that the project's module itself imports.
        raise SettingError(place, WRITTEN_AS, name, f"there is no such thing ({error})") from error
    if not isinstance(value, kind):
        came = f"{name}, a {type(value).__name__}"
        raise SettingError(place, f"a {kind.__name__}", came, "name what declares it")
    return value


def _installed() -> Iterator[tuple[str, System]]:
    """The systems that installed distributions bring."""
    for point in entry_points(group=ENTRY_POINTS):
        yield (
            f"the entry point {point.name}",
            _load(f"the entry point {point.name} of {ENTRY_POINTS}", point.value, System),
        )


def system_called(name: str) -> System:
    """The system of that name. Raises SettingError where there is none."""
    systems = {system.name: system for system in all_systems()}
    if name not in systems:
        raise SettingError("a system", f"one of {', '.join(systems)}", name, "correct the name")
    return systems[name]


def chosen_systems() -> tuple[System, ...]:
    """The systems that TALLY_SYSTEMS names, in its order; every one where it is unset.

    Raises SettingError where it names one that there is not, or there is none at all.
    """
    systems = {system.name: system for system in all_systems()}
    named = (project_table(project_root()) or {}).get("tallies")
    if not systems and named:
        raise SettingError(
            f"[tool.tallykeeper] of {project_root() / 'pyproject.toml'}: tallies",
            "names that some file has",
            str(named),
            "write a tally with `tally new SCHEMA.TABLE`",
        )
    if not systems:
        raise SettingError(
            "[tool.tallykeeper]",
            "systems or tallies in the pyproject.toml of the project",
            str(project_root()),
            "call it within a project's folder, or name that in TALLY_PROJECT",
        )
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


def undeclared(connection: Connection) -> list[str]:
    """The tallies that are installed in the database and declared nowhere, by name."""
    if not state.is_there(connection, state.tally_state):
        return []
    declared = {tally.name for system in all_systems() for tally in system.tallies}
    installed = connection.scalars(select(state.tally_state.c.tally))
    return sorted(set(installed) - declared)


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

"""How source tables and their columns are named in one's own database: the file TALLY_NAMES.

A declaration knows a column by its *key*, which is the project's own name for it, and SQL by its
*name*, which is the database's. What stands here puts the second one into a table's definition.

    [classroom.submissions]
    table = "school.submission"
    columns = { date_created = "createdAt", assignment_id = "task" }

A name that the file leaves out is the project's own. Every name in the file that no system has is
an error, with the nearest right one. Only source tables are named so: derived ones are the
project's own, and go by its names.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from sqlalchemy import Column, MetaData, Table
from sqlalchemy.schema import SchemaItem

from tallykeeper.settings import SettingError, names_file

VARIABLE = "TALLY_NAMES"
_RENAMEABLE = "tallykeeper/source_tables"

LONGEST_IDENTIFIER = 63


@dataclass(frozen=True)
class Names:
    """How one table is named: None where as in the project."""

    table: str | None = None
    schema: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)


class SourceTables:
    """Makes the source tables of one system, with the names that they have in the database.

    Raises SettingError where the file names a system, or says what it cannot.
    """

    def __init__(self, system: str, metadata: MetaData) -> None:
        self._system = system
        self._metadata = metadata
        metadata.info[_RENAMEABLE] = True
        self._names = _names_of(system)
        self._made: list[str] = []

    @property
    def are_renamed(self) -> bool:
        """Whether any table or column has another name than the project's."""
        return bool(self._names)

    def table(self, name: str, *parts: SchemaItem, comment: str) -> Table:
        """The table of that name, by the name that it has.

        Raises SettingError where a column is named that it does not have.
        """
        self._made.append(name)
        names = self._names.get(name, Names())
        columns = {part.name: part for part in parts if isinstance(part, Column)}
        _require_known(f"columns of {self._system}.{name}", names.columns, columns)
        for own, column in columns.items():
            column.key = own
            column.name = names.columns.get(own, own)
        schema = names.schema or self._metadata.schema
        return Table(names.table or name, self._metadata, *parts, schema=schema, comment=comment)

    def require_known(self) -> None:
        """Raise SettingError where the file names a table that the system does not have."""
        _require_known(f"source tables of {self._system}", self._names, self._made)


def reference(system: str, schema: str, table: str, column: str) -> str:
    """What a foreign key to the column refers to, as SQLAlchemy has it: `schema.table.column`."""
    names = _names_of(system).get(table, Names())
    where = f"{names.schema or schema}.{names.table or table}"
    return f"{where}.{names.columns.get(column, column)}"


def refuse_renamed(system: str, purpose: str) -> None:
    """Raise SettingError where tables of the system go by names of their own.

    `purpose` says what goes by the project's names, as in "by which `tally load` writes".
    """
    if names := _names_of(system):
        raise SettingError(
            VARIABLE,
            f"the project's names for the tables of {system}, {purpose}",
            f"[{system}.{next(iter(names))}]",
            "let their own application write such tables",
        )


def require_systems(systems: Mapping[str, MetaData]) -> None:
    """Raise SettingError where the file names a system that has no such tables.

    `systems` are all that there are, by name, each with the MetaData of its tables.
    """
    named = _from_file()
    if named:
        known = [name for name, metadata in systems.items() if metadata.info.get(_RENAMEABLE)]
        _require_known("systems whose source tables may have other names", named, known)


def _from_file() -> dict[str, Any]:
    path = names_file()
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _malformed("a TOML file", f"{path}: {error}") from error


def _names_of(system: str) -> dict[str, Names]:
    tables = _from_file().get(system, {})
    if not isinstance(tables, dict):
        raise _malformed(f"tables below [{system}]", repr(tables))
    return {name: _table_names(f"{system}.{name}", given) for name, given in tables.items()}


def _table_names(what: str, given: Any) -> Names:
    if not isinstance(given, dict):
        raise _malformed(f"`table` and `columns` below [{what}]", repr(given))
    _require_known(f"fields of [{what}]", given, ("table", "columns"))
    table, columns = given.get("table"), given.get("columns", {})
    if table is not None and not isinstance(table, str):
        raise _malformed(f"a text as `table` of [{what}]", repr(table))
    if not isinstance(columns, dict):
        raise _malformed(f"names by our names as `columns` of [{what}]", repr(columns))
    schema, _, name = (table or "").rpartition(".")
    for each in [*filter(None, (schema, name)), *columns.values()]:
        _require_name(what, each)
    if len(set(columns.values())) < len(columns):
        raise _malformed(f"another column for each of `columns` of [{what}]", repr(columns))
    return Names(name or None, schema or None, columns)


def _require_name(what: str, name: object) -> None:
    usable = isinstance(name, str) and bool(name) and "\0" not in name
    if not usable or len(str(name).encode()) > LONGEST_IDENTIFIER:
        raise _malformed(f"names of 1 to {LONGEST_IDENTIFIER} bytes below [{what}]", repr(name))


def _require_known(what: str, named: Iterable[str], known: Iterable[str]) -> None:
    there: Sequence[str] = list(known)
    for name in named:
        if name not in there:
            near = get_close_matches(name, there, n=1)
            raise SettingError(
                VARIABLE,
                f"{what} ({', '.join(there)})",
                name,
                f"write {near[0]!r} there" if near else "correct the file that it names",
            )


def _malformed(expected: str, came: str) -> SettingError:
    return SettingError(VARIABLE, expected, came, "correct the file that it names")

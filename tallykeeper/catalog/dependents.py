"""What others have built on an object of the engine's, such as a view on a live view.

Nothing of it is ever dropped to get at the object: what cannot be done without is refused, with
the names of what is in the way and the statements that drop it and create it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, text

from tallykeeper.catalog import attributes
from tallykeeper.database.sql_files import sql_file
from tallykeeper.errors import HasDependents

_HUNG = sql_file(__name__, "dependents")


@dataclass(frozen=True)
class Dependent:
    """An object that depends on one of ours, and how to create it again.

    `creation` is empty where only its owner knows.
    """

    kind: str
    name: str
    creation: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    @property
    def drop(self) -> str:
        """The statement that drops it, or a line that says that it has to go."""
        if not self.creation:
            return f"-- the {self} has to be removed by its owner"
        return f"DROP {self.kind.upper()} {self.name};"


def on_relation(
    connection: Connection, oid: int, columns: Sequence[str] | None = None
) -> list[Dependent]:
    """What depends on a view or table, or on some of its columns, in the order of its creation."""
    return _find(connection, "pg_class", oid, columns)


def on_function(connection: Connection, oid: int) -> list[Dependent]:
    """What depends on a function."""
    return _find(connection, "pg_proc", oid, None)


def require_none(found: Sequence[Dependent], what: str) -> None:
    """Raise HasDependents where something was found. `what` says why they are in the way."""
    if not found:
        return
    names = ", ".join(map(str, found))
    drops = "\n".join(each.drop for each in reversed(found))
    creations = "\n".join(each.creation for each in found if each.creation)
    raise HasDependents(
        f"{what}, and this depends on it: {names}. Nothing was changed. Drop it, run"
        " `tally migrate`, and create it again as far as it still holds:\n"
        f"{drops}\n-- run `tally migrate` here\n{creations}".rstrip()
    )


def _find(
    connection: Connection, catalog: str, oid: int, columns: Sequence[str] | None
) -> list[Dependent]:
    # Definitions name what is not in the search path with its schema: so they hold in any session.
    path = connection.scalar(text("SELECT current_setting('search_path')"))
    connection.execute(text("SELECT set_config('search_path', 'pg_catalog', true)"))
    rows = connection.execute(
        text(_HUNG),
        {
            "catalog": catalog,
            "oid": oid,
            "whole": columns is None,
            "columns": list(columns or ()),
        },
    ).all()
    found = [Dependent(row.kind, row.name, _creation(connection, row)) for row in rows]
    connection.execute(text("SELECT set_config('search_path', :path, true)"), {"path": path})
    return found


def _creation(connection: Connection, row: Row[Any]) -> str:
    settings: list[attributes.Attribute] = []
    if row.kind in {"view", "materialized view"}:
        settings = attributes.of_view(connection, row.oid)
    elif row.kind == "function":
        settings = attributes.of_function(connection, row.oid)
    again = (f"{attribute.of(row.name)};" for attribute in settings)
    return "\n".join(filter(None, [row.creation, row.indexes, *again]))

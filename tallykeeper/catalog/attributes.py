"""What people set on a view or function: grants, comments, options and owner.

Read before such an object has to be dropped, and set again on the one that comes in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from tallykeeper.database import sql
from tallykeeper.database.sql_files import sql_file

_RELATION = sql_file(__name__, "view_attributes")
_FUNCTION = sql_file(__name__, "function_attributes")


@dataclass(frozen=True)
class Attribute:
    """A statement that sets one thing, in two parts: the object's name goes between them."""

    before: str
    after: str
    # The column that it is about, where it is about one.
    column: str | None = None

    def of(self, name: str) -> str:
        """The statement for the object of that name."""
        return f"{self.before}{name}{self.after}"


def of_view(connection: Connection, oid: int) -> list[Attribute]:
    """What is set on a view, materialized view or table."""
    return _read(connection, _RELATION, oid)


def of_function(connection: Connection, oid: int) -> list[Attribute]:
    """What is set on a function, but what everybody may do."""
    return _read(connection, _FUNCTION, oid)


def options_of_view(connection: Connection, name: str) -> str | None:
    """The options of a view as `ALTER VIEW ... SET` takes them.

    Not security_invoker: readers have no rights on what a live view reads.
    """
    options: str | None = connection.scalar(
        text(
            "SELECT array_to_string(ARRAY(SELECT o FROM unnest(reloptions) AS o"
            " WHERE o NOT LIKE 'security_invoker=%'), ', ')"
            " FROM pg_class WHERE oid = to_regclass(:name)"
        ),
        {"name": name},
    )
    return options


def set_again(
    connection: Connection, name: str, attributes: Sequence[Attribute], columns: Sequence[str] = ()
) -> None:
    """Set on the object `name`, which has these columns, what was set on its predecessor."""
    for attribute in attributes:
        if attribute.column is None or attribute.column in columns:
            sql.execute(connection, attribute.of(name))


def _read(connection: Connection, query: str, oid: int) -> list[Attribute]:
    rows = connection.execute(text(query), {"oid": oid})
    return [Attribute(row.before, row.after, row.column_name) for row in rows]

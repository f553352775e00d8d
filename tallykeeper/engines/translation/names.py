"""What the numbers in a SELECT's tree name: functions, operators, types, tables, collations."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, text

from tallykeeper.database import sql
from tallykeeper.engines.translation.refusal import Refused
from tallykeeper.select.definition.rule_trees import Node, parse

_ROUTINES = text("""
SELECT p.oid, n.nspname AS schema, p.proname AS name, p.proargtypes::oid[] AS arguments,
       p.prorettype AS returned, p.provariadic <> 0 AS is_variadic
FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace""")
_OPERATORS = text("""
SELECT o.oid, n.nspname AS schema, o.oprname AS name, o.oprleft AS left, o.oprright AS right
FROM pg_operator AS o JOIN pg_namespace AS n ON n.oid = o.oprnamespace""")
_TYPES = text("""
SELECT t.oid, format_type(t.oid, NULL) AS name, t.typtype::text AS kind, t.typbasetype AS base,
       CASE WHEN t.typcategory = 'A' THEN t.typelem ELSE 0 END AS element
FROM pg_type AS t""")
_LABELS = text("SELECT oid, enumlabel AS label FROM pg_enum")
# Only under these is the order of texts that of their bytes.
_ORDERED_BY_BYTES = text("""
SELECT c.oid FROM pg_collation AS c, pg_database AS d
WHERE d.datname = current_database() AND (
    c.collname IN ('C', 'POSIX') AND c.collnamespace = 'pg_catalog'::regnamespace
    OR c.collname = 'default' AND c.collnamespace = 'pg_catalog'::regnamespace
    AND d.datlocprovider = 'c' AND d.datcollate IN ('C', 'POSIX'))""")
_NOT_DETERMINISTIC = text("""
SELECT oid::regcollation::text AS name FROM pg_collation
WHERE oid = ANY (:oids) AND NOT collisdeterministic""")
_RELATIONS = text("""
SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
       (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute AS a
        WHERE a.attrelid = c.oid AND a.attnum > 0) AS columns
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace""")
_COLLATION = re.compile(r":\w*coll\w* (\d+)")
_RULE = text(
    "SELECT ev_action::text FROM pg_rewrite WHERE ev_class = :oid AND ev_type = '1' AND is_instead"
)


@dataclass(frozen=True)
class Routine:
    """A function or aggregate; `arguments` are the numbers of its types."""

    schema: str
    name: str
    arguments: tuple[int, ...]
    returned: int
    is_variadic: bool

    @property
    def is_own(self) -> bool:
        """Whether it is PostgreSQL's own."""
        return self.schema == "pg_catalog"

    @property
    def quoted(self) -> str:
        return f"{sql.quote(self.schema)}.{sql.quote(self.name)}"


@dataclass(frozen=True)
class Operator:
    """An operator with the numbers of the types of its sides; 0: it has no left side."""

    schema: str
    name: str
    left: int
    right: int

    @property
    def is_own(self) -> bool:
        """Whether it is PostgreSQL's own."""
        return self.schema == "pg_catalog"


@dataclass(frozen=True)
class Type:
    """A type by its name; `element` is that of an array's elements, `base` that of a domain."""

    oid: int
    name: str
    kind: str
    base: int
    element: int


@dataclass(frozen=True)
class Relation:
    """A table or view, with its columns by their numbers from 1."""

    oid: int
    quoted: str
    kind: str
    columns: tuple[str, ...]


class Names:
    """Reads what is asked for, and remembers it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._routines: dict[int, Routine] = {}
        self._operators: dict[int, Operator] = {}
        self._types: dict[int, Type] = {}
        self._relations: dict[int, Relation] = {}
        self._by_bytes: frozenset[int] | None = None
        self._labels: Mapping[int, str] | None = None

    def routine(self, oid: int) -> Routine:
        if oid not in self._routines:
            row = self._row(_ROUTINES, "p", oid)
            self._routines[oid] = Routine(
                row.schema, row.name, tuple(row.arguments), row.returned, row.is_variadic
            )
        return self._routines[oid]

    def operator(self, oid: int) -> Operator:
        if oid not in self._operators:
            row = self._row(_OPERATORS, "o", oid)
            self._operators[oid] = Operator(row.schema, row.name, row.left, row.right)
        return self._operators[oid]

    def type(self, oid: int) -> Type:
        if oid not in self._types:
            row = self._row(_TYPES, "t", oid)
            self._types[oid] = Type(oid, row.name, row.kind, row.base, row.element)
        return self._types[oid]

    def relation(self, oid: int) -> Relation:
        if oid not in self._relations:
            row = self._row(_RELATIONS, "c", oid)
            quoted = f"{sql.quote(row.schema)}.{sql.quote(row.name)}"
            self._relations[oid] = Relation(oid, quoted, row.kind, tuple(row.columns))
        return self._relations[oid]

    def label(self, oid: int) -> str:
        """The label of an enum's value."""
        if self._labels is None:
            rows = self._connection.execute(_LABELS)
            self._labels = {row.oid: row.label for row in rows}
        return self._labels[oid]

    def require_deterministic(self, collations: Collection[int]) -> None:
        """Raise Refused where different texts are equal under one of the collations."""
        found = self._connection.execute(_NOT_DETERMINISTIC, {"oids": list(collations)}).first()
        if found is not None:
            raise Refused(f"the collation {found.name}, under which different texts are equal")

    def is_ordered_by_bytes(self, collation: int) -> bool:
        """Whether texts under the collation are in the order of their bytes."""
        if self._by_bytes is None:
            self._by_bytes = frozenset(self._connection.execute(_ORDERED_BY_BYTES).scalars())
        return collation in self._by_bytes

    def rule(self, relid: int) -> Node:
        """The query of a view."""
        tree = str(self._connection.execute(_RULE, {"oid": relid}).scalar_one())
        self.require_deterministic({int(each) for each in _COLLATION.findall(tree)})
        return parse(tree)[0]

    def evaluated(self, expression: str) -> object:
        """The value of an SQL expression without columns. Raises SQLAlchemy's errors."""
        return sql.execute(self._connection, f"SELECT {expression}").scalar_one()

    def _row(self, query: object, alias: str, oid: int) -> Row[Any]:
        wanted = text(f"{query} WHERE {alias}.oid = :oid")
        return self._connection.execute(wanted, {"oid": oid}).one()

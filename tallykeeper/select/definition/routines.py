"""The functions and types that a view's tree names by number, as the catalog has them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy import Connection, text

from tallykeeper.select.definition.rule_trees import Node

FIRST_OF_USERS = 16384

_ROUTINES = text("""
SELECT p.oid, n.nspname AS schema, p.proname AS name, p.provolatile::text AS volatility,
       l.lanname AS language, p.proargtypes::oid[] AS arguments, p.prosrc AS source,
       p.prosqlbody IS NOT NULL AS has_body, p.prokind = 'a' AS is_aggregate,
       a.aggtranstype::regtype::text AS state, coalesce(a.aggsortop <> 0, false) AS is_extreme,
       (SELECT max(CASE f.provolatile WHEN 'v' THEN 2 WHEN 's' THEN 1 ELSE 0 END) FROM pg_proc AS f
        WHERE f.oid IN (a.aggtransfn, a.aggfinalfn) AND f.oid >= 16384) AS of_its_steps
FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
JOIN pg_language AS l ON l.oid = p.prolang LEFT JOIN pg_aggregate AS a ON a.aggfnoid = p.oid
WHERE p.oid = ANY (:oids)""")
_OPERATORS = text("""
SELECT o.oid, o.oprname AS name, o.oprcode::oid AS routine FROM pg_operator AS o
WHERE o.oid = ANY (:oids)""")
_TYPES = text("""
SELECT t.oid, t.typname AS name, t.typtype::text AS kind,
       CASE WHEN t.typcategory = 'A' THEN t.typelem ELSE 0 END AS element, t.typbasetype AS base,
       coalesce((SELECT r.rngsubtype FROM pg_range AS r WHERE t.oid IN (r.rngtypid, r.rngmultitypid)
       ), 0) AS part,
       (SELECT array_agg(a.atttypid) FROM pg_attribute AS a WHERE a.attrelid = t.typrelid
        AND a.attnum > 0 AND NOT a.attisdropped) AS columns
FROM pg_type AS t WHERE t.oid = :oid""")
_FUNCTIONS = ("funcid", "aggfnoid", "winfnoid")
# Whose text follows the session's settings.
_OF_TIMES = {"date", "timestamp", "timestamptz", "interval", "money", "aclitem"}
_OF_BYTES = {"float4", "float8", "bytea"}
_BY_SETTINGS = _OF_TIMES | _OF_BYTES
_INPUT_BY_SETTINGS = {*_OF_TIMES, "time", "timetz"}
# In JSON, dates are written in one form alone.
_JSON_BY_SETTINGS = {"timestamptz", "money", "aclitem", *_OF_BYTES}


@dataclass(frozen=True)
class Routine:
    """A function or aggregate."""

    oid: int
    schema: str
    name: str
    volatility: str
    language: str
    arguments: tuple[int, ...]
    source: str
    is_aggregate: bool
    state: str | None
    is_extreme: bool

    @property
    def is_of_users(self) -> bool:
        """Whether an application or an extension made it."""
        return self.oid >= FIRST_OF_USERS


@dataclass(frozen=True)
class Call:
    """A node that calls a function; `operator` is its sign where it is one."""

    node: Node
    routine: Routine
    operator: str | None = None

    @property
    def shown(self) -> str:
        """The call in words."""
        if self.operator is not None:
            return self.operator
        is_cast = self.node.fields.get("funcformat") in ("1", "2")
        return f"the cast to {self.routine.name}" if is_cast else f"{self.routine.name}()"

    @property
    def word(self) -> str:
        """How the SELECT calls it; empty for a cast that is not written."""
        how = self.node.fields.get("funcformat")
        if self.operator is not None or how not in ("1", "2"):
            return self.operator or self.routine.name
        return "::" if how == "1" else ""

    def arguments(self) -> list[Node]:
        """The expressions that are its arguments."""
        entries = self.node.nodes("args")
        return [e.node("expr") if e.name == "TARGETENTRY" else e for e in entries]


def calls(connection: Connection, nodes: Iterable[Node]) -> list[Call]:
    """The calls of functions, operators and aggregates among the nodes."""
    functions: list[tuple[Node, int]] = []
    operators: list[tuple[Node, int]] = []
    for node in nodes:
        functions += [(node, node.number(k)) for k in _FUNCTIONS if k in node.fields]
        if "opno" in node.fields:
            operators.append((node, node.number("opno")))
        if node.name in ("ROWCOMPAREEXPR", "ROWCOMPARE"):
            operators += [(node, int(o)) for o in node.fields["opnos"][1:]]
    named = {o.oid: o for o in connection.execute(_OPERATORS, {"oids": [o for _, o in operators]})}
    wanted = {f for _, f in functions} | {o.routine for o in named.values()}
    routines = {
        r.oid: Routine(
            r.oid,
            r.schema,
            r.name,
            max(r.volatility, {2: "v", 1: "s"}.get(r.of_its_steps, "i")),
            r.language,
            tuple(r.arguments),
            "" if r.has_body else r.source,
            r.is_aggregate,
            r.state,
            r.is_extreme,
        )
        for r in connection.execute(_ROUTINES, {"oids": list(wanted)})
    }
    found = [Call(node, routines[oid]) for node, oid in functions if oid in routines]
    for node, oid in operators:
        if oid in named and named[oid].routine in routines:
            found.append(Call(node, routines[named[oid].routine], named[oid].name))
    return found


@dataclass
class Types:
    """What is known of types by their number, read when first asked for."""

    connection: Connection
    _known: dict[int, tuple[str, str, list[int]]] = field(default_factory=dict)

    def name(self, oid: int) -> str:
        """The name of the type itself: not of what a domain is made of."""
        return self._read(oid)[0]

    def text_is_fixed(self, oid: int) -> bool:
        """Whether a value's text is the same under all settings of a session."""
        return self._is_fixed(oid, _BY_SETTINGS)

    def input_is_fixed(self, oid: int) -> bool:
        """Whether text is read as the same value under all settings of a session."""
        return self._is_fixed(oid, _INPUT_BY_SETTINGS)

    def json_is_fixed(self, oid: int) -> bool:
        """Whether a value's JSON is the same under all settings of a session."""
        return self._is_fixed(oid, _JSON_BY_SETTINGS)

    def _is_fixed(self, oid: int, by_settings: set[str]) -> bool:
        name, _, parts = self._read(oid)
        if name in by_settings or name.startswith("reg"):
            return False
        return all(self._is_fixed(part, by_settings) for part in parts)

    def _read(self, oid: int) -> tuple[str, str, list[int]]:
        if oid not in self._known:
            row = self.connection.execute(_TYPES, {"oid": oid}).one_or_none()
            if row is None:
                return ("", "", [])
            parts = [p for p in (row.element, row.base, row.part) if p]
            self._known[oid] = (row.name, row.kind, [*parts, *(row.columns or ())])
        return self._known[oid]

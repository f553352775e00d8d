"""An expression of a SELECT's tree as PostgreSQL's own SQL, every name and type written out.

For what PostgreSQL computes in the engine's place: while it exports a table, or of the engine's
result. A variable or an aggregate is what the caller says.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from tallykeeper.database import sql
from tallykeeper.engines.translation import constants as types
from tallykeeper.engines.translation.names import Names
from tallykeeper.engines.translation.refusal import Refused
from tallykeeper.parquet.columns import INFINITE_DAY, INFINITE_MOMENT
from tallykeeper.select.definition.rule_trees import Node

LEAVES = ("VAR", "AGGREF", "SUBLINK", "WINDOWFUNC", "GROUPINGFUNC")


class PostgresText:
    """Prints expressions; `leaf` prints what is in LEAVES, or raises Refused."""

    def __init__(self, names: Names, leaf: Callable[[Node], str]) -> None:
        self._names = names
        self._leaf = leaf

    def of(self, node: Node) -> str:
        """The SQL of an expression. Raises Refused where it cannot be printed."""
        if node.name in LEAVES:
            return self._leaf(node)
        printer = getattr(self, f"_{node.name.lower()}", None)
        if printer is None:
            raise Refused(f"{node.name.lower()} is not printed")
        return str(printer(node))

    def _all(self, nodes: list[Node]) -> str:
        return ", ".join(map(self.of, nodes))

    def _type(self, node: Node, oid: int) -> str:
        name = self._names.type(oid).name
        mod = int(node.fields.get("resulttypmod", -1))
        if mod != -1:
            name = str(self._names.evaluated(f"format_type({oid}, {mod})"))
        return name

    def _const(self, node: Node) -> str:
        oid = node.number("consttype")
        name = self._names.type(oid).name
        name = "text" if oid == types.UNKNOWN else name
        if self._names.type(oid).kind == "e" and node.fields["constisnull"] == "false":
            return f"{sql.literal(self._names.label(types.number_of(node)))}::{name}"
        value = types.value_of(node)
        if value is None:
            return f"NULL::{name}"
        if oid in (types.TIMESTAMP, types.TIMESTAMPTZ):
            return _moment(value, name)
        if oid == types.DATE:
            if abs(value) == INFINITE_DAY:
                return f"'{'-' if value < 0 else ''}infinity'::date"
            return f"(date '1970-01-01' + ({value}))"
        if oid == types.INTERVAL:
            months, days, micros = value
            return f"'{months} months {days} days {micros} microseconds'::interval"
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, Decimal):
            return f"'{value:f}'::{name}"
        return f"{sql.literal(str(value))}::{name}"

    def _funcexpr(self, node: Node) -> str:
        if node.fields["funcretset"] == "true":
            raise Refused("it returns rows")
        routine = self._names.routine(node.number("funcid"))
        arguments = list(map(self.of, node.nodes("args")))
        if node.fields["funcvariadic"] == "true":
            arguments[-1] = f"VARIADIC {arguments[-1]}"
        return f"{routine.quoted}({', '.join(arguments)})"

    def _opexpr(self, node: Node) -> str:
        operator = self._names.operator(node.number("opno"))
        sides = list(map(self.of, node.nodes("args")))
        sign = f"OPERATOR({sql.quote(operator.schema)}.{operator.name})"
        return f"({sign} {sides[0]})" if len(sides) == 1 else f"({sides[0]} {sign} {sides[1]})"

    def _distinctexpr(self, node: Node) -> str:
        left, right = map(self.of, node.nodes("args"))
        return f"({left} IS DISTINCT FROM {right})"

    def _nullifexpr(self, node: Node) -> str:
        return f"nullif({self._all(node.nodes('args'))})"

    def _scalararrayopexpr(self, node: Node) -> str:
        operator = self._names.operator(node.number("opno"))
        left, right = map(self.of, node.nodes("args"))
        sign = f"OPERATOR({sql.quote(operator.schema)}.{operator.name})"
        which = "ANY" if node.fields["useOr"] == "true" else "ALL"
        return f"({left} {sign} {which} ({right}))"

    def _boolexpr(self, node: Node) -> str:
        parts = list(map(self.of, node.nodes("args")))
        word = str(node.fields["boolop"])
        return f"(NOT {parts[0]})" if word == "not" else f"({f' {word.upper()} '.join(parts)})"

    def _nulltest(self, node: Node) -> str:
        word = "IS NULL" if node.number("nulltesttype") == 0 else "IS NOT NULL"
        return f"({self.of(node.node('arg'))} {word})"

    def _booleantest(self, node: Node) -> str:
        return f"({self.of(node.node('arg'))} IS {BOOLEAN_TESTS[node.number('booltesttype')]})"

    def _caseexpr(self, node: Node) -> str:
        if node.fields.get("arg") is not None:
            raise Refused("CASE x WHEN is not printed")
        whens = [
            f"WHEN {self.of(each.node('expr'))} THEN {self.of(each.node('result'))}"
            for each in node.nodes("args")
        ]
        return f"CASE {' '.join(whens)} ELSE {self.of(node.node('defresult'))} END"

    _case = _caseexpr

    def _coalesceexpr(self, node: Node) -> str:
        return f"coalesce({self._all(node.nodes('args'))})"

    _coalesce = _coalesceexpr

    def _minmaxexpr(self, node: Node) -> str:
        word = "greatest" if node.number("op") == 0 else "least"
        return f"{word}({self._all(node.nodes('args'))})"

    _minmax = _minmaxexpr

    def _arrayexpr(self, node: Node) -> str:
        name = self._names.type(node.number("array_typeid")).name
        return f"ARRAY[{self._all(node.nodes('elements'))}]::{name}"

    _array = _arrayexpr

    def _relabeltype(self, node: Node) -> str:
        return f"({self.of(node.node('arg'))})::{self._type(node, node.number('resulttype'))}"

    _coerceviaio = _relabeltype
    _coercetodomain = _relabeltype

    def _collateexpr(self, node: Node) -> str:
        oid = node.number("collOid")
        name = self._names.evaluated(f"(SELECT {oid}::regcollation::text)")
        return f"({self.of(node.node('arg'))} COLLATE {name})"


BOOLEAN_TESTS = ("TRUE", "NOT TRUE", "FALSE", "NOT FALSE", "UNKNOWN", "NOT UNKNOWN")


def _moment(value: int, name: str) -> str:
    if abs(value) == INFINITE_MOMENT:
        return f"'{'-' if value < 0 else ''}infinity'::{name}"
    days, micros = divmod(value, 86_400_000_000)
    moment = f"(timestamp '1970-01-01' + interval '{days} days' + interval '{micros} microseconds')"
    return f"({moment} AT TIME ZONE 'UTC')" if name == "timestamp with time zone" else moment

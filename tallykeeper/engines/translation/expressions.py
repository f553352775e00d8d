"""Expressions of a SELECT's tree in an engine's SQL, by a list of what is the same there.

What is not on the list is not translated: a function by its name and the types of its arguments,
an operator by those of its sides. Instead PostgreSQL computes it: what is of one table's row while
that is exported, a constant while the SELECT is translated. Else the SELECT is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal

from tallykeeper.database import sql
from tallykeeper.engines.translation import constants as types
from tallykeeper.engines.translation.aggregates import Aggregates
from tallykeeper.engines.translation.dialects import Dialect, Order
from tallykeeper.engines.translation.names import Names
from tallykeeper.engines.translation.postgres_text import BOOLEAN_TESTS, PostgresText
from tallykeeper.engines.translation.refusal import Refused
from tallykeeper.engines.translation.scopes import Exports, Item, Level
from tallykeeper.engines.translation.values import (
    INTEGERS,
    MOMENTS,
    TEXTS,
    Value,
    cast_to,
    constant,
    is_list,
    of_one_type,
    require_compared,
    require_ordered,
)
from tallykeeper.engines.transport import shown
from tallykeeper.parquet.columns import INFINITE_DAY, INFINITE_MOMENT
from tallykeeper.select.definition.rule_trees import Node

RELATION, SUBQUERY, JOIN, FUNCTION, CTE, GROUP = 0, 1, 2, 3, 6, 9
_COMPARISONS = ("=", "<>", "<", "<=", ">", ">=")
_WIDTH = {types.INT2: 5, types.INT4: 10, types.INT8: 19}
_UNITS = {
    "second": 1_000_000,
    "minute": 60_000_000,
    "hour": 3_600_000_000,
    "day": 86_400_000_000,
    "week": 604_800_000_000,
}
# From the Monday before 1 January 1970.
_MONDAY = 3 * 86_400_000_000
IN_POSTGRES = "in PostgreSQL: {}"
BEYOND_COLUMNS = "system columns and whole rows are not exported"
CONSTANTS = "in PostgreSQL: constants"


@dataclass
class Context:
    """What all parts of one translation share.

    `query` translates a subquery: its text and its columns. `rules` say what is not translated
    word for word.
    """

    names: Names
    dialect: Dialect
    exports: Exports
    query: Callable[[Node, Level], tuple[str, list[Value]]]
    rules: list[str] = field(default_factory=list)

    def rule(self, said: str) -> None:
        """Remember that a rule was used."""
        if said not in self.rules:
            self.rules.append(said)


class Expressions:
    """Translates the expressions of one query."""

    def __init__(self, context: Context, level: Level) -> None:
        self._context = context
        self._names = context.names
        self._dialect = context.dialect
        self._level = level
        self._aggregates = Aggregates(context.names, context.dialect, self.of)
        self._tested: list[Value] = []

    def of(self, node: Node) -> Value:
        """The expression in the engine's SQL. Raises Refused."""
        translate = getattr(self, f"_{node.name.lower()}", None)
        try:
            if translate is None:
                raise Refused(_KINDS.get(node.name, f"{node.name.lower()} is not translated"))
            found: Value = translate(node)
        except Refused as refused:
            computed = self._in_postgres(node)
            if computed is None:
                raise
            is_constant = not any(each.name == "VAR" for each in node.walk())
            self._context.rule(CONSTANTS if is_constant else IN_POSTGRES.format(refused))
            return computed
        return found

    def condition(self, node: Node | None) -> str | None:
        """A condition; None where there is none."""
        return None if node is None else self.of(node).sql

    # What PostgreSQL computes.

    def _in_postgres(self, node: Node) -> Value | None:
        """The expression as PostgreSQL computes it of one row or of none; None where it cannot."""
        if any(map(_is_beyond_a_row, node.walk())):
            return None
        variables = [each for each in node.walk() if each.name == "VAR"]
        if not variables:
            return self._evaluated(node)
        item = self._table_of(variables)
        if item is None:
            return None
        export = self._context.exports.export(item.node.number("relid"))
        relation = export.relation

        def leaf(variable: Node) -> str:
            number = self._resolved(variable)[1]
            if number < 1:
                raise Refused(BEYOND_COLUMNS)
            return f"q.{sql.quote(relation.columns[number - 1])}"

        try:
            text = PostgresText(self._names, leaf).of(node)
        except Refused:
            return None
        type_ = node.type_oid() or _type_of(node)
        if type_ == types.BPCHAR:
            text = f"({text})::text"
        return self._exported(item, text, type_)

    def _table_of(self, variables: list[Node]) -> Item | None:
        """The one table whose rows have all of the variables; None where there is none.

        Nor where an outer join may have put nulls in place of its row: of these nothing was
        computed.
        """
        owners = {self._owner(each) for each in variables}
        owner = owners.pop()
        if owner is None or owners:
            return None
        steps, number = owner
        level = self._level.above(steps)
        return None if number in level.nulled else level.items[number]

    def _exported(self, item: Item, expression: str, type_: int, scale: int | None = None) -> Value:
        """A column of what is exported of a table."""
        export = self._context.exports.export(item.node.number("relid"))
        natural = type_ in (*MOMENTS, types.NUMERIC) or is_list(self._names, type_)
        name = export.column(expression, "c", natural=natural)
        return Value(f"{item.alias}.{name}", type_, scale)

    def _evaluated(self, node: Node) -> Value | None:
        """A constant expression, computed now."""
        type_ = node.type_oid() or _type_of(node)

        def no_leaf(_: Node) -> str:
            raise Refused("it is no constant")

        try:
            text = PostgresText(self._names, no_leaf).of(node)
            return constant(self._names, self._dialect, self._value(text, type_), type_)
        except Refused:
            return None

    def _value(self, text: str, type_: int) -> object:
        return self._names.evaluated(shown(text, self._names.type(type_)))

    def _owner(self, variable: Node) -> tuple[int, int] | None:
        """The table that a variable is of: how many queries up, and its number there."""
        found = self._resolved(variable)[0]
        if found is None:
            return None
        steps, number = found
        return (steps, number) if self._level.above(steps).items[number].kind == RELATION else None

    def _resolved(self, variable: Node) -> tuple[tuple[int, int] | None, int]:
        """The item and column that a variable names, through joins and groups."""
        steps = variable.number("varlevelsup")
        number, attribute = variable.number("varno"), variable.number("varattno")
        item = self._level.above(steps).items[number]
        if item.kind in (JOIN, GROUP):
            key = "joinaliasvars" if item.kind == JOIN else "groupexprs"
            inner = item.node.nodes(key)[attribute - 1]
            if inner.name != "VAR" or steps:
                return None, 0
            return self._resolved(inner)
        return (steps, number), attribute

    # What the engine computes.

    def _var(self, node: Node) -> Value:
        level = self._level.above(node.number("varlevelsup"))
        item = level.items[node.number("varno")]
        number = node.number("varattno")
        if number < 1:
            raise Refused(BEYOND_COLUMNS)
        if item.kind in (JOIN, GROUP):
            key = "joinaliasvars" if item.kind == JOIN else "groupexprs"
            inner = item.node.nodes(key)[number - 1]
            return Expressions(self._context, level).of(inner)
        if item.columns is not None:
            found = item.columns[number - 1]
            return Value(f"{item.alias}.{found.sql}", found.type, found.scale)
        export = self._context.exports.export(item.node.number("relid"))
        expression = f"q.{sql.quote(export.relation.columns[number - 1])}"
        type_ = self._base(node.number("vartype"))
        if type_ == types.BPCHAR:
            expression += "::text"
        mod = node.number("vartypmod")
        scale = None
        if type_ == types.NUMERIC and mod >= 4:
            scale = (((mod - 4) & 0x7FF) ^ 1024) - 1024
        return self._exported(item, expression, type_, scale)

    def _base(self, type_: int) -> int:
        base = self._names.type(type_).base
        return self._base(base) if base else type_

    def _const(self, node: Node) -> Value:
        type_ = node.number("consttype")
        if type_ == types.UNKNOWN:
            type_ = types.TEXT
        if self._names.type(type_).kind == "e" and node.fields["constisnull"] == "false":
            label = self._names.label(types.number_of(node))
            return Value(self._dialect.literal(label), type_)
        return constant(self._names, self._dialect, types.value_of(node), type_)

    def _relabeltype(self, node: Node) -> Value:
        found = self.of(node.node("arg"))
        type_ = node.number("resulttype")
        if {found.type, type_} <= {*TEXTS} or found.type == type_:
            return Value(found.sql, type_, found.scale)
        element, wanted = (self._names.type(each).element for each in (found.type, type_))
        if element in TEXTS and wanted in TEXTS:
            return Value(found.sql, type_)
        raise Refused(f"a cast to {self._names.type(type_).name}")

    def _collateexpr(self, node: Node) -> Value:
        return self.of(node.node("arg"))

    def _boolexpr(self, node: Node) -> Value:
        parts = [self.of(each).sql for each in node.nodes("args")]
        word = str(node.fields["boolop"])
        text = f"(NOT {parts[0]})" if word == "not" else f"({f' {word.upper()} '.join(parts)})"
        return Value(text, types.BOOL)

    def _nulltest(self, node: Node) -> Value:
        if node.fields.get("argisrow") == "true":
            raise Refused("IS NULL of a row")
        word = "IS NULL" if node.number("nulltesttype") == 0 else "IS NOT NULL"
        return Value(f"({self.of(node.node('arg')).sql} {word})", types.BOOL)

    def _booleantest(self, node: Node) -> Value:
        text = self.of(node.node("arg")).sql
        test = BOOLEAN_TESTS[node.number("booltesttype")].replace("UNKNOWN", "NULL")
        return Value(f"({text} IS {test})", types.BOOL)

    def _opexpr(self, node: Node) -> Value:
        operator = self._names.operator(node.number("opno"))
        if not operator.is_own:
            raise Refused(f"the operator {operator.schema}.{operator.name}")
        if operator.left in MOMENTS and operator.right == types.INTERVAL:
            return self._moved(node, operator.name)
        sides = [self.of(each) for each in node.nodes("args")]
        if len(sides) != 2:
            if operator.name == "-" and sides[0].type in (*INTEGERS, types.NUMERIC):
                return Value(f"(- {sides[0].sql})", sides[0].type, sides[0].scale)
            raise Refused(f"the operator {operator.name} before a value")
        left, right = sides
        if operator.name in _COMPARISONS:
            return self._compared(node, operator.name, left, right)
        if operator.name in ("+", "-", "*"):
            return self._calculated(node, operator.name, left, right)
        raise Refused(
            f"the operator {operator.name} of {self._names.type(operator.left).name} and"
            f" {self._names.type(operator.right).name}"
        )

    def _compared(self, node: Node, sign: str, left: Value, right: Value) -> Value:
        what = f"the operator {sign}"
        self._require_alike(left, right, what)
        if sign in ("=", "<>"):
            require_compared(self._names, left.type, what)
        else:
            require_ordered(self._names, left.type, node.number("inputcollid"), what)
        return Value(f"({left.sql} {sign} {right.sql})", types.BOOL)

    def _require_alike(self, left: Value, right: Value, what: str) -> None:
        alike = (left.type == right.type) or any(
            left.type in family and right.type in family for family in (INTEGERS, TEXTS)
        )
        if not alike:
            raise Refused(
                f"{what} compares {self._names.type(left.type).name} with"
                f" {self._names.type(right.type).name}"
            )

    def _calculated(self, node: Node, sign: str, left: Value, right: Value) -> Value:
        type_ = node.number("opresulttype")
        text = f"({left.sql} {sign} {right.sql})"
        if left.type in INTEGERS and right.type in INTEGERS and type_ in INTEGERS:
            return Value(f"CAST({text} AS {cast_to(self._names, self._dialect, type_)})", type_)
        if left.type == right.type == types.NUMERIC:
            scale = None
            if left.scale is not None and right.scale is not None:
                both = left.scale, right.scale
                scale = sum(both) if sign == "*" else max(both)
            return Value(text, type_, scale)
        if (
            types.DATE in (left.type, right.type)
            and sign != "*"
            and type_ in (types.DATE, types.INT4)
        ):
            return self._of_dates(sign, left, right, type_)
        raise Refused(
            f"the operator {sign} of {self._names.type(left.type).name} and"
            f" {self._names.type(right.type).name}"
        )

    def _of_dates(self, sign: str, left: Value, right: Value, type_: int) -> Value:
        """Days between dates, or a date so many days later: infinite dates have none."""
        infinite = " OR ".join(
            f"abs(CAST({each.sql} AS BIGINT)) = 2147483647"
            for each in (left, right)
            if each.type == types.DATE
        )
        moved = f"CAST({left.sql} AS BIGINT) {sign} CAST({right.sql} AS BIGINT)"
        if type_ == types.INT4:
            return Value(f"CAST(({moved}) AS INTEGER)", type_)
        kept = left.sql if left.type == types.DATE else right.sql
        return Value(f"(CASE WHEN {infinite} THEN {kept} ELSE CAST({moved} AS INTEGER) END)", type_)

    def _moved(self, node: Node, sign: str) -> Value:
        """A time so many microseconds later or earlier."""
        given, interval = node.nodes("args")
        if sign not in ("+", "-"):
            raise Refused(f"the operator {sign} of a time and an interval")
        moment = self.of(given)
        if interval.name != "CONST" or interval.number("consttype") != types.INTERVAL:
            raise Refused("a time with an interval that is no constant")
        value = types.value_of(interval)
        if value is None:
            raise Refused("a time with no interval")
        months, days, micros = value
        if months or (days and moment.type == types.TIMESTAMPTZ):
            raise Refused("a time with an interval of months or days")
        micros = (micros + days * 86_400_000_000) * (1 if sign == "+" else -1)
        return Value(_finite(moment.sql, f"{moment.sql} + ({micros})"), moment.type)

    def _distinctexpr(self, node: Node) -> Value:
        left, right = (self.of(each) for each in node.nodes("args"))
        self._require_alike(left, right, "IS DISTINCT FROM")
        require_compared(self._names, left.type, "IS DISTINCT FROM")
        return Value(self._dialect.distinct(left.sql, right.sql, negated=False), types.BOOL)

    def _nullifexpr(self, node: Node) -> Value:
        left, right = (self.of(each) for each in node.nodes("args"))
        self._require_alike(left, right, "nullif")
        require_compared(self._names, left.type, "nullif")
        text = f"(CASE WHEN {left.sql} = {right.sql} THEN NULL ELSE {left.sql} END)"
        return Value(text, left.type, left.scale)

    def _scalararrayopexpr(self, node: Node) -> Value:
        operator = self._names.operator(node.number("opno"))
        is_any = node.fields["useOr"] == "true"
        left, array = node.nodes("args")
        if not operator.is_own or (operator.name, is_any) not in (("=", True), ("<>", False)):
            raise Refused(f"{operator.name} {'ANY' if is_any else 'ALL'} (array)")
        while array.name == "RELABELTYPE":
            array = array.node("arg")
        if array.name not in ("ARRAYEXPR", "ARRAY"):
            raise Refused("= ANY of an array that is not written out")
        value = self.of(left)
        elements = [self.of(each) for each in array.nodes("elements")]
        for each in elements:
            self._require_alike(value, each, "IN")
        require_compared(self._names, value.type, "IN")
        listed = ", ".join(each.sql for each in elements)
        return Value(f"({value.sql} {'' if is_any else 'NOT '}IN ({listed}))", types.BOOL)

    def _caseexpr(self, node: Node) -> Value:
        argument = node.fields.get("arg")
        if isinstance(argument, Node):
            self._tested.append(self.of(argument))
        conditions, results = [], []
        for each in node.nodes("args"):
            conditions.append(self.of(each.node("expr")).sql)
            results.append(self.of(each.node("result")))
        if isinstance(argument, Node):
            self._tested.pop()
        *results, otherwise = of_one_type([*results, self.of(node.node("defresult"))], "CASE")
        whens = (f"WHEN {c} THEN {r.sql}" for c, r in zip(conditions, results, strict=True))
        text = f"(CASE {' '.join(whens)} ELSE {otherwise.sql} END)"
        return Value(text, node.number("casetype"), otherwise.scale)

    _case = _caseexpr

    def _casetestexpr(self, node: Node) -> Value:
        if not self._tested:
            raise Refused("the value of a conversion")
        return self._tested[-1]

    _casetest = _casetestexpr

    def _coalesceexpr(self, node: Node) -> Value:
        return self._chosen("coalesce", node, node.number("coalescetype"))

    _coalesce = _coalesceexpr

    def _minmaxexpr(self, node: Node) -> Value:
        word, type_ = ("greatest", "least")[node.number("op")], node.number("minmaxtype")
        require_ordered(self._names, type_, node.number("inputcollid"), word)
        return self._chosen(word, node, type_)

    _minmax = _minmaxexpr

    def _chosen(self, word: str, node: Node, type_: int) -> Value:
        """A function that returns one of its arguments."""
        values = of_one_type([self.of(each) for each in node.nodes("args")], word)
        listed = ", ".join(each.sql for each in values)
        return Value(f"{word}({listed})", type_, values[0].scale)

    def _funcexpr(self, node: Node) -> Value:
        if node.fields["funcretset"] == "true":
            raise Refused("a function that returns rows, among other expressions")
        routine = self._names.routine(node.number("funcid"))
        translate = getattr(self, f"_call_{routine.name}", None) if routine.is_own else None
        if translate is None:
            raise Refused(f"the function {routine.name}()")
        found: Value = translate(node, [self._names.type(a).oid for a in routine.arguments])
        return found

    def _number_cast(self, node: Node, arguments: list[int]) -> Value:
        value, type_ = self.of(node.nodes("args")[0]), node.number("funcresulttype")
        if len(arguments) != 1 or value.type not in (*INTEGERS, types.NUMERIC):
            raise Refused(f"the cast of {self._names.type(value.type).name} to an integer")
        text = value.sql if value.type in INTEGERS else f"round({value.sql}, 0)"
        return Value(f"CAST({text} AS {cast_to(self._names, self._dialect, type_)})", type_)

    _call_int2 = _call_int4 = _call_int8 = _number_cast

    def _call_numeric(self, node: Node, arguments: list[int]) -> Value:
        given = node.nodes("args")[0]
        value = self.of(given)
        if len(arguments) == 1 and given.name == "CONST" and value.type in INTEGERS:
            number = types.value_of(given)
            exact = None if number is None else Decimal(int(number))
            return constant(self._names, self._dialect, exact, types.NUMERIC)
        if len(arguments) == 1 and value.type in INTEGERS:
            text = f"CAST({value.sql} AS DECIMAL({_WIDTH[value.type]}, 0))"
            return Value(text, types.NUMERIC, 0)
        modifier = node.nodes("args")[-1]
        if value.type == types.NUMERIC and modifier.name == "CONST":
            mod = int(types.value_of(modifier))
            digits, scale = (mod - 4) >> 16, (((mod - 4) & 0x7FF) ^ 1024) - 1024
            if mod >= 4 and 0 <= scale <= digits <= 38:
                text = f"CAST(round({value.sql}, {scale}) AS DECIMAL({digits}, {scale}))"
                return Value(text, types.NUMERIC, scale)
        raise Refused(f"the cast of {self._names.type(value.type).name} to numeric")

    def _call_varchar(self, node: Node, arguments: list[int]) -> Value:
        value, length, explicit = node.nodes("args")
        found = self.of(value)
        if found.type not in TEXTS or explicit.name != "CONST" or not types.value_of(explicit):
            raise Refused("the cast to varchar")
        characters = int(types.value_of(length)) - 4
        return Value(f"left({found.sql}, {characters})", types.VARCHAR)

    def _call_text(self, node: Node, arguments: list[int]) -> Value:
        value = self.of(node.nodes("args")[0])
        if arguments != [types.BPCHAR]:
            raise Refused(f"the cast of {self._names.type(value.type).name} to text")
        return Value(value.sql, types.TEXT)

    def _call_date_trunc(self, node: Node, arguments: list[int]) -> Value:
        unit, value, *zone = node.nodes("args")
        moment = self.of(value)
        names = [unit, *zone]
        if moment.type not in MOMENTS or not all(each.name == "CONST" for each in names):
            raise Refused("date_trunc of what is no time, or by a unit that is no constant")
        word, *where = (str(types.value_of(each)) for each in names)
        if (moment.type == types.TIMESTAMPTZ) != (where == ["UTC"]):
            raise Refused("date_trunc in a time zone other than 'UTC'")
        width = _UNITS.get(word)
        if width is None:
            raise Refused(f"date_trunc to the {word}")
        start = f"({moment.sql} + {_MONDAY})" if word == "week" else moment.sql
        within = f"(({start} % {width} + {width}) % {width})"
        return Value(_finite(moment.sql, f"{moment.sql} - {within}"), moment.type)

    def _call_isfinite(self, node: Node, arguments: list[int]) -> Value:
        value = self.of(node.nodes("args")[0])
        if value.type not in (*MOMENTS, types.DATE):
            raise Refused(f"isfinite of {self._names.type(value.type).name}")
        greatest = INFINITE_DAY if value.type == types.DATE else INFINITE_MOMENT
        bound = f"CAST('{greatest}' AS BIGINT)"
        return Value(f"({value.sql} <> {bound} AND {value.sql} <> -{bound})", types.BOOL)

    def _call_cardinality(self, node: Node, arguments: list[int]) -> Value:
        array = self.of(node.nodes("args")[0])
        if not is_list(self._names, array.type):
            raise Refused(f"cardinality of {self._names.type(array.type).name}")
        # Spark's is -1 of null in old modes.
        text = f"CASE WHEN {array.sql} IS NOT NULL THEN CAST(cardinality({array.sql}) AS INTEGER)"
        return Value(f"({text} END)", types.INT4)

    def _call_array_remove(self, node: Node, arguments: list[int]) -> Value:
        array, removed = (self.of(each) for each in node.nodes("args"))
        element = self._names.type(array.type).element
        require_compared(self._names, element, "array_remove")
        is_null = node.nodes("args")[1].fields.get("constisnull") == "true"
        value = None if is_null else removed.sql
        return Value(self._dialect.without(array.sql, value), array.type)

    def _aggref(self, node: Node) -> Value:
        if node.number("agglevelsup"):
            raise Refused("an aggregate of a query around its own")
        return self._aggregates.of(node)

    def _windowfunc(self, node: Node) -> Value:
        routine = self._names.routine(node.number("winfnoid"))
        if not routine.is_own or routine.name not in ("row_number", "rank", "dense_rank"):
            raise Refused(f"the window function {routine.name}()")
        window = next(
            each
            for each in self._level.query.nodes("windowClause")
            if each.number("winref") == node.number("winref")
        )
        entries = {
            each.number("ressortgroupref"): each.node("expr")
            for each in self._level.query.nodes("targetList")
        }
        parts = [self.grouped(each, entries) for each in window.nodes("partitionClause")]
        order = [str(self.ordered(each, entries)) for each in window.nodes("orderClause")]
        partition = f"PARTITION BY {', '.join(parts)}" if parts else ""
        by = f"ORDER BY {', '.join(order)}" if order else ""
        return Value(f"{routine.name}() OVER ({partition} {by})".replace("( ", "("), types.INT8)

    def grouped(self, clause: Node, entries: dict[int, Node]) -> str:
        """What rows are grouped by."""
        value = self.of(entries[clause.number("tleSortGroupRef")])
        require_compared(self._names, value.type, "GROUP BY")
        return value.sql

    def ordered(self, clause: Node, entries: dict[int, Node]) -> Order:
        """What rows are ordered by."""
        return self._aggregates.order(clause, entries)

    def elements(self, node: Node) -> Value:
        """The array of what a function that returns rows returns. Raises Refused."""
        routine = self._names.routine(node.number("funcid"))
        if routine.is_own and routine.name == "unnest" and len(node.nodes("args")) == 1:
            array = self.of(node.nodes("args")[0])
            if not is_list(self._names, array.type):
                raise Refused(f"the elements of {self._names.type(array.type).name}")
            return array
        raise Refused(f"the function {routine.name}(), which returns rows")

    def _sublink(self, node: Node) -> Value:
        kind = node.number("subLinkType")
        text, columns = self._context.query(node.node("subselect"), self._level)
        if kind == 0:
            return Value(f"EXISTS ({text})", types.BOOL)
        if kind == 4:
            return Value(f"({text})", columns[0].type, columns[0].scale)
        test = node.fields.get("testexpr")
        if kind == 2 and isinstance(test, Node) and test.name == "OPEXPR":
            operator = self._names.operator(test.number("opno"))
            left, right = test.nodes("args")
            if operator.is_own and operator.name == "=" and right.name == "PARAM":
                value = self.of(left)
                self._require_alike(value, columns[0], "IN")
                require_compared(self._names, value.type, "IN")
                return Value(f"({value.sql} IN ({text}))", types.BOOL)
        raise Refused("a subquery in ANY, ALL, ARRAY or a row")


_KINDS = {
    "COERCEVIAIO": "a cast that goes by text",
    "ARRAYCOERCEEXPR": "a cast of arrays",
    "SUBSCRIPTINGREF": "an element of an array",
    "ARRAYEXPR": "an array of expressions",
    "ROWEXPR": "a row of expressions",
    "FIELDSELECT": "a field of a row",
    "GROUPINGFUNC": "grouping()",
    "SQLVALUEFUNCTION": "a value of the session",
}
_BEYOND_A_ROW = ("AGGREF", "SUBLINK", "WINDOWFUNC", "GROUPINGFUNC", "PARAM", "CASETESTEXPR")


def _is_beyond_a_row(node: Node) -> bool:
    """Whether a part of an expression follows from more than one row of one table."""
    return node.name in _BEYOND_A_ROW or node.fields.get("funcretset") == "true"


def _finite(moment: str, otherwise: str) -> str:
    """What follows for an ordinary time; the infinite ones stay as they are."""
    infinite = f"'{INFINITE_MOMENT}'"
    return (
        f"(CASE WHEN {moment} IN (CAST({infinite} AS BIGINT), -CAST({infinite} AS BIGINT))"
        f" THEN {moment} ELSE {otherwise} END)"
    )


def _type_of(node: Node) -> int:
    """The type of a node that does not say it: of conditions."""
    if node.name in (
        "BOOLEXPR",
        "NULLTEST",
        "BOOLEANTEST",
        "DISTINCTEXPR",
        "SCALARARRAYOPEXPR",
    ):
        return types.BOOL
    raise Refused(f"{node.name.lower()} is not translated")

"""Whether a SELECT can be kept at places: its result is those of the places, one after the other.

The rows of some sources are divided among places by a column; each place has all rows of the
others. The SELECT is the same over all rows as over those of each place if whatever is joined,
grouped, made distinct or ordered together has one value of that column. Invariant: what is not
known to be so is refused, with its reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, text
from sqlglot import exp

from tallykeeper.errors import DeclarationError
from tallykeeper.places.renaming import Name
from tallykeeper.select.dialect import is_equality
from tallykeeper.select.syntax.gate import understood

Column = tuple[str, str]
"""A column by the alias of its table, which no other has in the whole SELECT."""


Kind = Literal["everywhere", "divided", "bound"]


class NotDivided(DeclarationError):
    """A SELECT that cannot be kept at places; says why."""


@dataclass(frozen=True)
class _Rows:
    """What is known of the rows of an item of FROM, or of a SELECT.

    Rows that are `everywhere` are the same at each place; `divided`: each is at one place, and the
    SELECT is run over all of them; `bound`: it is run for rows of one place, and reads rows of that
    place alone. `sure` are the columns that have the value by which rows are divided.
    """

    kind: Kind
    sure: frozenset[str] = frozenset()


def division_of(
    connection: Connection, view: str, columns: Mapping[Name, str | None]
) -> tuple[str, ...]:
    """The result columns of a view that have the value by which its sources are divided.

    `columns` has for each source the column by which it is divided, or None where each place has
    all of its rows. Raises NotDivided where the SELECT cannot be kept at places.
    """
    resolved, obstacle = understood(connection, view)
    if obstacle is not None:
        raise NotDivided(f"it cannot be followed ({obstacle})")
    for schema, name in resolved.sources:
        if (schema, name) not in columns:
            raise NotDivided(
                f"it is not declared how the rows of {schema}.{name} are divided; name its column"
                " in `distribution` of the system, or None where each place has all of its rows"
            )
    aggregates = connection.execute(text("SELECT proname FROM pg_proc WHERE prokind = 'a'"))
    prover = _Prover(columns, frozenset(aggregates.scalars()))
    rows = prover.query(resolved.tree, frozenset())
    if rows.kind == "everywhere":
        raise NotDivided(
            "none of its sources is divided, so that each place would have all of its rows"
        )
    if not rows.sure:
        raise NotDivided(f"its result does not have {prover.named}, by which rows are divided")
    return tuple(c.name for c in resolved.columns if c.name in rows.sure)


class _Prover:
    def __init__(self, columns: Mapping[Name, str | None], aggregates: frozenset[str]) -> None:
        self._columns = columns
        self._aggregates = aggregates

    @property
    def named(self) -> str:
        """The columns by which sources are divided, for people."""
        names = dict.fromkeys(name for name in self._columns.values() if name is not None)
        return " or ".join(names) or "a column"

    def query(self, query: exp.Expr, around: frozenset[Column]) -> _Rows:
        """What is known of the rows; `around` are columns around it with the place's value."""
        if query.args.get("with_") is not None:
            raise NotDivided("a recursive WITH cannot be followed")
        if isinstance(query, exp.Subquery):
            return self.query(query.this, around)
        if isinstance(query, exp.SetOperation):
            return self._set_operation(query, around)
        assert isinstance(query, exp.Select)
        return _Select(self, query, around).rows()

    def _set_operation(self, query: exp.SetOperation, around: frozenset[Column]) -> _Rows:
        sides = [self.query(query.args[side], around) for side in ("this", "expression")]
        kinds = {side.kind for side in sides}
        if kinds <= {"everywhere", "bound"}:
            return _Rows("bound" if "bound" in kinds else "everywhere")
        word = type(query).__name__.upper()
        if kinds != {"divided"}:
            raise NotDivided(
                f"a side of {word} reads no divided table, so that its rows are at each place"
            )
        first, second = (_names(query.args[side]) for side in ("this", "expression"))
        pairs = list(zip(first, second, strict=True))
        sure = frozenset(a for a, b in pairs if a in sides[0].sure and b in sides[1].sure)
        is_all = isinstance(query, exp.Union) and query.args.get("distinct") is False
        if not sure and not is_all:
            raise NotDivided(f"{word} compares rows without {self.named}; add it to both sides")
        return _Rows("divided", sure)

    def divided_by(self, table: exp.Table) -> str | None:
        return self._columns.get((table.db, table.name))

    def is_aggregate(self, node: exp.Expr) -> bool:
        if isinstance(node, exp.AggFunc):
            return True
        return isinstance(node, exp.Anonymous) and str(node.this).lower() in self._aggregates


class _Select:
    """One SELECT: which of its columns have the value by which rows are divided."""

    def __init__(self, prover: _Prover, select: exp.Select, around: frozenset[Column]) -> None:
        self._prover = prover
        self._select = select
        self._around = around
        self._items = [
            item
            for item in (select.args.get("from_"), *(select.args.get("joins") or []))
            if item is not None
        ]
        self._classes = _Classes(self._conditions())
        # The columns that have the value; those that have it or are null.
        self._sure: set[Column] = set()
        self._local: set[Column] = set()
        self._kind: Kind = "everywhere"

    def rows(self) -> _Rows:
        """What is known of its rows. Raises NotDivided."""
        laterals = [item for item in self._items if isinstance(item.this, exp.Lateral)]
        for item in self._items:
            if item not in laterals and not item.args.get("side"):
                self._join(item, self._around)
        for item in laterals:
            if not item.args.get("side"):
                self._join(item, self._known)
        for item in self._items:
            if item.args.get("side"):
                self._join_outer(item)
        for nested in self._nested():
            self._subquery(nested)
        if self._kind == "divided":
            self._require_apart()
        outputs = (
            item.alias_or_name
            for item in self._select.expressions
            if _column(item.unalias()) in self._sure
        )
        return _Rows(self._kind, frozenset(outputs))

    @property
    def _known(self) -> frozenset[Column]:
        return frozenset(self._around | self._sure)

    def _conditions(self) -> Iterator[exp.Expr]:
        """What holds for each row of the SELECT."""
        where = self._select.args.get("where")
        yield from _conjuncts(where.this if where is not None else None)
        for item in self._items:
            if not item.args.get("side"):
                yield from _conjuncts(item.args.get("on"))

    def _join(self, item: exp.Expr, around: frozenset[Column]) -> None:
        rows = self._relation(item.this, around)
        if rows.kind == "everywhere":
            return
        if rows.kind == "bound":
            self._kind = "bound" if self._kind == "everywhere" else self._kind
            return
        own = self._classes.closed(self._columns_of(item.this, rows))
        if self._sure and not own & self._sure:
            raise NotDivided(self._apart(item.this))
        self._sure |= own
        self._kind = "bound" if self._sure & self._around else "divided"

    def _join_outer(self, item: exp.Expr) -> None:
        rows = self._relation(item.this, self._known)
        if item.args["side"] == "FULL" and (
            rows.kind != "everywhere" or self._kind != "everywhere"
        ):
            raise NotDivided("FULL JOIN of divided tables; write it as LEFT JOIN and UNION ALL")
        if rows.kind == "everywhere":
            return
        own = self._columns_of(item.this, rows) if rows.kind == "divided" else set()
        if rows.kind == "divided":
            matched = _Classes(_conjuncts(item.args.get("on"))).closed(own)
            if not matched & (self._known | self._local) and self._kind != "everywhere":
                raise NotDivided(self._apart(item.this))
            if not matched & (self._known | self._local):
                raise NotDivided(
                    f"LEFT JOIN with {item.this.alias_or_name}: rows of the other side that have no"
                    " match are at each place; begin with a divided table"
                )
        self._local |= own
        self._kind = "bound" if self._kind == "everywhere" else self._kind

    def _relation(self, relation: exp.Expr, around: frozenset[Column]) -> _Rows:
        if isinstance(relation, exp.Table) and isinstance(relation.this, exp.Identifier):
            column = self._prover.divided_by(relation)
            if column is None:
                return _Rows("everywhere")
            return _Rows("divided", frozenset([column]))
        inner = relation.this if isinstance(relation, exp.Lateral) else relation
        if isinstance(inner, exp.Subquery):
            return self._prover.query(inner.this, around)
        # A function of the row's own values, or VALUES.
        for nested in _outermost(relation):
            self._subquery(nested)
        return _Rows("everywhere")

    def _columns_of(self, relation: exp.Expr, rows: _Rows) -> set[Column]:
        if not rows.sure:
            raise NotDivided(
                f"the rows of the subquery {relation.alias_or_name} do not have"
                f" {self._prover.named}; add it to its columns"
            )
        return {(relation.alias_or_name, name) for name in rows.sure}

    def _apart(self, relation: exp.Expr) -> str:
        return (
            f"{relation.alias_or_name} is not joined by {self._prover.named}, so that a row may"
            " belong to rows of another place; add the column to the condition of the join"
        )

    def _nested(self) -> Iterator[exp.Expr]:
        """The SELECTs in its expressions."""
        for key, value in self._select.args.items():
            if key in ("from_", "joins"):
                continue
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, exp.Expr):
                    yield from _outermost(each)
        for item in self._items:
            if isinstance(item.args.get("on"), exp.Expr):
                yield from _outermost(item.args["on"])

    def _subquery(self, nested: exp.Expr) -> None:
        rows = self._prover.query(nested, self._known)
        if rows.kind == "everywhere":
            return
        if rows.kind == "bound":
            self._kind = "bound" if self._kind == "everywhere" else self._kind
            return
        around = nested.parent
        while isinstance(around, exp.Subquery | exp.Paren):
            around = around.parent
        if isinstance(around, exp.In) and self._is_matched(around.this, nested, rows):
            return
        raise NotDivided(
            "a subquery reads rows of all places; compare its"
            f" {self._prover.named} with that of the rows around it"
        )

    def _is_matched(self, compared: exp.Expr, query: exp.Expr, rows: _Rows) -> bool:
        """Whether rows can be equal only to rows of the same place."""
        compared = compared.unnest()
        values = compared.expressions if isinstance(compared, exp.Tuple) else [compared]
        return any(
            _column(value) in self._known and name in rows.sure
            for value, name in zip(values, _names(query), strict=True)
        )

    # What puts rows together.

    def _require_apart(self) -> None:
        """Raise NotDivided where rows of several places are put together."""
        select = self._select
        group = select.args.get("group")
        if group is not None:
            if any(group.args.get(n) for n in ("grouping_sets", "cube", "rollup", "all")):
                raise NotDivided(
                    "GROUPING SETS, ROLLUP and CUBE have groups of several places; write each as a"
                    " SELECT of its own"
                )
            self._require(group.expressions, "GROUP BY")
        elif any(
            self._prover.is_aggregate(node)
            for item in (*select.expressions, select.args.get("having"))
            if item is not None
            for node in _own(item)
            if not _in_window(node)
        ):
            raise NotDivided(f"it adds up all rows; add GROUP BY {self._prover.named}")
        distinct = select.args.get("distinct")
        if distinct is not None:
            on = distinct.args.get("on")
            wanted = on.expressions if on is not None else [e.unalias() for e in select.expressions]
            self._require(wanted, "DISTINCT")
        named = {w.name: w for w in select.args.get("windows") or []}
        for item in (*select.expressions, select.args.get("order")):
            for window in _own(item) if item is not None else ():
                if isinstance(window, exp.Window):
                    self._require_window(window, named)
        for key in ("limit", "offset", "fetch"):
            if select.args.get(key) is not None:
                raise NotDivided("LIMIT and OFFSET count rows of all places; use a window of each")

    def _require_window(self, window: exp.Window, named: Mapping[str, exp.Expr]) -> None:
        parts = list(window.args.get("partition_by") or [])
        alias = window.args.get("alias")
        seen: set[str] = set()
        while alias is not None and alias.name in named and alias.name not in seen:
            seen.add(alias.name)
            definition = named[alias.name]
            parts += definition.args.get("partition_by") or []
            alias = definition.args.get("alias")
        self._require(parts, "PARTITION BY of a window")

    def _require(self, expressions: Iterable[exp.Expr], what: str) -> None:
        if not any(_column(each) in self._sure for each in expressions):
            raise NotDivided(
                f"{what} does not contain {self._prover.named}, so that rows of several places are"
                " put together; add the column"
            )


class _Classes:
    """Columns that conditions make equal."""

    def __init__(self, conditions: Iterable[exp.Expr]) -> None:
        self._pairs = [
            (_column(each.this), _column(each.expression))
            for each in conditions
            if is_equality(each)
        ]

    def closed(self, columns: Iterable[Column]) -> set[Column]:
        """These columns with all that are equal to one of them."""
        found = set(columns)
        size = -1
        while len(found) != size:
            size = len(found)
            for a, b in self._pairs:
                if a is not None and b is not None and (a in found or b in found):
                    found |= {a, b}
        return found


def _column(node: exp.Expr) -> Column | None:
    node = node.unnest()
    return (node.table, node.name) if isinstance(node, exp.Column) else None


def _conjuncts(condition: exp.Expr | None) -> Iterator[exp.Expr]:
    if condition is None:
        return
    bare = condition.unnest()
    if isinstance(bare, exp.And):
        yield from _conjuncts(bare.this)
        yield from _conjuncts(bare.expression)
    else:
        yield bare


def _names(query: exp.Expr) -> list[str]:
    while not isinstance(query, exp.Select):
        query = query.this
    return [item.alias_or_name for item in query.expressions]


def _outermost(node: exp.Expr) -> Iterator[exp.Expr]:
    """The SELECTs below a node that are in no other below it."""
    if isinstance(node, exp.Query) and not isinstance(node, exp.Subquery):
        yield node
        return
    for value in node.args.values():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, exp.Expr):
                yield from _outermost(each)


def _own(node: exp.Expr) -> Iterator[exp.Expr]:
    """A node and what is below it, without the SELECTs there."""
    if isinstance(node, exp.Query) and not isinstance(node, exp.Subquery):
        return
    yield node
    for value in node.args.values():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, exp.Expr):
                yield from _own(each)


def _in_window(node: exp.Expr) -> bool:
    """Whether the function is that of a window, and not an aggregate."""
    around = node.parent
    while isinstance(around, exp.Filter | exp.IgnoreNulls | exp.RespectNulls):
        around = around.parent
    return isinstance(around, exp.Window) and around.this is not None and node in _own(around.this)

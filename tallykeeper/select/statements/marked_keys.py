"""Plans whose change log names the keys that are to be computed anew, and not the changed rows.

Where each row of the result is made of one row of a source, its *owner*, by whose columns its key
is known, a change of that row is a mark of the key: a few bytes, however long the row is. Other
sources leave images of their rows; the keys that these concern are those of the owners they are
joined with now, for an owner that changed is marked itself. Marked keys are computed by the SELECT,
restricted to them.

Invariants: what is marked is computed whatever the derived table has, so it may be written while
something is pending, as batches do. Images do not cancel, for the same reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlglot import exp

from tallykeeper.database import sql
from tallykeeper.select.algebra.expressions import sql_of, stripped, tables_of
from tallykeeper.select.algebra.relations import Bag, Leaf, Node, Product
from tallykeeper.select.plan import (
    MARKED,
    PART,
    ROW,
    TOTAL,
    CapturedSource,
    Column,
    OwnerSource,
    Step,
    Text,
)
from tallykeeper.select.resolve import Source
from tallykeeper.select.statements.asked import where
from tallykeeper.select.statements.containment import with_held
from tallykeeper.select.statements.derived import Unstored
from tallykeeper.select.statements.terms import Images, from_clause, name_of, quoted
from tallykeeper.select.statements.text import only_if, text

MARKS, ROWS = f"tally_p{MARKED}", "tally_marked"


def log_name(name: str) -> str:
    """The column of the change log that has a column of marks."""
    return sql.shortened(f"{MARKED}.{name}")


@dataclass(frozen=True)
class Owned:
    """A product, the leaf that owns its rows, and the columns of marks as it has them."""

    product: Product
    owner: Leaf
    keys: tuple[exp.Expr, ...]

    def others(self) -> list[Leaf]:
        """The leaves that are no owner."""
        return [leaf for leaf in self.product.leaves if leaf is not self.owner]


def owned(
    bag: Bag, last: Unstored | None, marks: Sequence[str], columns: Sequence[Column]
) -> list[Owned]:
    """What rows are made of, each with its owner; empty where one of them has none."""
    found = []
    for product, keys in _keyed(bag, last, marks, columns):
        aliases = {alias for key in keys for alias in tables_of(key)}
        owner = next((leaf for leaf in product.leaves if {leaf.alias} == aliases), None)
        if owner is None or any(isinstance(leaf.relation, Node) for leaf in product.leaves):
            return []
        found.append(Owned(product, owner, tuple(keys)))
    owners = {_oid(each.owner) for each in found}
    # Of an owner there are no images.
    is_other = any(_oid(leaf) in owners for each in found for leaf in each.others())
    return [] if is_other else found


def _oid(leaf: Leaf) -> int:
    assert isinstance(leaf.relation, Source)
    return leaf.relation.oid


def _keyed(
    bag: Bag, last: Unstored | None, marks: Sequence[str], columns: Sequence[Column]
) -> list[tuple[Product, list[exp.Expr]]]:
    """The products that the result is a sum of, or its groups, and the columns of marks."""
    places = [next(i for i, c in enumerate(columns) if c.name == name) for name in marks]
    if last is None:
        return [(arm.product, [arm.outputs[i] for i in places]) for arm in bag.arms]
    node, same = last.node, last.node.same_as_key()
    outputs = [stripped(last.outputs[i]) for i in places]
    names = [same.get(o.name) if isinstance(o, exp.Column) else None for o in outputs]
    if None in names or node.strategy != "group":
        return [(Product(), [])]
    at = [node.key.index(str(name)) for name in names]
    return [(each.product, [each.key[i] for i in at]) for each in node.inputs]


def owner_sources(found: Sequence[Owned], images: Images) -> tuple[OwnerSource, ...]:
    """What changed rows of owners leave in the log: SQL over one row, by source."""
    marks: dict[int, dict[tuple[str, ...], None]] = {}
    for each in found:
        number = images.numbers[_oid(each.owner)]
        values = tuple(sql_of(_over_row(key)) for key in each.keys)
        marks.setdefault(number, {})[values] = None
    return tuple(OwnerSource(part, tuple(values)) for part, values in marks.items())


def _over_row(expression: exp.Expr) -> exp.Expr:
    def renamed(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Column):
            node.set("table", exp.to_identifier(ROW))
        return node

    return expression.copy().transform(renamed, copy=False)


def images_step(source: CapturedSource, log: str) -> Step:
    """The images of a source's pending changes, old and new ones alike."""
    listed = ", ".join(
        f"{sql.quote(c.log_name)}{f'::{c.type}' if c.as_text else ''} AS {sql.quote(c.name)}"
        for c in source.columns
    )
    each_once = "" if any(c.as_text for c in source.columns) else "DISTINCT "
    own = f"CASE WHEN {PART} = {source.part} THEN true ELSE false END"
    return Step(
        f"tally_p{source.part}",
        text(f"SELECT {each_once}{listed or '1'} FROM {log} WHERE {own}"),
        frozenset({source.part}),
        source.part,
    )


def steps(
    found: Sequence[Owned],
    images: Images,
    marks: Sequence[Column],
    columns: Sequence[Column],
    key: Sequence[str],
    log: str,
    query: str,
) -> list[Step]:
    """The marked keys, and the rows that `query`, the SELECT, has for them."""
    parts = all_parts(images)
    names = [c.name for c in marks]
    logged = ", ".join(f"{sql.quote(log_name(n))} AS {sql.quote(n)}" for n in names)
    is_mark = f"CASE WHEN {sql.quote(log_name(names[0]))} IS NULL THEN false ELSE true END"
    touched = [each for one in found for each in _touched(one, images, marks)]
    places = {f"k.{sql.quote(n)}": key.index(n) for n in names}
    marked = text(
        f"SELECT DISTINCT {sql.columns(names, 'k')} FROM (\n"
        f"SELECT {logged} FROM {log} WHERE {is_mark}",
        *touched,
        "\n) AS k",
        where(places, " WHERE "),
    )
    rows = "\nUNION ALL ".join(
        f"SELECT {_typed(columns, 'e')} FROM ({query}) AS e WHERE {_is_marked(names, fixed)}"
        for fixed in _fixed(found)
    )
    return [Step(MARKS, marked, parts), Step(ROWS, text(rows), parts)]


def _fixed(found: Sequence[Owned]) -> list[tuple[str | None, ...]]:
    """What columns of marks are in the rows of an owner whatever the row; None: its own values.

    Rows of the one and of the other owner are computed apart, so that of a constant PostgreSQL sees
    what it need not read. That holds where all have constants in the same columns, of which texts
    show whether they are equal; else a row would be there twice.
    """
    fixed = {tuple(map(_constant, one.keys)): one.keys for one in found}
    if len({tuple(value is None for value in each) for each in fixed}) > 1:
        return [tuple(None for _ in found[0].keys)]
    return [
        tuple(None if v is None else sql_of(key) for v, key in zip(each, keys, strict=True))
        for each, keys in fixed.items()
    ]


def _constant(key: exp.Expr) -> str | None:
    """The value of a constant that is text; None of everything else."""
    cast = stripped(key)
    if not isinstance(cast, exp.Cast) or not isinstance(cast.this, exp.Literal):
        return None
    kind, _, size = cast.to.sql("postgres").rstrip(")").partition("(")
    value = str(cast.this.this)
    # A text that is too long is cut off.
    is_whole = kind in ("TEXT", "VARCHAR") and len(value) <= int(size or len(value))
    return value if cast.this.is_string and is_whole else None


def all_parts(images: Images) -> frozenset[int]:
    """What may be pending: of each source, and marks of no source."""
    return frozenset({MARKED, *images.numbers.values()})


def _touched(one: Owned, images: Images, marks: Sequence[Column]) -> list[Text]:
    """SELECTs of the marks of rows that changes of other sources than the owner may concern."""
    listed = ", ".join(
        f"CAST({sql_of(key)} AS {c.type}) AS {sql.quote(c.name)}"
        for key, c in zip(one.keys, marks, strict=True)
    )
    selects = []
    for driver in one.others():
        read = {leaf.alias: _read(leaf, images) for leaf in one.others()}
        read[one.owner.alias] = _current(one.owner)
        first = text(f"{images.name(driver.relation)} AS {quoted(driver.alias)}")
        product = with_held(one.product, driver)
        rows = from_clause(product, driver, first, read, frozenset({driver.alias}))
        chosen = text(f"\nUNION ALL SELECT {listed}\n", rows)
        selects.append(only_if(images.parts(driver.relation), chosen))
    return selects


def _current(leaf: Leaf) -> Text:
    return text(f"{name_of(leaf.relation)} AS {quoted(leaf.alias)}")


def _read(leaf: Leaf, images: Images) -> Text:
    """A source as it is, and as it was before what is pending of it."""
    parts, alias = images.parts(leaf.relation), quoted(leaf.alias)
    names = ", ".join(sql.quote(n) for n in images.columns_of(leaf.relation)) or "1"
    return text(
        f"(SELECT {names} FROM {name_of(leaf.relation)}",
        only_if(parts, text(f" UNION ALL SELECT {names} FROM {images.name(leaf.relation)}")),
        f") AS {alias}",
    )


def changes(marks: Sequence[str], columns: Sequence[Column]) -> Text:
    """All rows of marked keys, and each marked key, whether or not it has any."""
    names = [column.name for column in columns]
    named = ", ".join(
        f"m.{sql.quote(c.name)}" if c.name in marks else f"CAST(NULL AS {c.type})" for c in columns
    )
    return text(
        f"SELECT {sql.columns(names, 'e')}, 1::bigint AS {TOTAL} FROM {ROWS} AS e"
        f"\nUNION ALL SELECT {named}, 0 FROM {MARKS} AS m"
    )


def losses(
    marks: Sequence[str], columns: Sequence[Column], key: Sequence[str], parts: frozenset[int]
) -> Text:
    """The keys that pending changes of `parts` concern, where marks are whole keys."""
    if set(marks) != set(key):
        return ()
    keys = [column for column in columns if column.name in key]
    nothing = ", ".join(f"CAST(NULL AS {c.type}) AS {sql.quote(c.name)}" for c in keys)
    marked = text(f"\nUNION ALL SELECT {_typed(keys, 'm')} FROM {MARKS} AS m")
    return text(f"SELECT {nothing} WHERE false", only_if(parts, marked))


def _is_marked(marks: Sequence[str], fixed: Sequence[str | None]) -> str:
    """A condition: a row `e` has a marked key. PostgreSQL takes it into a SELECT, to an index."""
    pairs = list(zip(marks, fixed, strict=True))
    chosen = [f"m.{sql.quote(n)} = {value}" for n, value in pairs if value is not None]
    each = [f"e.{sql.quote(n)} = {value}" for n, value in pairs if value is not None]
    own = [sql.quote(n) for n, value in pairs if value is None]
    where = f" WHERE {' AND '.join(chosen)}" if chosen else ""
    each += [f"e.{n} = ANY (ARRAY(SELECT m.{n} FROM {MARKS} AS m{where}))" for n in own]
    if len(own) > 1:
        same = " AND ".join([*chosen, *(f"m.{n} = e.{n}" for n in own)])
        each.append(f"EXISTS (SELECT FROM {MARKS} AS m WHERE {same})")
    return " AND ".join(each)


def _typed(columns: Sequence[Column], alias: str) -> str:
    return ", ".join(
        f"CAST({alias}.{sql.quote(c.name)} AS {c.type}) AS {sql.quote(c.name)}" for c in columns
    )

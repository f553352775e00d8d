"""What cannot be maintained exactly, and so is refused: each with place, reason and way out.

All of it is read from the tree that PostgreSQL keeps of the view, so that it holds for SELECTs too
that the compiler does not understand. Only the place comes from the user's text, where the word is
looked for that the reason is about.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, text

from tallykeeper.errors import DeclarationError
from tallykeeper.select.definition import volatility
from tallykeeper.select.definition.places import Words
from tallykeeper.select.definition.routines import Call, Types, calls
from tallykeeper.select.definition.rule_trees import Node, relations, rules
from tallykeeper.select.definition.table_functions import reads_tables
from tallykeeper.select.resolve import NotUnderstood, resolve
from tallykeeper.select.syntax.determined import ORDERED
from tallykeeper.select.syntax.ties import ties

_RELATIONS = text("""
SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
       c.relpersistence::text AS persistence, c.relhassubclass AS has_heirs,
       (SELECT string_agg(h.relname, ', ' ORDER BY h.relname) FROM pg_inherits AS i
        JOIN pg_class AS h ON h.oid = i.inhrelid
        WHERE i.inhparent = c.oid AND (h.relpersistence = 'u' OR h.relkind = 'f')) AS unseen
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = ANY (:oids)""")
_COLLATIONS = text(
    "SELECT collname FROM pg_collation WHERE oid = ANY (:oids) AND NOT collisdeterministic"
)
_OUTPUT_COLLATIONS = text(
    "SELECT attcollation FROM pg_attribute WHERE attrelid = to_regclass(:view) AND attnum > 0"
)
_FLOATS = ("real", "double precision", "double precision[]")
_DAYS = ("now", "today", "tomorrow", "yesterday")
_KINDS = {
    "m": ("a materialized view", "read what it is made of"),
    "f": ("a foreign table", "copy it into a table"),
    "S": ("a sequence", "read a table"),
    "t": ("a TOAST table", "read the table itself"),
}


@dataclass(frozen=True)
class Refusal:
    """One thing that is refused. `position` counts the characters of the SELECT from 1."""

    reason: str
    way_out: str
    position: int | None = None


class Refused(DeclarationError):
    """A SELECT that cannot be maintained exactly; says all of what is in the way."""

    def __init__(self, message: str, refusals: tuple[Refusal, ...]) -> None:
        super().__init__(message)
        self.refusals = refusals


def require_maintainable(
    connection: Connection,
    view: str,
    select: str = "",
    *,
    name: str | None = None,
    place: Callable[[int], str] | None = None,
) -> None:
    """Raise Refused where the SELECT of a definition view has something that is refused.

    `select` is the user's text of it, `name` how messages call it, and `place` says where in a file
    a character of the text stands.
    """
    found = refusals(connection, view, select)
    if not found:
        return
    lines = []
    for each in found:
        at = name or view
        if each.position is not None:
            where = place(each.position) if place is not None else _line(select, each.position)
            at = f"{where}: {at}" if place is not None else f"{at}, {where}"
        lines.append(f"{at}: {each.reason}; {each.way_out}")
    raise Refused("\n".join(lines), tuple(found))


def _line(select: str, position: int) -> str:
    before = select[: position - 1]
    return f"line {before.count(chr(10)) + 1}, column {len(before) - before.rfind(chr(10))}"


def refusals(connection: Connection, view: str, select: str = "") -> list[Refusal]:
    """All that is refused in a definition view, in the order of the user's text."""
    words = Words(select)
    queries = rules(connection, view)
    nodes = [node for query in queries for node in query.walk()]
    types = Types(connection)
    found: list[tuple[str, str, str]] = []
    for call in calls(connection, nodes):
        found += _of_call(connection, call, types)
    for node in nodes:
        found += _of_node(node, types)
    found += _of_relations(connection, queries)
    found += _of_rows(queries)
    found += _of_collations(connection, view, nodes)
    found += _of_order(connection, view, nodes)
    found += _of_days(words)
    refused = [Refusal(r, w, words.position(word)) for word, r, w in dict.fromkeys(found)]
    return sorted(refused, key=lambda r: (r.position is None, r.position or 0))


Said = tuple[str, str, str]


def _of_call(connection: Connection, call: Call, types: Types) -> Iterator[Said]:
    routine = call.routine
    said = volatility.obstacle(call, types)
    if said is not None:
        yield said
    shown = call.shown
    if routine.is_aggregate and routine.state in _FLOATS and not routine.is_extreme:
        yield (
            routine.name,
            f"{shown} of floating-point numbers depends on the order in which rows are added",
            f"cast to numeric: {routine.name}(amount::numeric)",
        )
    in_any_order = all(call.node.fields.get(k) is None for k in ("aggorder", "aggdistinct"))
    by_order = routine.is_of_users or routine.name in ORDERED
    if call.node.name == "AGGREF" and by_order and in_any_order:
        yield (
            routine.name,
            f"{shown} without ORDER BY takes the rows in any order",
            "add a unique column to the ORDER BY",
        )
    if routine.is_of_users and routine.volatility == "i":
        table = reads_tables(connection, routine.oid)
        if table is not None:
            yield (
                routine.name,
                f"{shown} reads {table}, whose changes are not captured through a function",
                f"join {table} in the SELECT instead",
            )


def _of_node(node: Node, types: Types) -> Iterator[Said]:
    if node.name == "COERCEVIAIO":
        said = volatility.cast_obstacle(node, types)
        if said is not None:
            yield said
    elif node.name == "SQLVALUEFUNCTION":
        yield volatility.value_obstacle(node)
    elif node.name == "TABLESAMPLECLAUSE":
        yield (
            "tablesample",
            "TABLESAMPLE takes other rows each time",
            "take rows by a column: WHERE mod(id, 100) = 0",
        )
    elif node.name == "QUERY" and node.fields.get("rowMarks") is not None:
        yield "for", "FOR UPDATE and FOR SHARE lock rows", "remove it: a tally only reads"


def _of_relations(connection: Connection, queries: list[Node]) -> Iterator[Said]:
    entries = relations(queries)
    only = {int(e.fields["relid"]) for e in entries if e.fields.get("inh") == "false"}
    oids = list({int(e.fields["relid"]) for e in entries})
    for row in connection.execute(_RELATIONS, {"oids": oids}):
        shown = f"{row.schema}.{row.name}"
        if row.schema in ("pg_catalog", "information_schema"):
            yield (
                row.name,
                f"{shown} is PostgreSQL's own: its changes cannot be captured",
                "take it out: a tally reads tables of the application",
            )
        elif row.kind in _KINDS:
            kind, way_out = _KINDS[row.kind]
            yield row.name, f"{shown} is {kind}: its changes cannot be captured", way_out
        elif row.persistence == "u":
            yield (
                row.name,
                f"{shown} is unlogged: a crash empties it unnoticed",
                f"ALTER TABLE {shown} SET LOGGED",
            )
        elif row.persistence == "t":
            yield row.name, f"{shown} is temporary: other sessions do not see it", "use a table"
        elif row.unseen is not None:
            yield (
                row.name,
                f"{shown} has partitions that are unlogged or foreign: {row.unseen}",
                "detach them, or make them tables that are logged",
            )
        elif row.oid in only and row.has_heirs and row.kind == "r":
            yield (
                "only",
                f"ONLY {shown} leaves out the rows of its heirs, whose changes are captured too",
                "leave out ONLY, and choose rows by a condition",
            )


def _of_rows(queries: list[Node]) -> Iterator[Said]:
    for query in queries:
        yield from _of_variables(query, [])


def _of_variables(node: Node, around: list[Node]) -> Iterator[Said]:
    """System columns and whole rows of tables."""
    if node.name == "QUERY":
        around = [node, *around]
    if node.name == "VAR":
        level, number = node.number("varlevelsup"), node.number("varno")
        entries = around[level].nodes("rtable") if level < len(around) else []
        entry = entries[number - 1] if 0 < number <= len(entries) else None
        if entry is not None and entry.fields.get("rtekind") == "0":
            yield from _of_variable(node.number("varattno"), entry)
    for value in node.fields.values():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, Node):
                yield from _of_variables(each, around)


_SYSTEM = {-1: "ctid", -2: "xmin", -3: "cmin", -4: "xmax", -5: "cmax", -6: "tableoid"}


def _of_variable(number: int, entry: Node) -> Iterator[Said]:
    alias = entry.node("eref").fields["aliasname"]
    if number < 0:
        name = _SYSTEM.get(number, "a system column")
        yield (
            name,
            f"{name} is where or when a row was stored, not what it holds",
            "use a column of the table",
        )
    elif number == 0:
        yield (
            str(alias),
            f"the whole row {alias} is used as one value, also what is added to the table later",
            f"name the columns: ROW({alias}.id, ...), or count(*) for count({alias})",
        )


def _of_collations(connection: Connection, view: str, nodes: Iterable[Node]) -> Iterator[Said]:
    oids = {int(o) for o in connection.execute(_OUTPUT_COLLATIONS, {"view": view}).scalars()}
    for node in nodes:
        for key, value in node.fields.items():
            if "coll" in key.lower() and key not in ("collname", "colcollations"):
                oids |= _numbers(value)
    for name in connection.execute(_COLLATIONS, {"oids": list(oids)}).scalars():
        yield (
            name,
            f"under the collation {name}, which is not deterministic, different texts are equal:"
            " which of them is shown depends on the order of rows",
            'name another: name COLLATE "C", or lower(name) COLLATE "C"',
        )


def _numbers(value: object) -> set[int]:
    items = value if isinstance(value, list) else [value]
    return {int(i) for i in items if isinstance(i, str) and i.isdecimal()}


def _of_order(connection: Connection, view: str, nodes: Iterable[Node]) -> Iterator[Said]:
    """What depends on the order of rows, where that is left to chance."""
    try:
        resolved = resolve(connection, view)
        chances = ties(resolved.tree, resolved.sources)
    except NotUnderstood:
        # Then keys cannot be looked for.
        chances = [c for n in nodes if n.name == "QUERY" for c in _of_query(n)]
    for chance in chances:
        word = chance.partition("(")[0].partition(" ")[0].lower()
        yield word, chance, "add a unique column to the ORDER BY"


def _of_query(query: Node) -> Iterator[str]:
    if query.fields.get("hasDistinctOn") == "true":
        yield "DISTINCT ON may leave to chance which row of several is kept"
    for key, word in (("limitCount", "LIMIT"), ("limitOffset", "OFFSET")):
        if query.fields.get(key) is not None:
            yield f"{word} may leave to chance which of the rows that tie are kept"


def _of_days(words: Words) -> Iterator[Said]:
    """Words like 'today'::date, which PostgreSQL replaces by the day on which it reads them."""
    for word in words.dated(_DAYS):
        yield (
            word,
            f"{word} is replaced by the moment at which the view is made",
            "compare with the present where the tally is read, not in the SELECT",
        )

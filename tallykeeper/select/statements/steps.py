"""The steps of the statement that finds what pending changes alter, node by node.

For a node `n1` there are: `tally_x_n1`, what changed in it; `tally_c_n1`, the rows concerned with
what is stored of them; and `tally_d_n1`, its old rows with the sign -1 and its new rows with 1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from sqlglot import exp

from tallykeeper.database import sql
from tallykeeper.select.algebra.expressions import enclosed, sql_of
from tallykeeper.select.algebra.relations import COUNT, Input, Node
from tallykeeper.select.column_types import INCOMPARABLE
from tallykeeper.select.plan import PART, SIGN, CapturedSource, Step, Text, render
from tallykeeper.select.statements.asked import where
from tallykeeper.select.statements.containment import column_of_elements
from tallykeeper.select.statements.terms import Images, M, Term, terms
from tallykeeper.select.statements.text import only_for, only_if, text

PLACE = "tally_place"
# The alias of touched groups, beside those of the SELECT.
KEYS = "tally_k"
# Types of which equal values are the same value; of others the text is compared as well.
IDENTICAL = {
    "smallint",
    "integer",
    "bigint",
    "boolean",
    "text",
    "uuid",
    "date",
    "timestamp without time zone",
    "timestamp with time zone",
    "bytea",
    "oid",
}
# Fewer keys than this are looked up one by one, more are compared with all rows at once.
FEW_KEYS = 1000


def is_identical(type_: str) -> bool:
    """Whether equal values of a type are one and the same."""
    # Arrays are equal where their elements are, and their bounds.
    element = type_.removesuffix("[]")
    return element.startswith(("numeric(", "character varying")) or element in IDENTICAL


def by_value(columns: Sequence[tuple[str, str]], prefix: str = "") -> str:
    """GROUP BY for rows that are the same: columns are pairs of a name and a type."""
    names = [f"{prefix}{sql.quote(n)}" for n, t in columns if t not in INCOMPARABLE]
    names += [f"{prefix}{sql.quote(n)}::text" for n, t in columns if not is_identical(t)]
    return ", ".join(names)


def of_value(columns: Sequence[tuple[str, str]]) -> str:
    """The columns of rows that are grouped by `by_value`."""
    return ", ".join(
        f"({sql.quote(n)}::text)::{t} AS {sql.quote(n)}" if t in INCOMPARABLE else sql.quote(n)
        for n, t in columns
    )


def pending_step(source: CapturedSource, log: str, asked: Mapping[str, int]) -> Step:
    """The images of a source's pending changes, those left out that cancel.

    `asked` are columns of the log by which single keys are asked for, and the place in the key.
    """
    listed, grouped = [], []
    for column in source.columns:
        log_name = sql.quote(column.log_name)
        value = f"{log_name}::{column.type}" if column.as_text else log_name
        listed.append(f"{value} AS {sql.quote(column.name)}")
        grouped.append(log_name)
        if not column.as_text and not is_identical(column.type):
            grouped.append(f"{log_name}::text")
    columns = "".join(f"{c}, " for c in listed)
    group = f" GROUP BY {', '.join(grouped)}" if grouped else ""
    parts = frozenset({source.part})
    # The log's statistics are of what was consumed. Of this condition the planner expects that half
    # of the rows meet it, and a LIMIT says how many there are at most; of a bare comparison it
    # would expect a few, and join them by nested loops.
    own = f"CASE WHEN {PART} = {source.part} THEN true ELSE false END"
    return Step(
        f"tally_p{source.part}",
        text(
            f"SELECT {columns}sum({SIGN})::bigint AS {M} FROM {log} WHERE {own}",
            where(asked, " AND "),
            f"{group} HAVING sum({SIGN}) <> 0",
        ),
        parts,
        source.part,
    )


class NodeSteps:
    """The steps of one node, and what brings its state up to date."""

    def __init__(self, node: Node, images: Images, stored: str | None = None) -> None:
        self.node = node
        # What its rows are read from, where that is not its own table.
        self.stored = stored or node.state
        self.images = images
        self.parts = images.node_parts[node.name]
        self.x, self.c, self.d = (f"tally_{s}_{node.name}" for s in "xcd")
        self.new = f"tally_new_{node.name}"
        self.values = [c for c in node.columns if c.name not in node.key]
        self.asked = where(images.asked.nodes.get(node.name, {}), "\nWHERE ")

    def steps(self) -> list[Step]:
        """All of them, in order."""
        if self.node.strategy == "delta":
            return [
                self._step(self.x, self._sums()),
                self._step(self.c, self._concerned()),
                self._step(self.d, self._images()),
            ]
        if self.node.strategy == "group":
            return [
                self._step(self.x, self._touched()),
                self._step(self.new, self._recomputed()),
                self._step(self.c, self._stored_rows()),
                self._step(self.d, self._replaced()),
            ]
        return [
            self._step(self.new, self._anew()),
            self._step(self.c, self._all_stored()),
            self._step(self.d, self._replaced()),
        ]

    def unstored_steps(self) -> list[Step]:
        """Those that are needed where its rows are kept elsewhere, and nothing else reads them."""
        if self.node.strategy == "delta":
            return [self._step(self.x, self._sums()), self._step(self.c, self._concerned())]
        return [self._step(self.x, self._touched()), self._step(self.new, self._recomputed())]

    def apply(self) -> list[Step]:
        """What brings the state up to date, after the steps."""
        return self._apply_sums() if self.node.strategy == "delta" else self._apply_rows()

    def rebuild(self) -> str:
        """A SELECT of its rows from the nodes that it reads, as they are stored."""
        if self.node.restricted is None or not self.node.reads:
            return ""
        return render(self._anew(), ())

    def as_it_will_be(self) -> Text:
        """A SELECT of the state's columns after the refresh, every row once."""
        node = self.node
        listed = ", ".join(f"s.{c.name}" for c in node.columns)
        if node.strategy == "delta":
            changed = ", ".join(c.name for c in node.columns)
            alive = "" if node.is_global else f" WHERE {COUNT} <> 0"
            more = f"SELECT {changed} FROM {self.c}{alive}"
        else:
            more = f"SELECT {', '.join(c.name for c in node.columns)} FROM {self.new}"
        return text(
            f"SELECT {listed} FROM {node.state} AS s",
            only_if(
                self.parts,
                text(
                    f" WHERE NOT EXISTS (SELECT 1 FROM {self.c} AS c WHERE c.{PLACE} = s.ctid)"
                    f" UNION ALL {more}"
                ),
            ),
        )

    def _step(self, name: str, body: Text) -> Step:
        return Step(name, body, self.parts)

    # ---- counts and sums

    def _sums(self) -> Text:
        node = self.node
        keys = ", ".join(f"CAST({k} AS {node.column(k).type}) AS {k}" for k in node.key)
        sums = [f"CAST(coalesce(sum({c.name}), 0) AS {c.type}) AS {c.name}" for c in self.values]
        listed = ", ".join([*([keys] if keys else []), *sums])
        group = f"\nGROUP BY {', '.join(node.key)}" if node.key else ""
        changed = " OR ".join(f"sum({c.name}) <> 0" for c in self.values)
        return text(
            f"SELECT {listed} FROM (\n",
            self._all_terms(),
            "\n) AS q",
            self.asked,
            group,
            only_for("changes", f"\nHAVING {changed}"),
        )

    def _all_terms(self, *, only_keys: bool = False) -> Text:
        """The terms of all inputs, with UNION ALL between those that are there."""
        selects = []
        for each in self.node.inputs:
            for term in terms(each.product, self.images):
                chosen = self._changed_rows(each, term) if only_keys else self._amounts(each, term)
                selects.append(term.only_if_needed(text("\nUNION ALL ", chosen)))
        return text(self._nothing(only_keys), *selects)

    def _nothing(self, only_keys: bool) -> str:
        """No rows, of the terms' types: each term can then begin alike."""
        node = self.node
        listed = [f"CAST(NULL AS {node.column(k).type}) AS {k}" for k in node.key]
        if not only_keys:
            listed += [f"CAST(NULL AS {self._wide(c.type)}) AS {c.name}" for c in self.values]
        return f"SELECT {', '.join(listed) or '1'} WHERE false"

    @staticmethod
    def _wide(type_: str) -> str:
        return "numeric" if type_.startswith("numeric") else type_

    def _amounts(self, each: Input, term: Term) -> Text:
        listed = [
            f"{sql_of(value)} AS {name}"
            for name, value in zip(self.node.key, each.key, strict=True)
        ]
        for column in self.values:
            amount = each.amounts.get(column.name)
            if amount is None:
                listed.append(f"0 AS {column.name}")
            elif sql_of(amount) == "1":
                listed.append(f"{term.weight} AS {column.name}")
            else:
                listed.append(f"{sql_of(enclosed(amount))} * {term.weight} AS {column.name}")
        return text(f"SELECT {', '.join(listed)}\n", term.source)

    def _concerned(self) -> Text:
        node = self.node
        listed = [self._stored_key(k) for k in node.key]
        listed += [f"s.ctid AS {PLACE}"]
        listed += [f"s.{c.name} AS old_{c.name}" for c in self.values]
        listed += [f"coalesce(s.{c.name}, 0) + x.{c.name} AS {c.name}" for c in self.values]
        on = matches(node, "s", "x") or "true"
        return text(
            f"SELECT {', '.join(listed)} FROM {self.x} AS x LEFT JOIN {self.stored} AS s ON {on}"
        )

    def _stored_key(self, name: str) -> str:
        """The key's column as the state has it, where it has the key: 2.5 and 2.50 are equal."""
        if is_identical(self.node.column(name).type):
            return f"x.{name}"
        return f"CASE WHEN s.ctid IS NULL THEN x.{name} ELSE s.{name} END AS {name}"

    def _images(self) -> Text:
        node = self.node
        used = self.images.used[node.name]
        keys = [k for k in node.key if k in used]
        values = [c.name for c in self.values if c.name in used]
        old = ", ".join([*keys, *(f"old_{v} AS {v}" for v in values), f"-1::bigint AS {M}"])
        new = ", ".join([*keys, *values, f"1::bigint AS {M}"])
        differs = " OR ".join(f"old_{v} IS DISTINCT FROM {v}" for v in values)
        if node.is_global:
            condition = f" WHERE {differs}" if differs else " WHERE false"
            changes = only_for("changes", condition)
            return text(
                f"SELECT {old} FROM {self.c}",
                changes,
                f"\nUNION ALL SELECT {new} FROM {self.c}",
                changes,
            )
        changed = f"{COUNT} = 0 OR old_{COUNT} IS NULL"
        changed = f"({changed} OR {differs})" if differs else f"({changed})"
        changes = only_for("changes", f" AND {changed}")
        return text(
            f"SELECT {old} FROM {self.c} WHERE old_{COUNT} IS NOT NULL",
            changes,
            f"\nUNION ALL SELECT {new} FROM {self.c} WHERE {COUNT} <> 0",
            changes,
        )

    def _apply_sums(self) -> list[Step]:
        node = self.node
        assigned = ", ".join(f"{c.name} = c.{c.name}" for c in self.values)
        names = ", ".join(c.name for c in node.columns)
        listed = ", ".join(f"c.{c.name}" for c in node.columns)
        alive = "" if node.is_global else f" AND c.{COUNT} <> 0"
        found = [
            self._step(
                f"tally_u_{node.name}",
                text(
                    f"UPDATE {node.state} AS s SET {assigned} FROM {self.c} AS c"
                    f" WHERE s.ctid = c.{PLACE}{alive}"
                ),
            ),
            self._step(
                f"tally_i_{node.name}",
                text(
                    f"INSERT INTO {node.state} ({names}) SELECT {listed} FROM {self.c} AS c"
                    f" WHERE c.{PLACE} IS NULL{alive}"
                ),
            ),
        ]
        if not node.is_global:
            found.append(
                self._step(
                    f"tally_e_{node.name}",
                    text(
                        f"DELETE FROM {node.state} AS s USING {self.c} AS c"
                        f" WHERE s.ctid = c.{PLACE} AND c.{COUNT} = 0"
                    ),
                )
            )
        return found

    # ---- groups computed anew

    def _touched(self) -> Text:
        node = self.node
        if not node.key:
            return text(
                "SELECT 1 AS touched FROM (\n", self._all_terms(only_keys=True), "\n) AS q LIMIT 1"
            )
        keys = ", ".join(f"CAST({k} AS {node.column(k).type}) AS {k}" for k in node.key)
        touched = self._all_terms(only_keys=True)
        return text(f"SELECT DISTINCT {keys} FROM (\n", touched, "\n) AS q", self.asked)

    def _changed_rows(self, each: Input, term: Term) -> Text:
        # What cancels among the terms is computed anew in vain, which is right all the same.
        listed = [
            f"{sql_of(value)} AS {name}"
            for name, value in zip(self.node.key, each.key, strict=True)
        ]
        return text(f"SELECT {', '.join(listed) or '1'}\n", term.source)

    def _recomputed(self) -> Text:
        node = self.node
        assert node.restricted is not None
        if not node.key:
            gate = text(f" WHERE EXISTS (SELECT 1 FROM {self.x})")
            return text(
                "SELECT * FROM (\n", self._reading(sql_of(node.restricted)), "\n) AS q", gate
            )
        nullable = [k for k in node.key if node.column(k).nullable]
        query = node.restricted
        keyed = _keys_of(query, node)
        plain = ", ".join(sql_of(keyed[k]) for k in node.key)
        none_null = " AND ".join(f"{KEYS}.{k} IS NOT NULL" for k in nullable)
        names = ", ".join(f"{KEYS}.{k}" for k in node.key)
        chosen = f" WHERE {none_null}" if nullable else ""
        condition = f"({plain}) IN (SELECT {names} FROM {self.x} AS {KEYS}{chosen})"
        if node.is_of_rows and len(node.key) == 1 and not nullable:
            # By the unique key, whatever the planner thinks of how many there are.
            condition = f"{plain} {self._is_touched(node.key[0])}"
        condition += self._holding(keyed, chosen)
        body = self._reading(self._within(_restricted(query, condition), plain=False))
        if not nullable:
            return body
        with_null = " OR ".join(f"{KEYS}.{k} IS NULL" for k in nullable)
        same = " AND ".join(
            f"({sql_of(enclosed(keyed[k]))} = {KEYS}.{k} OR ({sql_of(enclosed(keyed[k]))} IS NULL"
            f" AND {KEYS}.{k} IS NULL))"
            if k in nullable
            else f"{sql_of(enclosed(keyed[k]))} = {KEYS}.{k}"
            for k in node.key
        )
        unknown = (
            f"EXISTS (SELECT 1 FROM {self.x} AS {KEYS} WHERE ({with_null}) AND {same})"
            f" AND (SELECT EXISTS (SELECT 1 FROM {self.x} AS {KEYS} WHERE {with_null}))"
        )
        return text(
            "SELECT * FROM (\n",
            body,
            "\n) AS q\nUNION ALL\nSELECT * FROM (\n",
            self._reading(self._within(_restricted(query, unknown), plain=True)),
            "\n) AS q",
        )

    def _holding(self, keyed: Mapping[str, exp.Expr], chosen: str) -> str:
        """That an array, of which a key is an element, has one of the touched keys."""
        if len(self.node.inputs) != 1:
            return ""
        found = ""
        for key, expression in keyed.items():
            array = column_of_elements(self.node.inputs[0].product, expression)
            if array is not None and array[2] == f"{self.node.column(key).type}[]":
                column = sql_of(exp.column(array[1], array[0].alias, quoted=True))
                found += (
                    f" AND {column} && ARRAY(SELECT {KEYS}.{key} FROM {self.x} AS {KEYS}{chosen})"
                )
        return found

    def _reading(self, query: str) -> Text:
        """A query that reads nodes as they will be, by the names that it has for them."""
        found: list[str | Text] = [query]
        for placeholder, node in self.node.reads.items():
            inner = NodeSteps(node, self.images).as_it_will_be()
            parts: list[str | Text] = []
            for piece in found:
                if not isinstance(piece, str):
                    parts.append(piece)
                    continue
                split = piece.split(f"{placeholder} AS ")
                for place, each in enumerate(split):
                    if place:
                        parts += ["(", inner, ") AS "]
                    parts.append(each)
            found = parts
        return text(*found)

    def _stored_rows(self) -> Text:
        node = self.node
        listed = ", ".join(f"s.{c.name}" for c in node.columns)
        on = matches(node, "s", "x") or "true"
        return text(
            f"SELECT s.ctid AS {PLACE}, {listed} FROM {self.x} AS x JOIN {node.state} AS s ON {on}"
        )

    def _anew(self) -> Text:
        assert self.node.restricted is not None
        return self._reading(self._within(sql_of(self.node.restricted), plain=True))

    def _within(self, query: str, *, plain: bool) -> str:
        """The query with its marks as conditions on touched groups, or without them."""
        for mark, (column, key) in self.node.within.items():
            condition = "true" if plain else f"{column} {self._is_touched(key)}"
            query = re.sub(rf"\b{mark}\b", condition.replace("\\", r"\\"), query)
        return query

    def _is_touched(self, key: str) -> str:
        """The end of a condition: something is one of the touched groups' values of that column."""
        touched = f"(SELECT {KEYS}.{key} FROM {self.x} AS {KEYS})"
        # An array of arrays is one array of their elements.
        is_array = self.node.column(key).type.endswith("[]")
        return f"IN {touched}" if is_array else f"= ANY (ARRAY{touched})"

    def _all_stored(self) -> Text:
        listed = ", ".join(f"s.{c.name}" for c in self.node.columns)
        return text(f"SELECT s.ctid AS {PLACE}, {listed} FROM {self.node.state} AS s")

    def _replaced(self) -> Text:
        columns = [(c.name, c.type) for c in self.node.columns]
        names = ", ".join(n for n, _ in columns)
        return text(
            only_for("changes", f"SELECT {of_value(columns)}, sum({M})::bigint AS {M} FROM (\n"),
            f"SELECT {names}, -1::bigint AS {M} FROM {self.c}\n"
            f"UNION ALL SELECT {names}, 1 FROM {self.new}",
            only_for("changes", f"\n) AS q GROUP BY {by_value(columns)} HAVING sum({M}) <> 0"),
        )

    def _apply_rows(self) -> list[Step]:
        node = self.node
        columns = [(c.name, c.type) for c in node.columns]
        names = ", ".join(n for n, _ in columns)
        counted = ", ".join(f"c.{n}" for n, _ in columns)
        same = " AND ".join(
            " AND ".join(
                f"d.{n}{cast} IS NOT DISTINCT FROM c.{n}{cast}"
                for cast in ("", "::text")
                if (cast and not is_identical(t)) or (not cast and t not in INCOMPARABLE)
            )
            for n, t in columns
        )
        # Of equal rows as many are deleted as are too many.
        by = by_value(columns, "c.")
        return [
            self._step(
                f"tally_e_{node.name}",
                text(
                    f"DELETE FROM {node.state} AS s USING (SELECT c.{PLACE}, {counted},"
                    f" row_number() OVER (PARTITION BY {by}) AS place FROM {self.c} AS c) AS c,"
                    f" {self.d} AS d WHERE s.ctid = c.{PLACE} AND d.{M} < 0"
                    f" AND c.place <= -d.{M} AND {same}"
                ),
            ),
            self._step(
                f"tally_i_{node.name}",
                text(
                    f"INSERT INTO {node.state} ({names}) SELECT {names} FROM {self.d},"
                    f" generate_series(1, {M}) WHERE {M} > 0"
                ),
            ),
        ]


def matches(node: Node, left: str, right: str) -> str:
    """A condition: the same key on both sides, nulls being equal, by an index of the state."""
    nullable = [k for k in node.key if node.column(k).nullable]
    if not nullable:
        return " AND ".join(f"{left}.{k} = {right}.{k}" for k in node.key)
    same = " AND ".join(
        f"{left}.{k} IS NOT DISTINCT FROM {right}.{k}"
        if k in nullable
        else f"{left}.{k} = {right}.{k}"
        for k in node.key
    )
    return f"{hashed(node.key, left)} = {hashed(node.key, right)} AND {same}"


def hashed(key: Sequence[str], alias: str = "") -> str:
    """A number for a key with nulls, which an index can have."""
    prefix = f"{alias}." if alias else ""
    return f"hash_record_extended(ROW({', '.join(prefix + k for k in key)}), 0)"


def indexes_of(node: Node) -> list[str]:
    """What the state is looked up by, beyond its unique key."""
    found = []
    if any(node.column(k).nullable for k in node.key):
        found.append(hashed(node.key))
    elif node.key and node.strategy == "group":
        found.append(", ".join(node.key))
    return found


def _keys_of(query: exp.Query, node: Node) -> dict[str, exp.Expr]:
    return {s.alias_or_name: s.unalias() for s in query.selects if s.alias_or_name in node.key}


def _restricted(query: exp.Query, condition: str) -> str:
    """The query with a condition more, given as SQL."""
    copy = query.copy()
    assert isinstance(copy, exp.Select)
    marker = exp.column("tally_restriction")
    copy.where(marker, copy=False)
    return sql_of(copy).replace("tally_restriction", condition)

"""From a definition view to a plan (`plan.py`)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy import Connection
from sqlalchemy import text as statement_text
from sqlalchemy.exc import DBAPIError
from sqlglot import exp

from tallykeeper.database import sql
from tallykeeper.select.algebra import uniqueness
from tallykeeper.select.algebra.expressions import sql_of, stripped
from tallykeeper.select.algebra.relations import (
    Arm,
    Bag,
    Input,
    Leaf,
    Node,
    NotLinear,
    Product,
    columns_used,
)
from tallykeeper.select.algebra.translation import Translation
from tallykeeper.select.plan import (
    MARKED,
    AskedSource,
    CapturedColumn,
    CapturedSource,
    Column,
    Lookup,
    Plan,
    statement,
)
from tallykeeper.select.plan import Node as PlannedNode
from tallykeeper.select.resolve import Resolved, Source
from tallykeeper.select.statements import derived, marked_keys
from tallykeeper.select.statements.asked import Places, asked, logged_as
from tallykeeper.select.statements.containment import column_of_elements
from tallykeeper.select.statements.row_conditions import condition_of
from tallykeeper.select.statements.steps import (
    NodeSteps,
    indexes_of,
    pending_step,
)
from tallykeeper.select.statements.terms import Images, lookup_order
from tallykeeper.select.statements.windows import windowed
from tallykeeper.select.summed import summed
from tallykeeper.select.syntax.gate import understood


def compile(  # noqa: A001
    connection: Connection, tally: SelectTally, view: str | None = None
) -> Plan:
    """Compile the SELECT of a tally, whose definition view is there, or another `view` of it."""
    stem = f"{tally.system}_{tally.table.name}"
    return compile_select(
        connection,
        view or tally.definition_name,
        log=tally.log_name,
        derived=sql.name_of(tally.table),
        state_of=lambda node: sql.in_engine_schema(f"{stem}_{node}"),
        key=tally.given_key,
        sums=True,
        marks=tally.marks,
    )


def compile_select(
    connection: Connection,
    view: str,
    *,
    log: str,
    derived: str,
    state_of: Callable[[str], str],
    key: Sequence[str] | None = None,
    sums: bool = False,
    marks: Sequence[str] | None = (),
) -> Plan:
    """Compile the SELECT of a definition view.

    `view`, `log` (the change log) and `derived` (the derived table) are names as SQL writes them;
    `state_of` makes the name of a node's state from the node's. `key` names columns that make a
    row unique where the SELECT does not show any. With `sums` a tally of counts and sums over
    single rows is planned as such (`Plan.summed`). `marks` are columns of the key by which the log
    is to name keys; None: those of the key, where no image of a source names the whole of it.
    """
    resolved, obstacle = understood(connection, view)
    compiler = _Compiler(connection, resolved, log, derived, state_of, key)
    compiler.sums, compiler.marks = sums, marks
    plan = compiler.plan(obstacle)
    return plan if obstacle is not None else replace(plan, windowed=windowed(resolved.parsed))


if TYPE_CHECKING:
    from tallykeeper.select.tally import SelectTally


# A statement of more characters takes longer to be planned than the SELECT to be run.
LONGEST = 200_000


def _is_whole(node: Node) -> bool:
    """Whether the node is computed anew, from nothing but sources and such nodes."""
    return node.strategy == "whole" and all(map(_is_whole, node.reads.values()))


def _nodes_in(products: Iterable[Product]) -> Iterator[Node]:
    for product in products:
        for leaf in product.leaves:
            if isinstance(leaf.relation, Node):
                yield leaf.relation


class _Compiler:
    def __init__(
        self,
        connection: Connection,
        resolved: Resolved,
        log: str,
        derived: str,
        state_of: Callable[[str], str],
        key: Sequence[str] | None,
    ) -> None:
        self.connection = connection
        self.resolved = resolved
        self.log = log
        self.derived = derived
        self.sums = False
        self.marks: Sequence[str] | None = ()
        self.wanted_key = tuple(key) if key is not None else None
        aggregates = set(
            connection.execute(
                statement_text("SELECT DISTINCT proname FROM pg_proc WHERE prokind = 'a'")
            ).scalars()
        )

        def is_aggregate(node: exp.Expr) -> bool:
            if isinstance(node, exp.AggFunc):
                return True
            return isinstance(node, exp.Anonymous) and str(node.this).lower() in aggregates

        self.translation = Translation(resolved.sources, self._describe, is_aggregate, state_of)

    def _describe(self, query: exp.Query) -> list[str]:
        """The types of a query's columns, as SQL writes them."""
        return describe(self.connection, sql_of(query))

    def plan(self, obstacle: str | None = None) -> Plan:
        """The plan; `obstacle` says why the SELECT cannot be followed, where it cannot."""
        tree = self.resolved.tree
        columns = tuple(Column(c.name, c.type) for c in self.resolved.columns)
        if obstacle is not None:
            return self._whole(columns, obstacle)
        try:
            bag = self.translation.query(tree)
        except NotLinear as error:
            return self._whole(columns, str(error))
        single = bag.single
        if (
            single is not None
            and len(single.product.leaves) == 1
            and isinstance(single.product.leaves[0].relation, Node)
            and _is_whole(single.product.leaves[0].relation)
        ):
            # Nothing of it follows from changes, so that states would be kept in vain.
            return self._whole(columns, single.product.leaves[0].relation.reason)
        return self._incremental(columns, bag)

    def _whole(self, columns: tuple[Column, ...], reason: str) -> Plan:
        captured = tuple(
            self._captured(number, source, self._used_of(source))
            for number, source in enumerate(self.resolved.sources.values(), 1)
        )
        names = [c.name for c in columns]
        key = self.wanted_key
        return Plan(
            columns=columns,
            key=key or tuple(names),
            is_bag=key is None,
            strategy="whole",
            captured=captured,
            reasons=(reason,),
        )

    def _used_of(self, source: Source, readers: Sequence[Arm | Input] = ()) -> list[str]:
        """The columns of a source that the SELECT, or what it is translated to, depends on."""
        aliases = {
            t.alias_or_name
            for t in self.resolved.tree.find_all(exp.Table)
            if (t.db, t.name) == (source.schema, source.name)
        }
        used = {c.name for c in self.resolved.tree.find_all(exp.Column) if c.table in aliases}
        for each in readers:
            own = {f.alias for f in each.product.leaves if f.relation is source}
            used |= {c.name for c in columns_used([each]) if c.table in own}
        return [c.name for c in source.columns if c.name in used]

    def _incremental(self, columns: tuple[Column, ...], bag: Bag) -> Plan:
        numbers = {s.oid: n for n, s in enumerate(self.resolved.sources.values(), 1)}
        sums = summed(bag, columns, numbers) if self.sums else None
        if sums is not None and set(self.wanted_key or sums.key) == set(sums.key):
            return Plan(
                columns=self._with_nulls(columns, bag),
                key=sums.key,
                is_bag=False,
                strategy="delta",
                captured=tuple(
                    self._captured(numbers[source.oid], source, self._used_of(source))
                    for source in self.resolved.sources.values()
                ),
                summed=sums,
            )
        nodes = self._needed(bag)
        key = self.wanted_key or self._key(bag)
        self._mark_used(bag, nodes)
        readers: list[Arm | Input] = [*bag.arms, *(i for n in nodes for i in n.inputs)]
        by_oid = {s.oid: self._used_of(s, readers) for s in self.resolved.sources.values()}
        images = Images(
            numbers,
            by_oid,
            {n.name: [c.name for c in n.columns if c.name in n.used] for n in nodes},
            self._node_parts(nodes, numbers),
            asked(bag, columns, key, nodes, numbers),
        )
        # What is computed anew as a whole reads sources that are in no product.
        read_whole = {
            source.oid
            for node in nodes
            if node.strategy == "whole"
            for source in self._read_by(node.restricted or node.build)
        }
        captured = [
            self._captured(
                numbers[source.oid],
                source,
                by_oid[source.oid],
                None
                if source.oid in read_whole
                else condition_of(source, [each.product for each in readers], self._is_computed),
            )
            for source in self.resolved.sources.values()
        ]
        places = {each.part: logged_as(each, images.asked) for each in captured}
        columns = self._with_nulls(columns, bag)
        last = derived.unstored(bag, columns, key, nodes)
        marked = self._marked(columns, key or (), places)
        if marked and nodes == ([] if last is None else [last.node]):
            found = marked_keys.owned(bag, last, marked, columns)
            if found:
                return self._by_marks(found, marked, columns, key or (), captured, images)
        steps = [pending_step(each, self.log, places[each.part]) for each in captured]
        planned = []
        for node in nodes:
            if last is not None and node is last.node:
                continue
            made = NodeSteps(node, images)
            steps += made.steps()
            planned.append(
                PlannedNode(
                    name=node.name,
                    state=node.state,
                    strategy=node.strategy,
                    reason=node.reason,
                    columns=node.columns,
                    key=node.key,
                    build=sql_of(node.build) if node.build is not None else "",
                    apply=tuple(made.apply()),
                    parts=images.node_parts[node.name],
                    unique=node.strategy == "delta",
                    rebuild=made.rebuild(),
                    indexes=tuple(indexes_of(node)),
                )
            )
        # Of the node whose state is the derived table itself nothing else is planned.
        last_reason = [last.node.reason] if last is not None else []
        from_states = ""
        if last is not None:
            made = NodeSteps(last.node, images, derived.stored_columns(last, self.derived))
            more = made.unstored_steps()
            changes = derived.last_changes(last, columns, made, self.derived)
        else:
            more, changes = derived.changes(bag, columns, images, key, self.derived)
            from_states = derived.from_states(bag, columns)
        strategies = {n.strategy for n in nodes}
        strategy = (
            "whole" if "whole" in strategies else "group" if "group" in strategies else "delta"
        )
        made_plan = Plan(
            columns=columns,
            key=key if key is not None else tuple(c.name for c in columns),
            is_bag=key is None,
            strategy=strategy,  # type: ignore[arg-type]
            captured=tuple(captured),
            nodes=tuple(planned),
            steps=(*steps, *more),
            changes=changes,
            reasons=tuple(dict.fromkeys([*self.translation.reasons, *last_reason])),
            lookups=self._lookups(bag, nodes, numbers, images),
            from_states=from_states,
            losses=derived.losses(bag, columns, images, key),
            asked=tuple(
                AskedSource(part, tuple(found), tuple(found.values()))
                for part, found in places.items()
                if _can_be_asked(key, columns)
            ),
        )
        if len(statement(made_plan, numbers.values())) > LONGEST:
            return self._whole(columns, "its statements would be too long to be planned")
        return made_plan

    def _marked(
        self, columns: Sequence[Column], key: Sequence[str], places: Mapping[int, Places]
    ) -> tuple[str, ...]:
        """The columns by which the log is to name keys; a null names none."""
        wanted = self.marks
        if wanted is None:
            is_named = any(len(set(each.values())) == len(key) for each in places.values())
            wanted = () if is_named else key
        nullable = {column.name for column in columns if column.nullable}
        if not _can_be_asked(key, columns) or not set(wanted) <= set(key) - nullable:
            return ()
        return tuple(wanted)

    def _by_marks(
        self,
        found: Sequence[marked_keys.Owned],
        marks: tuple[str, ...],
        columns: tuple[Column, ...],
        key: tuple[str, ...],
        captured: Sequence[CapturedSource],
        images: Images,
    ) -> Plan:
        """The plan of a SELECT whose rows are made of one row of a source each."""
        owners = marked_keys.owner_sources(found, images)
        others = [c for c in captured if c.part not in {owner.part for owner in owners}]
        of_marks = [next(c for c in columns if c.name == name) for name in marks]
        named = tuple(sql.quote(marked_keys.log_name(name)) for name in marks)
        at = tuple(key.index(name) for name in marks)
        query = sql_of(self.resolved.tree)
        return Plan(
            columns=columns,
            key=key,
            is_bag=False,
            strategy="group",
            captured=tuple(captured),
            steps=(
                *(marked_keys.images_step(each, self.log) for each in others),
                *marked_keys.steps(found, images, of_marks, columns, key, self.log, query),
            ),
            changes=marked_keys.changes(marks, columns),
            reasons=("each row with the row of a source that it is made of",),
            lookups=self._lookups_by_marks(found, images),
            losses=marked_keys.losses(marks, columns, key, marked_keys.all_parts(images)),
            asked=(
                *(AskedSource(part, named, at) for part in (MARKED, *(o.part for o in owners))),
                *(AskedSource(each.part, (), ()) for each in others),
            ),
            marks=marks,
            owners=owners,
        )

    def _lookups_by_marks(
        self, found: Sequence[marked_keys.Owned], images: Images
    ) -> tuple[Lookup, ...]:
        lookups = _Lookups()
        for each in found:
            for driver in each.others():
                for leaf, names, held in lookup_order(each.product, driver):
                    lookups.add(leaf, names, held, images.parts(driver.relation))
            given: dict[str, set[str]] = {}
            for column in (c for k in each.keys for c in k.find_all(exp.Column)):
                given.setdefault(column.table, set()).add(column.name)
            for leaf, names, held in lookup_order(each.product, None, given):
                lookups.add(leaf, names, held, images.numbers.values())
        return lookups.all()

    def _lookups(
        self, bag: Bag, nodes: Sequence[Node], numbers: Mapping[int, int], images: Images
    ) -> tuple[Lookup, ...]:
        """By which columns rows of sources are found while changes are applied."""
        lookups = _Lookups()
        add = lookups.add
        joined = [arm.product for arm in bag.arms]
        joined += [i.product for node in nodes if node.strategy != "whole" for i in node.inputs]
        for product in joined:
            for driver in product.leaves:
                for leaf, names, held in lookup_order(product, driver):
                    add(leaf, names, held, images.parts(driver.relation))
        for node in nodes:
            for each in node.inputs if node.strategy == "group" else ():
                given: dict[str, set[str]] = {}
                arrays = [column_of_elements(each.product, k) for k in each.key]
                holding = {a[0].alias: {a[1]} for a in arrays if a is not None}
                for column in (c for c in map(stripped, each.key) if isinstance(c, exp.Column)):
                    given.setdefault(column.table, set()).add(column.name)
                for leaf, names, held in lookup_order(each.product, None, given):
                    more = holding.get(leaf.alias, set())
                    add(leaf, names, held | more, images.node_parts[node.name])
        return lookups.all()

    def _with_nulls(self, columns: tuple[Column, ...], bag: Bag) -> tuple[Column, ...]:
        """The columns, with whether they may be null."""
        arms = [a for a in bag.arms if a.product.sign > 0]
        return tuple(
            replace(
                column,
                nullable=not all(uniqueness.is_not_null(a.product, a.outputs[place]) for a in arms),
            )
            for place, column in enumerate(columns)
        )

    def _is_computed(self, constant: exp.Expr) -> bool:
        """Whether an expression without columns has a value, and is no error."""
        try:
            with self.connection.begin_nested():
                sql.execute(self.connection, f"SELECT {sql_of(constant)}")
        except DBAPIError:
            return False
        return True

    def _captured(
        self, number: int, source: Source, names: Sequence[str], condition: str | None = None
    ) -> CapturedSource:
        columns = []
        for name in names:
            column = next(c for c in source.columns if c.name == name)
            log_name = sql.shortened(f"{number}.{name}")
            columns.append(CapturedColumn(name, column.type, log_name, not column.has_equality))
        return CapturedSource(number, source.schema, source.name, tuple(columns), condition)

    # ---- which nodes there are, and what is read of them

    def _needed(self, bag: Bag) -> list[Node]:
        """The nodes that the result depends on, each after those that it reads."""
        found: dict[str, Node] = {}

        def add(node: Node) -> None:
            if node.name in found:
                return
            for each in node.inputs:
                leaves(each.product)
            for read in node.reads.values():
                add(read)
            found[node.name] = node

        def leaves(product: Product) -> None:
            for leaf in product.leaves:
                if isinstance(leaf.relation, Node):
                    add(leaf.relation)

        for arm in bag.arms:
            leaves(arm.product)
        return list(found.values())

    def _mark_used(self, bag: Bag, nodes: Sequence[Node]) -> None:
        for node in nodes:
            node.used = set()
        readers: list[Arm | Input] = [*bag.arms, *(i for n in nodes for i in n.inputs)]
        for each in readers:
            relations = {f.alias: f.relation for f in each.product.leaves}
            for column in columns_used([each]):
                relation = relations.get(column.table)
                if isinstance(relation, Node):
                    relation.used.add(column.name)
        for node in nodes:
            if node.strategy in ("whole", "group"):
                node.used |= {c.name for c in node.columns}
            if node.is_of_rows:
                # Its inputs say which keys are concerned, not what is read of them.
                for read in _nodes_in([each.product for each in node.inputs]):
                    read.used |= {c.name for c in read.columns}

    def _node_parts(
        self, nodes: Sequence[Node], numbers: dict[int, int]
    ) -> dict[str, frozenset[int]]:
        parts: dict[str, frozenset[int]] = {}
        for node in nodes:
            found: set[int] = set()
            for each in node.inputs:
                for leaf in each.product.leaves:
                    if isinstance(leaf.relation, Node):
                        found |= parts[leaf.relation.name]
                    else:
                        found.add(numbers[leaf.relation.oid])
            if node.strategy != "delta" and node.build is not None:
                found |= {numbers[source.oid] for source in self._read_by(node.build)}
            parts[node.name] = frozenset(found)
        return parts

    def _read_by(self, query: exp.Query | None) -> Iterator[Source]:
        """The sources that a query reads itself."""
        for table in query.find_all(exp.Table) if query is not None else ():
            source = self.resolved.sources.get((table.db, table.name))
            if source is not None:
                yield source

    # ---- the derived table

    def _key(self, bag: Bag) -> tuple[str, ...] | None:
        """The columns that make a row of the result unique; None: there may be equal rows."""
        places = uniqueness.key_places(bag.arms)
        if places is not None and not bag.is_one:
            place = uniqueness.distinguishing_place(bag.arms)
            places = sorted({place, *places}) if place is not None else None
        if places is None:
            return None
        return tuple(bag.names[i] for i in places)


class _Lookups:
    """By which columns rows of sources are found, and for whose changes."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str, tuple[str, ...], bool], set[int]] = {}

    def add(self, leaf: Leaf, names: set[str], held: set[str], parts: Collection[int]) -> None:
        source = leaf.relation
        if isinstance(source, Source):
            is_held = bool(held) and not names
            names = names or held
            # Those that tell most rows apart first, as an index has them best.
            columns = sorted(names, key=lambda n: (-source.distinct.get(n, 0), n))
            key = source.schema, source.name, tuple(columns), is_held
            self.found.setdefault(key, set()).update(parts)

    def all(self) -> tuple[Lookup, ...]:
        return tuple(
            Lookup(schema, table, columns, frozenset(parts), is_held)
            for (schema, table, columns, is_held), parts in self.found.items()
        )


def _can_be_asked(key: Sequence[str] | None, columns: Sequence[Column]) -> bool:
    """Whether single keys can be asked for, by an array of the values of each column."""
    types = {column.name: column.type for column in columns}
    names = [name for name in key or () if name in types]
    return bool(names) and not any(types[name].endswith("[]") for name in names)


def describe(connection: Connection, query: str) -> list[str]:
    """The types of a query's columns, as SQL writes them; nothing is run."""
    asked = sql.execute(connection, f"SELECT * FROM ({query}) AS q LIMIT 0")
    description = asked.cursor.description if asked.cursor is not None else []
    listed = [(c[1], getattr(c, "_fmod", -1)) for c in description or []]
    asked.close()
    if not listed:
        return []
    found = connection.exec_driver_sql(
        "SELECT format_type(o, m) FROM unnest(%s::oid[], %s::int4[])"
        " WITH ORDINALITY AS t (o, m, n) ORDER BY n",
        ([o for o, _ in listed], [m for _, m in listed]),
    )
    return list(found.scalars())

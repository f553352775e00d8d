"""Capture: the triggers that record, in the writer's own transaction, what a change may alter.

One function per source table and event, for all tallies over that source, called by triggers on
the source, its partitions and the tables that it is a partition of. A trigger never looks at
another table (see `recomputed.py` for why).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import ClassVar

from sqlalchemy import Connection, Table, text

from tallykeeper.capture import trigger_bodies
from tallykeeper.capture.trigger_names import function_name, suffix_of
from tallykeeper.catalog import identities
from tallykeeper.catalog.state import captured_relations
from tallykeeper.database import sql
from tallykeeper.declarations.tally import Event, Tally

EVENTS: tuple[Event, ...] = ("insert", "update", "delete")
TRUNCATE = "truncate"
TRANSITIONS = {
    "insert": "REFERENCING NEW TABLE AS new_rows ",
    "update": "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows ",
    "delete": "REFERENCING OLD TABLE AS old_rows ",
    TRUNCATE: "",
}
# Fires also under session_replication_role = replica, which some loaders set.
ENABLED_ALWAYS = "A"
BY_SUBSCRIPTION = "is filled by a subscription, which fires no trigger"
IS_FOREIGN = "is a foreign table, in which no trigger sees every change"
QUALIFIED = "quote_ident(n.nspname) || '.' || quote_ident(c.relname)"


@dataclass(frozen=True)
class Fault:
    """One thing wrong with the capture of a source."""

    source: str
    relation: str
    what: str
    # An upgrade replaces functions by itself; a trigger that was off is never explained by one.
    of_function_text: bool = False
    # Installing capture anew does not help against it.
    lasting: bool = False
    # Hand edits of the derived table may go unnoticed, but no change of a source slips by.
    of_hand: bool = False

    def __str__(self) -> str:
        return f"{self.relation}: {self.what}"


@dataclass(frozen=True)
class Hook:
    """One trigger that should exist, and the function that it calls."""

    relation: str
    event: str
    trigger: str
    function: str
    # Writes the function's body, for many ask for the names alone.
    write_body: Callable[[], str]
    # Whether it only notes what is done to the derived table by hand.
    of_hand: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.event

    @property
    def body(self) -> str:
        """The function's body."""
        return self.write_body()

    def create_function(self) -> str:
        """CREATE FUNCTION; several hooks may share one."""
        return sql.create_function(
            self.function, "trigger", self.body, settings={"timezone": "'UTC'"}
        )

    def create_trigger(self) -> list[str]:
        """Statements that put the trigger on the relation."""
        create = (
            f"CREATE OR REPLACE TRIGGER {self.trigger} AFTER {self.event.upper()}"
            f" ON {self.relation} {TRANSITIONS[self.event]}"
            f"FOR EACH STATEMENT EXECUTE FUNCTION {self.function}()"
        )
        return [create, f"ALTER TABLE ONLY {self.relation} ENABLE ALWAYS TRIGGER {self.trigger}"]


class MergeGuard(Hook):
    """A trigger that never runs, but makes MERGE into partitions report what it did.

    After an INSERT that it routed to a partition, a MERGE shows that row again as the new row of
    each UPDATE that follows (seen on PostgreSQL 15.18, 16.14 and 18.4). Where a partition has a
    BEFORE INSERT row trigger it does not. The trigger at the root of the partitions is on them
    all, later ones too. It costs a COPY into partitions the insertion in batches: 0.4 us a row.
    """

    def create_function(self) -> str:
        return sql.create_function(self.function, "trigger", self.body)

    def create_trigger(self) -> list[str]:
        create = (
            f"CREATE OR REPLACE TRIGGER {self.trigger} BEFORE INSERT ON {self.relation}"
            f" FOR EACH ROW WHEN (false) EXECUTE FUNCTION {self.function}()"
        )
        return [create, f"ALTER TABLE ONLY {self.relation} ENABLE ALWAYS TRIGGER {self.trigger}"]


def hooks(connection: Connection, source: Table, tallies: Sequence[Tally]) -> list[Hook]:
    """All triggers that `source` needs in this database.

    On the source and its partitions or heirs, because a statement fires the triggers of the table
    that it names and of no other. Where the source is itself a partition, on the tables above it
    too: those see rows of all partitions, and keep the ones that belong to the source.
    """
    unseen = foreign(connection, source)
    end = suffix_of(connection, source, tallies)
    # All partitions call the same functions.
    writers = {event: _writer(source, event, tallies) for event in (*EVENTS, TRUNCATE)}
    wanted = [
        Hook(
            relation=relation,
            event=event,
            trigger=f"tallykeeper_{event}{end}",
            function=function_name(source, event, suffix=end),
            write_body=write_body,
        )
        for relation in relations_below(connection, source)
        if relation not in unseen
        for event, write_body in writers.items()
    ]
    for relation, belongs in _relations_above(connection, source):
        # A TRUNCATE of a parent fires the partitions' own triggers.
        for event in EVENTS:
            whose = f"{source.schema or 'public'}_{source.name}{end}"
            wanted.append(
                Hook(
                    relation=relation,
                    event=event,
                    trigger=sql.quote(sql.shortened(f"tallykeeper_{event}_{whose}")),
                    function=function_name(source, event, through=relation, suffix=end),
                    write_body=_writer(source, event, tallies, belongs),
                )
            )
    root = _root_of_partitions(connection, source)
    if root is not None:
        wanted.append(
            MergeGuard(
                relation=root,
                event="merge",
                trigger="tallykeeper_merge",
                function=sql.in_engine_schema("guard_merge"),
                write_body=lambda: "BEGIN\n  RETURN NEW;\nEND",
            )
        )
    return wanted


def _writer(
    source: Table, event: str, tallies: Sequence[Tally], belongs: str | None = None
) -> Callable[[], str]:
    return cache(partial(trigger_bodies.function_body, source, event, tallies, belongs))


def is_guarded(connection: Connection, hook: Hook) -> bool:
    """Whether it is the guard of merges, and is on all partitions as it should be."""
    if not isinstance(hook, MergeGuard):
        return False
    found = connection.scalar(
        text(
            "SELECT bool_and(t.tgfoid = to_regproc(:function) AND t.tgenabled <> 'D'"
            " AND (p.level > 0 OR t.tgenabled = 'A') AND pg_get_triggerdef(t.oid)"
            "  LIKE '% BEFORE INSERT ON % FOR EACH ROW WHEN (false) EXECUTE %') AND"
            " count(*) = count(t.oid) FROM pg_partition_tree(to_regclass(:relation)) AS p"
            " LEFT JOIN pg_trigger AS t ON t.tgrelid = p.relid AND t.tgname = :trigger"
        ),
        {"function": hook.function, "relation": hook.relation, "trigger": hook.trigger},
    )
    return bool(found)


def faults(connection: Connection, source: Table, tallies: Sequence[Tally]) -> list[Fault]:
    """What is wrong with the capture of `source` for `tallies`: nothing, if all is intact."""
    wanted = hooks(connection, source, tallies)
    found = hook_faults(connection, source, wanted) or _replaced(connection, source, wanted)
    unseen = dict.fromkeys(subscribed(connection, source), BY_SUBSCRIPTION)
    unseen |= dict.fromkeys(foreign(connection, source), IS_FOREIGN)
    found += [
        Fault(sql.name_of(source), relation, what, lasting=True)
        for relation, what in unseen.items()
    ]
    return found + [
        Fault(
            sql.name_of(source),
            relation,
            "was captured with the source, but does not belong to it any more",
        )
        for relation in left_behind(connection, source, wanted)
    ]


def _replaced(connection: Connection, source: Table, wanted: Sequence[Hook]) -> list[Fault]:
    relations = [hook.relation for hook in wanted]
    return [
        Fault(
            sql.name_of(source),
            relation,
            "is another table than the one that was captured, as after dropping and restoring it",
        )
        for relation in identities.replaced(connection, relations)
    ]


def subscribed(connection: Connection, source: Table) -> list[str]:
    """Relations of the source that logical replication writes.

    It does so row by row, for which no trigger of a statement fires, but for the first copy.
    """
    rows = connection.execute(
        text(
            f"SELECT {QUALIFIED} FROM pg_subscription_rel AS s JOIN pg_class c ON c.oid = s.srrelid"
            " JOIN pg_namespace n ON n.oid = c.relnamespace ORDER BY 1"
        )
    )
    present = {row[0] for row in rows}
    return [relation for relation in relations_below(connection, source) if relation in present]


def foreign(connection: Connection, source: Table) -> list[str]:
    """Foreign tables among the source's partitions and heirs.

    What changes in them changes on another server, or by it; no trigger here sees that.
    """
    rows = connection.execute(
        text(
            f"SELECT {QUALIFIED} FROM pg_class AS c"
            " JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.relkind = 'f' ORDER BY 1"
        )
    )
    present = {row[0] for row in rows}
    if not present:
        return []
    return [relation for relation in relations_below(connection, source) if relation in present]


def left_behind(connection: Connection, source: Table, wanted: Sequence[Hook]) -> list[str]:
    """Relations that carried the source's capture and should not: detached or dropped ones."""
    recorded = connection.scalars(
        captured_relations.select()
        .with_only_columns(captured_relations.c.relation)
        .where(captured_relations.c.source == sql.name_of(source))
        .order_by(captured_relations.c.relation)
    )
    present = {hook.relation for hook in wanted}
    recorded_only = [relation for relation in recorded if relation not in present]
    return list(dict.fromkeys([*recorded_only, *carriers(connection, wanted)]))


def carriers(connection: Connection, wanted: Sequence[Hook]) -> list[str]:
    """Relations that call the functions of `wanted` and are none of its: renamed ones, or copies.

    What they were renamed from is captured by name, so that they would write into its log.
    """
    functions = [hook.function for hook in wanted if not isinstance(hook, MergeGuard)]
    rows = connection.execute(
        text(
            f"SELECT DISTINCT {QUALIFIED} FROM pg_trigger AS t"
            " JOIN pg_class AS c ON c.oid = t.tgrelid"
            " JOIN pg_namespace AS n ON n.oid = c.relnamespace"
            " WHERE NOT t.tgisinternal AND c.relpersistence <> 't' AND t.tgfoid IN"
            " (SELECT to_regproc(f) FROM unnest(CAST(:functions AS text[])) AS f)"
            " AND t.tgrelid NOT IN (SELECT oid FROM unnest(CAST(:relations AS text[])) AS r,"
            " to_regclass(r) AS oid WHERE oid IS NOT NULL) ORDER BY 1"
        ),
        {"functions": functions, "relations": [hook.relation for hook in wanted]},
    )
    return [row[0] for row in rows]


def drop_triggers(
    connection: Connection, source: Table, tallies: Sequence[Tally], relation: str
) -> None:
    """Remove the source's capture for `tallies` from a relation that is no part of it any more."""
    end = suffix_of(connection, source, tallies)
    functions = [function_name(source, event, suffix=end) for event in (*EVENTS, TRUNCATE)]
    functions += [function_name(source, e, through=relation, suffix=end) for e in EVENTS]
    drop_calling(connection, relation, functions)


def drop_calling(connection: Connection, relation: str, functions: Sequence[str]) -> None:
    """Remove the relation's triggers that call one of the functions."""
    rows = connection.execute(
        text(
            "SELECT quote_ident(tgname) FROM pg_trigger WHERE tgrelid = to_regclass(:relation)"
            " AND tgfoid IN (SELECT to_regproc(f) FROM unnest(CAST(:functions AS text[])) AS f)"
        ),
        {"relation": relation, "functions": list(functions)},
    )
    for (trigger,) in rows.all():
        sql.execute(connection, f"DROP TRIGGER {trigger} ON {relation}")


def relations_below(connection: Connection, source: Table) -> list[str]:
    """The source, its partitions and heirs."""
    rows = connection.execute(
        text(
            "WITH RECURSIVE tree AS ("
            " SELECT CAST(:source AS regclass)::oid AS relation"
            " UNION SELECT i.inhrelid FROM pg_inherits i JOIN tree ON i.inhparent = tree.relation)"
            f" SELECT {QUALIFIED} FROM tree JOIN pg_class c ON c.oid = tree.relation"
            " JOIN pg_namespace n ON n.oid = c.relnamespace ORDER BY c.oid"
        ),
        {"source": sql.name_of(source)},
    )
    return [row[0] for row in rows]


def _relations_above(connection: Connection, source: Table) -> list[tuple[str, str]]:
    """The partitioned tables that the source is a partition of, with what its rows fulfil."""
    # What is in the search path is written without its schema, which the function would not find.
    path = connection.scalar(text("SELECT current_setting('search_path')"))
    connection.execute(text("SELECT set_config('search_path', 'pg_catalog', true)"))
    rows = connection.execute(
        text(
            f"SELECT {QUALIFIED}, pg_get_partition_constraintdef(CAST(:source AS regclass))"
            " FROM pg_partition_ancestors(CAST(:source AS regclass)) AS a (relation)"
            " JOIN pg_class c ON c.oid = a.relation"
            " JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE a.relation <> CAST(:source AS regclass) ORDER BY c.oid"
        ),
        {"source": sql.name_of(source)},
    ).all()
    connection.execute(text("SELECT set_config('search_path', :path, true)"), {"path": path})
    return [(row[0], row[1] or "true") for row in rows]


def _root_of_partitions(connection: Connection, source: Table) -> str | None:
    """The uppermost table of the partitions that the source has, or is one of."""
    root: str | None = connection.scalar(
        text(
            f"SELECT {QUALIFIED} FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.oid = pg_partition_root(CAST(:source AS regclass))"
        ),
        {"source": sql.name_of(source)},
    )
    return root


def hook_faults(connection: Connection, source: Table, wanted: Sequence[Hook]) -> list[Fault]:
    """What is wrong with these triggers, which hang on `source` or beside it."""
    found = _function_faults(connection, source, wanted)
    for hook in wanted:
        what = _trigger_fault(connection, hook)
        if what is not None:
            found.append(Fault(sql.name_of(source), hook.relation, what, of_hand=hook.of_hand))
    return found


def _function_faults(connection: Connection, source: Table, wanted: Sequence[Hook]) -> list[Fault]:
    found = []
    for function, hook in {hook.function: hook for hook in wanted}.items():
        row = connection.execute(
            text("SELECT prosrc, prosecdef FROM pg_proc WHERE oid = to_regproc(:function)"),
            {"function": function},
        ).one_or_none()
        if row is None:
            what, of_text = "the capture function is missing", False
        elif row.prosrc.strip() != hook.body.strip():
            what, of_text = "the capture function is not the one that the declarations make", True
        elif not row.prosecdef:
            what, of_text = "the capture function lost SECURITY DEFINER", False
        else:
            continue
        by_hand = hook.of_hand
        found.append(Fault(sql.name_of(source), function, what, of_text, of_hand=by_hand))
    return found


def _trigger_fault(connection: Connection, hook: Hook) -> str | None:
    row = connection.execute(
        text(
            "SELECT tgenabled, tgfoid = to_regproc(:function) AS calls_ours FROM pg_trigger"
            " WHERE tgrelid = to_regclass(:relation) AND quote_ident(tgname) = :trigger"
        ),
        {"relation": hook.relation, "trigger": hook.trigger, "function": hook.function},
    ).one_or_none()
    if row is None:
        return f"the {hook.name} trigger is missing"
    if row.tgenabled not in {ENABLED_ALWAYS, ENABLED_ALWAYS.encode()}:
        return f"the {hook.name} trigger is disabled, or not enabled always"
    if not row.calls_ours:
        return f"the {hook.name} trigger calls another function"
    return None

"""Capture: the triggers that record, in the writer's own transaction, what a change may alter.

One function per source table and event, for all tallies over that source; a trigger that calls it
on the source and on every partition, because a write that names a partition fires only that
partition's triggers. A trigger never looks at another table (see `recomputed.py` for why), and
never fails a write that the source itself accepts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Table, text

from tallies import sql
from tallies.state import captured_relations, stale_marks
from tallies.tally import Event, Tally

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


@dataclass(frozen=True)
class Fault:
    """One thing wrong with the capture of a source."""

    source: str
    relation: str
    what: str
    # An upgrade replaces functions by itself; a trigger that was off is never explained by one.
    of_function_text: bool = False

    def __str__(self) -> str:
        return f"{self.relation}: {self.what}"


def function_name(source: Table, event: str) -> str:
    """The qualified name of the trigger function of one source and event."""
    plain = f"capture_{source.schema or 'public'}_{source.name}_{event}"
    if len(plain.encode()) > sql.MAX_IDENTIFIER_BYTES:
        digest = hashlib.sha256(plain.encode()).hexdigest()[:8]
        plain = f"{plain.encode()[:40].decode(errors='ignore')}_{digest}_{event}"
    return sql.in_engine_schema(plain)


def trigger_name(event: str) -> str:
    """The trigger's name; the same on every table."""
    return f"tallykeeper_{event}"


def function_body(source: Table, event: str, tallies: Sequence[Tally]) -> str:
    """The PL/pgSQL of the trigger function of one source and event."""
    if event == TRUNCATE:
        return f"BEGIN\n{_truncated(source, tallies)}\n  RETURN NULL;\nEND"
    watched: Event = next(e for e in EVENTS if e == event)
    one = [s for t in tallies for s in t.capture_one(source, watched)]
    many = [s for t in tallies for s in t.capture_many(source, watched)]
    rows = "new_rows" if event == "insert" else "old_rows"
    # Grouping costs more than the rest of the capture of a single row, and gains nothing there.
    return (
        "BEGIN\n"
        f"  IF EXISTS (SELECT FROM {rows} OFFSET 1) THEN\n{_statements(many)}"
        f"  ELSE\n{_statements(one)}"
        "  END IF;\n"
        "  RETURN NULL;\n"
        "END"
    )


def create_function(source: Table, event: str, tallies: Sequence[Tally]) -> str:
    """CREATE FUNCTION for one source and event."""
    return (
        f"CREATE OR REPLACE FUNCTION {function_name(source, event)}() RETURNS trigger\n"
        "LANGUAGE plpgsql SECURITY DEFINER SET search_path TO pg_catalog, pg_temp"
        " SET timezone TO 'UTC'\n"
        f"AS {sql.dollar_quoted(function_body(source, event, tallies))}"
    )


def create_trigger(relation: str, source: Table, event: str) -> list[str]:
    """Statements that put the trigger on `relation`, the source or a partition of it."""
    name = trigger_name(event)
    create = (
        f"CREATE OR REPLACE TRIGGER {name} AFTER {event.upper()} ON {relation}"
        f" {TRANSITIONS[event]}FOR EACH STATEMENT EXECUTE FUNCTION {function_name(source, event)}()"
    )
    return [create, f"ALTER TABLE ONLY {relation} ENABLE ALWAYS TRIGGER {name}"]


def relations_of(connection: Connection, source: Table) -> list[str]:
    """The source and all its partitions or heirs, qualified and quoted."""
    rows = connection.execute(
        text(
            "WITH RECURSIVE tree AS ("
            " SELECT CAST(:source AS regclass)::oid AS relation"
            " UNION SELECT i.inhrelid FROM pg_inherits i JOIN tree ON i.inhparent = tree.relation)"
            " SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname)"
            " FROM tree JOIN pg_class c ON c.oid = tree.relation"
            " JOIN pg_namespace n ON n.oid = c.relnamespace ORDER BY c.oid"
        ),
        {"source": sql.name_of(source)},
    )
    return [row[0] for row in rows]


def faults(
    connection: Connection, source: Table, tallies: Sequence[Tally]
) -> list[Fault]:
    """What is wrong with the capture of `source` for `tallies`: nothing, if all is intact."""
    name = sql.name_of(source)
    relations = relations_of(connection, source)
    found = _function_faults(connection, source, tallies)
    for relation in relations:
        found += _trigger_faults(connection, source, relation)
    recorded = connection.scalars(
        captured_relations.select()
        .with_only_columns(captured_relations.c.relation)
        .where(captured_relations.c.source == name)
        .order_by(captured_relations.c.relation)
    )
    found += [
        Fault(name, relation, "was captured, but is no part of the source any more")
        for relation in recorded
        if relation not in relations
    ]
    return found


def _function_faults(
    connection: Connection, source: Table, tallies: Sequence[Tally]
) -> list[Fault]:
    found = []
    for event in (*EVENTS, TRUNCATE):
        function = function_name(source, event)
        row = connection.execute(
            text(
                "SELECT prosrc, prosecdef FROM pg_proc WHERE oid = to_regproc(:function)"
            ),
            {"function": function},
        ).one_or_none()
        if row is None:
            found.append(
                Fault(sql.name_of(source), function, "the capture function is missing")
            )
        elif row.prosrc.strip() != function_body(source, event, tallies).strip():
            found.append(
                Fault(
                    sql.name_of(source),
                    function,
                    "the capture function is not the one that the declarations make",
                    of_function_text=True,
                )
            )
        elif not row.prosecdef:
            found.append(
                Fault(
                    sql.name_of(source),
                    function,
                    "the capture function lost SECURITY DEFINER",
                )
            )
    return found


def _trigger_faults(
    connection: Connection, source: Table, relation: str
) -> list[Fault]:
    rows = connection.execute(
        text(
            "SELECT t.tgname, t.tgenabled, t.tgfoid = to_regproc(p.function) AS calls_ours"
            " FROM pg_trigger t CROSS JOIN unnest(CAST(:names AS text[]), CAST(:functions AS text[]))"
            " AS p (name, function)"
            " WHERE t.tgrelid = CAST(:relation AS regclass) AND t.tgname = p.name"
        ),
        {
            "names": [trigger_name(e) for e in (*EVENTS, TRUNCATE)],
            "functions": [function_name(source, e) for e in (*EVENTS, TRUNCATE)],
            "relation": relation,
        },
    )
    present = {row.tgname: row for row in rows}
    found = []
    for event in (*EVENTS, TRUNCATE):
        row = present.get(trigger_name(event))
        if row is None:
            what = f"the {event} trigger is missing"
        elif row.tgenabled not in {ENABLED_ALWAYS, ENABLED_ALWAYS.encode()}:
            what = f"the {event} trigger is disabled, or not enabled always"
        elif not row.calls_ours:
            what = f"the {event} trigger calls another function"
        else:
            continue
        found.append(Fault(sql.name_of(source), relation, what))
    return found


def _truncated(source: Table, tallies: Sequence[Tally]) -> str:
    reason = sql.literal(f"{sql.name_of(source)} was truncated")
    marks = ", ".join(f"({sql.literal(t.name)}, {reason})" for t in tallies)
    return f"  INSERT INTO {sql.name_of(stale_marks)} (tally, reason) VALUES {marks};"


def _statements(statements: Sequence[str]) -> str:
    return "".join(f"  {s};\n" for s in statements)

"""The triggers that a derived table itself has: they note what was done to it past the engine.

That is what foreign keys do to it, and writes by hand. They are installed with the capture of the
tally's sources, and looked after like it.

Whether a statement is a foreign key's is decided by depths: PostgreSQL decides *whether* a trigger
fires (WHEN) inside the foreign key's own trigger, but *runs* it after the outer statement. So the
depth in WHEN is that of the running trigger for a foreign key, and one less for a statement that
stands in a trigger of the application, or in none. As each trigger exists twice, for even and for
odd depths in WHEN, whether the two depths are both even or both odd tells one from the other.

Invariants: after any statement that is not the engine's, the live view is right at once. What a
declared foreign key does is made good in the log; everything else makes the tally stale, or of one
that is built in batches the keys pending, where the statement says which they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sqlalchemy import Connection

from tallykeeper.capture.trigger_bodies import COLUMNS_FIRST, statements_of
from tallykeeper.capture.trigger_names import own_function_name
from tallykeeper.capture.triggers import TRANSITIONS, Fault, Hook, hook_faults
from tallykeeper.catalog.state import BY_FOREIGN_KEY as KEY_CHANGED
from tallykeeper.catalog.state import EDITED, hand_edits, stale_marks, tally_state, unverified
from tallykeeper.database import sql
from tallykeeper.declarations.tally import Event, Tally

EVEN, ODD = 0, 1
BY_FOREIGN_KEY = "(pg_trigger_depth() % 2 = TG_ARGV[0]::integer)"
REWRITTEN: tuple[Event, ...] = ("delete", "update")


@dataclass(frozen=True)
class OwnHook(Hook):
    """A trigger for statements on a derived table, one of a pair for even and odd depths."""

    parity: int
    # A condition, beside the depth.
    when: str
    # The parity where no trigger of the application is involved.
    plain: ClassVar[int] = EVEN

    @property
    def name(self) -> str:
        return "hand edit"

    def create_trigger(self) -> list[str]:
        create = (
            f"CREATE OR REPLACE TRIGGER {self.trigger} AFTER {self.event} ON {self.relation}"
            f" {TRANSITIONS.get(self.event.lower(), '')}FOR EACH STATEMENT"
            f" WHEN (pg_trigger_depth() % 2 = {self.parity} AND {self.when})"
            f" EXECUTE FUNCTION {self.function}({self.parity})"
        )
        return [create, f"ALTER TABLE ONLY {self.relation} ENABLE ALWAYS TRIGGER {self.trigger}"]


class CascadeHook(OwnHook):
    """A trigger on a derived table that makes good what a foreign key does to it.

    Where a referenced row is deleted or changed, its rows of the derived table go with it, in the
    writer's transaction. The log of counts and sums, which says what became of the source rows,
    goes by what they were: it gets back what was deducted, and less what came instead. The keys of
    a recomputed one are pending.
    """

    plain = ODD

    @property
    def name(self) -> str:
        return "cascade"


class NestedCascadeHook(CascadeHook):
    """The same where the referenced row is written by a trigger of the application.

    An earlier release has it not, for which no tally is rebuilt: all of it is compared.
    """

    of_hand = True


class HandHook(OwnHook):
    """A trigger on a derived table that notes who writes it by hand, and makes the tally stale.

    Whatever is not the engine's own transaction (`transactions.py` says which are) and no foreign
    key's is by hand; a restore from a backup too. The columns that the engine does not compute
    are anybody's. It only looks at statements, so it costs the engine nothing worth measuring.
    """

    of_hand = True
    plain = EVEN


def own_hooks(tally: Tally) -> list[Hook]:
    """The triggers that the derived table itself needs."""
    made_good = {e: found for e in REWRITTEN if (found := tally.capture_cascade(e))}
    wanted: list[Hook] = []
    for event, statements in made_good.items():
        body = (
            f"{COLUMNS_FIRST}BEGIN\n  IF {BY_FOREIGN_KEY} THEN\n{statements_of(statements)}"
            "  END IF;\n  RETURN NULL;\nEND"
        )
        name = "cascade" if event == "delete" else "cascade_update"
        wanted += _pair(tally, CascadeHook, event.upper(), name, body, "pg_trigger_depth() > 0")
    # Of a table that takes long to build, the keys are computed anew instead, where they are known.
    marked: tuple[Event, ...] = REWRITTEN if _marks_keys(tally) else ()
    by_hand = f"(pg_trigger_depth() > 0 OR {sql.NOT_BY_ENGINE})"
    for event in marked:
        body = _by_hand(tally, [*made_good], event)
        wanted += _pair(tally, HandHook, event.upper(), f"hand_{event}", body, by_hand)
    events = "INSERT OR TRUNCATE"
    if not marked:
        events += f" OR DELETE OR UPDATE OF {sql.columns(tally.columns)}"
    wanted += _pair(tally, HandHook, events, "hand", _by_hand(tally, [*made_good]), by_hand)
    # Capture inserts into the log, and only a refresh deletes from it.
    of_log = _by_hand(tally, [], of=" of its change log")
    rewriting = "DELETE OR UPDATE OR TRUNCATE"
    wanted += _pair(tally, HandHook, rewriting, "log", of_log, by_hand, tally.log_name)
    if ("pruned", tally.pruned_name) in tally.own_relations():
        # Nothing can compute these again.
        of = " of its frozen groups" if tally.freezes else " of what pruned rows had added"
        of_pruned = _by_hand(tally, [], of=of)
        events = f"INSERT OR {rewriting}"
        wanted += _pair(tally, HandHook, events, "pruned", of_pruned, by_hand, tally.pruned_name)
    return wanted


def own_functions(tally: Tally) -> list[str]:
    """What the triggers on the derived table may call, whether or not the tally is bound."""
    names = ("cascade", "cascade_update", *(f"hand_{event}" for event in REWRITTEN), "hand")
    return [own_function_name(tally.table, name) for name in names]


def _marks_keys(tally: Tally) -> bool:
    return tally.batches is not None and all(tally.mark_keys(event) for event in REWRITTEN)


def _pair(
    tally: Tally,
    kind: type[OwnHook],
    event: str,
    name: str,
    body: str,
    when: str,
    relation: str | None = None,
) -> list[Hook]:
    nested = NestedCascadeHook if kind is CascadeHook else kind
    return [
        (kind if parity == kind.plain else nested)(
            relation=relation or sql.name_of(tally.table),
            event=event,
            trigger=f"tallykeeper_{name}" + ("" if parity == kind.plain else "_nested"),
            function=own_function_name(tally.table, name),
            write_body=lambda: body,
            parity=parity,
            when=when,
        )
        for parity in (EVEN, ODD)
    ]


def _by_hand(
    tally: Tally, made_good: Sequence[Event], marked: Event | None = None, of: str = ""
) -> str:
    """Note it once per transaction and operation, and have live reads not believe the table."""
    name, edits = sql.literal(tally.name), sql.name_of(hand_edits)
    handled = ", ".join(sql.literal(event.upper()) for event in made_good) or "''"
    by_key = sql.literal(f"{KEY_CHANGED}{sql.name_of(tally.table)}")
    invalidate = f"INSERT INTO {sql.name_of(stale_marks)} (tally, reason) VALUES ({name}, {{}})"
    edited = None if marked is None else tally.mark_keys(marked)
    edited = edited or invalidate.format("reason")
    return (
        f"{COLUMNS_FIRST}DECLARE\n"
        f"  done text := {_OPERATION} || {sql.literal(of)};\n"
        "  touched bigint;\n"
        f"  reason text := {sql.literal(EDITED)} || done || ' by ' || session_user ||"
        " coalesce(' through ' || nullif(current_setting('application_name'), ''), '') ||"
        " to_char(now() AT TIME ZONE 'UTC', '\" at \"YYYY-MM-DD HH24:MI:SS\" UTC\"');\n"
        "BEGIN\n"
        f"  IF {BY_FOREIGN_KEY} AND TG_OP IN ('DELETE', 'UPDATE') THEN\n"
        f"    IF TG_OP NOT IN ({handled}) THEN\n"
        f"      {invalidate.format(by_key)};\n"
        "    END IF;\n"
        "    RETURN NULL;\n"
        "  END IF;\n"
        f"  {edited};\n"
        f"{_touched(tally, whole=not of)}"
        f"  UPDATE {edits} AS e SET rows = touched WHERE e.tally = {name}"
        " AND e.at = now() AND e.operation = done;\n"
        "  IF NOT FOUND THEN\n"
        f"    INSERT INTO {edits} (tally, operation, role, application, at, rows) VALUES"
        f" ({name}, done, session_user, current_setting('application_name'), now(), touched);\n"
        f"    INSERT INTO {sql.name_of(unverified)} (tally, windows) VALUES ({name}, '{{(,)}}');\n"
        "  END IF;\n"
        "  RETURN NULL;\n"
        "END"
    )


# Only the statement that the client sent tells a COPY; what it says is kept nowhere.
_OPERATION = (
    r"CASE WHEN TG_OP = 'INSERT' AND current_query() ~* '^\s*copy\s' THEN 'COPY' ELSE TG_OP END"
)


def _touched(tally: Tally, *, whole: bool) -> str:
    """Sets `touched`: how many rows this transaction wrote so, as PostgreSQL's statistics count.

    A transition table would say it too, but would be filled with every row that the engine writes.
    What the session counts is flushed at the end of the transaction, so that its next one begins at
    zero. Of a truncated table it is what the engine last left there, where it is `whole` its own.
    """
    written = (
        "(SELECT sum(pg_stat_get_xact_tuples_{}(t.relation)) FROM (SELECT TG_RELID UNION"
        " SELECT p.relid::oid FROM pg_partition_tree(TG_RELID) AS p) AS t (relation))"
    )
    kinds = {"INSERT": "inserted", "UPDATE": "updated", "DELETE": "deleted"}
    counted = " ".join(f"WHEN '{e}' THEN {written.format(kind)}" for e, kind in kinds.items())
    rows, name = sql.name_of(tally_state), sql.literal(tally.name)
    truncated = f"(SELECT s.rows FROM {rows} AS s WHERE s.tally = {name})" if whole else "NULL"
    return (
        f"  IF TG_OP = 'TRUNCATE' THEN\n    touched := {truncated};\n"
        "  ELSIF current_setting('track_counts')::boolean THEN\n"
        f"    touched := CASE TG_OP {counted} END;\n"
        "    PERFORM pg_stat_force_next_flush();\n"
        "  END IF;\n"
    )


def own_faults(connection: Connection, tally: Tally) -> list[Fault]:
    """What is wrong with the derived table's own triggers."""
    return hook_faults(connection, tally.table, own_hooks(tally))

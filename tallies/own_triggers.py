"""The triggers that a derived table itself has: they note what was done to it past the engine.

Cascades from tables that it refers to, and writes by hand. They are installed with the capture of
the tally's sources, and looked after like it.
"""

from __future__ import annotations

from sqlalchemy import Connection

from tallies import sql
from tallies.capture import (
    TRANSITIONS,
    Fault,
    Hook,
    function_name,
    hook_faults,
)
from tallies.capture_bodies import COLUMNS_FIRST, statements_of
from tallies.state import hand_edits, unverified
from tallies.tally import Tally


class CascadeHook(Hook):
    """A trigger on a derived table that notes what a cascade takes from it.

    Where a referenced row is deleted, its rows of the derived table go with it, in the writer's
    transaction. How many is noted, for the number of rows. The log of an additive tally, which
    says what became of the source rows, goes by what they were: it gets back what was taken.
    Deletions by hand or by a refresh are none of a cascade, in which one trigger runs within
    another.
    """

    def create_trigger(self) -> list[str]:
        create = (
            f"CREATE OR REPLACE TRIGGER {self.trigger} AFTER DELETE ON {self.relation}"
            f" {TRANSITIONS['delete']}FOR EACH STATEMENT WHEN (pg_trigger_depth() > 0)"
            f" EXECUTE FUNCTION {self.function}()"
        )
        return [create, f"ALTER TABLE ONLY {self.relation} ENABLE ALWAYS TRIGGER {self.trigger}"]


class HandHook(Hook):
    """A trigger on a derived table that notes who writes it by hand.

    Whatever is not the engine's own transaction (`transactions.py` says which are) and no cascade
    is by hand; a restore from a backup too. The columns that the engine does not compute are
    anybody's. It only looks at statements, so it costs the engine nothing worth measuring.
    """

    of_hand = True

    @property
    def name(self) -> str:
        return "hand edit"

    def create_trigger(self) -> list[str]:
        create = (
            f"CREATE OR REPLACE TRIGGER {self.trigger} AFTER {self.event} ON {self.relation}"
            " FOR EACH STATEMENT WHEN (pg_trigger_depth() = 0"
            f" AND current_setting('{sql.WRITING}', true) IS DISTINCT FROM 'on')"
            f" EXECUTE FUNCTION {self.function}()"
        )
        return [create, f"ALTER TABLE ONLY {self.relation} ENABLE ALWAYS TRIGGER {self.trigger}"]


def own_hooks(tally: Tally) -> list[Hook]:
    """The triggers that the derived table itself needs."""
    table = tally.table
    by_hand: Hook = HandHook(
        relation=sql.name_of(table),
        event=f"INSERT OR DELETE OR TRUNCATE OR UPDATE OF {sql.columns(tally.columns)}",
        trigger="tallykeeper_hand",
        function=function_name(table, "hand"),
        body=_by_hand(tally),
    )
    statements = tally.capture_cascade()
    if not statements:
        return [by_hand]
    return [
        by_hand,
        CascadeHook(
            relation=sql.name_of(table),
            event="cascade",
            trigger="tallykeeper_cascade",
            function=function_name(table, "cascade"),
            body=f"{COLUMNS_FIRST}BEGIN\n{statements_of(statements)}  RETURN NULL;\nEND",
        ),
    ]


def _by_hand(tally: Tally) -> str:
    """Note it once per transaction and operation, and have everything compared again."""
    name, edits = sql.literal(tally.name), sql.name_of(hand_edits)
    return (
        "BEGIN\n"
        f"  IF NOT EXISTS (SELECT FROM {edits} AS e WHERE e.tally = {name}"
        " AND e.at = now() AND e.operation = TG_OP) THEN\n"
        f"    INSERT INTO {edits} (tally, operation, role, application, at) VALUES"
        f" ({name}, TG_OP, session_user, current_setting('application_name'), now());\n"
        f"    INSERT INTO {sql.name_of(unverified)} (tally, windows) VALUES ({name}, '{{(,)}}');\n"
        "  END IF;\n"
        "  RETURN NULL;\n"
        "END"
    )


def own_faults(connection: Connection, tally: Tally) -> list[Fault]:
    """What is wrong with the derived table's own triggers."""
    return hook_faults(connection, tally.table, own_hooks(tally))

"""Runs a compiled plan without the engine: plain triggers, tables and statements.

It is quick, so that many SELECTs are tried in little time, and shows faults of the compiler alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import psycopg

from tallykeeper.database.connections import open_engine
from tallykeeper.select.compiler import compile_select
from tallykeeper.select.plan import (
    COPY,
    PART,
    ROW,
    SIGN,
    TOTAL,
    CapturedSource,
    Column,
    Node,
    Plan,
    statement,
)
from tallykeeper.select.statements import changes_function
from tests.select_fuzz.adapters import Check, Kept

Compile = Callable[..., Plan]
ENGINE_SCHEMA = "tallykeeper"


class Direct:
    """Keeps plans that `compile_plan` makes."""

    def __init__(self, url: str, compile_plan: Compile = compile_select) -> None:
        self.connection = psycopg.connect(url, autocommit=True, prepare_threshold=None)
        self.connection.execute(
            f"CREATE SCHEMA IF NOT EXISTS kept; CREATE SCHEMA IF NOT EXISTS {ENGINE_SCHEMA};"
            "SET jit = off; SET statement_timeout = '8s'"
        )
        self.engine = open_engine(url)
        self.compile_plan = compile_plan

    def keep(self, name: str, select: str) -> Kept:
        definition, derived = f"{ENGINE_SCHEMA}.fuzz_{name}_definition", f"kept.{name}"
        self._run(f"CREATE VIEW {definition} AS {select}")
        with self.engine.connect() as connection:
            plan = self.compile_plan(
                connection,
                definition,
                log=log_of(name),
                derived=derived,
                state_of=lambda node: f"{ENGINE_SCHEMA}.fuzz_{name}_{node}",
            )
        with self.connection.transaction():
            self._create(name, plan)
            self._build(name, definition, plan)
        nodes = tuple(node.strategy for node in plan.nodes) or (plan.strategy,)
        return Kept(name, definition, derived, plan.strategy, nodes, plan.reasons, plan)

    def _create(self, name: str, plan: Plan) -> None:
        log = log_of(name)
        columns = "".join(
            f", {_quoted(c.log_name)} {'text' if c.as_text else c.type}"
            for source in plan.captured
            for c in source.columns
        )
        self._run(
            f"CREATE TABLE {log} ({PART} smallint NOT NULL, {SIGN} integer NOT NULL,"
            f" logged_at timestamptz DEFAULT clock_timestamp(){columns})"
        )
        self._run(f"CREATE TABLE kept.{name}_stale AS SELECT false AS is_stale")
        for source in plan.captured:
            self._capture(name, source)
        for node in plan.nodes:
            self._run(f"CREATE TABLE {node.state} ({_definitions(node.columns)})")
            if node.key:
                unique = ("UNIQUE ", " NULLS NOT DISTINCT") if node.unique else ("", "")
                self._run(
                    f"CREATE {unique[0]}INDEX ON {node.state} ({_names(node.key)}){unique[1]}"
                )
            for index in getattr(node, "indexes", ()):
                self._run(f"CREATE INDEX ON {node.state} ({index})")
        copies = f", {COPY} integer" if plan.is_bag else ""
        self._run(f"CREATE TABLE kept.{name} ({_definitions(plan.columns)}{copies})")
        if plan.key and not plan.is_bag:
            self._run(f"CREATE UNIQUE INDEX ON kept.{name} ({_names(plan.key)}) NULLS NOT DISTINCT")

    def _capture(self, name: str, source: CapturedSource) -> None:
        table = f"{_quoted(source.schema)}.{_quoted(source.table)}"
        function = f"kept.{name}_{source.part}"
        into = _names([PART, SIGN, *(c.log_name for c in source.columns)])
        values = "".join(
            f", {ROW}.{_quoted(c.name)}{'::text' if c.as_text else ''}" for c in source.columns
        )
        where = f" WHERE {source.condition}" if source.condition else ""
        for event, sides in _SIDES.items():
            inserts = "".join(
                f"INSERT INTO {log_of(name)} ({into})"
                f" SELECT {source.part}, {sign}{values} FROM {side} AS {ROW}{where};"
                for side, sign in sides.items()
            )
            self._run(
                f"CREATE FUNCTION {function}_{event}() RETURNS trigger LANGUAGE plpgsql"
                f" AS $$ BEGIN {inserts} RETURN NULL; END $$"
            )
        self._run(
            f"CREATE OR REPLACE FUNCTION {function}_truncate() RETURNS trigger LANGUAGE plpgsql"
            f" AS $$ BEGIN UPDATE kept.{name}_stale SET is_stale = true; RETURN NULL; END $$"
        )
        for relation in self._with_heirs(table):
            for event, sides in _SIDES.items():
                tables = " ".join(f"{side[:3]} TABLE AS {side}" for side in sides)
                self._run(
                    f"CREATE TRIGGER {name}_{source.part}_{event} AFTER {event} ON {relation}"
                    f" REFERENCING {tables} FOR EACH STATEMENT"
                    f" EXECUTE FUNCTION {function}_{event}()"
                )
            self._run(
                f"CREATE TRIGGER {name}_{source.part}_truncate AFTER TRUNCATE ON {relation}"
                f" FOR EACH STATEMENT EXECUTE FUNCTION {function}_truncate()"
            )

    def _with_heirs(self, table: str) -> list[str]:
        rows = self.connection.execute(
            "WITH RECURSIVE r AS (SELECT %s::regclass::oid AS oid UNION"
            " SELECT inhrelid FROM pg_inherits JOIN r ON r.oid = inhparent)"
            " SELECT oid::regclass::text FROM r",
            (table,),
        ).fetchall()
        return [row[0] for row in rows]

    def _build(self, name: str, definition: str, plan: Plan) -> None:
        for node in plan.nodes:
            names = _names([c.name for c in node.columns])
            self._run(f"DELETE FROM {node.state}")
            self._run(f"INSERT INTO {node.state} ({names}) SELECT {names} FROM ({node.build}) AS b")
        names = _names([c.name for c in plan.columns])
        copies = f", row_number() OVER (PARTITION BY {names})" if plan.is_bag else ""
        self._run(f"DELETE FROM kept.{name}")
        self._run(f"INSERT INTO kept.{name} SELECT {names}{copies} FROM {definition} AS d")
        self._run(f"DELETE FROM {log_of(name)}")
        self._run(f"UPDATE kept.{name}_stale SET is_stale = false")

    def pending(self, kept: Kept) -> tuple[bool, list[int]]:
        """Whether the tally has to be computed anew, and the sources with pending changes."""
        row = self.connection.execute(
            f"SELECT is_stale, (SELECT array_agg(DISTINCT {PART}) FROM {log_of(kept.name)})"
            f" FROM kept.{kept.name}_stale"
        ).fetchone()
        assert row is not None
        return row[0], row[1] or []

    def refresh(self, kept: Kept, before_commit: Check | None = None) -> None:
        plan: Plan = kept.engine_data
        self._run("BEGIN ISOLATION LEVEL REPEATABLE READ")
        try:
            # Before the snapshot, which is not to be older than a TRUNCATE.
            self._run(f"LOCK TABLE {kept.definition} IN ACCESS SHARE MODE")
            is_stale, pending = self.pending(kept)
            if is_stale or (pending and not plan.changes):
                self._build(kept.name, kept.definition, plan)
            elif pending:
                self._apply(kept, plan, pending)
            self.check_states(plan)
            if before_commit is not None:
                before_commit(self.connection)
            self._run("COMMIT")
        except psycopg.Error:
            self._run("ROLLBACK")
            raise

    def _apply(self, kept: Kept, plan: Plan, pending: list[int]) -> None:
        columns = [c.name for c in plan.columns]
        self._run(f"CREATE TEMP TABLE changed ({_definitions(plan.columns)}, {TOTAL} bigint)")
        for name, setting in changes_function.SETTINGS.items():
            self._run(f"SET LOCAL {name} = '{setting}'")
        self._run(statement(plan, pending, into="changed", apply=True))
        key = columns if plan.is_bag else list(plan.key)
        same = _same(key)
        self._run(f"DELETE FROM kept.{kept.name} AS d USING changed AS c WHERE {same}")
        copies = ", n" if plan.is_bag else ""
        self._run(
            f"INSERT INTO kept.{kept.name} SELECT {_names(columns, 'c')}{copies} FROM changed AS c"
            f" CROSS JOIN generate_series(1, c.{TOTAL}) AS n"
        )
        self._run("DROP TABLE changed")
        self._run(f"DELETE FROM {log_of(kept.name)}")

    def check_states(self, plan: Plan) -> None:
        """Raise where a state is not what its SELECT returns now."""
        for node in plan.nodes:
            difference = self._state_difference(node)
            if difference:
                raise WrongState(f"{node.name} ({node.strategy}) {difference}")

    def _state_difference(self, node: Node) -> str:
        names = _names([c.name for c in node.columns])
        rows = self.connection.execute(
            f"WITH b AS MATERIALIZED (SELECT {names} FROM ({node.build}) AS x),"
            f" s AS MATERIALIZED (SELECT {names} FROM {node.state})"
            " (SELECT 'missing', t::text FROM (TABLE b EXCEPT ALL TABLE s) AS t LIMIT 2) UNION ALL"
            " (SELECT 'too many', t::text FROM (TABLE s EXCEPT ALL TABLE b) AS t LIMIT 2)"
        ).fetchall()
        return "; ".join(f"{what} {row}" for what, row in rows)

    def live(self, kept: Kept) -> str:
        """The relation that a live view is, with what is pending."""
        plan: Plan = kept.engine_data
        is_stale, pending = self.pending(kept)
        if is_stale or (pending and not plan.changes):
            return kept.definition
        if not pending:
            return kept.derived
        names = [c.name for c in plan.columns]
        # A function, for the settings that the statement needs and the definition must not have.
        settings = " ".join(f"SET {n} = '{v}'" for n, v in changes_function.SETTINGS.items())
        returns = ", ".join(f"{_quoted(c.name)} {c.type}" for c in plan.columns)
        self._run(f"DROP FUNCTION IF EXISTS {changes_of(kept.name)}()")
        self._run(
            f"CREATE FUNCTION {changes_of(kept.name)}() RETURNS TABLE ({returns}, {TOTAL} bigint)"
            f" LANGUAGE plpgsql STABLE {settings} AS $f$ #variable_conflict use_column\n"
            f"BEGIN RETURN QUERY SELECT {_names(names, 'c')}, c.{TOTAL}::bigint"
            f" FROM ({statement(plan, pending)}) AS c; END $f$"
        )
        same = _same(names if plan.is_bag else list(plan.key))
        return (
            f"(WITH changed AS MATERIALIZED (SELECT * FROM {changes_of(kept.name)}())"
            f" SELECT {_names(names, 'd')} FROM {kept.derived} AS d"
            f" WHERE NOT EXISTS (SELECT FROM changed AS c WHERE {same})"
            f" UNION ALL SELECT {_names(names, 'c')} FROM changed AS c"
            f" CROSS JOIN generate_series(1, c.{TOTAL}))"
        )

    def _run(self, text: str) -> None:
        self.connection.execute(text)

    def close(self) -> None:
        self.engine.dispose()
        self.connection.close()


class WrongState(Exception):
    """A stored intermediate result that is not what its SELECT returns."""


_SIDES = {
    "insert": {"new_rows": 1},
    "update": {"old_rows": -1, "new_rows": 1},
    "delete": {"old_rows": -1},
}


def log_of(name: str) -> str:
    """The change log of a tally."""
    return f"{ENGINE_SCHEMA}.fuzz_{name}_log"


def changes_of(name: str) -> str:
    """The function that returns what pending changes alter."""
    return f"{ENGINE_SCHEMA}.fuzz_{name}_changes"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _names(names: Iterable[str], alias: str = "") -> str:
    dot = f"{alias}." if alias else ""
    return ", ".join(dot + _quoted(n) for n in names)


def _definitions(columns: tuple[Column, ...]) -> str:
    return ", ".join(
        f"{_quoted(c.name)} {c.type}{'' if c.nullable else ' NOT NULL'}" for c in columns
    )


def _same(names: list[str]) -> str:
    return (
        " AND ".join(f"d.{_quoted(n)} IS NOT DISTINCT FROM c.{_quoted(n)}" for n in names) or "true"
    )

"""Loading an empty table without its indexes and foreign keys, and building them when it is full.

What is dropped is remembered, as statements, in `tallykeeper.unbuilt`, by the transaction that
drops it; each statement is forgotten by the transaction that runs it. So whenever a load dies, what
is still to be built is on record. Only what those statements restore exactly is dropped: an index
with a tablespace of its own, a comment, or anything that depends on it stays where it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select
from sqlalchemy.exc import IntegrityError

from tallykeeper.catalog import state
from tallykeeper.catalog.transactions import writing_on
from tallykeeper.database import sql
from tallykeeper.database.sqlstates import FOREIGN_KEY_VIOLATION, sqlstate_of
from tallykeeper.declarations.tally import KeyFilter, Tally
from tallykeeper.drift import facts
from tallykeeper.errors import TallyBusy

# Longer, and who wants the table or one that it refers to would queue up behind the lock.
DROP_TIMEOUT = "20ms"
# So is a table that it refers to, but with so much done it is worth to try for some minutes.
BUILD_TIMEOUT = "1s"
BUILD_ATTEMPTS = 3
BUILD_MEMORY = "256MB"
INDEX, CONSTRAINT, CHECK = "index", "constraint", "check"

_INDEXES = """
SELECT i.indexrelid, c.relname AS name, pg_get_indexdef(i.indexrelid) AS definition,
       k.contype::text AS kind, k.condeferrable AS deferrable,
       c.reltablespace <> 0 OR i.indisclustered OR i.indisreplident OR NOT i.indisvalid
         OR EXISTS (SELECT FROM pg_description AS t
                    WHERE t.objoid IN (i.indexrelid, k.oid)
                    AND t.classoid IN ('pg_class'::regclass, 'pg_constraint'::regclass))
         OR EXISTS (SELECT FROM pg_depend AS p WHERE p.deptype = 'n'
                    AND p.refobjid IN (i.indexrelid, k.oid)
                    AND p.refclassid IN ('pg_class'::regclass, 'pg_constraint'::regclass))
         OR EXISTS (SELECT FROM pg_attribute AS a
                    WHERE a.attrelid = i.indexrelid AND a.attstattarget >= 0) AS peculiar
FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
LEFT JOIN pg_constraint AS k ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid
  AND k.contype IN ('p', 'u', 'x')
WHERE i.indrelid = {table}
ORDER BY i.indisprimary DESC, c.relname"""

_FOREIGN_KEYS = """
SELECT k.conname AS name, pg_get_constraintdef(k.oid) AS definition, k.convalidated AS valid,
       k.confrelid::regclass::text AS parent,
       has_table_privilege(k.confrelid, 'REFERENCES') AS may_refer,
       k.confmatchtype = 's' AND p.relkind = 'r' AND k.coninhcount = 0
         AND pg_get_constraintdef(k.oid) NOT LIKE '%NOT ENFORCED%'
         AND NOT EXISTS (SELECT FROM pg_description AS t WHERE t.objoid = k.oid
                         AND t.classoid = 'pg_constraint'::regclass) AS plain,
       (SELECT string_agg(format('p.%I = d.%I', b.attname, a.attname), ' AND ')
        FROM unnest(k.conkey, k.confkey) AS c (own, other)
        JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = c.own
        JOIN pg_attribute AS b ON b.attrelid = k.confrelid AND b.attnum = c.other) AS same,
       (SELECT string_agg(format('d.%I IS NOT NULL', a.attname), ' AND ')
        FROM unnest(k.conkey) AS c (own)
        JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = c.own) AS refers
FROM pg_constraint AS k JOIN pg_class AS p ON p.oid = k.confrelid
WHERE k.conrelid = {table} AND k.contype = 'f'
ORDER BY k.conname"""

_MAY_STRIP = """
SELECT c.relkind = 'r' AND pg_has_role(c.relowner, 'USAGE')
  AND NOT EXISTS (SELECT FROM pg_inherits WHERE c.oid IN (inhrelid, inhparent))
  AND NOT EXISTS (SELECT FROM pg_constraint WHERE contype = 'f' AND confrelid = c.oid)
FROM pg_class AS c WHERE c.oid = {table}"""


@dataclass(frozen=True)
class Step:
    """A statement that builds one thing, and one that makes it possible where it is not.

    `kind` is an index, a constraint, or the check of one for what is there already.
    """

    kind: str
    what: str
    statement: str
    repair: str | None = None


def strip(connection: Connection, tally: Tally) -> bool:
    """Drop what slows loading down, in the caller's transaction, which holds the derived table.

    False where it may not or cannot be restored exactly; nothing is dropped then. Locks are waited
    for very briefly: the caller sees a lock timeout, and had better roll back and try again.
    """
    plan = _plan(connection, tally)
    if plan is None:
        return False
    drops, steps = plan
    sql.execute(connection, f"SET LOCAL lock_timeout = '{DROP_TIMEOUT}'")
    for statement in drops:
        sql.execute(connection, statement)
    rows = [
        {"tally": tally.name, "place": place, **dataclasses.asdict(step)}
        for place, step in enumerate(steps)
    ]
    if rows:
        connection.execute(state.unbuilt.insert(), rows)
    return True


def _plan(connection: Connection, tally: Tally) -> tuple[list[str], list[Step]] | None:
    """What to drop, and how to build it again; None where that cannot be."""
    table = sql.name_of(tally.table)
    oid = sql.execute(connection, f"SELECT {sql.literal(table)}::regclass::oid").scalar_one()
    path = sql.execute(connection, "SELECT current_setting('search_path')").scalar_one()
    # Definitions name what is not in the search path with its schema: so they hold in any session.
    sql.execute(connection, "SET LOCAL search_path = pg_catalog")
    stripped = sql.execute(connection, _MAY_STRIP.format(table=oid)).scalar_one()
    keys = sql.execute(connection, _FOREIGN_KEYS.format(table=oid)).all()
    indexes = sql.execute(connection, _INDEXES.format(table=oid)).all()
    sql.execute(connection, f"SELECT set_config('search_path', {sql.literal(path)}, true)")
    if not stripped or any(not (key.plain and key.may_refer) for key in keys):
        return None
    # The most wanted locks first: the tables that are referred to are the application's.
    drops = [f"ALTER TABLE {table} DROP CONSTRAINT {sql.quote(key.name)}" for key in keys]
    steps = []
    for index in indexes:
        if index.peculiar or index.deferrable or index.kind == "x":
            continue
        name = sql.quote(index.name)
        steps.append(Step(INDEX, index.name, index.definition))
        if index.kind is None:
            drops.append(f"DROP INDEX {sql.quote(tally.table.schema or 'public')}.{name}")
            continue
        kind = "PRIMARY KEY" if index.kind == "p" else "UNIQUE"
        added = f"ALTER TABLE {table} ADD CONSTRAINT {name} {kind} USING INDEX {name}"
        drops.append(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
        steps.append(Step(CONSTRAINT, index.name, added))
    for key in keys:
        steps += _foreign_key(table, key)
    return drops, steps


def _foreign_key(table: str, key: Row[Any]) -> list[Step]:
    """It holds for what comes at once, and then for what is there: nobody waits for the check."""
    name = sql.quote(key.name)
    unchecked = "" if key.definition.endswith("NOT VALID") else " NOT VALID"
    added = f"ALTER TABLE {table} ADD CONSTRAINT {name} {key.definition}{unchecked}"
    if not key.valid:
        return [Step(CONSTRAINT, key.name, added)]
    dangling = (
        f"DELETE FROM {table} AS d WHERE {key.refers}"
        f" AND NOT EXISTS (SELECT FROM {key.parent} AS p WHERE {key.same})"
    )
    validated = f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}"
    return [
        Step(CONSTRAINT, key.name, added),
        Step(CHECK, key.name, validated, dangling),
    ]


def is_stripped(connection: Connection, tally: Tally) -> bool:
    """Whether something of the derived table is still to be built."""
    if not state.is_there(connection, state.unbuilt):
        return False
    of_tally = select(func.count()).where(state.unbuilt.c.tally == tally.name)
    return bool(connection.scalar(of_tally))


def empty(connection: Connection, tally: Tally) -> None:
    """Empty a stripped table, to load it again."""
    sql.execute(connection, f"SET LOCAL lock_timeout = '{DROP_TIMEOUT}'")
    sql.execute(connection, f"TRUNCATE {sql.name_of(tally.table)}")


def insert(connection: Connection, tally: Tally, scope: KeyFilter) -> int:
    """Insert the rows of `scope`, of which the derived table has none: how many they are.

    Tallies that count the table do so after the load, which counts all of it at once: capture is
    off for this statement alone, and the transaction that writes the rows makes those stale.
    """
    counting = [t for t in tally.siblings if tally.table in t.sources]
    triggers = _insert_triggers(connection, tally) if counting else []
    table = sql.name_of(tally.table)
    for trigger in triggers:
        sql.execute(connection, f"ALTER TABLE {table} DISABLE TRIGGER {trigger}")
    into, value = (", updated_at", ", now()") if tally.has_updated_at else ("", "")
    inserted = sql.execute(
        connection,
        f"INSERT INTO {table} ({sql.columns(tally.columns)}{into})\n"
        f"SELECT {sql.columns(tally.columns, 'f')}{value} FROM (\n{tally.rows(scope)}\n) AS f",
    )
    for trigger in triggers:
        sql.execute(connection, f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}")
    if triggers:
        facts.accept_triggers(connection, table)
    for counted in counting if triggers else []:
        state.mark_stale(connection, counted, f"{tally.name} was loaded")
    return inserted.rowcount


def _insert_triggers(connection: Connection, tally: Tally) -> list[str]:
    """The capture that is on, and as it should be: what is wrong with it is left for its check."""
    found = sql.execute(
        connection,
        f"SELECT quote_ident(tgname) FROM pg_trigger WHERE tgname = 'tallykeeper_insert'"
        f" AND tgrelid = {sql.literal(sql.name_of(tally.table))}::regclass AND tgenabled = 'A'",
    )
    return list(found.scalars())


def build(
    connection: Connection,
    tally: Tally,
    guard: Callable[[Connection], None],
    on_step: Callable[[str], None],
) -> None:
    """Build what is still to be built, each step in a transaction of its own.

    `guard` is called in each, before anything is done; `on_step` with what is built next. Rows that
    refer to deleted rows are deleted too where they keep a foreign key from being valid.
    """
    refused = 0
    while (following := _next_step(connection, tally)) is not None:
        place, step = following
        on_step(step.what)
        try:
            _run(connection, tally, place, step, guard)
        except IntegrityError as error:
            if sqlstate_of(error) != FOREIGN_KEY_VIOLATION or step.repair is None:
                raise
            _run(connection, tally, None, dataclasses.replace(step, statement=step.repair), guard)
        except TallyBusy:
            refused += 1
            if refused == BUILD_ATTEMPTS:
                raise


def _next_step(connection: Connection, tally: Tally) -> tuple[int, Step] | None:
    columns = state.unbuilt.c
    query = select(state.unbuilt).where(columns.tally == tally.name).order_by(columns.place)
    with connection.begin():
        row = connection.execute(query.limit(1)).one_or_none()
    return None if row is None else (row.place, Step(row.kind, row.what, row.statement, row.repair))


def _run(
    connection: Connection,
    tally: Tally,
    place: int | None,
    step: Step,
    guard: Callable[[Connection], None],
) -> None:
    def work(connection: Connection, _waited: float) -> None:
        guard(connection)
        sql.execute(connection, f"SET LOCAL lock_timeout = '{BUILD_TIMEOUT}'")
        sql.execute(
            connection,
            "SELECT set_config('maintenance_work_mem',"
            f" greatest(pg_size_bytes(current_setting('maintenance_work_mem')),"
            f" pg_size_bytes('{BUILD_MEMORY}')) / 1024 || 'kB', true)",
        )
        if place is None or not _is_there(connection, tally, step):
            sql.execute(connection, step.statement)
        if place is not None:
            columns = state.unbuilt.c
            this = (columns.tally == tally.name) & (columns.place == place)
            connection.execute(delete(state.unbuilt).where(this))

    writing_on(connection, tally, work)


def _is_there(connection: Connection, tally: Tally, step: Step) -> bool:
    """Whether somebody has built it by hand meanwhile."""
    if step.kind == CHECK:
        return False
    table, name = sql.literal(sql.name_of(tally.table)), sql.literal(step.what)
    there = {
        INDEX: "FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid"
        f" WHERE i.indrelid = {table}::regclass AND c.relname = {name}",
        CONSTRAINT: f"FROM pg_constraint WHERE conrelid = {table}::regclass AND conname = {name}",
    }
    return sql.execute(connection, f"SELECT {there[step.kind]}").first() is not None

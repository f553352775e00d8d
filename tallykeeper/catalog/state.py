"""The engine's own tables, in the schema `tallykeeper`: what is installed, built, stale, verified.

A tally is *stale* while `stale_marks` holds an invalidation of it: never built, declared anew, a
source truncated, capture found broken. All of a stale tally's keys count as pending; its live view
reads the sources. Rows that refreshes write are kept apart from rows that verifies write, so that
neither makes the other's transaction fail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    DDL,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    DateTime,
    Double,
    Index,
    Integer,
    MetaData,
    Row,
    Select,
    String,
    Table,
    Text,
    Uuid,
    and_,
    cast,
    delete,
    event,
    false,
    func,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB, OID, TSTZMULTIRANGE, insert
from sqlalchemy.exc import ProgrammingError

from tallykeeper.database import sql
from tallykeeper.database.sqlstates import MISSING_RELATION, sqlstate_of
from tallykeeper.declarations.tally import Tally
from tallykeeper.declarations.windows import FIRST_DAY, LAST_DAY
from tallykeeper.errors import NotInstalled

MOST_KEYS = 20_000
# Why a tally is stale, where that is a fault and not how things go.
DECLARATION_CHANGED = "its declaration changed"
CAPTURE_REPAIRED = "its capture was found broken and repaired"
NOT_CAPTURED = "it was not declared when the capture of its sources was installed"
LOG_DIFFERED = "its change log was missing, another table, or had other columns"
VIEW_MISSING = "its live view was missing"
VIEW_MISREAD = "its live view read another table than its own"
STATE_MISSING = "a stored intermediate result of it was missing or had other columns"
STATE_WRONG = "a stored intermediate result of it was not what it should be"
FAULTS = (
    DECLARATION_CHANGED,
    CAPTURE_REPAIRED,
    LOG_DIFFERED,
    VIEW_MISSING,
    VIEW_MISREAD,
    STATE_MISSING,
    STATE_WRONG,
)
# How the reasons begin that triggers write, each a fault too.
CAPTURE_FAILED = "capture"
EDITED = "edited by hand: "
BY_FOREIGN_KEY = f"{EDITED}a foreign key changed rows of "

metadata = MetaData(schema=sql.ENGINE_SCHEMA)

tally_state = Table(
    "tally_state",
    metadata,
    Column("tally", Text, primary_key=True),
    Column(
        "declaration_hash",
        String(16),
        nullable=False,
        comment="what the tally must hold",
    ),
    Column(
        "capture_hash",
        String(16),
        nullable=False,
        comment="the text of triggers and views",
    ),
    Column(
        "installed_at",
        DateTime(timezone=True),
        nullable=False,
        server_default=func.now(),
    ),
    Column("rows", BigInteger, comment="rows of the derived table; null until built"),
    Column("built_at", DateTime(timezone=True), comment="last rebuild of everything"),
    Column("refreshed_at", DateTime(timezone=True), comment="last refresh or rebuild"),
    Column("seconds", Double, comment="how long that took"),
    Column("pending_consumed", BigInteger, comment="change-log rows it consumed"),
    Column("keys_changed", BigInteger, comment="rows it inserted, updated or deleted"),
)

stale_marks = Table(
    "stale_marks",
    metadata,
    Column("tally", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("marked_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Index("stale_marks_tally", "tally"),
)

unverified = Table(
    "unverified",
    metadata,
    Column("tally", Text, nullable=False),
    Column(
        "windows",
        TSTZMULTIRANGE,
        nullable=False,
        comment="written since the last verify",
    ),
    Column("written_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Index("unverified_tally", "tally"),
)

unverified_keys = Table(
    "unverified_keys",
    metadata,
    Column("tally", Text, nullable=False),
    Column(
        "keys",
        JSONB,
        nullable=False,
        comment="written since the last verify: an array of keys of a tally without windows",
    ),
    Column("written_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Index("unverified_keys_tally", "tally"),
)

cascaded = Table(
    "cascaded",
    metadata,
    Column("tally", Text, nullable=False),
    Column("rows", BigInteger, nullable=False, comment="rows that a cascade deleted"),
    Index("cascaded_tally", "tally"),
)

verifications = Table(
    "verifications",
    metadata,
    Column("tally", Text, primary_key=True),
    Column("verified_at", DateTime(timezone=True), nullable=False),
    Column(
        "whole",
        Boolean,
        nullable=False,
        comment="all keys, or the touched windows only",
    ),
    Column("differing", BigInteger, nullable=False),
    Column("seconds", Double, nullable=False),
)

audits = Table(
    "audits",
    metadata,
    Column("tally", Text, primary_key=True),
    Column("along", Text, comment="the key column that stretches follow, and its type"),
    Column("position", Text, comment="up to which the round is done; null: at the start"),
    Column("started_at", DateTime(timezone=True), comment="of the round under way; null: none is"),
    Column("keys", BigInteger, nullable=False, server_default="0", comment="compared by it so far"),
    Column("seconds", Double, nullable=False, server_default="0", comment="spent by it so far"),
    Column("stretches", Integer, nullable=False, server_default="0", comment="it had so far"),
    Column("rows", BigInteger, nullable=False, comment="how many the next stretch is to have"),
    Column("fixed_seconds", Double, nullable=False, server_default="0", comment="of any stretch"),
    Column("last_rows", BigInteger, comment="how many the last stretch was to have"),
    Column("last_seconds", Double, comment="how long it took"),
    Column("compared_since", DateTime(timezone=True), comment="start of the last complete round"),
    Column("compared_at", DateTime(timezone=True), comment="end of the last complete round"),
    Column("compared_keys", BigInteger, comment="how many keys that round compared"),
    Column("compared_seconds", Double, comment="how long its stretches took together"),
    comment="The rolling audit of each tally: since compared_since every key has been compared.",
)

translations = Table(
    "translations",
    metadata,
    Column("tally", Text, primary_key=True),
    Column("engine", Text, primary_key=True, comment="duckdb or spark"),
    Column("version", Text, nullable=False, comment="of the engine"),
    Column("digest", Text, nullable=False, comment="of the statement and of what is exported"),
    Column("rows", BigInteger, nullable=False, comment="how many keys were equal"),
    Column("equal_at", DateTime(timezone=True), nullable=False, comment="when they were"),
    comment="Translations of SELECTs whose rows were those of the derived table, here.",
)

backfills = Table(
    "backfills",
    metadata,
    Column("tally", Text, primary_key=True),
    Column("lane", Text, primary_key=True),
    Column("position", BigInteger, comment="up to which all is done; null: at the start"),
    Column("items_done", BigInteger, nullable=False, server_default="0", comment="source rows"),
    Column("items_total", BigInteger, nullable=False, comment="source rows when it began"),
    Column("rows", BigInteger, nullable=False, server_default="0", comment="rows computed"),
    Column("mode", Text, nullable=False, comment="load (an empty table) or replace"),
    Column("run", Uuid, nullable=False, comment="who may go on"),
    Column("started_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("finished_at", DateTime(timezone=True)),
)

unbuilt = Table(
    "unbuilt",
    metadata,
    Column("tally", Text, primary_key=True),
    Column("place", Integer, primary_key=True, comment="in which order"),
    Column("kind", Text, nullable=False, comment="index, constraint, or check of a constraint"),
    Column("what", Text, nullable=False, comment="the index's or constraint's name"),
    Column("statement", Text, nullable=False, comment="what builds it"),
    Column("repair", Text, comment="what makes a constraint hold that does not"),
    comment="What a backfill dropped from an empty table and builds when all rows are in.",
)

hand_edits = Table(
    "hand_edits",
    metadata,
    Column("tally", Text, nullable=False),
    Column("operation", Text, nullable=False, comment="INSERT, COPY, UPDATE, DELETE or TRUNCATE"),
    Column("role", Text, nullable=False, comment="who was connected"),
    Column("application", Text, nullable=False, comment="what the connection calls itself"),
    Column("at", DateTime(timezone=True), nullable=False, comment="when its transaction began"),
    Column("rows", BigInteger, comment="how many it wrote in all; null: not known"),
    Index("hand_edits_tally", "tally"),
    comment="Writes of derived tables that are not the engine's, until they are written anew.",
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("tally", Text, primary_key=True),
    Column("digest", Text, primary_key=True, comment="md5 of the key, which may be long"),
    Column("key", JSONB, nullable=False, comment="the columns that are recomputed together"),
    Column("rows", JSONB, comment="what there should be for it; null if it cannot be computed"),
    Column("reason", Text, nullable=False, comment="PostgreSQL's code and message"),
    Column("since", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("tried_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    comment="Keys that a derived table cannot hold. They are tried again at every refresh.",
)

# Nothing names a row of these. Under a publication of all tables their rows could not be deleted,
# unless the whole row may serve as its name.
_whole_row = DDL("ALTER TABLE %(fullname)s REPLICA IDENTITY FULL")  # type: ignore[no-untyped-call]
for _nameless in (stale_marks, unverified, unverified_keys, cascaded, hand_edits):
    event.listen(_nameless, "after_create", _whole_row)

captured_relations = Table(
    "captured_relations",
    metadata,
    Column(
        "source",
        Text,
        primary_key=True,
        comment="the source table, as its tallies name it",
    ),
    Column("relation", Text, primary_key=True, comment="it, or a partition of it"),
)

captured_identities = Table(
    "captured_identities",
    metadata,
    Column("relation", Text, primary_key=True, comment="a source table, or a partition of one"),
    Column("relation_oid", OID, nullable=False, comment="which table that is"),
    Column(
        "recorded_beside", OID, nullable=False, comment="this table's own, which a dump changes"
    ),
)


stands_on = Table(
    "stands_on",
    metadata,
    Column("tally", Text, primary_key=True),
    Column("role", Text, primary_key=True, comment="what the object is to the tally"),
    Column("kind", Text, nullable=False, comment="relation or function"),
    Column("name", Text, primary_key=True),
    Column("columns", ARRAY(Text), comment="of a relation those used; of a function its name"),
    comment="What each tally names itself; all else that it depends on is found from these.",
)

dependencies = Table(
    "dependencies",
    metadata,
    Column("tally", Text, primary_key=True),
    Column("kind", Text, primary_key=True, comment="relation, column, trigger, function, database"),
    Column("name", Text, primary_key=True, comment="of the relation or function"),
    Column("part", Text, primary_key=True, comment="the column's or trigger's name"),
    Column("role", Text, nullable=False, comment="what the object is to the tally"),
    Column("facts", JSONB, nullable=False, comment="as they were when it was installed"),
    Column("identity", JSONB, nullable=False, comment="those that a restored dump does not keep"),
    comment="Facts of everything that a tally depends on, to find what changed since.",
)

select_plans = Table(
    "select_plans",
    metadata,
    Column("tally", Text, primary_key=True),
    Column("declaration_hash", String(16), nullable=False, comment="of what was compiled"),
    Column("plan", JSONB, nullable=False, comment="how it is maintained"),
    Column("definition", Text, comment="the SELECT as the definition view had it"),
    Column("digest", String(16), nullable=False, comment="of the plan"),
    Column("compiled_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    comment="What each SELECT was compiled to, for everything that runs without a parser.",
)

suspensions = Table(
    "suspensions",
    metadata,
    Column("tally", Text, primary_key=True),
    Column("role", Text, nullable=False, comment="who suspended it"),
    Column("suspended_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("live", Text, comment="the live view's name"),
    Column("live_query", Text, comment="what it is to read again"),
    Column("live_options", ARRAY(Text), comment="the options that it had"),
    Column("definition", Text, comment="the definition view's name"),
    Column("definition_query", Text, comment="the SELECT, with the names that it had by then"),
    comment="Tallies that stand aside while an application migrates its tables.",
)

refresh_costs = Table(
    "refresh_costs",
    metadata,
    Column("tally", Text, primary_key=True),
    Column("all_seconds", Double, comment="what computing all of it took, the last time"),
    Column("row_seconds", JSONB, comment="what a pending change takes, by the source's number"),
    Column("most_pending", BigInteger, nullable=False, comment="with more, a live view reads all"),
    Column("measured_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    comment="When computing a SELECT anew takes less than its pending changes.",
)

prunings = Table(
    "prunings",
    metadata,
    Column("tally", Text, primary_key=True),
    Column("source", Text, primary_key=True, comment="whose rows were deleted, as it is called"),
    Column("by_column", Text, nullable=False, comment="the column of the source that decides"),
    Column("before", DateTime(timezone=True), nullable=False, comment="rows older than that"),
    Column("rows", BigInteger, nullable=False, comment="how many were deleted so far"),
    Column("summing_hash", String(16), nullable=False, comment="what each had added"),
    Column("pruned_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("finished", DateTime(timezone=True), comment="no rows older than that were left then"),
    Column("late", BigInteger, comment="how many of the rows were older than what was finished"),
    comment="Sources of which rows were deleted while what they count stays.",
)

schema_version = Table(
    "schema_version",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("reached_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    comment="Versions that this schema has had; one that knows only earlier ones refuses it.",
)


@dataclass(frozen=True)
class Installed:
    """What the database says of a tally's installation.

    `shows_record` is whether this role may see what tallies depend on, which an older version did
    not record.
    """

    declaration_hash: str
    capture_hash: str
    stale: tuple[str, ...]
    shows_record: bool


def create(connection: Connection) -> None:
    """Create the engine's schema, its tables, and columns that came since, where they are missing.

    Such columns may be null.
    """
    # IF NOT EXISTS would ask for the right to create schemas even where there is nothing to do.
    if not connection.scalar(select(func.to_regnamespace(sql.ENGINE_SCHEMA).is_not(None))):
        sql.execute(connection, f"CREATE SCHEMA {sql.ENGINE_SCHEMA}")
    known = connection.exec_driver_sql(
        "SELECT c.relname, array_agg(a.attname::text) FROM pg_class AS c"
        " JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
        f" WHERE c.relnamespace = '{sql.ENGINE_SCHEMA}'::regnamespace GROUP BY c.relname"
    )
    present = {name: set(columns) for name, columns in known}
    tables = metadata.tables.values()
    missing = [table for table in tables if table.name not in present]
    metadata.create_all(connection, tables=missing, checkfirst=False)
    for table in tables:
        for column in table.c:
            if column.name not in present.get(table.name, table.c):
                name, kind = sql.name_of(table), sql.type_name(column.type)
                sql.execute(
                    connection, f"ALTER TABLE {name} ADD COLUMN {sql.quote(column.name)} {kind}"
                )


def is_there(connection: Connection, table: Table) -> bool:
    """Whether the table exists: what an older version installed has not all of them."""
    found = func.to_regclass(f"{sql.ENGINE_SCHEMA}.{table.name}").is_not(None)
    return bool(connection.scalar(select(found)))


def installed(connection: Connection, tally: Tally) -> Installed | None:
    """What is installed of `tally`, and why it is stale; None where it is not installed.

    The tally is bound by it (`Tally.bind`), so that nothing works on one that is not. Raises
    NotInstalled where the engine's schema itself is missing.
    """
    columns = tally_state.c
    try:
        row = connection.execute(
            select(
                columns.declaration_hash,
                columns.capture_hash,
                func.array(_reasons(tally).scalar_subquery()).label("stale"),
                may_read(dependencies, stands_on).label("shows_record"),
            ).where(columns.tally == tally.name)
        ).one_or_none()
    except ProgrammingError as error:
        if sqlstate_of(error) not in MISSING_RELATION:
            raise
        raise NotInstalled(
            "the schema 'tallykeeper' is not in this database; run `tally migrate` first"
        ) from error
    if row is None:
        return None
    tally.bind(connection)
    return Installed(row.declaration_hash, row.capture_hash, tuple(row.stale), row.shows_record)


def declared(connection: Connection, tally: Tally) -> str | None:
    """The hash of the declaration that is installed; None where none is."""
    columns = tally_state.c
    read = select(columns.declaration_hash).where(columns.tally == tally.name)
    found: str | None = connection.scalar(read)
    return found


def bound(connection: Connection, tallies: Sequence[Tally]) -> list[Tally]:
    """Those of the tallies of which all is known, which of a SELECT the database says."""
    if not is_there(connection, select_plans):
        return [tally for tally in tallies if tally.kind != "select"]
    return [tally for tally in tallies if _is_bound(connection, tally)]


def _is_bound(connection: Connection, tally: Tally) -> bool:
    try:
        tally.bind(connection)
    except NotInstalled:
        return False
    return True


def may_read(*tables: Table) -> ColumnElement[bool]:
    """Whether all of the engine's tables named exist, and this role may read them."""
    names = (func.to_regclass(f"{sql.ENGINE_SCHEMA}.{table.name}") for table in tables)
    rights = (func.has_table_privilege(cast(name, OID), "SELECT") for name in names)
    return func.coalesce(and_(*rights), false())


def stale_reasons(connection: Connection, tally: Tally) -> tuple[str, ...]:
    """Why the tally is stale, each reason once, oldest first; empty when it is not."""
    return tuple(connection.scalars(_reasons(tally)))


def _reasons(tally: Tally) -> Select[tuple[str]]:
    invalidations = select(stale_marks.c.reason).where(stale_marks.c.tally == tally.name)
    return invalidations.group_by(stale_marks.c.reason).order_by(
        func.min(stale_marks.c.marked_at), stale_marks.c.reason
    )


def is_fault(reason: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether a tally is stale for a fault, and not as things go."""
    return or_(
        reason.in_(FAULTS), *(reason.startswith(begin) for begin in (CAPTURE_FAILED, EDITED))
    )


def mark_stale(connection: Connection, tally: Tally, reason: str) -> None:
    """Let the next refresh rebuild the tally, and its live view read the sources until then."""
    connection.execute(stale_marks.insert().values(tally=tally.name, reason=reason))


def clear_stale(connection: Connection, tally: Tally) -> None:
    """Remove the invalidations that this snapshot sees; a later one stays."""
    connection.execute(delete(stale_marks).where(stale_marks.c.tally == tally.name))


def clear_reason(connection: Connection, tally: Tally, reason: str) -> None:
    """Remove the invalidations of one reason."""
    of_tally = delete(stale_marks).where(stale_marks.c.tally == tally.name)
    connection.execute(of_tally.where(stale_marks.c.reason == reason))


def backfilled(connection: Connection, tally: Tally) -> dict[str, Row[Any]]:
    """What is known of the backfill of each lane, finished or not."""
    if not is_there(connection, backfills):
        return {}
    rows = connection.execute(select(backfills).where(backfills.c.tally == tally.name))
    return {row.lane: row for row in rows}


def record_installed(
    connection: Connection, tally: Tally, declaration_hash: str, capture_hash: str
) -> None:
    """Remember which declaration the database now has."""
    values: dict[str, Any] = {
        "declaration_hash": declaration_hash,
        "capture_hash": capture_hash,
        "installed_at": func.now(),
    }
    statement = insert(tally_state).values(tally=tally.name, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["tally"], set_=values))


def record_written(connection: Connection, tally: Tally, days: list[str], everything: bool) -> None:
    """Remember which windows have to be verified again: `days`, or everything.

    Single keys of a tally without windows are remembered by `record_touched`.
    """
    if not days and not everything:
        return
    if everything or tally.time_key is None or {FIRST_DAY, LAST_DAY} & set(days):
        windows = "'{(,)}'::tstzmultirange"
        parameters: tuple[Any, ...] = (tally.name,)
    else:
        of = tally.stored_windows
        windows = (
            f"(SELECT range_agg(tstzrange({of.sql_start('day')}, {of.sql_end('day')}))"
            " FROM unnest(%s::text[]) AS day)"
        )
        parameters = (tally.name, days)
    connection.exec_driver_sql(
        f"INSERT INTO {sql.ENGINE_SCHEMA}.unverified (tally, windows) VALUES (%s, {windows})",
        parameters,
    )


def rows_without_cascaded(tally: Tally, grown: int) -> ColumnElement[int]:
    """For an UPDATE of `tally_state`: how many rows there are after the derived table has grown.

    What cascades deleted since this was last asked is taken off, as far as the snapshot sees.
    """
    counted = (
        delete(cascaded)
        .where(cascaded.c.tally == tally.name)
        .returning(cascaded.c.rows)
        .cte("counted")
    )
    deleted = select(func.coalesce(func.sum(counted.c.rows), 0)).scalar_subquery()
    return func.coalesce(tally_state.c.rows, 0) + grown - deleted


def forget_cascaded(connection: Connection, tally: Tally) -> None:
    """After the rows were counted: cascades that the snapshot sees are in the figure."""
    connection.execute(delete(cascaded).where(cascaded.c.tally == tally.name))


def record_touched(connection: Connection, tally: Tally, relation: str) -> None:
    """Remember which keys of a tally without windows have to be verified again.

    `relation` has the group columns of the keys that a refresh is about to bring up to date. With
    very many, comparing everything is no more work than looking each of them up.
    """
    clauses = touched_clauses(tally, relation)
    if clauses:
        sql.execute(connection, f"WITH {', '.join(clauses)} SELECT")


def touched_clauses(tally: Tally, relation: str) -> list[str]:
    """The same as common table expressions, of a statement that may have others."""
    if tally.time_key is not None:
        return []
    group = sql.columns(tally.group, "k")
    fields = ", ".join(f"{sql.literal(n)}, k.{sql.quote(n)}" for n in tally.group)
    name = sql.literal(tally.name)
    return [
        f"tally_touched AS MATERIALIZED (SELECT DISTINCT {group} FROM {relation} AS k)",
        "tally_counted AS (SELECT count(*) AS keys FROM tally_touched)",
        f"tally_all_touched AS (INSERT INTO {sql.name_of(unverified)} (tally, windows)"
        f" SELECT {name}, '{{(,)}}' FROM tally_counted WHERE keys > {MOST_KEYS})",
        f"tally_single_touched AS (INSERT INTO {sql.name_of(unverified_keys)} (tally, keys)"
        f" SELECT {name}, jsonb_agg(jsonb_build_object({fields}))"
        f" FROM tally_touched AS k, tally_counted WHERE keys <= {MOST_KEYS} HAVING count(*) > 0)",
    ]


def record_keys(connection: Connection, tally: Tally, keys: Sequence[Mapping[str, Any]]) -> None:
    """Remember single keys of a tally without windows that have to be verified again."""
    groups = [{name: key[name] for name in tally.group} for key in keys]
    connection.execute(unverified_keys.insert().values(tally=tally.name, keys=groups))


def record_verified(
    connection: Connection,
    tally: Tally,
    *,
    as_of: datetime,
    whole: bool,
    differing: int,
    seconds: float,
) -> None:
    """Remember the outcome of a verify."""
    values = {
        "verified_at": as_of,
        "whole": whole,
        "differing": differing,
        "seconds": seconds,
    }
    statement = insert(verifications).values(tally=tally.name, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["tally"], set_=values))

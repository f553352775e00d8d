"""Turning SQLAlchemy expressions into the text of triggers, functions and views.

That text is stored in the database, so nothing in it may be a bind parameter, and nothing may
depend on the session that happens to run it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    ClauseElement,
    Column,
    ColumnClause,
    Connection,
    CursorResult,
    DateTime,
    Enum,
    Integer,
    Interval,
    Numeric,
    SmallInteger,
    String,
    Text,
    case,
    cast,
    collate,
    column,
    func,
    literal_column,
    table,
)
from sqlalchemy.dialects.postgresql import CITEXT
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.sql.elements import ColumnElement, TextClause, quoted_name
from sqlalchemy.sql.schema import Table
from sqlalchemy.sql.selectable import TableClause
from sqlalchemy.types import TypeEngine, UserDefinedType

from tallykeeper.errors import DeclarationError

ENGINE_SCHEMA = "tallykeeper"
# Set to 'on' in the engine's own transactions, for triggers of version 0.1 that ask for it.
WRITING = "tallykeeper.writing"
# Writes of derived tables are by hand but in a transaction that claimed to be the engine's. Each
# has a value of its own, so that a setting left behind in a session makes nobody pass for it.
_OWN_TRANSACTION = "pg_backend_pid() || ' ' || extract(epoch FROM transaction_timestamp())"
CLAIM_WRITING = f"SELECT set_config('tallykeeper.transaction', {_OWN_TRANSACTION}, true)"
NOT_BY_ENGINE = (
    f"current_setting('tallykeeper.transaction', true) IS DISTINCT FROM {_OWN_TRANSACTION}"
)
MAX_IDENTIFIER_BYTES = 63
# Of tables whose rows are updated where they are: what stays free in a page takes the next version
# of a row, so that no index has to be written.
WITH_ROOM = "fillfactor = 80"

# The plain PostgreSQL dialect: the drivers' own would double every % for their parameters.
_dialect = PGDialect(paramstyle="named")  # type: ignore[no-untyped-call]
# The default doubles backslashes, which standard_conforming_strings would keep as two.
_dialect._backslash_escapes = False  # noqa: SLF001 -- no setter
_preparer = _dialect.identifier_preparer
# SQLAlchemy knows most reserved words; these others cannot stand for a column everywhere.
_MORE_WORDS = (
    "lateral between bigint bit boolean char character coalesce dec decimal exists extract float"
    " greatest grouping inout int integer interval json json_array json_arrayagg json_exists"
    " json_object json_objectagg json_query json_scalar json_serialize json_table json_value"
    " least merge_action national nchar none normalize nullif numeric out overlay position"
    " precision real row setof smallint substring system_user time timestamp treat trim values"
    " varchar xmlattributes xmlconcat xmlelement xmlexists xmlforest xmlnamespaces xmlparse"
    " xmlpi xmlroot xmlserialize xmltable"
    " authorization binary collation concurrently cross current_schema freeze full ilike inner"
    " is isnull join left like natural notnull outer overlaps right similar tablesample verbose"
)
_preparer.reserved_words = {*_preparer.reserved_words, *_MORE_WORDS.split()}

# A star, a number, or a text with the name of its type before or behind it.
_PLAIN = re.compile(r"\*|[0-9]+|([A-Z]+ )?'[^']*'(::\w+)?")

_ARRAY_WITH_NULL = re.compile(r"'\{[^']*null", re.IGNORECASE)

# Unit and instant to the start of the unit.
Truncate = Callable[[str, ColumnElement[Any]], ColumnElement[Any]]


def render(element: ClauseElement) -> str:
    """The SQL text of `element` with every value written out."""
    return str(element.compile(dialect=_dialect, compile_kwargs={"literal_binds": True}))


def quote(identifier: str) -> str:
    """`identifier`, in double quotes where it needs them."""
    return _preparer.quote(identifier)


def literal(text: str) -> str:
    """`text` as an SQL string, which means the same under all settings of a session."""
    escaped = text.replace("'", "''")
    return "E'" + escaped.replace("\\", "\\\\") + "'" if "\\" in text else f"'{escaped}'"


def name_of(table: Table) -> str:
    """The table's name with its schema, quoted: `media.media_files`."""
    return _preparer.format_table(table)


def shortened(identifier: str) -> str:
    """`identifier`, or where it is too long for PostgreSQL its beginning with a digest."""
    if len(identifier.encode()) <= MAX_IDENTIFIER_BYTES:
        return identifier
    digest = hashlib.sha256(identifier.encode()).hexdigest()[:10]
    return f"{identifier.encode()[: MAX_IDENTIFIER_BYTES - 11].decode(errors='ignore')}_{digest}"


def in_engine_schema(identifier: str) -> str:
    """`identifier` in the engine's own schema."""
    if len(identifier.encode()) > MAX_IDENTIFIER_BYTES:
        raise DeclarationError(
            f"{identifier!r} is longer than PostgreSQL's {MAX_IDENTIFIER_BYTES} bytes for a name;"
            " shorten the name of the system or of the table"
        )
    return f"{ENGINE_SCHEMA}.{quote(identifier)}"


def columns(names: list[str] | tuple[str, ...], prefix: str = "") -> str:
    """`a, b` or, with the prefix `d`, `d.a, d.b`."""
    return ", ".join(f"{prefix}.{quote(n)}" if prefix else quote(n) for n in names)


def is_opaque(element: object) -> bool:
    """Whether an element is SQL text whose columns are not known.

    A bare * has none, and neither has a constant.
    """
    if isinstance(element, TextClause):
        return True
    written = str(getattr(element, "name", ""))
    return bool(getattr(element, "is_literal", False)) and not _PLAIN.fullmatch(written)


def relation(name: str, like: Iterable[Column[Any]]) -> TableClause:
    """A relation by its SQL name, as it stands, with columns named, keyed and typed as `like`."""
    return table(quoted_name(name, quote=False), *(_like(c) for c in like))


def _like(given: Column[Any]) -> ColumnClause[Any]:
    made = column(given.name, given.type)
    made.key = given.key
    return made


def renamed(table: Table, alias: str, keys: Sequence[str]) -> str:
    """What stands in FROM for a table whose columns `keys` may have other names than their keys.

    PostgreSQL takes the SELECT into the query around it, so that it is planned like the table.
    """
    if all(table.c[key].name == key for key in keys):
        return f"{name_of(table)} AS {quote(alias)}"
    chosen = ", ".join(f"{quote(table.c[key].name)} AS {quote(key)}" for key in keys)
    return f"(SELECT {chosen} FROM {name_of(table)}) AS {quote(alias)}"


def utc_start(unit: str, instant: ColumnElement[Any]) -> ColumnElement[Any]:
    """The start of the UTC day or hour that `instant` falls in.

    The form with a named zone does not follow the session's time zone, as the short form would.
    """
    return func.date_trunc(unit, instant, "UTC", type_=DateTime(timezone=True))


def utc_start_of_many(unit: str, instant: ColumnElement[Any]) -> ColumnElement[Any]:
    """What `utc_start` returns, for a fifth of the time per row, but with more to set up.

    date_trunc looks the zone up by its name each time. Counting whole units from the first instant
    that there is needs no zone, but cannot count to the last.
    """
    first = literal_column("TIMESTAMPTZ '4714-11-24 00:00:00+00 BC'", DateTime(timezone=True))
    far = literal_column("TIMESTAMPTZ '100000-01-01 00:00:00+00'", DateTime(timezone=True))
    step = literal_column(f"INTERVAL '1 {unit}'", Interval())
    start = func.date_bin(step, instant, first)
    return case((instant < far, start), else_=utc_start(unit, instant))


def to_last_instant(unit: str) -> ColumnElement[Any]:
    """From the first instant of a `unit` to its last: PostgreSQL counts microseconds."""
    return literal_column(f"(INTERVAL '1 {unit}' - INTERVAL '1 microsecond')", Interval())


class _Record(UserDefinedType[Any]):
    """PostgreSQL's type of a row without a name."""

    cache_ok = True

    def get_col_spec(self, **options: object) -> str:
        return "record"


def null_equals_null(value: ColumnElement[Any], column: Column[Any]) -> ColumnElement[Any]:
    """`value`, of the derived table's `column`, such that two nulls compare equal.

    As part of a record; unlike IS NOT DISTINCT FROM that can be hashed.
    """
    typed = cast_like(value, column)
    if is_text(column.type):
        typed = collate(typed, "default")
    return cast(func.row(typed, literal_column("0")), _Record())


def lasting_type(column: Column[Any]) -> TypeEngine[Any]:
    """The type for a copy of `column`: its own, but text without a length.

    A cast to `varchar(n)` cuts silently; the derived table's own column then refuses loudly.
    """
    return Text() if is_text(column.type) else column.type


def is_text(type_: TypeEngine[Any]) -> bool:
    """Whether it is text of PostgreSQL's own; SQLAlchemy counts enums and citext among strings."""
    if isinstance(type_, Enum):
        return not type_.native_enum
    return isinstance(type_, String) and not isinstance(type_, CITEXT)


def cast_like(value: ColumnElement[Any], column: Column[Any]) -> ColumnElement[Any]:
    """`value` as the type of the derived table's `column`.

    A bare constant or NULL has no type of its own, and none that GROUP BY or UNION accepts.
    """
    return cast(value, lasting_type(column))


def type_name(type_: TypeEngine[Any]) -> str:
    """The type as DDL spells it: `TIMESTAMP WITH TIME ZONE`. A collation is none of it."""
    return _dialect.type_compiler_instance.process(type_).partition(" COLLATE ")[0]


def fitted(expression: str, type_: TypeEngine[Any]) -> str:
    """SQL: the number as that type, or null where it does not fit; any other value is cast."""
    for kind, bits in ((SmallInteger, 16), (BigInteger, 64), (Integer, 32)):
        if isinstance(type_, kind):
            most = 2 ** (bits - 1)
            return (
                f"CASE WHEN {expression} BETWEEN {-most} AND {most - 1}"
                f" THEN ({expression})::{type_name(type_)} END"
            )
    if isinstance(type_, Numeric) and type_.asdecimal and type_.precision is not None:
        scale = type_.scale or 0
        return (
            f"CASE WHEN abs(round({expression}, {scale})) < 1e{type_.precision - scale}"
            f" THEN ({expression})::{type_name(type_)} END"
        )
    lasting = Text() if is_text(type_) else type_
    return f"({expression})::{type_name(lasting)}"


def row_type(table: Table, names: tuple[str, ...]) -> str:
    """`name type, ...` for the RETURNS TABLE of a function that returns rows of `table`."""
    return ", ".join(f"{quote(n)} {type_name(table.c[n].type)}" for n in names)


def create_function(
    name: str,
    returns: str,
    body: str,
    *,
    arguments: str = "",
    language: str = "plpgsql",
    attributes: str = "SECURITY DEFINER",
    settings: Mapping[str, str] | None = None,
) -> str:
    """CREATE OR REPLACE FUNCTION, as the engine has all of its functions.

    They find nothing of anybody else's by its bare name, whatever path the caller has.
    """
    fixed = {"search_path": "pg_catalog, pg_temp", **(settings or {})}
    if _ARRAY_WITH_NULL.search(body):
        # Without it, NULL in the text of an array may be a text.
        fixed["array_nulls"] = "on"
    set_ = " ".join(f"SET {setting} TO {value}" for setting, value in fixed.items())
    return (
        f"CREATE OR REPLACE FUNCTION {name}({arguments}) RETURNS {returns}\n"
        f"LANGUAGE {language} {attributes} {set_}\nAS {dollar_quoted(body)}"
    )


def stable_function(
    name: str, returns: str, body: str, arguments: str = "", language: str = "sql"
) -> str:
    """A set-returning function that reads the snapshot of the statement that calls it.

    A function and not a part of the view, so that the planner does not pay (or compile) for what
    is not run; in UTC, so that the reader's session cannot change a day; with the owner's rights,
    so that a reader needs none on the sources; and with an error where row security would hide rows
    from the owner.
    """
    settings = {"timezone": "'UTC'", "jit": "off", "row_security": "off"}
    if language == "plpgsql":
        # PL/pgSQL keeps plans for a session; each is to be made for the very values it is for.
        settings["plan_cache_mode"] = "force_custom_plan"
    return create_function(
        name,
        f"TABLE ({returns})",
        body,
        arguments=arguments,
        language=language,
        attributes="STABLE SECURITY DEFINER",
        settings=settings,
    )


def unbroken(sources: Iterable[Table]) -> str:
    """A condition that holds as long as the snapshot sees the sources as they were.

    TRUNCATE empties a table for older snapshots too. The snapshot of a statement is older than the
    lock that a function in it takes on a source, and a TRUNCATE may come in between. It puts the
    table into another file, which the catalog shows to newer snapshots alone; where the two differ,
    the reader gets a serialization failure instead of an answer that was never true. So it does
    where a table was made after the snapshot, which sees nothing of it.

    Of plain tables that is looked up here: the function, which also finds partitions and heirs,
    takes thirty times as long, and is called where the look-up does not show that all is well.
    """
    return unbroken_names(name_of(source) for source in sources)


def unbroken_names(relations: Iterable[str]) -> str:
    """The same for relations by their names, quoted as SQL wants them."""
    each = dict.fromkeys(f"{literal(name)}::regclass" for name in relations)
    names = ", ".join(each)
    return (
        f"((SELECT count(*) = {len(each)} AND bool_and(f.relkind = 'r' AND NOT f.relhassubclass"
        " AND f.relfilenode IS NOT DISTINCT FROM pg_catalog.pg_relation_filenode(f.oid))"
        f" FROM pg_catalog.pg_class AS f WHERE f.oid IN ({names}))"
        f" OR {in_engine_schema('require_unbroken')}({names}))"
    )


def create_unbroken() -> str:
    """CREATE FUNCTION for what `unbroken` calls."""
    body = """
BEGIN
  IF EXISTS (
    WITH RECURSIVE tree AS (
      SELECT s::oid AS relation FROM unnest(sources) AS s
      UNION SELECT i.inhrelid FROM pg_inherits AS i JOIN tree ON i.inhparent = tree.relation
    )
    SELECT FROM tree LEFT JOIN pg_class AS c ON c.oid = tree.relation
    WHERE c.oid IS NULL
      OR c.relkind = 'r' AND c.relfilenode IS DISTINCT FROM pg_relation_filenode(c.oid)
  ) THEN
    RAISE SQLSTATE '40001' USING
      MESSAGE = 'a table was made, truncated or rewritten after this snapshot was taken',
      HINT = 'Read again, in a new transaction where this one keeps its snapshot.';
  END IF;
  RETURN true;
END"""
    return create_function(
        in_engine_schema("require_unbroken"),
        "boolean",
        body,
        arguments="VARIADIC sources regclass[]",
        attributes="STABLE",
    )


def dollar_quoted(body: str) -> str:
    """`body` between dollar quotes that do not occur in it."""
    tag = "$body$"
    while tag in body:
        tag = tag[:-1] + "_$"
    return f"{tag}\n{body}\n{tag}"


def execute(connection: Connection, statement: str) -> CursorResult[Any]:
    """Run SQL text that has no parameters.

    The driver would take a % in it (LIKE, modulo) for a placeholder.
    """
    return connection.exec_driver_sql(statement.replace("%", "%%"))

"""The bodies of the trigger functions: what a statement on a source leaves in the change logs.

Invariants: a body reads the transition tables and no other table. An application's write never
fails because a source is no longer as it was declared (a column renamed or dropped, or of another
type), because a log is missing, or because an expression of a declaration raises for some value:
the tally becomes stale instead, in the same transaction.

That takes no subtransaction for each statement. Whether the source is as declared is asked while
the first statement of a body is *planned*: `columns_are` is declared IMMUTABLE, so that the
planner replaces the call by its result, and PostgreSQL plans anew after every change of the
source, because the statement reads a transition table of it. Only where the answer is no, or
where an expression could raise, the statements run in a block with a handler.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import (
    BigInteger,
    DateTime,
    Enum,
    Float,
    Integer,
    Numeric,
    SmallInteger,
    String,
    Table,
)
from sqlalchemy.types import TypeEngine

from tallykeeper.catalog.state import CAPTURE_FAILED, stale_marks
from tallykeeper.database import sql
from tallykeeper.declarations.tally import SIDES, Tally

# A key column may have the name of a variable, PL/pgSQL's own among them.
COLUMNS_FIRST = "#variable_conflict use_column\n"
COLUMNS_ARE = sql.in_engine_schema("columns_are")
LOG_AT = sql.in_engine_schema("log_at")
# What is caught comes of the declaration or of a value. What passes by itself (locks,
# serialization, resources) is left to the application, which may try again.
CAUGHT = (
    "data_exception OR syntax_error_or_access_rule_violation OR integrity_constraint_violation"
    " OR program_limit_exceeded OR raise_exception OR feature_not_supported"
)


def asked_when_planned() -> tuple[str, str]:
    """CREATE FUNCTION for what the bodies call."""
    return _create_columns_are(), _create_log_at()


def _create_columns_are() -> str:
    """CREATE FUNCTION for whether a table's columns have these names, and one of these types each.

    It asks the parser and not the catalog's tables: in a transaction whose snapshot is older than
    a change of the table, those would still show the columns as they were.
    """
    body = """
DECLARE
  question text;
  answer boolean;
BEGIN
  SELECT string_agg(format(
    CASE WHEN type = '' THEN '(s.r).%1$I IS NULL'
    ELSE 'pg_typeof((s.r).%1$I) = ANY (%2$L::regtype[])' END, name, '{' || type || '}'), ' AND ')
  INTO question FROM unnest(names, types) AS c (name, type);
  EXECUTE format('SELECT %s FROM (SELECT NULL::%s) AS s (r)', question, relation) INTO answer;
  RETURN answer;
EXCEPTION
  WHEN syntax_error_or_access_rule_violation THEN RETURN false;
END"""
    return sql.create_function(
        COLUMNS_ARE,
        "boolean",
        body,
        arguments="relation text, names text[], types text[]",
        attributes="IMMUTABLE",
    )


def _create_log_at() -> str:
    """CREATE FUNCTION for the change log of a name, or null where there is none.

    It is IMMUTABLE so that it, too, is asked when a statement is planned. What it returns has to
    stay in the plan as a constant: PostgreSQL plans anew when such a relation is dropped or
    renamed.
    """
    return sql.create_function(
        LOG_AT,
        "regclass",
        "BEGIN RETURN to_regclass(name); END",
        arguments="name text",
        attributes="IMMUTABLE",
    )


def function_body(
    source: Table, event: str, tallies: Sequence[Tally], belongs: str | None = None
) -> str:
    """The PL/pgSQL of the trigger function of one source and event.

    `belongs` is a condition on the rows of a table above the source: which are the source's.
    """
    watched = next((e for e in SIDES if e == event), None)
    if watched is None:
        return f"BEGIN\n{_truncated(source, tallies)}\n  RETURN NULL;\nEND"
    sides = SIDES[watched]
    narrowed, asked, where = "", "several", ""
    if belongs is not None:
        where = f" WHERE {belongs}"
        narrowed = "WITH " + ", ".join(f"{r} AS (SELECT * FROM {r}{where})" for r in sides) + "\n  "
        asked = f"EXISTS (SELECT FROM {sides[0]}{where} OFFSET 1)"
    many = {t: statements_of(t.capture_many(source, watched), narrowed) for t in tallies}
    risky = [t for t in tallies if t.may_raise(source)]
    several = "".join(
        _handled(source, t, text) if t in risky or t.sums_may_overflow(source) else text
        for t, text in many.items()
    )
    logs = [f"{LOG_AT}({sql.literal(t.log_name)})" for t in tallies]
    variables = ["several"]
    if belongs is not None and watched == "update":
        # Of a row that moves to a sibling only one side belongs to the source.
        captured = several
    elif watched == "update":
        names, captured = _of_one_update(source, tallies, risky, several)
        variables += names
    else:
        # Grouping costs more than the rest of the capture of a single row, and gains nothing there.
        one = {t: statements_of(t.capture_one(source, watched), narrowed) for t in tallies}
        single = "".join(_handled(source, t, s) if t in risky else s for t, s in one.items())
        captured = f"  IF {asked} THEN\n{several}  ELSE\n{single}  END IF;\n"
    # With an OFFSET, what a sub-select selects stays in the plan.
    more = " OR ".join(f"EXISTS (SELECT {', '.join(logs)} FROM {s} OFFSET 1)" for s in sides)
    declared = "".join(f"  {name} boolean;\n" for name in variables)
    careful = "".join(_handled(source, t, text) for t, text in many.items())
    return (
        f"{COLUMNS_FIRST}DECLARE\n{declared}BEGIN\n"
        f"  several := CASE WHEN {_as_declared(source, tallies, logs, belongs is not None)}\n"
        f"    THEN {more} END;\n"
        f"  IF several IS NULL THEN\n{careful}  ELSE\n{captured}  END IF;\n"
        "  RETURN NULL;\n"
        "END"
    )


def statements_of(statements: Sequence[str], narrowed: str = "") -> str:
    """The statements of a function's body, each preceded by `narrowed`."""
    return "".join(f"  {narrowed}{s};\n" for s in statements)


def _of_one_update(
    source: Table, tallies: Sequence[Tally], risky: Sequence[Tally], several: str
) -> tuple[list[str], str]:
    """What an UPDATE leaves in the log, with the names of the variables that it needs.

    Of one row, all conditions are looked at in one statement: most updates change nothing that
    matters, and each statement more would cost the writer as much again. Where a trigger keeps a
    row from arriving in another partition there is an old row without a new one.
    """
    pairs = [pair for t in tallies if t not in risky for pair in t.capture_update(source)]
    conditions = list(dict.fromkeys(condition for condition, _ in pairs)) or ["false"]
    names = {condition: f"differs_{number}" for number, condition in enumerate(conditions, 1)}
    looked_at = ",\n    ".join(conditions)
    inserts = "".join(
        f"  IF {names[condition]} THEN\n{statements_of([insert])}  END IF;\n"
        for condition, insert in pairs
    )
    for tally in risky:
        for condition, insert in tally.capture_update(source):
            asked = f"  IF (SELECT {condition} FROM old_rows, new_rows) THEN\n"
            inserts += _handled(source, tally, f"{asked}{statements_of([insert])}  END IF;\n")
    return list(names.values()), (
        "  IF NOT several THEN\n"
        f"  SELECT {looked_at}\n  INTO {', '.join(names.values())} FROM old_rows, new_rows;\n"
        "  IF NOT FOUND THEN\n"
        "  several := EXISTS (SELECT FROM old_rows) OR EXISTS (SELECT FROM new_rows);\n"
        f"  ELSE\n{inserts}  END IF;\n"
        "  END IF;\n"
        f"  IF several THEN\n{several}  END IF;\n"
    )


def _as_declared(source: Table, tallies: Sequence[Tally], logs: Sequence[str], whole: bool) -> str:
    """A condition: the columns are those that the statements name, and the logs are there.

    It may not name a column itself. `whole` asks for all declared columns, for a partition may be
    named by one that no tally reads.
    """
    used = {name for tally in tallies for name in tally.relevant(source)}
    columns = [c for c in source.c if whole or c.name in used]
    lists = ("names", [c.name for c in columns]), ("types", [_accepted(c.type) for c in columns])
    arrays = ", ".join(
        f"ARRAY[{', '.join(sql.literal(value) for value in values)}]::text[]" for _, values in lists
    )
    asked = [f"{COLUMNS_ARE}({sql.literal(sql.name_of(source))}, {arrays})"]
    asked += [f"{log} IS NOT NULL" for log in logs]
    return "\n    AND ".join(asked)


def _accepted(declared: TypeEngine[object]) -> str:
    """The types a column may have such that the statements can be planned and cannot raise.

    Nothing means any: a type that the application made has a name in a schema unknown here.
    """
    families: list[tuple[type, str]] = [
        (Enum, ""),
        (String, "text,varchar,bpchar"),
        (SmallInteger, "int2"),
        (BigInteger, "int2,int4,int8"),
        (Integer, "int2,int4"),
        (Float, "float4,float8"),
        (Numeric, "int2,int4,int8,numeric"),
        (DateTime, "timestamp,timestamptz"),
    ]
    for kind, accepted in families:
        if isinstance(declared, kind):
            return accepted
    name = sql.type_name(declared)
    return "" if "(" in name or '"' in name or "." in name else name


def _handled(source: Table, tally: Tally, statements: str) -> str:
    """The statements in a block that makes the tally stale where they fail.

    The invalidation names a fault of the declaration, but no value, which may be nobody's to read.
    """
    failed = sql.literal(f"{CAPTURE_FAILED} of {sql.name_of(source)} failed: ")
    return (
        f"  BEGIN\n{statements}  EXCEPTION WHEN {CAUGHT} THEN\n"
        f"  INSERT INTO {sql.name_of(stale_marks)} (tally, reason) VALUES\n"
        f"    ({sql.literal(tally.name)}, {failed} || CASE WHEN SQLSTATE LIKE '42%'"
        " THEN SQLERRM ELSE 'SQLSTATE ' || SQLSTATE END);\n"
        "  END;\n"
    )


def _truncated(source: Table, tallies: Sequence[Tally]) -> str:
    reason = sql.literal(f"{sql.name_of(source)} was truncated")
    invalidations = ", ".join(f"({sql.literal(t.name)}, {reason})" for t in tallies)
    return f"  INSERT INTO {sql.name_of(stale_marks)} (tally, reason) VALUES {invalidations};"

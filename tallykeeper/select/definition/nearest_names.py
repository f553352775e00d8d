"""The name that was probably meant, where PostgreSQL does not know the one that is written."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

from sqlalchemy import Connection, text

from tallykeeper.database.sqlstates import (
    INVALID_SCHEMA_NAME,
    UNDEFINED_COLUMN,
    UNDEFINED_FUNCTION,
    UNDEFINED_TABLE,
)

_QUOTED = re.compile(r'"((?:[^"]|"")+)"')
_RELATIONS = text("""
SELECT n.nspname || '.' || c.relname FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT LIKE 'pg\\_%'
AND n.nspname <> 'information_schema'""")
_SCHEMAS = text("SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%'")
_COLUMNS = text("""
SELECT DISTINCT a.attname FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
AND c.relname = ANY (:names)""")
_FUNCTIONS = text("""
SELECT p.proname, pg_get_function_identity_arguments(p.oid) AS arguments FROM pg_proc AS p
WHERE p.prorettype NOT IN ('internal'::regtype, 'trigger'::regtype)""")


def nearest_name(connection: Connection, sqlstate: str, message: str, select: str) -> str:
    """`; did you mean shop.orders?`, or nothing where there is no name like it.

    `sqlstate` and `message` are PostgreSQL's, `select` is the text that it found fault with.
    """
    quoted = _QUOTED.findall(message)
    if sqlstate == UNDEFINED_TABLE and quoted:
        tables = connection.execute(_RELATIONS).scalars().all()
        bare = {t.partition(".")[2]: t for t in tables}
        return _said(quoted[0], tables) or _said(quoted[0].rpartition(".")[2], bare, bare)
    if sqlstate == INVALID_SCHEMA_NAME and quoted:
        return _said(quoted[0], connection.execute(_SCHEMAS).scalars())
    if sqlstate == UNDEFINED_COLUMN:
        # column o.amont does not exist; column "amont" does not exist
        named = re.search(r"column (?:\"((?:[^\"]|\"\")+)\"|(\S+)) ", message)
        if named is not None:
            names = list(dict.fromkeys(re.findall(r"\w+", select.lower())))
            columns = connection.execute(_COLUMNS, {"names": names}).scalars()
            return _said((named[1] or named[2]).rpartition(".")[2], columns)
    if sqlstate == UNDEFINED_FUNCTION:
        called = re.search(r"function ([^( ]+)\(", message)
        if called is not None:
            return _function(connection, called[1].rpartition(".")[2].strip('"'))
    return ""


def _function(connection: Connection, name: str) -> str:
    functions = connection.execute(_FUNCTIONS).all()
    same = sorted({f"{f.proname}({f.arguments})" for f in functions if f.proname == name})
    if same:
        return f"; there is {', '.join(same[:3])}" + (", ..." if len(same) > 3 else "")
    return _said(name, {f.proname for f in functions})


def _said(name: str, names: Iterable[str], shown: dict[str, str] | None = None) -> str:
    found = get_close_matches(name, list(names), n=1)
    if not found or found[0] == name:
        return f"; did you mean {shown[found[0]]}?" if found and shown is not None else ""
    return f"; did you mean {(shown or {}).get(found[0], found[0])}?"

"""Functions of an application that read tables, though they are declared IMMUTABLE."""

from __future__ import annotations

import re

from sqlalchemy import Connection, text

from tallykeeper.select.files.lexer import BadToken, tokens

_SOURCE = text("""
SELECT p.prosrc AS source, l.lanname AS language,
       EXISTS (SELECT FROM pg_depend AS e WHERE e.classid = 'pg_proc'::regclass
         AND e.objid = p.oid AND e.deptype = 'e') AS of_extension,
       (SELECT d.refobjid::regclass::text FROM pg_depend AS d
        JOIN pg_class AS c ON c.oid = d.refobjid AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
        WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid
        AND d.refclassid = 'pg_class'::regclass LIMIT 1) AS depends_on
FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang WHERE p.oid = :oid""")
_FOUND = text("""
SELECT c.oid::regclass::text FROM pg_class AS c
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relname = :name
AND (:schema = '' OR c.relnamespace = to_regnamespace(:schema)) LIMIT 1""")
# In these the source is the name of what the function runs.
_IN_SOURCE = ("c", "internal")
_BEFORE = ("FROM", "JOIN", "TABLE", "UPDATE", "INTO")


def reads_tables(connection: Connection, oid: int) -> str | None:
    """A table that the function's body names, or None where it names none.

    A body in SQL says what it depends on; in others, names behind FROM and JOIN are looked up. What
    a function puts together at run time is not found.
    """
    row = connection.execute(_SOURCE, {"oid": oid}).one()
    if row.depends_on is not None:
        return str(row.depends_on)
    # An extension knows what it declares, and its tables seldom change.
    if row.language in _IN_SOURCE or row.of_extension:
        return None
    for schema, name in _names(row.source):
        found = connection.execute(_FOUND, {"schema": schema, "name": name}).scalar()
        if found is not None:
            return str(found)
    return None


def _names(source: str) -> list[tuple[str, str]]:
    try:
        found = [t for t in tokens(source) if t.kind != "comment"]
    except BadToken:
        # Not SQL: another language, in whose texts a statement may stand.
        pattern = r"\b(?:from|join|table|update|into)\s+(?:only\s+)?(?:(\w+)\.)?(\w+)"
        return [(s.lower(), n.lower()) for s, n in re.findall(pattern, source, re.IGNORECASE)]
    names = []
    for number, token in enumerate(found):
        if token.keyword not in _BEFORE:
            continue
        rest = [t for t in found[number + 1 : number + 5] if t.keyword != "ONLY"]
        parts = [t.text.strip('"') if t.kind == "quoted" else t.text.lower() for t in rest]
        if len(parts) >= 3 and parts[1] == ".":
            names.append((parts[0], parts[2]))
        elif parts and parts[1:2] != ["("]:
            names.append(("", parts[0]))
    return names

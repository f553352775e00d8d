"""What capture's functions and triggers are called, so that no source takes another's away.

Names follow from schema and table, as `capture_shop_sales_insert`. Two sources may meet in one
(`a_b.c` and `a.b_c`), and two systems may read one source: each has functions and triggers of its
own. Who came first keeps the plain names; the others' end in a digest. Which it is, the text of
the function in the database tells.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from sqlalchemy import Connection, Table, text

from tallykeeper.capture.trigger_bodies import COLUMNS_ARE
from tallykeeper.database import sql
from tallykeeper.declarations.tally import Tally
from tallykeeper.errors import DeclarationError

_CAPTURED = re.compile(rf"{re.escape(COLUMNS_ARE)}\('((?:[^']|'')+)',")
_LOGS = re.compile(rf"INTO ({sql.ENGINE_SCHEMA}\.\S+_log\"?) ")


def function_name(source: Table, event: str, through: str = "", suffix: str = "") -> str:
    """The qualified name of the trigger function of one source and event."""
    plain = f"capture_{source.schema or 'public'}_{source.name}_{event}"
    if through:
        plain += f"_through_{through}"
    return sql.in_engine_schema(sql.shortened(f"{plain}{suffix}"))


def own_function_name(table: Table, what: str) -> str:
    """The qualified name of a trigger function of a derived table itself."""
    schema = table.schema or "public"
    # With an underscore in the schema's name, another table's could be put together the same.
    end = f"_{_digest(sql.name_of(table))}" if "_" in schema else ""
    return function_name(table, what, suffix=end)


def suffix_of(connection: Connection, source: Table, tallies: Sequence[Tally]) -> str:
    """What these tallies' names for `source` end in; nothing where the plain ones are theirs.

    A partition may be a source of its own beside the whole table; the plain names of the triggers
    on it are one source's. Who has names with an ending keeps them when the plain ones are free.
    """
    if not tallies:
        return ""
    ending = f"_{_digest(f'{tallies[0].system} {sql.name_of(source)}')}"
    found = connection.execute(
        text(
            "WITH RECURSIVE tree AS (SELECT to_regclass(:source)::oid AS relation"
            " UNION SELECT i.inhrelid FROM pg_inherits AS i JOIN tree ON i.inhparent = relation)"
            " SELECT (SELECT prosrc FROM pg_proc WHERE oid = to_regproc(:plain)) AS body,"
            " to_regproc(:own) IS NOT NULL AS has_own,"
            " EXISTS (SELECT FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid"
            "  WHERE t.tgrelid IN (SELECT relation FROM tree) AND t.tgname = 'tallykeeper_insert'"
            f"  AND p.pronamespace = to_regnamespace('{sql.ENGINE_SCHEMA}')"
            "  AND p.proname LIKE 'capture\\_%'"
            "  AND p.oid IS DISTINCT FROM to_regproc(:plain)) AS is_taken"
        ),
        {
            "source": sql.name_of(source),
            "plain": function_name(source, "insert"),
            "own": function_name(source, "insert", suffix=ending),
        },
    ).one()
    is_free = found.body is None or _is_theirs(found.body, source, tallies)
    return ending if found.has_own or found.is_taken or not is_free else ""


def outgrown(
    connection: Connection, source: Table, tallies: Sequence[Tally], above: Sequence[str]
) -> list[str]:
    """Functions of these tallies with plain names, where their names have an ending now."""
    if not suffix_of(connection, source, tallies):
        return []
    plain = [function_name(source, event) for event in ("insert", "update", "delete", "truncate")]
    plain += [
        function_name(source, event, through=relation)
        for relation in above
        for event in ("insert", "update", "delete")
    ]
    rows = connection.execute(
        text(
            "SELECT f, prosrc FROM unnest(CAST(:plain AS text[])) WITH ORDINALITY AS u (f, n)"
            " JOIN pg_proc AS p ON p.oid = to_regproc(f) ORDER BY n"
        ),
        {"plain": plain},
    ).all()
    if not any(f == plain[0] and _is_theirs(body, source, tallies) for f, body in rows):
        return []
    return [f for f, _ in rows]


def of_former_sources(connection: Connection, tally: Tally) -> dict[str, list[str]]:
    """Capture functions, by source, that write the tally's log alone for a source it has no more.

    With those of the same source that note a TRUNCATE of it for the tally.
    """
    rows = connection.execute(
        text(
            "SELECT quote_ident(n.nspname) || '.' || quote_ident(p.proname) AS name, p.prosrc"
            " FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace"
            " WHERE n.nspname = :schema AND p.prorettype = 'trigger'::regtype"
            " AND (position(:log IN p.prosrc) > 0 OR position(:name IN p.prosrc) > 0)"
        ),
        {
            "schema": sql.ENGINE_SCHEMA,
            "log": f"INTO {tally.log_name} ",
            "name": f"({sql.literal(tally.name)}, ",
        },
    ).all()
    present = {sql.name_of(source) for source in tally.sources}
    found: dict[str, list[str]] = {}
    for name, body in rows:
        logs, sources = set(_LOGS.findall(body)), _CAPTURED.findall(body)
        if logs == {tally.log_name} and sources and sources[0] not in present:
            found.setdefault(sources[0].replace("''", "'"), []).append(name)
    for source, functions in found.items():
        truncated = f"({sql.literal(tally.name)}, {sql.literal(f'{source} was truncated')});"
        functions += [name for name, body in rows if body.count(truncated) and "), (" not in body]
    return found


def names_source(body: str, source: Table) -> bool:
    """Whether the text of a capture function says that it is of `source`, or says nothing."""
    return COLUMNS_ARE not in body or f"{COLUMNS_ARE}({sql.literal(sql.name_of(source))}," in body


def require_own_names(connection: Connection, tallies: Sequence[Tally]) -> None:
    """Raise DeclarationError where two tallies would write the same change log or derived table."""
    known = connection.scalars(text(f"SELECT tally FROM {sql.ENGINE_SCHEMA}.tally_state")).all()
    logs = {name.replace(".", "_", 1): name for name in known}
    tables: dict[str, str] = {}
    for tally in tallies:
        of_log = logs.setdefault(tally.name.replace(".", "_", 1), tally.name)
        of_table = tables.setdefault(sql.name_of(tally.table), tally.name)
        for other, what in ((of_log, "change log"), (of_table, "derived table")):
            if other != tally.name:
                raise DeclarationError(
                    f"{tally.name} and {other} would have the same {what}; give one of their"
                    " systems or derived tables another name"
                )


def _digest(whose: str) -> str:
    return hashlib.sha256(whose.encode()).hexdigest()[:8]


def _is_theirs(body: str, source: Table, tallies: Sequence[Tally]) -> bool:
    logs = set(_LOGS.findall(body))
    return names_source(body, source) and (not logs or bool(logs & {t.log_name for t in tallies}))

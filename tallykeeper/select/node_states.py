"""The stored intermediate results of a tally's plan, a table in the engine's schema for each node.

They are written by refreshes, in the statement that computes what pending changes alter, and built
anew with the tally. Invariant: a state is what its node's SELECT returned in the snapshot of the
last refresh or rebuild; where it may not be, the tally is stale.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from tallykeeper.database import sql
from tallykeeper.select.column_types import INCOMPARABLE
from tallykeeper.select.plan import PART, Column, Node
from tallykeeper.select.tally import SelectTally

# How the comment on a state's table begins; the tally's name follows.
COMMENT = "intermediate result of "
# After so large a share of its rows came or went, a state is analyzed.
ANALYZED_SHARE = 0.1


def ddl(tally: SelectTally, node: Node) -> list[str]:
    """The statements that create the state of one node."""
    columns = ", ".join(_column(column) for column in node.columns)
    is_updated = node.strategy == "delta" and len(node.columns) > len(node.key)
    room = f" WITH ({sql.WITH_ROOM})" if is_updated else ""
    statements = [f"CREATE TABLE {node.state} ({columns}){room}"]
    if node.key:
        unique = "UNIQUE " if node.unique else ""
        equal = " NULLS NOT DISTINCT" if node.unique else ""
        statements.append(
            f"CREATE {unique}INDEX ON {node.state} ({sql.columns(list(node.key))}){equal}"
        )
    statements += [f"CREATE INDEX ON {node.state} ({index})" for index in node.indexes]
    return [
        *statements,
        # A publication of all tables must not make the engine's own changes fail.
        f"ALTER TABLE {node.state} REPLICA IDENTITY FULL",
        f"COMMENT ON TABLE {node.state} IS {sql.literal(_comment(tally, node))}",
    ]


def missing(connection: Connection, tally: SelectTally) -> list[Node]:
    """The nodes whose state is not there, or is of another definition."""
    known = _comments(connection, tally)
    return [node for node in tally.plan.nodes if known.get(node.state) != _comment(tally, node)]


def bring_up(connection: Connection, tally: SelectTally) -> bool:
    """Create what is missing and drop what is of an earlier plan; whether any state is new."""
    lacking = missing(connection, tally)
    wanted = {node.state for node in tally.plan.nodes} - {node.state for node in lacking}
    for name in _comments(connection, tally):
        if name not in wanted:
            sql.execute(connection, f"DROP TABLE {name}")
    for node in lacking:
        for statement in ddl(tally, node):
            sql.execute(connection, statement)
    return bool(lacking)


def build(connection: Connection, tally: SelectTally) -> None:
    """Compute all states anew from the sources, and write what differs."""
    for node in tally.plan.nodes:
        columns = sql.columns([column.name for column in node.columns])
        rows = f"SELECT {columns} FROM (\n{node.rebuild or node.build}\n) AS b"
        is_empty = sql.execute(connection, f"SELECT FROM {node.state} LIMIT 1").first() is None
        if is_empty or not _is_comparable(node):
            sql.execute(connection, f"DELETE FROM {node.state}")
            sql.execute(connection, f"INSERT INTO {node.state} ({columns})\n{rows}")
            sql.execute(connection, f"ANALYZE {node.state}")
        elif sql.execute(connection, _differences(node, rows)).scalar_one():
            sql.execute(connection, f"ANALYZE {node.state}")


def _differences(node: Node, rows: str) -> str:
    """A statement that writes those of the rows that differ; whether many came or went.

    Both sides are joined once: that is done by hashing or sorting, however many rows there are.
    """
    names = [sql.quote(column.name) for column in node.columns]
    listed = ", ".join(names)
    assigned = ", ".join(f"{name} = m.{name}" for name in names)
    differs = "ROW({})::record *<> ROW({})::record".format(
        *(", ".join(f"{alias}.{name}" for name in names) for alias in "sb")
    )
    return f"""WITH built AS MATERIALIZED (
SELECT g.*, true AS tally_fresh FROM (
{rows}
) AS g), merged AS MATERIALIZED (
SELECT s.ctid AS tally_place, b.* FROM built AS b FULL JOIN {node.state} AS s
ON {_same_key(node)} WHERE s.ctid IS NULL OR b.tally_fresh IS NULL OR {differs}
), deleted AS (
DELETE FROM {node.state} AS s USING merged AS m
WHERE s.ctid = m.tally_place AND m.tally_fresh IS NULL RETURNING 1
), updated AS (
UPDATE {node.state} AS s SET {assigned} FROM merged AS m
WHERE s.ctid = m.tally_place AND m.tally_fresh
), inserted AS (
INSERT INTO {node.state} ({listed})
SELECT {listed} FROM merged WHERE tally_place IS NULL RETURNING 1
)
SELECT (SELECT count(*) FROM deleted) + (SELECT count(*) FROM inserted)
  > greatest(c.reltuples, 0) * {ANALYZED_SHARE} FROM pg_class AS c
WHERE c.oid = {sql.literal(node.state)}::regclass"""


def _same_key(node: Node) -> str:
    """A condition: the same key, nulls being equal, which can be hashed or sorted by."""
    nullable = {column.name for column in node.columns if column.nullable}
    same = []
    for name in node.key:
        left, right = f"s.{sql.quote(name)}", f"b.{sql.quote(name)}"
        if name in nullable:
            left, right = (f"ROW({side}, 0)::record" for side in (left, right))
        same.append(f"{left} = {right}")
    return " AND ".join(same) or "true"


def faults(connection: Connection, tally: SelectTally) -> list[str]:
    """States that are not what their SELECT returns in this snapshot, a sentence each.

    Where changes of a node's sources are pending its state is of an earlier snapshot, and is not
    looked at.
    """
    if not tally.plan.nodes:
        return []
    pending = set(
        sql.execute(connection, f"SELECT DISTINCT {PART} FROM {tally.log_name}").scalars()
    )
    found = []
    for node in tally.plan.nodes:
        if pending & node.parts:
            continue
        rows = [_comparably(column) for column in node.columns]
        sides = (
            f"SELECT {', '.join(rows)} FROM {node.state} AS r",
            f"SELECT {', '.join(rows)} FROM (\n{node.build}\n) AS r",
        )
        differing = sql.execute(
            connection,
            "WITH stored AS MATERIALIZED ({}), built AS MATERIALIZED ({})\n"
            "SELECT (SELECT count(*) FROM (TABLE stored EXCEPT ALL TABLE built) AS d)"
            " + (SELECT count(*) FROM (TABLE built EXCEPT ALL TABLE stored) AS d)".format(*sides),
        ).scalar_one()
        if differing:
            found.append(f"the intermediate result {node.state} is not what it should be")
    return found


def _is_comparable(node: Node) -> bool:
    """Whether equality shows which rows of the state differ."""
    return node.unique and not any(column.type in INCOMPARABLE for column in node.columns)


def _comparably(column: Column) -> str:
    name = f"r.{sql.quote(column.name)}"
    return f"{name}::text" if column.type in INCOMPARABLE else name


def _column(column: Column) -> str:
    return f"{sql.quote(column.name)} {column.type}{'' if column.nullable else ' NOT NULL'}"


def _comment(tally: SelectTally, node: Node) -> str:
    """Tells whose state it is, and of which definition."""
    return f"{COMMENT}{tally.name}: {tally.definition_of(node)}"


def _comments(connection: Connection, tally: SelectTally) -> dict[str, str]:
    """The states of the tally that are there, by their quoted names."""
    rows = connection.execute(
        text(
            "SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name,"
            " obj_description(c.oid, 'pg_class') AS comment FROM pg_class AS c"
            " JOIN pg_namespace AS n ON n.oid = c.relnamespace"
            " WHERE n.nspname = :schema AND c.relkind = 'r'"
            " AND starts_with(obj_description(c.oid, 'pg_class'), :comment)"
        ),
        {"schema": sql.ENGINE_SCHEMA, "comment": f"{COMMENT}{tally.name}: "},
    )
    return {row.name: row.comment for row in rows}

"""The stored intermediate results of a tally's plan, a table in the engine's schema for each node.

They are written by refreshes, in the statement that computes what pending changes alter, and built
anew with the tally. Invariant: a state is what its node's SELECT returned in the snapshot of the
last refresh or rebuild; where it may not be, the tally is stale.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from tallykeeper.database import sql
from tallykeeper.select.plan import Column, Node
from tallykeeper.select.tally import SelectTally

# How the comment on a state's table begins; the tally's name follows.
COMMENT = "intermediate result of "


def ddl(tally: SelectTally, node: Node) -> list[str]:
    """The statements that create the state of one node."""
    columns = ", ".join(_column(column) for column in node.columns)
    statements = [f"CREATE TABLE {node.state} ({columns})"]
    if node.key:
        unique = "UNIQUE " if node.unique else ""
        equal = " NULLS NOT DISTINCT" if node.unique else ""
        statements.append(
            f"CREATE {unique}INDEX ON {node.state} ({sql.columns(list(node.key))}){equal}"
        )
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
        # By images, for a state holds each value as the statement of the changes computes it.
        sql.execute(connection, f"DELETE FROM {node.state}")
        sql.execute(
            connection,
            f"INSERT INTO {node.state} ({columns})\nSELECT {columns} FROM (\n{node.build}\n) AS b",
        )
        sql.execute(connection, f"ANALYZE {node.state}")


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

"""Which table each captured one is, so that another of the same name is not mistaken for it.

A table that is dropped and restored from a dump has its triggers again, just as they were, but what
went and came with it nobody noted. Its number in the catalog (oid) is another then. After a dump of
the whole database is restored all numbers are other ones, those of the engine's own tables too:
then none of the recorded ones says anything, and they are recorded anew.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, text

from tallykeeper.catalog.state import captured_identities, is_there
from tallykeeper.database import sql

OWN = sql.name_of(captured_identities)


def replaced(connection: Connection, relations: Sequence[str]) -> list[str]:
    """Those of the relations that are not what was recorded under their names."""
    if not is_there(connection, captured_identities):
        return []
    rows = connection.execute(
        text(
            f"SELECT relation FROM {OWN} WHERE recorded_beside = CAST(:own AS regclass)::oid"
            " AND relation = ANY (:relations) AND relation_oid <> to_regclass(relation)::oid"
            " ORDER BY relation"
        ),
        {"own": OWN, "relations": list(relations)},
    )
    return [row[0] for row in rows]


def are_recorded(connection: Connection, relations: Sequence[str]) -> bool:
    """Whether all of the relations are, in this database."""
    known = connection.scalar(
        text(
            f"SELECT count(*) FROM {OWN} WHERE recorded_beside = CAST(:own AS regclass)::oid"
            " AND relation = ANY (:relations)"
        ),
        {"own": OWN, "relations": list(relations)},
    )
    return bool(known == len(set(relations)))


def record(connection: Connection, relations: Sequence[str]) -> None:
    """Remember the relations as they are now."""
    connection.execute(
        text(
            f"INSERT INTO {OWN} (relation, relation_oid, recorded_beside)"
            " SELECT r, to_regclass(r)::oid, CAST(:own AS regclass)::oid"
            " FROM unnest(CAST(:relations AS text[])) AS r"
            " ON CONFLICT (relation) DO UPDATE SET relation_oid = excluded.relation_oid,"
            " recorded_beside = excluded.recorded_beside"
        ),
        {"own": OWN, "relations": list(dict.fromkeys(relations))},
    )

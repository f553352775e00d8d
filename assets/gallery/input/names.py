"""From the names that an input uses to the ids of users and tags, made where nobody has the name.

Invariants: two loads at once make no user and no tag twice. Users have no constraint that
would see to it, so one load at a time makes users, until it commits; tags have one.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, Table, TextClause, text

from assets.gallery import tables
from assets.gallery.input.fields import is_id
from tallykeeper.input.loading import LoadError

_ATTEMPTS = 5

# Of several users with one name it is the one with the smallest id, for every load.
_USERS_NAMED = """
SELECT DISTINCT ON (n.name) n.name, CAST(u.id AS text)
FROM unnest(CAST(:names AS text[])) AS n (name) JOIN {users} AS u ON u.username = n.name
ORDER BY n.name, u.id
"""
_USERS_WITH_ID = """
SELECT CAST(u.id AS text), CAST(u.id AS text)
FROM unnest(CAST(:names AS uuid[])) AS n (id) JOIN {users} AS u ON u.id = n.id
"""
_NAME_USERS = """
INSERT INTO {users} (id, username)
SELECT gen_random_uuid(), name FROM unnest(CAST(:names AS text[])) AS n (name)
"""
_MAKE_USERS = """
INSERT INTO {users} (id) SELECT id FROM unnest(CAST(:names AS uuid[])) AS n (id) ORDER BY id
ON CONFLICT (id) DO NOTHING
"""
_ONE_LOAD_AT_A_TIME = "SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"

_TAGS_NAMED = """
SELECT n.name, CAST(t.id AS text)
FROM unnest(CAST(:names AS text[])) AS n (name) JOIN {tags} AS t ON t.name = n.name
"""
# In one order, so that two loads that make the same tags do not wait for each other in a circle.
_NAME_TAGS = """
INSERT INTO {tags} (id, name)
SELECT gen_random_uuid(), name FROM unnest(CAST(:names AS text[])) AS n (name)
ORDER BY name COLLATE "C" ON CONFLICT (name) DO NOTHING
"""


def creator_ids(
    connection: Connection, creators: Iterable[str], known: dict[str, str]
) -> dict[str, str]:
    """The id of each creator (a name, or an id), with `known` ones looked up before.

    Returns `known`, with these added. A user is made where there is none: of a name, or of an id
    alone. Must be called in READ COMMITTED, before any row is locked.
    """
    missing = set(creators) - known.keys()
    if missing:
        known |= _users(connection, missing)
        missing -= known.keys()
    if missing:
        name = f"tallykeeper users of {tables.users.fullname}"
        connection.execute(text(_ONE_LOAD_AT_A_TIME), {"name": name})
        # Another load may have made them while this one waited.
        missing -= _users(connection, missing).keys()
        ids = {each for each in missing if is_id(each)}
        _run(connection, _MAKE_USERS, ids)
        _run(connection, _NAME_USERS, missing - ids)
        known |= _users(connection, set(creators) - known.keys())
    return known


def tag_ids(connection: Connection, tags: Iterable[str]) -> dict[str, str]:
    """The id of each tag that is meant by its name; made where no tag has the name.

    Must be called in READ COMMITTED. Raises LoadError where a tag does not stay.
    """
    names = {tag for tag in tags if not is_id(tag)}
    found: dict[str, str] = {}
    for _ in range(_ATTEMPTS):
        found |= _look_up(connection, _TAGS_NAMED, names - found.keys())
        if len(found) == len(names):
            return found
        # Somebody else's that was not there yet when we looked is found the next time.
        _run(connection, _NAME_TAGS, names - found.keys())
    lost = min(names - found.keys())
    raise LoadError(
        f"The tag {lost!r} was made, but is not to be found in {tables.tags.fullname}; see what "
        "deletes or renames tags there, and load again (rows before that are loaded)."
    )


def _users(connection: Connection, creators: set[str]) -> dict[str, str]:
    ids = {each for each in creators if is_id(each)}
    found = _look_up(connection, _USERS_WITH_ID, ids)
    return found | _look_up(connection, _USERS_NAMED, creators - ids)


def _look_up(connection: Connection, statement: str, names: set[str]) -> dict[str, str]:
    if not names:
        return {}
    done = connection.execute(_prepared(connection, statement), {"names": sorted(names)})
    return {str(name): str(found) for name, found in done}


def _run(connection: Connection, statement: str, names: set[str]) -> None:
    if names:
        connection.execute(_prepared(connection, statement), {"names": sorted(names)})


def _prepared(connection: Connection, statement: str) -> TextClause:
    def name(table: Table) -> str:
        return connection.dialect.identifier_preparer.format_table(table)

    return text(statement.format(users=name(tables.users), tags=name(tables.tags)))

"""The version of the schema `tallykeeper`, and the migrations that lead from one to the next.

A table or a column that came since is made where it is missing (`state.create`), and needs no
migration. What cannot be made so (another name, another meaning of what is in it) is a file
`NNNN_what_it_does.sql` in the folder `migrations`. Such a file runs once in each database that has
the schema already, before missing tables are made. The highest number is the version. Invariant: a
database of a higher version than this code knows is refused before anything is changed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from sqlalchemy import Connection, func, select, text

from tallykeeper.catalog import state
from tallykeeper.database import sql
from tallykeeper.errors import DoesNotFit

ALEMBIC_VERSION = f"{sql.ENGINE_SCHEMA}.alembic_version"
# Where the releases that used Alembic ended, by system.
_LAST_REVISIONS = {"media": 1, "gallery": 1, "fediverse": 3, "classroom": 4}


@cache
def migrations() -> Mapping[int, str]:
    """The statements of each migration by its number, in order."""
    numbered = {
        int(each.name[:4]): each.read_text(encoding="utf-8")
        for each in (files(__package__) / "migrations").iterdir()
        if re.fullmatch(r"[0-9]{4}_\w+\.sql", each.name)
    }
    return dict(sorted(numbered.items()))


def bring_up(connection: Connection) -> None:
    """Bring the engine's own tables to this version, or make them.

    Raises DoesNotFit where the database is at a later one.
    """
    latest = max(migrations())
    recorded = _recorded(connection)
    present = _unrecorded(connection, latest) if recorded is None else recorded
    if present > latest:
        raise DoesNotFit(_newer(f"the schema {sql.ENGINE_SCHEMA}", f"version {present}"))
    for number, statements in migrations().items():
        if number > present:
            sql.execute(connection, statements)
    state.create(connection)
    if recorded != latest:
        connection.execute(state.schema_version.insert().values(version=latest))


def _recorded(connection: Connection) -> int | None:
    """The version that the database says it has."""
    if not state.is_there(connection, state.schema_version):
        return None
    latest: int | None = connection.scalar(select(func.max(state.schema_version.c.version)))
    return latest


def _unrecorded(connection: Connection, latest: int) -> int:
    """The version of a database that says none: it is new, or of a release that had none."""
    if not state.is_there(connection, state.tally_state):
        return latest
    _refuse_later_revisions(connection)
    return 0


def _refuse_later_revisions(connection: Connection) -> None:
    """Refuse a database that a later release with Alembic has migrated.

    Revisions of other systems are a project's own, whose tables now follow their declarations.
    """
    if connection.scalar(select(func.to_regclass(ALEMBIC_VERSION))) is None:
        return
    for revision in connection.scalars(text(f"SELECT version_num FROM {ALEMBIC_VERSION}")):
        system, _, number = revision.rpartition("_")
        last = _LAST_REVISIONS.get(system)
        if last is not None and not (number.isdecimal() and int(number) <= last):
            raise DoesNotFit(_newer(f"the history of {system}", revision))


def _newer(what: str, version: str) -> str:
    return (
        f"{what} of this database is at {version}, which this version does not know; update"
        " Tallykeeper. Nothing was changed"
    )

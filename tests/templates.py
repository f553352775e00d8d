"""Databases that many tests begin with, made once per server and copied.

Putting a system into a database takes longer than most tests that need it; copying one takes a
tenth of that. A copy is as good as the original: nothing in a database knows its name.
"""

from __future__ import annotations

from collections.abc import Callable

import psycopg
from sqlalchemy import Engine

from tallykeeper import System
from tallykeeper.database.connections import open_engine
from tallykeeper.installation.migrate import migrate

_filled: dict[tuple[str, str], str] = {}

USED = """
SELECT EXISTS (SELECT FROM pg_namespace WHERE oid >= 16384)
    OR EXISTS (SELECT FROM pg_class WHERE oid >= 16384 AND relkind IN ('r', 'p', 'S')
               AND relnamespace = 'public'::regnamespace)"""


def migrated(engine: Engine, *systems: System) -> None:
    """What `tally migrate --with-sources` makes of an empty database, for these systems."""
    name = "migrated_" + "_".join(system.name for system in systems)
    fill(engine, name, lambda original: migrate(original, systems, with_sources=True))


def fill(engine: Engine, name: str, by: Callable[[Engine], object]) -> None:
    """Fill the engine's database as `by` does, by copying one that it filled before.

    `name` tells which; what `by` does must depend on nothing else. A database that is not empty is
    filled by hand.
    """
    with engine.connect() as connection:
        used = connection.exec_driver_sql(USED).scalar_one()
        folder = str(connection.exec_driver_sql("SHOW data_directory").scalar_one())
    if used:
        by(engine)
        return
    own = engine.url.database
    server = engine.url.set(drivername="postgresql", database="postgres")
    engine.dispose()
    with psycopg.connect(server.render_as_string(hide_password=False), autocommit=True) as admin:
        template = _filled.get((folder, name))
        if template is None:
            template = f"template_{name}"
            admin.execute(f'CREATE DATABASE "{template}" TEMPLATE template0 STRATEGY file_copy')
            original = open_engine(engine.url.set(database=template).render_as_string(False))
            by(original)
            original.dispose()
            _filled[folder, name] = template
        admin.execute(f'DROP DATABASE "{own}" WITH (FORCE)')
        admin.execute(f'CREATE DATABASE "{own}" TEMPLATE "{template}" STRATEGY file_copy')

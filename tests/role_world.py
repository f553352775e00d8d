"""A database whose work is divided among roles, as `tally roles` divides it, and a login for each.

Every system's sources belong to the application's role. The names need quotes, on purpose. Roles
are the whole server's, so what one test made is dropped before and after the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module

import psycopg
import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateSchema

from tallykeeper import System, Tally, refresh, verify
from tallykeeper.database.connections import open_engine
from tallykeeper.database.sql import columns, quote, render
from tallykeeper.discovery import all_systems
from tallykeeper.installation.migrate import migrate
from tallykeeper.installation.roles_script import Wanted, roles_sql
from tests.integration.support import rows

APPLICATION = 'app "one"'
WANTED = Wanted("tally Owner", 'tally "refresher"', "tally-reader'")
LOGINS = {"deploy": WANTED.owner, "runs": WANTED.refresher, "look": WANTED.reader}
WEB, MODEL = "web", "model"
SIZE = 300
"""What each system's demo is asked to make."""

NO_PRIVILEGE = "42501"
ROLES = (*LOGINS, WEB, MODEL, *WANTED, APPLICATION)


@dataclass
class World:
    """The same database as the administrator sees it, and as each role does."""

    admin: Engine
    _opened: dict[str, Engine] = field(default_factory=dict)

    def as_role(self, login: str) -> Engine:
        """An engine that connects as this role."""
        if login not in self._opened:
            url = self.admin.url.set(username=login, password=None)
            self._opened[login] = open_engine(url.render_as_string(hide_password=False))
        return self._opened[login]

    @property
    def deploy(self) -> Engine:
        return self.as_role("deploy")

    @property
    def runs(self) -> Engine:
        return self.as_role("runs")

    @property
    def look(self) -> Engine:
        return self.as_role("look")

    @property
    def web(self) -> Engine:
        return self.as_role(WEB)

    def run_script(self, systems: Sequence[System] = ()) -> str:
        """Have the administrator run what `tally roles` prints, but for psql's own commands."""
        with pytest.MonkeyPatch.context() as env:
            # Tests of Dagster have named a storage of their own.
            env.delenv("DAGSTER_PG_URL", raising=False)
            script = roles_sql(self.admin, systems or all_systems(), WANTED)
        with psycopg.connect(libpq_url(self.admin), autocommit=True) as connection:
            connection.execute(without_psql(script))
        return script

    def close(self) -> None:
        for engine in self._opened.values():
            engine.dispose()


@contextmanager
def world_of(admin: Engine, systems: Sequence[System] = ()) -> Iterator[World]:
    """Sources of the systems, by default all, roles and logins; nothing is installed yet."""
    _drop_roles(admin)
    world = World(admin)
    try:
        make_sources(admin, systems or all_systems())
        yield world
    finally:
        world.close()
        _drop_roles(admin)


def make_sources(admin: Engine, systems: Sequence[System]) -> None:
    """The application's tables, which its owner owns and `web` may write; and the logins."""
    app, web = quote(APPLICATION), quote(WEB)
    with admin.begin() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {app} LOGIN")
        connection.exec_driver_sql(f"CREATE ROLE {web} LOGIN")
        for login in (*LOGINS, MODEL):
            connection.exec_driver_sql(f"CREATE ROLE {quote(login)} LOGIN")
        for system in systems:
            derived = set(system.derived)
            schema = str(system.metadata.schema)
            connection.execute(CreateSchema(schema))
            connection.exec_driver_sql(f"ALTER SCHEMA {quote(schema)} OWNER TO {app}")
            connection.exec_driver_sql(f"SET LOCAL ROLE {app}")
            sources = [t for t in system.metadata.sorted_tables if t not in derived]
            system.metadata.create_all(connection, tables=sources)
            connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA {quote(schema)} TO {web}")
            connection.exec_driver_sql(
                "GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE"
                f" ON ALL TABLES IN SCHEMA {quote(schema)} TO {web}"
            )
            connection.exec_driver_sql("RESET ROLE")


def divide(world: World, systems: Sequence[System] = ()) -> None:
    """Run the script, put the logins into their groups, and migrate as one of the owner's."""
    world.run_script(systems)
    with world.admin.begin() as connection:
        for login, role in LOGINS.items():
            connection.exec_driver_sql(f"GRANT {quote(role)} TO {quote(login)}")
    migrate(world.deploy, systems or None)


def write(world: World, system: System) -> None:
    """The application writes its sources, as the demo does."""
    import_module(f"assets.{system.name}.demo").create_demo(world.as_role(APPLICATION), SIZE)


def change(world: World, system: System) -> None:
    import_module(f"assets.{system.name}.demo").change_demo(world.as_role(APPLICATION))


def keep_up(world: World, system: System) -> None:
    """What the daily runs do, as the refresher."""
    if system.process is not None:
        system.process(world.runs)
    for tally in system.tallies:
        refresh(world.runs, tally)
        assert verify(world.runs, tally).ok


def require_exact(world: World, tally: Tally) -> None:
    """The reader's live view is what the sources say."""
    names = columns(tally.columns)
    live = rows(world.look, f"SELECT {names} FROM {tally.live_name}")
    truth = rows(world.admin, f"SELECT {names} FROM ({render(tally.live_sources())}) AS s")
    assert sorted(live, key=repr) == sorted(truth, key=repr), tally.name


def sqlstate_of(engine: Engine, statement: str) -> str:
    """How the server refuses the statement; nothing is kept where it does not."""
    with engine.connect() as connection:
        try:
            connection.exec_driver_sql(statement.replace("%", "%%"))
        except DBAPIError as error:
            return str(getattr(error.orig, "sqlstate", ""))
        connection.rollback()
    return "none"


def libpq_url(engine: Engine) -> str:
    return engine.url.set(drivername="postgresql").render_as_string(hide_password=False)


def without_psql(script: str) -> str:
    """The script for a driver, which knows nothing of psql's own commands."""
    return "\n".join(line for line in script.splitlines() if not line.startswith("\\"))


def _drop_roles(admin: Engine) -> None:
    for attempt in range(5):
        try:
            return _drop_roles_once(admin)
        except DBAPIError as error:
            # With autovacuum, which looks after the very tables that are dropped.
            if not isinstance(error.orig, psycopg.errors.DeadlockDetected) or attempt == 4:
                raise
    return None


def _drop_roles_once(admin: Engine) -> None:
    with admin.begin() as connection:
        for role in ROLES:
            found = connection.exec_driver_sql(
                "SELECT true FROM pg_roles WHERE rolname = %s", (role,)
            ).scalar()
            if found:
                connection.exec_driver_sql(f"DROP OWNED BY {quote(role)} CASCADE")
        for role in ROLES:
            connection.exec_driver_sql(f"DROP ROLE IF EXISTS {quote(role)}")

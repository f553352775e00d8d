"""Databases for the documents' tests: as the documents' own statements make them, or as kept.

Of the former there is a file of `installations/` each: names and types of tables and columns are
the documents', and where a document leaves a table out, what its application must have had. Nothing
of Tallykeeper's is in them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
from click.testing import CliRunner
from sqlalchemy import Connection, Engine

from tallykeeper.cli.main import tally
from tallykeeper.dagster import code_location
from tallykeeper.database.connections import open_engine
from tallykeeper.discovery import all_systems
from tests.integration.support import execute
from tests.servers import VERSIONS, Servers
from tests.templates import migrated

_FOLDER = Path(__file__).parent / "installations"


def build(engine: Engine, schema: str, *files: str) -> None:
    """Run the files' statements in the schema, which is made where it is not there."""
    execute(
        engine,
        f"CREATE SCHEMA IF NOT EXISTS {schema}",
        f"SET LOCAL search_path = {schema}",
        *((_FOLDER / f"{name}.sql").read_text() for name in files),
    )


@contextmanager
def kept(servers: Servers, *names: str) -> Iterator[Engine]:
    """A database that keeps these systems, empty; for all tests of a module."""
    wanted = [system for system in all_systems() if system.name in names]
    with servers.fresh_database(VERSIONS[0]) as url:
        engine = open_engine(url)
        migrated(engine, *wanted)
        yield engine
        engine.dispose()


@contextmanager
def undone(engine: Engine) -> Iterator[Connection]:
    """A connection whose writes are rolled back: live reads see them, and no other test does."""
    with engine.connect() as connection:
        yield connection
        connection.rollback()


def run(connection: Connection, *statements: str) -> None:
    """Run the statements in the connection's transaction."""
    for statement in statements:
        connection.exec_driver_sql(statement.replace("%", "%%"))


def by_hand(connection: Connection, query: str) -> list[tuple[Any, ...]]:
    """All rows of a query."""
    return [tuple(row) for row in connection.exec_driver_sql(query.replace("%", "%%"))]


def command(engine: Engine, *arguments: str, code: int | None = 0) -> str:
    """What a `tally` command says about the database; it must end with this code, or any.

    Raises what the command raises.
    """
    url = engine.url.render_as_string(hide_password=False)
    environment = {"TALLY_DATABASE_URL": url}
    result = CliRunner().invoke(tally, arguments, env=environment, standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    assert code is None or (result.return_value or 0) == code, result.output
    return result.output


def benchmarked(*cells: str) -> list[str]:
    """The rows of the documentation's benchmarks that have these cells."""
    page = Path(__file__).parents[2] / "docs" / "reference" / "benchmarks.md"
    lines = page.read_text().splitlines()
    return [line for line in lines if all(f"| {cell} |" in line for cell in cells)]


@cache
def definitions() -> dg.Definitions:
    """What Dagster runs."""
    return code_location.definitions()


def checks_of(name: str) -> set[str]:
    """The names of the checks of an asset such as `media/daily_contributions`."""
    graph = definitions().resolve_asset_graph()
    key = dg.AssetKey(name.split("/"))
    return {check.name for check in graph.asset_check_keys if check.asset_key == key}


def schedule(name: str) -> dg.ScheduleDefinition:
    """A schedule by name."""
    found = definitions().get_repository_def().get_schedule_def(name)
    assert isinstance(found, dg.ScheduleDefinition)
    return found

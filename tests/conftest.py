"""What every test may use: an empty database on a real server, and a world without your settings.

A test that only needs a database asks for `engine` or `database_url`; one that must hold on every
supported PostgreSQL asks for `any_postgres_engine`. TALLY_TEST_POSTGRES chooses the version of the
former: 18 where unset.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

# Tables read their schema from the environment when imported, which is before any fixture runs.
for _name in list(os.environ):
    if _name.startswith(("TALLY_", "PG", "DAGSTER_")) and not _name.startswith("TALLY_TEST_"):
        del os.environ[_name]

from tallykeeper.database.connections import open_engine  # noqa: E402
from tallykeeper.embedded import shared_server  # noqa: E402 -- after the environment was cleared
from tests.servers import NEWEST_AND_OLDEST, VERSIONS, Servers, in_memory  # noqa: E402

# Servers of a test's own write with fsync, as users' do: on a disk that takes longer than the test.
if _memory := in_memory():
    os.environ["TMPDIR"] = str(_memory)
    tempfile.tempdir = None

# Files with the longest tests first: begun last they would keep one worker busy when all others are
# done. Within a folder the order stays as it is.
_LONGEST_FIRST = ("browser", "catalogue", "concurrency", "dagster", "acceptance")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        folder = item.path.parent.name
        return _LONGEST_FIRST.index(folder) if folder in _LONGEST_FIRST else len(_LONGEST_FIRST)

    items.sort(key=rank)


@pytest.fixture(scope="session", autouse=True)
def _own_home() -> Iterator[None]:
    """A home for this run, so that no test comes near the real one."""
    home = Path(tempfile.mkdtemp(prefix="tally-home-", dir=in_memory()))
    os.environ["TALLY_HOME"] = str(home)
    yield
    shared_server.stop(home)
    shutil.rmtree(home)


@pytest.fixture(scope="session")
def postgres_servers() -> Iterator[Servers]:
    """Servers of every version, each started when first asked for."""
    servers = Servers()
    yield servers
    servers.stop()


@pytest.fixture
def postgres_version() -> int:
    """The server's version for `engine`; a module that needs another overrides this fixture."""
    return int(os.environ.get("TALLY_TEST_POSTGRES", VERSIONS[0]))


@pytest.fixture
def database_url(postgres_servers: Servers, postgres_version: int) -> Iterator[str]:
    """The address of an empty database of the test's own."""
    with postgres_servers.fresh_database(postgres_version) as url:
        yield url


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine on an empty database of the test's own."""
    engine = open_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture(params=NEWEST_AND_OLDEST)
def any_postgres_engine(
    request: pytest.FixtureRequest, postgres_servers: Servers
) -> Iterator[Engine]:
    """An engine on an empty database, once on the newest and once on the oldest version."""
    with postgres_servers.fresh_database(request.param) as url:
        engine = open_engine(url)
        yield engine
        engine.dispose()

"""A database of a test's own on a real Citus cluster, whose coordinator TALLY_TEST_CITUS names.

The address is that of any database of the coordinator in which the extension knows its workers.
Where the variable is unset, tests that ask for a cluster are skipped.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from sqlalchemy import make_url

VARIABLE = "TALLY_TEST_CITUS"
_numbers = itertools.count(1)


def coordinator_url() -> str:
    """The address in TALLY_TEST_CITUS; skips the test where it is unset."""
    url = os.environ.get(VARIABLE)
    if not url:
        pytest.skip(f"{VARIABLE} names no coordinator of a Citus cluster")
    return url


def at(url: str, *, database: str | None = None, host: str | None = None, port: int = 0) -> str:
    """The address with another database, or on another node."""
    address = make_url(url)
    if database is not None:
        address = address.set(database=database)
    if host is not None:
        address = address.set(host=host, port=port)
    return address.render_as_string(hide_password=False)


def connected(url: str, *, autocommit: bool = True) -> psycopg.Connection[tuple[object, ...]]:
    """A connection of the driver's."""
    return psycopg.connect(url.replace("+psycopg", ""), autocommit=autocommit)


def workers(url: str) -> list[tuple[str, int]]:
    """Host and port of each worker."""
    with connected(url) as connection:
        found = connection.execute(
            "SELECT nodename, nodeport FROM pg_dist_node WHERE groupid > 0 ORDER BY nodeport"
        ).fetchall()
    return [(str(host), int(str(port))) for host, port in found]


@contextmanager
def fresh_database(shards: int) -> Iterator[str]:
    """The coordinator's end of an empty database on all nodes, whose tables get so many shards."""
    url = coordinator_url()
    nodes = workers(url)
    name = f"tally_test_{os.getpid()}_{next(_numbers)}"
    own = at(url, database=name)
    ends = [own, *(at(url, database=name, host=host, port=port) for host, port in nodes)]
    try:
        for end in ends:
            with connected(at(end, database="postgres")) as connection:
                connection.execute(f"CREATE DATABASE {name}")
            with connected(end) as connection:
                connection.execute("CREATE EXTENSION citus")
        with connected(own) as connection:
            address = make_url(own)
            connection.execute(
                "SELECT citus_set_coordinator_host(%s, %s)", (address.host, address.port or 5432)
            )
            for host, port in nodes:
                connection.execute("SELECT citus_add_node(%s, %s)", (host, port))
            connection.execute(f"ALTER DATABASE {name} SET citus.shard_count = {shards}")
        yield own
    finally:
        for end in ends:
            with connected(at(end, database="postgres")) as connection:
                connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def crash(url: str, worker: tuple[str, int]) -> None:
    """Kill a process of the worker, so that its server stops and recovers; wait until it is up."""
    end = at(url, host=worker[0], port=worker[1])
    try:
        with connected(end) as connection:
            connection.execute("COPY (SELECT 1) TO PROGRAM 'kill -9 $PPID'")
    except psycopg.Error:
        pass
    while True:
        try:
            with connected(end) as connection:
                connection.execute("SELECT 1")
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return


def recover(url: str) -> None:
    """Have the coordinator finish what a worker had prepared when it crashed."""
    with connected(url) as connection:
        connection.execute("SELECT recover_prepared_transactions()")


def move(url: str, table: str, shard: str = "", how: str = "block_writes") -> None:
    """Move a shard of the table, and those colocated with it, to the other worker.

    `shard` is its table's name, without its schema; any, where it is not given.
    """
    with connected(url) as connection:
        found = connection.execute(
            "SELECT shardid, nodename, nodeport FROM citus_shards WHERE table_name = %s::regclass"
            " AND %s IN (shardid::text, '') ORDER BY random() LIMIT 1",
            (table, shard.rpartition("_")[2]),
        ).fetchone()
        assert found is not None
        number, host, port = found
        (to,) = [each for each in workers(url) if each != (host, port)]
        connection.execute(
            "SELECT citus_move_shard_placement(%s, %s, %s, %s, %s, %s::citus.shard_transfer_mode)",
            (number, host, port, *to, how),
        )

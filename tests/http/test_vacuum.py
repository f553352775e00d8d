"""No read of the service holds up vacuum: whatever hangs, its snapshot ends within the limit."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, text
from starlette.requests import Request
from starlette.responses import Response

from assets.media.tallies import system as media
from tallykeeper.http.app import create_app
from tallykeeper.http.database import Snapshots
from tallykeeper.http.problems import Problem, problem_of
from tests.integration.serving_socket import connected
from tests.integration.support import create, execute, scalar
from tests.serving import served

DAILY = "/api/media/daily-counts"
LIMIT_SECONDS = 1
# Far more than twice the limit, and far less than what the reads here would take.
PATIENCE_SECONDS = 20
HANGS_SECONDS = 60
SNAPSHOTS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
  AND backend_xmin IS NOT NULL"""


@pytest.fixture
def library(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """A media library whose live view takes a minute, and a table of which all rows are dead."""
    monkeypatch.setenv("TALLY_SERVE_STATEMENT_SECONDS", str(LIMIT_SECONDS))
    create(engine, media)
    execute(
        engine,
        "CREATE OR REPLACE VIEW media.daily_contributions_live AS"
        f" SELECT timestamptz '2025-11-20Z' AS date, 1 AS count FROM pg_sleep({HANGS_SECONDS})",
        "CREATE TABLE public.dead AS SELECT generate_series(1, 1000) AS n",
    )
    return engine


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, "it is not so in time"
        time.sleep(0.05)


@contextmanager
def vacuum_waits_for(library: Engine) -> Iterator[None]:
    """Rows die after a snapshot of the block began; vacuum removes them before it would end."""
    with library.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:

        def snapshots() -> int:
            return int(connection.exec_driver_sql(SNAPSHOTS).scalar_one())

        def size() -> int:
            connection.exec_driver_sql("VACUUM public.dead")
            return int(connection.scalar(text("SELECT pg_relation_size('public.dead')")))

        yield
        until(lambda: snapshots() > 0)
        connection.exec_driver_sql("DELETE FROM public.dead")
        assert size() > 0, "nothing held up vacuum, so that the test shows nothing"
        until(lambda: snapshots() == 0)
        assert size() == 0


def ask(connection: socket.socket, address: str) -> None:
    connection.sendall(f"GET {address} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())


def test_a_read_whose_client_went_away_ends_within_the_limit(library: Engine) -> None:
    with (
        served(create_app(library, ["media"])) as base,
        vacuum_waits_for(library),
        connected(base) as connection,
    ):
        ask(connection, DAILY)
        until(lambda: scalar(library, SNAPSHOTS) > 0)


def test_a_process_that_hangs_between_two_statements_loses_its_snapshot(library: Engine) -> None:
    """As one that is stopped, or starved, does: the server ends the transaction."""
    go_on = threading.Event()
    failures: list[Exception] = []

    def hang(connection: Any, _: Any) -> None:
        connection.scalar(text("SELECT count(*) FROM public.dead"))
        go_on.wait(HANGS_SECONDS)
        connection.scalar(text("SELECT 1"))

    def run() -> None:
        try:
            Snapshots(library).read(hang)
        except Exception as failure:  # noqa: BLE001 -- looked at below
            failures.append(failure)

    thread = threading.Thread(target=run)
    with vacuum_waits_for(library):
        thread.start()
        until(lambda: scalar(library, SNAPSHOTS) > 0)
    go_on.set()
    thread.join(PATIENCE_SECONDS)
    (failure,) = failures
    problem = problem_of(failure)
    assert problem is not None
    assert problem.kind == "too-slow"


def test_what_the_server_ended_is_too_slow_as_well(library: Engine) -> None:
    def hang(connection: Any, _: Any) -> None:
        with connection.begin_nested():
            pass
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = '50ms'")
        # Longer than that, and within the limit.
        time.sleep(0.5)
        connection.scalar(text("SELECT 1"))

    with pytest.raises(Exception, match=r"idle|terminat|clos") as raised:
        Snapshots(library).read(hang)
    problem = problem_of(raised.value)
    assert problem is not None
    assert problem.kind in ("too-slow", "database-unavailable")


def test_of_many_statements_none_begins_after_the_limit(library: Engine) -> None:
    begun = []

    def read(connection: Any, _: Any) -> None:
        for number in range(100):
            begun.append(number)
            connection.exec_driver_sql("SELECT pg_sleep(0.4)")

    with pytest.raises(Problem) as raised:
        Snapshots(library).read(read)
    assert raised.value.kind == "too-slow"
    assert len(begun) < 10


def test_while_an_answer_is_sent_no_transaction_is_open(library: Engine) -> None:
    ask_for = Snapshots(library)
    app = FastAPI()
    sent = threading.Event()

    @app.get("/large")
    def large(request: Request) -> Response:
        """More than what sockets hold between the two ends."""
        answer = ask_for.answer(request, lambda c: {"text": "x" * 20_000_000})
        sent.set()
        return answer

    with served(app) as base, connected(base) as connection:
        ask(connection, "/large")
        assert sent.wait(PATIENCE_SECONDS)
        assert scalar(library, SNAPSHOTS) == 0
        # The client reads at last, and all of it is there.
        body = _whole(connection)
    assert len(json.loads(body)["text"]) == 20_000_000


def _whole(connection: socket.socket) -> bytes:
    received = b"".join(iter(lambda: connection.recv(1 << 20), b""))
    return received.partition(b"\r\n\r\n")[2]

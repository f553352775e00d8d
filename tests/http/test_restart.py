"""The database goes and comes back while the service is asked: clean problems, and no restart."""

from __future__ import annotations

import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path

import pytest

from tallykeeper.database.connections import DatabaseUnavailable, open_engine
from tallykeeper.http.app import create_app
from tallykeeper.http.problems import problem_of
from tests import serving
from tests.concurrency.server import Server
from tests.integration.serving_socket import PATIENCE, ask, asked_once, client, require_problem
from tests.integration.support import execute, scalar


def test_a_database_that_is_restarted_is_a_clean_problem_until_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with tempfile.TemporaryDirectory(prefix="tally-") as folder:
        server = Server(Path(folder) / "pg")
        server.start()
        try:
            url = server.create_database("served")
            engine = open_engine(url)
            serving.empty(engine)
            execute(
                engine,
                "INSERT INTO media.media_files (path, original_created_at)"
                " SELECT n::text, timestamptz '2025-11-20Z' FROM generate_series(1, 100) AS n",
            )
            engine.dispose()
            monkeypatch.setenv("TALLY_DATABASE_URL", url)
            with serving.served(create_app()) as base, Load(base) as load:
                load.until(200)
                for end in (server.kill, server.stop):
                    end()
                    load.until(503)
                    assert asked_once(base, "/health").status == 200
                    assert asked_once(base, "/ready").status == 503
                    server.start()
                    load.until(200)
                engine = open_engine(url)
                asleep = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                where = " WHERE datname = 'served' AND pid <> pg_backend_pid()"
                assert scalar(engine, asleep + where) > 0
                engine.dispose()
                load.until(200)
                assert asked_once(base, "/api/media/daily-counts").json["total_files"] == 100
                assert asked_once(base, "/ready").status == 200
            for status, body in load.seen:
                assert status in (200, 503), (status, body)
        finally:
            server.stop()


def test_a_failure_that_all_meet_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(100):
        problem = problem_of(DatabaseUnavailable("there is no server at example:5432"))
        assert problem is not None
        assert "example" not in problem.detail
    assert [record.message for record in caplog.records] == ["there is no server at example:5432"]


class Load:
    """Clients that ask without a pause; every answer that is none must be a problem."""

    CLIENTS = 6
    ADDRESSES = (
        "/api/media/daily-counts",
        "/api/media/hourly-counts?day=2025-11-20",
        "/api/v1/content/stats/unified",
        "/api/v1/content/unified?include_stats=true",
        "/api/v1/tags",
        "/api/instances",
        "/api/hashtags/trending?instance=1",
        "/api/stats/hourly?instance=1",
        "/api/posts/velocity?instance=1",
        "/api/courses/1/counts",
        "/api/users/counts?ids=1,2",
        "/metrics",
    )

    def __init__(self, base: str) -> None:
        self._base = base
        self._done = threading.Event()
        self._news = threading.Condition()
        self._pool = ThreadPoolExecutor(self.CLIENTS)
        self.seen: list[tuple[int, str]] = []

    def __enter__(self) -> Load:
        self._asking = [self._pool.submit(self._ask) for _ in range(self.CLIENTS)]
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for asking in self._asking:
            asking.result()
        self._pool.shutdown()

    def until(self, status: int) -> None:
        """Wait until a question that was put after this was called is answered so."""
        with self._news:
            start = len(self.seen) + self.CLIENTS
            assert self._news.wait_for(
                lambda: any(seen == status for seen, _ in self.seen[start:]), PATIENCE
            ), f"there was no {status} in time; recently: {self.seen[-5:]}"

    def _ask(self) -> None:
        with client(self._base) as connection:
            for address in cycle(self.ADDRESSES):
                if self._done.is_set():
                    break
                answer = ask(connection, address)
                if answer.status != 200 and address != "/metrics":
                    require_problem(answer)
                    assert "retry-after" in answer.headers, f"{address}: {answer}"
                with self._news:
                    self.seen.append((answer.status, f"{address}: {answer.body[:500]!r}"))
                    self._news.notify_all()

"""What the service does where it cannot answer: clean problems, and nothing written, ever."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DBAPIError
from starlette.applications import Starlette
from starlette.routing import Mount

from assets.media import reads
from assets.media import routes as media_routes
from assets.media.tallies import daily_contributions
from assets.media.tallies import system as media
from tallykeeper import install, refresh
from tallykeeper.database.connections import open_engine
from tallykeeper.database.sql import CLAIM_WRITING
from tallykeeper.http.app import OpenedLate, create_app
from tallykeeper.http.database import Snapshots
from tests.integration.serving_client import Client
from tests.integration.support import create, execute, scalar

DAILY = "/api/media/daily-counts"
FILE = "INSERT INTO media.media_files (path, original_created_at) VALUES ('{}', '2025-11-20Z')"
GALLERY = ("/api/v1/content/stats/unified", "/api/v1/content/unified", "/api/v1/tags")


@pytest.fixture
def library(engine: Engine) -> Engine:
    """A media library with one file, and nothing else."""
    create(engine, media)
    execute(engine, FILE.format("a"))
    return engine


def problem(answer: Any, status: int, kind: str) -> str:
    """The detail of the problem that the answer must be."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert body["type"] == f"urn:tallykeeper:problem:{kind}"
    assert (body["status"], bool(body["title"])) == (status, True)
    return str(body["detail"])


def test_a_system_that_is_not_there_says_so_and_the_others_go_on(library: Engine) -> None:
    client = Client(create_app(library))
    for address in (
        *GALLERY,
        "/api/stats/hourly?instance=1",
        "/api/hashtags/trending?instance=1",
        "/api/hashtags/cats/hourly?instance=1",
        "/api/instances",
        "/api/summaries?instance=1",
        "/api/summaries/latest?instance=1",
        "/api/posts/velocity?instance=1",
        "/api/posts/1/history?instance=1",
        "/api/submissions/1/counts",
        "/api/users/counts?ids=1,2",
    ):
        detail = problem(client.get(address), 503, "not-installed")
        assert detail.endswith("run `tally migrate`."), detail
    assert client.get(DAILY).json()["total_files"] == 1


def test_a_database_without_anything_is_not_ready_but_alive(engine: Engine) -> None:
    client = Client(create_app(engine, ["media"]))
    problem(client.get(DAILY), 503, "not-installed")
    problem(client.get("/ready"), 503, "not-installed")
    assert client.get("/health").json() == {"status": "alive"}


def test_it_is_ready_until_a_change_waits_for_too_long(
    library: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(create_app(library))
    body = client.get("/ready").json()
    assert (body["status"], body["systems"]) == ("ready", ["media"])
    assert body["oldest_pending"] < body["as_of"]
    monkeypatch.setenv("TALLY_SERVE_READY_SECONDS", "60")
    execute(
        library,
        CLAIM_WRITING,
        "UPDATE tallykeeper.media_daily_contributions_log"
        " SET logged_at = logged_at - interval '61 s'",
    )
    assert "pending since" in problem(client.get("/ready"), 503, "not-ready")
    assert client.get(DAILY).status_code == 200


def test_it_is_not_ready_while_capture_is_not_intact(library: Engine) -> None:
    client = Client(create_app(library))
    assert client.get("/ready").status_code == 200
    execute(library, "ALTER TABLE media.media_files DISABLE TRIGGER tallykeeper_insert")
    detail = problem(client.get("/ready"), 503, "not-intact")
    assert detail.startswith("media.media_files: the insert trigger is disabled")
    execute(library, "ALTER TABLE media.media_files ENABLE ALWAYS TRIGGER tallykeeper_insert")
    detail = problem(client.get("/ready"), 503, "not-intact")
    assert detail.startswith("media.media_files: the insert trigger was changed and changed back")


def test_figures_are_served_for_prometheus(library: Engine) -> None:
    answer = Client(create_app(library, ["media"])).get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert b"tallykeeper_up 1.0" in answer.content


def test_without_a_database_it_answers_so_and_afterwards_as_before(library: Engine) -> None:
    """The database goes away under open connections, refuses new ones, and comes back."""
    url = library.url.render_as_string(hide_password=False)
    served = open_engine(url, connections=2)
    client = Client(create_app(served))
    assert client.get(DAILY).status_code == 200
    admin = open_engine(library.url.set(database="postgres").render_as_string(hide_password=False))
    name = library.url.database
    with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        library.dispose()
        connection.exec_driver_sql(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS false')
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
        connection.execute(text(ended), {"name": name})
        for address in (DAILY, "/ready", *GALLERY):
            answer = client.get(address)
            detail = problem(answer, 503, "database-unavailable")
            assert str(name) not in detail
            assert answer.headers["retry-after"] == "5"
        assert client.get("/health").status_code == 200
        assert b"tallykeeper_up 0.0" in client.get("/metrics").content
        connection.exec_driver_sql(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS true')
    admin.dispose()
    assert client.get(DAILY).json()["total_files"] == 1
    served.dispose()


def test_an_answer_that_takes_too_long_is_given_up(
    library: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLY_SERVE_STATEMENT_SECONDS", "1")
    execute(
        library,
        "CREATE OR REPLACE VIEW media.daily_contributions_live AS"
        " SELECT timestamptz '2025-11-20Z' AS date, 1 AS count FROM pg_sleep(30)",
    )
    detail = problem(Client(create_app(library)).get(DAILY), 503, "too-slow")
    assert "gave up" in detail


def test_a_lock_is_not_waited_for_long(library: Engine) -> None:
    with library.connect() as connection:
        connection.exec_driver_sql("LOCK TABLE media.daily_contributions")
        problem(Client(create_app(library, ["media"])).get(DAILY), 503, "busy")


def test_more_questions_than_connections_are_asked_to_come_again(library: Engine) -> None:
    url = library.url.render_as_string(hide_password=False)
    small = create_engine(url, pool_size=1, max_overflow=0, pool_timeout=0.1)
    with small.connect():
        problem(Client(create_app(small)).get(DAILY), 503, "busy")
    small.dispose()


def test_a_role_that_may_not_read_hears_what_to_grant(library: Engine) -> None:
    with library.begin() as connection:
        connection.exec_driver_sql("CREATE ROLE serving_nobody LOGIN")
    nobody = open_engine(library.url.set(username="serving_nobody").render_as_string())
    try:
        detail = problem(Client(create_app(nobody)).get(DAILY), 503, "not-permitted")
        assert "permission denied" in detail
        for statement in (
            "GRANT USAGE ON SCHEMA media, tallykeeper TO serving_nobody",
            "GRANT SELECT ON ALL TABLES IN SCHEMA media, tallykeeper TO serving_nobody",
            "REVOKE SELECT ON media.media_files FROM serving_nobody",
        ):
            execute(library, statement)
        with library.begin() as connection:
            install(connection, media.tallies)
        refresh(library, daily_contributions)
        answer = Client(create_app(nobody, ["media"])).get(DAILY)
        assert answer.json()["total_files"] == 1
        assert "etag" in answer.headers
    finally:
        nobody.dispose()
        execute(library, "DROP OWNED BY serving_nobody", "DROP ROLE serving_nobody")


def test_the_service_cannot_write_even_as_the_owner(
    library: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in the snapshot that an answer is read in, nor outside of it."""
    monkeypatch.setenv(
        "TALLY_SERVE_DATABASE_URL", library.url.render_as_string(hide_password=False)
    )
    opened = OpenedLate(None)
    try:
        with pytest.raises(DBAPIError, match="read-only transaction"):
            Snapshots(opened).read(lambda c, _: c.exec_driver_sql(FILE.format("b")))
        # On the caller's own engine, as where a router is mounted, the transaction alone says so.
        with pytest.raises(DBAPIError, match="read-only transaction"):
            Snapshots(library).read(lambda c, _: c.exec_driver_sql(FILE.format("b")))
        with opened().connect() as connection, pytest.raises(DBAPIError, match="read-only"):
            connection.exec_driver_sql(FILE.format("b"))
    finally:
        opened.close()
    assert scalar(library, "SELECT count(*) FROM media.media_files") == 1


def test_a_truncation_just_then_is_answered_by_the_next_snapshot(library: Engine) -> None:
    tries = []

    def read(connection: Any, _: Any) -> int:
        tries.append(1)
        if len(tries) == 1:
            connection.exec_driver_sql(
                "DO $$ BEGIN RAISE SQLSTATE '40001' USING MESSAGE = 'truncated'; END $$"
            )
        return int(connection.scalar(text("SELECT 7")))

    assert Snapshots(library).read(read) == 7
    assert len(tries) == 2


def test_an_answer_and_its_moment_are_of_one_snapshot(library: Engine) -> None:
    """What is committed between two statements of an answer is not in it."""

    def read(connection: Any, _: Any) -> list[int]:
        query = text("SELECT count(*) FROM media.media_files")
        first = connection.scalar(query)
        execute(library, FILE.format("meanwhile"))
        return [first, connection.scalar(query)]

    assert Snapshots(library).read(read) == [1, 1]
    assert scalar(library, "SELECT count(*) FROM media.media_files") == 2


@pytest.fixture
def host(library: Engine) -> FastAPI:
    """Somebody's own application, with a router of ours among its own."""
    app = FastAPI()
    app.include_router(media_routes.router(library), prefix="/counts")
    return app


def test_a_router_works_in_another_application(host: FastAPI) -> None:
    client = Client(host)
    assert client.get(f"/counts{DAILY}").json()["total_files"] == 1
    problem(client.get(f"/counts{DAILY}?start=soon"), 422, "bad-parameter")
    problem(client.get(f"/counts{DAILY}?star=2025-01-01"), 422, "bad-parameter")
    tag = client.get(f"/counts{DAILY}").headers.get("etag")
    assert tag is None, "nothing was built yet"
    # What is not ours is the host's.
    assert client.get("/nothing").json() == {"detail": "Not Found"}


def test_the_service_can_be_mounted_in_a_starlette_application(library: Engine) -> None:
    app = Starlette(routes=[Mount("/figures", app=create_app(library, ["media"]))])
    client = Client(app)
    assert client.get(f"/figures{DAILY}").json()["total_files"] == 1
    problem(client.get("/figures/nothing"), 404, "not-found")


def test_a_router_takes_what_returns_an_engine_and_asks_for_it_late(library: Engine) -> None:
    asked: list[int] = []

    def provider() -> Engine:
        asked.append(1)
        return library

    app = FastAPI()
    app.include_router(media_routes.router(provider))
    assert asked == []
    assert Client(app).get(DAILY).status_code == 200


def test_unknown_addresses_methods_and_repeated_parameters_are_problems(library: Engine) -> None:
    client = Client(create_app(library, ["media"]))
    problem(client.get("/api/nothing"), 404, "not-found")
    problem(client.post(DAILY), 405, "method-not-allowed")
    twice = client.get(f"{DAILY}?start=2025-01-01&start=2025-01-02")
    assert "several times" in problem(twice, 422, "bad-parameter")
    problem(client.get(GALLERY[0]), 404, "not-found")


def test_days_are_dates_and_nothing_else(library: Engine) -> None:
    client = Client(create_app(library, ["media"]))
    for given in (
        *(
            "soon",
            "20251120",
            "2025-W01-1",
            "1763640000",
            "2025-02-30",
            "0000-01-01",
            "10000-01-01",
        ),
        *(
            "2025-11-20T00:00:00",
            "%00",
            "2025-11-20%00",
            "٢٠٢٥-١١-٢٠",
            "-1",
            "infinity",
            "9" * 5000,
        ),
    ):
        answer = client.get(f"{DAILY}?start={given}")
        assert "start" in problem(answer, 422, "bad-parameter")
    assert "not after" in problem(
        client.get(f"{DAILY}?start=2025-11-21&end=2025-11-20"), 422, "bad-parameter"
    )
    assert client.get(f"{DAILY}?start=0001-01-01&end=9999-12-31").json()["total_files"] == 1
    problem(client.get("/api/media/hourly-counts"), 422, "bad-parameter")


def test_a_bug_is_answered_without_details_and_logged(
    library: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("secret")

    monkeypatch.setattr(reads, "daily_counts", broken)
    client = Client(create_app(library, ["media"]), raises=False)
    answer = client.get(DAILY)
    assert "secret" not in problem(answer, 500, "internal")


def test_several_threads_share_the_engine_that_is_opened_late(
    library: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "TALLY_SERVE_DATABASE_URL", library.url.render_as_string(hide_password=False)
    )
    opened = OpenedLate(None)
    found: list[Engine] = []
    threads = [threading.Thread(target=lambda: found.append(opened())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(engine) for engine in found}) == 1
    opened.close()

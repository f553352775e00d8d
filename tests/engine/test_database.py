"""Opening a database: any PostgreSQL address, clear words when it fails, no password anywhere."""

from __future__ import annotations

import logging
import socket
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import dagster as dg
import psycopg
import pytest
from sqlalchemy import Engine, make_url, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from tallykeeper.database import connections
from tallykeeper.database.connections import (
    DatabaseUnavailable,
    check_database,
    dagster_url,
    open_engine,
    prepare_dagster_storage,
)
from tallykeeper.embedded import shared_server
from tests.servers import Servers

SECRET = "Geheim-4711"


def failure(url: str) -> DatabaseUnavailable:
    """What is said of an address that leads nowhere."""
    with pytest.raises(DatabaseUnavailable) as caught:
        _use(url)
    shown = "".join(traceback.format_exception(caught.value))
    assert SECRET not in shown
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert "; " in sentence
    return caught.value


def _use(url: str) -> None:
    engine = open_engine(url)
    assert SECRET not in repr(engine)
    check_database(engine)


@pytest.fixture
def guarded_url(postgres_servers: Servers, postgres_version: int, engine: Engine) -> Iterator[str]:
    """The address of the test's database for a role that needs SECRET as its password."""
    server = postgres_servers.of(postgres_version)
    rules = server.data / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text("local all guarded scram-sha-256\n" + before)
    with engine.begin() as connection:
        connection.execute(text(f"CREATE ROLE guarded LOGIN PASSWORD '{SECRET}'"))
        connection.execute(text("SELECT pg_reload_conf()"))
    url = engine.url.set(username="guarded", password=SECRET)
    yield url.render_as_string(hide_password=False).replace("+psycopg", "")
    rules.write_text(before)
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_reload_conf()"))
        connection.execute(text("DROP OWNED BY guarded"))
        connection.execute(text("DROP ROLE guarded"))


def wait_until_guarded(url: str) -> None:
    """The server reads changed rules a moment after it is asked to."""
    without = make_url(url).set(password=None).render_as_string()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        engine = open_engine(without)
        try:
            check_database(engine)
        except DatabaseUnavailable:
            return
        finally:
            engine.dispose()
    pytest.fail("the rules were not read")


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg2"])
def test_any_address_of_postgresql_is_opened_with_psycopg_3(database_url: str, scheme: str) -> None:
    engine = open_engine(database_url.replace("postgresql", scheme, 1))
    assert engine.driver == "psycopg"
    check_database(engine)
    engine.dispose()


def test_it_works_on_every_supported_version(any_postgres_engine: Engine) -> None:
    check_database(any_postgres_engine)
    with any_postgres_engine.connect() as connection:
        assert int(connection.scalar(text("SHOW max_prepared_transactions"))) > 0
        assert connection.scalar(text("SELECT lower('ÄÖ')")) == "äö"


def test_sessions_say_whose_they_are(engine: Engine) -> None:
    with engine.connect() as connection:
        assert connection.scalar(text("SHOW application_name")) == "tallykeeper"


def test_an_address_may_choose_another_name(database_url: str) -> None:
    engine = open_engine(f"{database_url}&application_name=mine")
    with engine.connect() as connection:
        assert connection.scalar(text("SHOW application_name")) == "mine"
    engine.dispose()


def test_the_environment_names_the_database(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLY_DATABASE_URL", database_url)
    engine = open_engine()
    assert engine.url.database == make_url(database_url).database
    check_database(engine)
    engine.dispose()


def test_without_an_address_the_embedded_server_is_started() -> None:
    engine = open_engine()
    check_database(engine)
    assert shared_server.is_running()
    assert engine.url.database == shared_server.DATABASE
    again = open_engine()
    assert again.url == engine.url
    for opened in (engine, again):
        opened.dispose()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nonsense", "expected an address like postgresql://"),
        (f"postgresql://u:{SECRET}@h:port/d", "cannot be read"),
        (f"mysql://u:{SECRET}@h/d", "it is one of 'mysql'"),
        (f"postgresql://u:{SECRET[:6]}@{SECRET[6:]}@h/d", "write @ in the password as %40"),
        (f"postgresql://u:{SECRET}@127.0.0.1:1/d", "start the server, or correct host and port"),
        (f"postgresql://u:{SECRET}@/d?host=/nowhere", "start the server, or correct host and port"),
        (f"postgresql://u:{SECRET}@no-such-host.invalid/d", "correct the host name"),
        (f"postgresql://u:{SECRET}@127.0.0.1:1/d?colour=red", "invalid connection option"),
        (f"postgresql://127.0.0.1:1/d?user=u&password={SECRET}", "u@127.0.0.1:1/d"),
        (f"postgresql://u@127.0.0.1:1/d?sslpassword={SECRET}", "u@127.0.0.1:1/d"),
    ],
)
def test_a_wrong_address_is_reported_in_one_sentence_without_the_password(
    url: str, says: str
) -> None:
    assert says in str(failure(url))


def test_it_is_said_where_a_wrong_address_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLY_DATABASE_URL", "nonsense")
    with pytest.raises(DatabaseUnavailable, match=r"^TALLY_DATABASE_URL: expected"):
        open_engine()


def test_a_database_that_is_not_there_is_reported(database_url: str) -> None:
    url = make_url(database_url).set(database="not_there").render_as_string()
    assert "name an existing database" in str(failure(url))


def test_a_role_that_is_not_there_is_reported(database_url: str) -> None:
    url = make_url(database_url).set(username="not_there").render_as_string()
    assert "name a role that exists and may log in" in str(failure(url))


def test_a_wrong_password_is_reported_and_a_right_one_never_shown(
    guarded_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wait_until_guarded(guarded_url)
    engine = open_engine(guarded_url)
    check_database(engine)
    assert SECRET not in repr(engine) + repr(engine.url) + str(engine.url)
    with pytest.raises(ProgrammingError) as caught, engine.connect() as connection:
        connection.execute(text("SELECT no_such_function()"))
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    engine.dispose()
    wrong = make_url(guarded_url).set(password=f"{SECRET}-not")
    said = str(failure(wrong.render_as_string(hide_password=False)))
    assert "password authentication failed" in said
    assert said.endswith("check user and password")
    missing = make_url(guarded_url).set(password=None).render_as_string()
    assert str(failure(missing)).endswith("check user and password")
    assert SECRET not in caplog.text


def test_a_server_that_never_answers_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        url = f"postgresql://u:{SECRET}@127.0.0.1:{port}/d?connect_timeout=2"
        assert "check that host and port can be reached" in str(failure(url))


def test_a_full_server_is_reported(database_url: str) -> None:
    setup = open_engine(database_url)
    with setup.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("CREATE ROLE lonely LOGIN CONNECTION LIMIT 0"))
    url = make_url(database_url).set(username="lonely").render_as_string()
    try:
        assert "too many connections" in str(failure(url))
    finally:
        with setup.begin() as connection:
            connection.execute(text("DROP ROLE lonely"))
        setup.dispose()


def test_too_old_a_server_is_refused(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "OLDEST_VERSION", 99)
    assert "expected PostgreSQL 99 to 18" in str(failure(database_url))


def test_a_newer_server_is_used_with_one_warning(
    database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connections, "NEWEST_VERSION", 14)
    monkeypatch.setattr(connections, "OLDEST_VERSION", 14)
    engine = open_engine(database_url)
    for _ in range(2):
        check_database(engine)
        engine.dispose()
    assert caplog.text.count("Tallykeeper is tested with 14 to 14") == 1


def test_nothing_connects_before_it_is_used() -> None:
    open_engine("postgresql://u@127.0.0.1:1/d")


def test_a_connection_that_the_server_ended_is_replaced(engine: Engine, database_url: str) -> None:
    with engine.connect() as connection:
        pid = connection.scalar(text("SELECT pg_backend_pid()"))
    other = open_engine(database_url)
    with other.connect() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
    other.dispose()
    check_database(engine)


def test_a_database_that_vanishes_meanwhile_is_reported_too(
    engine: Engine, postgres_servers: Servers, postgres_version: int
) -> None:
    check_database(engine)
    administrator = open_engine(postgres_servers.of(postgres_version).url())
    with administrator.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"DROP DATABASE {engine.url.database} WITH (FORCE)"))
    administrator.dispose()
    with pytest.raises((DatabaseUnavailable, OperationalError), match="does not exist"):
        check_database(engine)


def test_dagster_gets_the_same_database_in_a_schema_of_its_own() -> None:
    url = make_url(dagster_url(f"postgresql://u:p%40%2F{SECRET}@h:6000/d?options=-cjit%3Doff"))
    assert (url.drivername, url.database, url.port) == ("postgresql+psycopg2", "d", 6000)
    assert url.password == f"p@/{SECRET}"
    assert url.query["options"] == "-cjit=off -csearch_path=dagster -ctimezone=UTC"


def test_dagsters_address_of_an_engine_has_the_password(guarded_url: str) -> None:
    engine = open_engine(guarded_url)
    assert make_url(dagster_url(engine.url)).password == SECRET


def test_dagsters_schema_is_made_once_by_however_many(database_url: str) -> None:
    engines = [open_engine(database_url) for _ in range(6)]
    together = threading.Barrier(len(engines))

    def prepare(engine: Engine) -> None:
        check_database(engine)
        together.wait(10)
        prepare_dagster_storage(engine)
        engine.dispose()

    with ThreadPoolExecutor(len(engines)) as pool:
        list(pool.map(prepare, engines))
    with closing(psycopg.connect(database_url)) as connection:
        found = connection.execute("SELECT count(*) FROM pg_namespace WHERE nspname = 'dagster'")
        assert found.fetchone() == (1,)


def test_dagsters_schema_needs_no_rights_where_it_is_there(
    engine: Engine, guarded_url: str
) -> None:
    guarded = open_engine(guarded_url)
    with pytest.raises(ProgrammingError, match="permission denied"):
        prepare_dagster_storage(guarded)
    prepare_dagster_storage(engine)
    prepare_dagster_storage(guarded)
    guarded.dispose()


def test_dagsters_storage_works_there_and_leaves_other_schemas_alone(
    any_postgres_engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    engine = any_postgres_engine
    with engine.begin() as connection:
        # The application's own, by the same name as Dagster's.
        connection.execute(text("CREATE TABLE alembic_version (version_num text)"))
    prepare_dagster_storage(engine)
    monkeypatch.setenv("DAGSTER_PG_URL", dagster_url(engine.url))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    (tmp_path / "dagster.yaml").write_text(
        "storage: {postgres: {postgres_url: {env: DAGSTER_PG_URL}}}\ntelemetry: {enabled: false}\n"
    )
    seen = threading.Event()

    def watch(*_: object) -> None:
        seen.set()

    @dg.asset
    def something() -> None: ...

    with dg.DagsterInstance.get() as instance:
        run = dg.materialize([something], instance=instance)
        instance.watch_event_logs(run.run_id, None, watch)
        assert seen.wait(10)
        instance.end_watch_event_logs(run.run_id, watch)
        instance.upgrade()
    with dg.DagsterInstance.get() as instance:
        assert instance.get_runs_count() == 1
        assert instance.get_latest_materialization_event(dg.AssetKey("something")) is not None
    with engine.connect() as connection:
        tables = connection.execute(
            text("SELECT schemaname, count(*) FROM pg_stat_user_tables GROUP BY 1 ORDER BY 1")
        ).all()
    assert [schema for schema, _ in tables] == ["dagster", "public"]
    assert tables[1][1] == 1

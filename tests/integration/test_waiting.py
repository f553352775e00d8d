"""Who waits for whom, and for how long: a refresh for the application, and the other way round."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest
from sqlalchemy import Connection, Engine, create_engine

from assets.gallery.tallies import content_tags, gen_source_stats, system
from tallykeeper import TallyBusy, rebuild, refresh, verify
from tallykeeper.catalog import transactions as engine_transactions
from tallykeeper.catalog.transactions import writing
from tallykeeper.database.connections import open_engine
from tallykeeper.database.lock_holders import ROWS, Wanted, holders
from tallykeeper.database.sessions import IDLE_SECONDS
from tests.integration.support import create, execute, rows, scalar

TAGS = 30
RESTORE_TAGS = (
    "INSERT INTO gallery.tags (id, name) SELECT md5(n::text)::uuid, 'tag ' || n"
    f" FROM generate_series(1, {TAGS}) AS n ON CONFLICT DO NOTHING"
)
# Two tags of thirty each, some of which are not there at times.
RETAG = (
    "UPDATE gallery.content_items SET tags = ARRAY[md5((1 + id * {n} % 30)::text),"
    " md5((1 + id * {n} % 29)::text)]::uuid[] WHERE id % 3 = {n} % 3"
)


@pytest.fixture
def gallery(engine: Engine) -> Engine:
    """Thirty items with two tags each, built."""
    create(engine, system)
    execute(
        engine,
        "INSERT INTO gallery.users (username) VALUES ('anna')",
        RESTORE_TAGS,
        "INSERT INTO gallery.content_items (creator_id, tags) SELECT u.id, '{}'"
        " FROM gallery.users AS u, generate_series(1, 30)",
        RETAG.format(n=1),
    )
    for tally in (content_tags, gen_source_stats):
        refresh(engine, tally)
    return engine


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that gives up after a single attempt."""
    monkeypatch.setattr(engine_transactions, "ATTEMPTS", 1)
    monkeypatch.setattr(engine_transactions, "PATIENCE_SECONDS", 0.0)


@contextmanager
def shop(engine: Engine, *statements: str) -> Iterator[psycopg.Connection]:
    """An application with an open transaction in which it ran the statements."""
    url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, application_name="shop") as connection:
        for statement in statements:
            connection.execute(statement.encode())
        yield connection
        connection.rollback()


def tag(number: int) -> str:
    return f"id = md5('{number}')::uuid"


def lock(number: int) -> str:
    return f"SELECT FROM gallery.tags WHERE {tag(number)} FOR UPDATE"


@pytest.mark.usefixtures("impatient")
def test_who_holds_a_referenced_row_is_named(gallery: Engine) -> None:
    execute(gallery, "UPDATE gallery.content_items SET tags = ARRAY[md5('7')]::uuid[]")
    with shop(gallery, lock(7)) as application:
        with pytest.raises(TallyBusy) as refused:
            refresh(gallery, content_tags)
        pid = application.info.backend_pid
    assert re.search(
        rf"locks on gallery\.tags are held by the session with process id {pid} \(application"
        r" 'shop', role postgres, idle in transaction since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\)",
        str(refused.value),
    )
    assert "1 of 1 rows of gallery.tags that are referred to are locked" in str(refused.value)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("work", [refresh, rebuild, verify])
def test_who_holds_a_source_is_named(gallery: Engine, work: Callable[..., object]) -> None:
    held = "LOCK TABLE gallery.content_items IN ACCESS EXCLUSIVE MODE"
    with shop(gallery, held) as application:
        with pytest.raises(TallyBusy) as refused:
            work(gallery, gen_source_stats)
        pid = application.info.backend_pid
    named = f"locks on gallery.content_items are held by the session with process id {pid}"
    assert named in str(refused.value)


@pytest.mark.usefixtures("impatient")
def test_a_holder_that_waits_itself_is_named_with_whom_it_waits_for(gallery: Engine) -> None:
    with (
        shop(gallery, "LOCK TABLE gallery.users IN ACCESS EXCLUSIVE MODE") as first,
        shop(gallery, "LOCK TABLE gallery.gen_source_stats IN EXCLUSIVE MODE") as second,
    ):
        waiting = threading.Thread(target=second.execute, args=("SELECT FROM gallery.users",))
        waiting.start()
        await_lock_of(gallery, second.info.backend_pid)
        with pytest.raises(TallyBusy, match=f"itself waiting for {first.info.backend_pid}"):
            refresh(gallery, gen_source_stats)
        first.rollback()
        waiting.join()


def await_lock_of(engine: Engine, pid: int) -> None:
    while not scalar(engine, f"SELECT cardinality(pg_blocking_pids({pid}))"):
        time.sleep(0.01)


@pytest.mark.usefixtures("impatient")
def test_a_prepared_transaction_is_named(gallery: Engine) -> None:
    with shop(gallery, "LOCK TABLE gallery.gen_source_stats IN EXCLUSIVE MODE") as application:
        application.execute("PREPARE TRANSACTION 'forgotten'")
        application.rollback()
        with pytest.raises(TallyBusy, match=r"the prepared transaction 'forgotten' \(role post"):
            refresh(gallery, gen_source_stats)
        application.autocommit = True
        application.execute("ROLLBACK PREPARED 'forgotten'")
        application.autocommit = False


def test_a_role_that_may_not_see_it_is_shown_who_but_not_since_when(gallery: Engine) -> None:
    execute(
        gallery,
        "DROP ROLE IF EXISTS tally_blind",
        "CREATE ROLE tally_blind LOGIN",
        "GRANT USAGE ON SCHEMA gallery TO tally_blind",
    )
    blind = create_engine(gallery.url.set(username="tally_blind"))
    with shop(gallery, lock(7)) as application:
        (found,) = holders(blind, [Wanted("gallery.tags", ROWS)])
        assert (found.pid, found.application) == (application.info.backend_pid, "shop")
        assert "since when is not shown to this role" in str(found)
    blind.dispose()
    execute(gallery, "DROP OWNED BY tally_blind", "DROP ROLE tally_blind")


def test_a_deletion_waits_behind_a_waiting_refresh_for_a_second_at_most(gallery: Engine) -> None:
    """Its first attempt would hold the queue for as long as the engine has patience."""
    execute(gallery, RETAG.format(n=5))
    with shop(gallery, f"DELETE FROM gallery.tags WHERE {tag(1)}") as deleting:
        refreshing = threading.Thread(target=refresh, args=(gallery, content_tags))
        refreshing.start()
        while not scalar(
            gallery,
            "SELECT count(*) FROM pg_locks WHERE NOT granted"
            " AND relation = 'gallery.content_tags'::regclass",
        ):
            time.sleep(0.01)
        # Far more than a second, for a slow machine; and far less than the refresh is tried for.
        execute(
            gallery, "SET LOCAL lock_timeout = '6s'", f"DELETE FROM gallery.tags WHERE {tag(2)}"
        )
        assert refreshing.is_alive()
        deleting.rollback()
    refreshing.join()
    assert verify(gallery, content_tags).ok


FROZEN = """
import sys, time
from assets.gallery.tallies import content_tags
from tallykeeper.database.connections import open_engine
from tallykeeper.database import sessions
from tallykeeper.catalog.transactions import writing
sessions.WORKING["idle_in_transaction_session_timeout"] = "'1s'"
def work(connection):
    print("holding", flush=True)
    time.sleep(60)
writing(open_engine(sys.argv[1]), content_tags, work)
"""


def test_a_refresher_that_freezes_gives_its_locks_back(gallery: Engine) -> None:
    url = gallery.url.render_as_string(hide_password=False)
    frozen = subprocess.Popen([sys.executable, "-c", FROZEN, url], stdout=subprocess.PIPE)
    assert frozen.stdout is not None
    try:
        assert frozen.stdout.readline() == b"holding\n"
        os.kill(frozen.pid, signal.SIGSTOP)
        # Bounded by what the frozen session set for itself, and not by this.
        execute(
            gallery, "SET LOCAL lock_timeout = '30s'", f"DELETE FROM gallery.tags WHERE {tag(1)}"
        )
    finally:
        frozen.kill()
        frozen.wait()
        frozen.stdout.close()
    refresh(gallery, content_tags)
    assert verify(gallery, content_tags).ok


def test_sessions_that_freeze_or_lose_their_network_end_within_a_minute(gallery: Engine) -> None:
    names = ("idle_in_transaction_session_timeout", "lock_timeout", "statement_timeout")

    def settings(connection: Connection) -> list[str]:
        return [connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in names]

    assert writing(gallery, content_tags, settings) == ["1min", "1s", "0"]
    assert IDLE_SECONDS == 60
    opened = open_engine("postgresql://ann@db.invalid/app?keepalives_idle=5")
    arguments = opened.dialect.create_connect_args(opened.url)[1]
    assert arguments["keepalives_idle"] == "5"
    assert rows(gallery, "SHOW idle_in_transaction_session_timeout") == [("0",)]


def test_no_refresh_gives_up_under_the_load_of_short_blockers(gallery: Engine) -> None:
    """Deletions of tags, and row locks on them, each far below a second; none of them fails."""
    stop = threading.Event()
    failures: list[BaseException] = []
    chance = random.Random(7)

    def repeatedly(work: Callable[[psycopg.Connection], None]) -> None:
        try:
            with shop(gallery) as connection:
                while not stop.is_set():
                    work(connection)
                    connection.commit()
        except BaseException as error:
            failures.append(error)
            raise

    def delete(connection: psycopg.Connection) -> None:
        connection.execute(
            f"DELETE FROM gallery.tags WHERE {tag(chance.randint(1, TAGS))}".encode()
        )
        time.sleep(0.02)
        connection.execute(RESTORE_TAGS.encode())

    def hold(connection: psycopg.Connection) -> None:
        connection.execute(lock(chance.randint(1, TAGS)).encode())
        time.sleep(0.1)

    blockers = [threading.Thread(target=repeatedly, args=(w,)) for w in (delete, hold, hold)]
    for blocker in blockers:
        blocker.start()
    try:
        for number in range(30):
            execute(gallery, RETAG.format(n=number))
            (rebuild if number % 10 == 9 else refresh)(gallery, content_tags)
    finally:
        stop.set()
        for blocker in blockers:
            blocker.join()
    assert failures == []
    refresh(gallery, content_tags)
    assert verify(gallery, content_tags).ok

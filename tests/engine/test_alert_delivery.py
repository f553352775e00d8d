"""Messages reach people: over a webhook, by mail, late, and past targets that are dead or hang."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from email import message_from_bytes
from email.message import Message
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from sqlalchemy import Engine

from tallykeeper.faults import incidents
from tallykeeper.operations import delivery, outbox
from tallykeeper.operations.alert_targets import Target, targets_of
from tests.integration.support import create, execute, rows, scalar
from tests.library import system as media
from tests.webhook import Webhook, webhook

LOG = logging.getLogger("tests.alerts")
DETAILS = {
    "keys": [{"date": "2025-11-20T00:00:00+00:00", "count (stored)": "9", "count (expected)": "2"}],
    "to_resolve": "tally rebuild media.daily_contributions --from 2025-11-20 --to 2025-11-21",
    "run": "1a2b",
    "asset": "media/daily_contributions",
}
TITLE = "media.daily_contributions: 1 key differs from the sources"


@pytest.fixture
def database(engine: Engine) -> Engine:
    """A database in which nothing is wrong."""
    create(engine, media)
    return engine


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as hook:
        yield hook


@pytest.fixture
def no_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def find(engine: Engine, subject: str = "media.daily_contributions") -> int:
    """Write down that something differs."""
    with engine.begin() as connection:
        found = incidents.report(
            connection, subject, "differs", "1 key differs.", differing=1, details=DETAILS
        )
    return found.id


def tell(engine: Engine, targets: Sequence[Target], *found_now: int, hours: int = 6) -> list[str]:
    """Write messages and deliver what is due, as one look does; the titles of what was written."""
    with engine.begin() as connection:
        texts = outbox.write(connection, set(found_now), targets, hours)
        for lost in delivery.give_up_removed(connection, targets):
            LOG.error("%s", lost)
    delivery.deliver(engine, targets, LOG)
    return [text.title for text in texts]


def later(engine: Engine, interval: str = "2 hours") -> None:
    """Let time go by, for what waits to be sent."""
    execute(
        engine,
        f"UPDATE tallykeeper.deliveries SET due_at = due_at - interval '{interval}'",
        f"UPDATE tallykeeper.messages SET made_at = made_at - interval '{interval}'",
        f"UPDATE tallykeeper.incidents SET found_at = found_at - interval '{interval}',"
        f" last_found_at = last_found_at - interval '{interval}'",
    )


def test_a_webhook_gets_the_text_once(database: Engine, hook: Webhook) -> None:
    find(database)
    targets = targets_of([hook.url])
    assert tell(database, targets) == [TITLE]
    assert hook.titles == [TITLE]
    assert hook.received[0]["body"].splitlines()[0] == "2025-11-20: stored 9, expected 2"
    assert tell(database, targets) == []
    later(database)
    tell(database, targets)
    assert len(hook.received) == 1
    (row,) = rows(database, "SELECT target, attempts, error FROM tallykeeper.deliveries")
    assert tuple(row) == (targets[0].name, 1, None)
    assert "hook-secret" not in str(rows(database, "SELECT * FROM tallykeeper.deliveries"))


def test_a_mail_shows_what_a_person_has_to_know(database: Engine) -> None:
    find(database)
    with mail_server() as (port, mails):
        url = f"mailto://127.0.0.1:{port}/?from=tally@example.org&to=ops@example.org"
        tell(database, targets_of([url]))
    (mail,) = mails
    assert mail["Subject"] == TITLE
    assert mail["To"] == "ops@example.org"
    text = plain_text(mail)
    for line in (
        "2025-11-20: stored 9, expected 2",
        "run `tally rebuild media.daily_contributions --from 2025-11-20 --to 2025-11-21`",
        "http://127.0.0.1:3000/runs/1a2b",
        "http://127.0.0.1:3000/assets/media/daily_contributions",
    ):
        assert line in text


def test_a_dead_target_delays_no_other_and_gets_the_message_when_it_is_back(
    database: Engine, hook: Webhook, no_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    dead, alive = targets_of([f"json://127.0.0.1:{no_port}/hook-secret-2", hook.url])
    caplog.set_level(logging.DEBUG)
    find(database)
    tell(database, [dead, alive])
    assert hook.titles == [TITLE]
    assert f"{dead.name} did not get '{TITLE}'" in caplog.text
    assert "it is tried again" in caplog.text
    assert waits(database, dead) == [60]
    tell(database, [dead, alive])
    assert waits(database, dead) == [60], "before it is due it is not tried"
    for wait in (120, 240, 480, 960, 1920, 3600, 3600):
        later(database)
        tell(database, [dead, alive])
        assert waits(database, dead) == [wait]

    with webhook(no_port) as back:
        later(database)
        tell(database, [dead, alive])
        assert back.titles == [TITLE]
    assert len(hook.received) == 1
    assert waits(database, dead) == []
    assert "hook-secret" not in caplog.text


def test_messages_to_a_target_that_is_back_arrive_in_their_order(
    database: Engine, no_port: int
) -> None:
    (dead,) = targets_of([f"json://127.0.0.1:{no_port}"])
    find(database)
    tell(database, [dead])
    with webhook(no_port) as back:
        with database.begin() as connection:
            incidents.resolve(connection, "media.daily_contributions", "differs", "the check")
        tell(database, [dead])
        assert [title.partition(": ")[2][:9] for title in back.titles] == ["1 key dif", "recovered"]


def test_a_target_that_refuses_one_message_gets_the_others(database: Engine, hook: Webhook) -> None:
    (target,) = targets_of([hook.url])
    hook.status = 400
    find(database)
    tell(database, [target])
    assert hook.received == []
    (error,) = rows(database, "SELECT error FROM tallykeeper.deliveries")
    assert "400" in error[0]
    hook.status = 200
    find(database, "media.hourly_contributions")
    tell(database, [target])
    assert len(hook.received) == 2


def test_a_target_that_never_answers_delays_neither_others_nor_the_look(
    database: Engine, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "WAITING_SECONDS", 0.5)
    find(database)
    with silent_server() as (port, answered):
        hanging, alive = targets_of([f"json://127.0.0.1:{port}/?rto=60&cto=60", hook.url])
        tell(database, [hanging, alive])
        assert hook.titles == [TITLE]
        ((attempts, error, _),) = undelivered(database, hanging)
        assert (attempts, error) == (1, delivery.NO_ANSWER)
        later(database)
        tell(database, [hanging, alive])
        assert answered() == 1, "while it hangs it is not called a second time"
    delivery._senders[hanging.name].join(10)
    ((attempts, error, _),) = undelivered(database, hanging)
    assert attempts == 1
    assert error.startswith("A Connection error occurred")


def test_what_a_process_had_claimed_when_it_died_is_sent_by_the_next(
    database: Engine, hook: Webhook
) -> None:
    (target,) = targets_of([hook.url])
    find(database)
    with database.begin() as connection:
        outbox.write(connection, set(), [target], 6)
    with database.begin() as connection:
        assert delivery._claim(connection, target) is not None
    tell(database, [target])
    assert hook.received == [], "it may be on its way"
    later(database, "1 minute")
    tell(database, [target])
    assert hook.titles == [TITLE]


def test_after_a_day_of_attempts_a_message_is_given_up_and_logged_with_its_text(
    database: Engine, no_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    (dead,) = targets_of([f"json://127.0.0.1:{no_port}"])
    find(database)
    tell(database, [dead])
    later(database, "25 hours")
    tell(database, [dead])
    assert len(undelivered(database, dead)) == 1, "it was tried twice: for a day nobody looked"
    execute(database, "UPDATE tallykeeper.deliveries SET attempts = 9, due_at = now()")
    tell(database, [dead])
    assert undelivered(database, dead) == []
    (said,) = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert said.startswith(f"{dead.name} did not get this message, and is not tried again")
    assert TITLE in said
    assert "2025-11-20: stored 9, expected 2" in said


def test_a_target_that_is_missing_is_given_up_and_a_new_one_gets_new_messages_only(
    database: Engine, hook: Webhook, no_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    (gone,) = targets_of([f"json://127.0.0.1:{no_port}"])
    find(database)
    tell(database, [gone])
    new = targets_of([hook.url])
    tell(database, new)
    assert hook.received == []
    assert delivery.ADDRESS_REMOVED in caplog.text
    assert TITLE in caplog.text
    find(database, "media.hourly_contributions")
    tell(database, new)
    assert hook.titles == ["media.hourly_contributions: 1 key differs from the sources"]


def test_without_targets_messages_are_written_and_none_waits(database: Engine) -> None:
    find(database)
    assert tell(database, []) == [TITLE]
    assert scalar(database, "SELECT count(*) FROM tallykeeper.deliveries") == 0
    assert tell(database, []) == []


def test_what_is_still_wrong_is_reported_again_after_hours_with_a_count(
    database: Engine, hook: Webhook
) -> None:
    targets = targets_of([hook.url])
    tell(database, targets, find(database))
    assert tell(database, targets, find(database)) == []
    later(database, "5 hours")
    assert tell(database, targets, find(database)) == []
    later(database, "1 hour")
    tell(database, targets, find(database))
    assert hook.titles[1:] == [
        "media.daily_contributions: still wrong, 1 key differs from the sources"
    ]
    assert "Found 4 times since " in hook.received[1]["body"]
    later(database, "7 hours")
    assert tell(database, targets) == [], "nobody found it again since"


def test_a_repair_that_did_not_help_is_reported_at_once(database: Engine, hook: Webhook) -> None:
    targets = targets_of([hook.url])
    tell(database, targets, find(database))
    with database.begin() as connection:
        again = incidents.report(
            connection,
            "media.daily_contributions",
            "differs",
            "1 key differs.",
            differing=1,
            details=DETAILS | {"job": "repair"},
        )
    tell(database, targets, again.id)
    assert hook.titles[1:] == [
        "media.daily_contributions: not resolved, 1 key differs from the sources"
    ]
    assert "The repair did not resolve it." in hook.received[1]["body"]
    assert tell(database, targets) == []


def test_what_the_engine_resolved_by_itself_is_reported_once(
    database: Engine, hook: Webhook
) -> None:
    targets = targets_of([hook.url])
    with database.begin() as connection:
        now = connection.exec_driver_sql("SELECT now()").scalar_one()
        incidents.record_resolved(
            connection,
            "media.daily_contributions",
            incidents.STALE,
            "its declaration changed",
            "rebuilt",
            found_at=now,
        )
    tell(database, targets)
    tell(database, targets)
    assert hook.titles == ["media.daily_contributions: was rebuilt: its declaration changed"]


def test_old_incidents_that_nobody_was_notified_of_are_history(database: Engine) -> None:
    find(database)
    with database.begin() as connection:
        incidents.resolve(connection, "media.daily_contributions", "differs", "the check")
    execute(
        database,
        "UPDATE tallykeeper.incidents SET found_at = found_at - interval '2 days',"
        " last_found_at = last_found_at - interval '2 days', resolved_at = resolved_at - interval"
        " '2 days'",
    )
    assert tell(database, []) == []


def test_a_bad_night_is_one_message_and_so_is_its_end(database: Engine, hook: Webhook) -> None:
    targets = targets_of([hook.url])
    names = [f"media.table_{n}" for n in range(7)]
    tell(database, targets, *(find(database, name) for name in names))
    assert hook.titles == ["7 things are wrong"]
    listed = hook.received[0]["body"].splitlines()
    assert listed[:7] == [f"{name}: 1 key differs from the sources" for name in names]
    with database.begin() as connection:
        for name in names:
            incidents.resolve(connection, name, "differs", "the check")
    tell(database, targets)
    assert hook.titles[1:] == ["7 things recovered"]
    assert tell(database, targets) == []


def undelivered(engine: Engine, target: Target) -> Sequence[Any]:
    """What waits for a target: attempts, the last error, in how many seconds it is due."""
    return rows(
        engine,
        "SELECT attempts, error, extract(epoch FROM due_at - clock_timestamp())"
        " FROM tallykeeper.deliveries WHERE sent_at IS NULL AND given_up_at IS NULL"
        f" AND target = '{target.name}' ORDER BY message",
    )


def waits(engine: Engine, target: Target) -> list[int]:
    """In how many seconds what waits for a target is due, to the next half minute."""
    return [30 * round(float(wait) / 30 + 0.4) for _, _, wait in undelivered(engine, target)]


@contextmanager
def mail_server() -> Iterator[tuple[int, list[Message]]]:
    """A mail server of this machine: its port, and what came."""
    mails: list[Message] = []

    class Handler:
        async def handle_DATA(  # noqa: N802 -- what the server calls
            self, _server: Any, _session: Any, envelope: Any
        ) -> str:
            mails.append(message_from_bytes(envelope.content))
            return "250 taken"

    class AnyPort(Controller):
        def _trigger_server(self) -> None:
            # Before it is first connected to: on which port it happens to listen.
            assert isinstance(self.server, asyncio.Server)
            self.port = self.server.sockets[0].getsockname()[1]
            super()._trigger_server()

    controller = AnyPort(Handler(), hostname="127.0.0.1", port=0)
    controller.start()
    try:
        yield controller.port, mails
    finally:
        controller.stop()


def plain_text(mail: Message) -> str:
    """What a mail reader shows that shows no HTML."""
    parts = [part for part in mail.walk() if part.get_content_type() == "text/plain"]
    payload = parts[0].get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode()


@contextmanager
def silent_server() -> Iterator[tuple[int, Any]]:
    """A server that accepts and never answers: its port, and how many called."""
    accepted: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    accepted.append(server.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield server.getsockname()[1], lambda: len(accepted)
        finally:
            server.shutdown(socket.SHUT_RDWR)
            for one in accepted:
                one.close()
            thread.join()

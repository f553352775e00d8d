"""Messages on their way: sent to each target when they are due, tried again, given up in the end.

A delivery is claimed, as one that failed, before it is tried, and its outcome is committed by
itself. Only where the process dies, or the database goes, between the sending and that commit a
message is sent a second time. Each target has a thread, so that one that is dead delays nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from queue import Empty, SimpleQueue
from typing import Any

from sqlalchemy import Connection, Engine, Select, Update, func, literal, select, update
from sqlalchemy.exc import DBAPIError

from tallykeeper.database.connections import DatabaseUnavailable
from tallykeeper.faults.incidents import deliveries, messages
from tallykeeper.operations.alert_targets import NotSent, Target
from tallykeeper.operations.message_templates import Text

LONGEST_WAIT_MINUTES = 60
# Given up where it is as old as this, and was tried as often: not because nobody looked for a day.
GIVEN_UP_AFTER = timedelta(hours=24)
FEWEST_ATTEMPTS = 10
# A look has to end well within the minute that Dagster allows a sensor.
SENDING_SECONDS = 15.0
WAITING_SECONDS = 20.0
NO_ANSWER = "no answer yet, or the process ended while it was being sent"
ADDRESS_REMOVED = "the address is not in TALLY_ALERT_URLS any more"

_waits = deliveries.c.sent_at.is_(None) & deliveries.c.given_up_at.is_(None)


@dataclass(frozen=True)
class Lost:
    """A message that one target will not get; as text, what is logged of it."""

    target: str
    title: str
    body: str
    why: str

    def __str__(self) -> str:
        return (
            f"{self.target} did not get this message, and is not tried again ({self.why}):"
            f" {self.title}\n{self.body}"
        )


def give_up_removed(connection: Connection, targets: Sequence[Target]) -> list[Lost]:
    """Give up what was for addresses that are not among `targets`."""
    columns = deliveries.c
    given_up = (
        update(deliveries)
        .where(_waits, columns.target.not_in([target.name for target in targets]))
        .where(columns.message == messages.c.id)
        .values(given_up_at=func.now(), error=ADDRESS_REMOVED)
        .returning(columns.target, messages.c.title, messages.c.body, columns.error)
    )
    return [Lost(*row) for row in connection.execute(given_up)]


def sooner(names: Sequence[str]) -> Update:
    """Make due, for targets of these names, what waits for another attempt."""
    columns = deliveries.c
    waiting = update(deliveries).where(_waits, columns.target.in_(names))
    return waiting.where(columns.due_at > func.now()).values(due_at=func.now())


def deliver(engine: Engine, targets: Sequence[Target], log: logging.Logger) -> None:
    """Send what is due, to all targets at once; returns after `WAITING_SECONDS` at the latest.

    A target that does not answer is left to itself, and delays nothing; what it was sent counts as
    failed until it is known better.
    """
    names = [target.name for target in targets]
    with engine.connect() as connection:
        query = _due(names).with_only_columns(deliveries.c.target).distinct()
        due = set(connection.scalars(query))
    started = [_started(engine, target) for target in targets if target.name in due]
    _wait_for([sender for sender in started if sender is not None], log)


def send_directly(targets: Sequence[Target], text: Text, log: logging.Logger) -> None:
    """Send to all targets what no database can keep: once, and as well as may be."""

    def send(target: Target) -> None:
        try:
            target.send(text.title, text.body)
        except NotSent as error:
            _said.put((logging.ERROR, str(Lost(target.name, text.title, text.body, str(error)))))

    senders = [threading.Thread(target=send, args=(t,), daemon=True, name=t.name) for t in targets]
    for sender in senders:
        sender.start()
    _wait_for(senders, log)


def is_unreachable(error: Exception) -> bool:
    """Whether the error says that the database is not there, and not that it refused something."""
    unreachable = isinstance(error, DBAPIError) and error.connection_invalidated
    return unreachable or isinstance(error, DatabaseUnavailable)


# Which targets are being sent to by this process, so that one that hangs is sent to once.
_senders: dict[str, threading.Thread] = {}
# What senders have to say. The look's log is the look's alone, and they may outlive it.
_said: SimpleQueue[tuple[int, str]] = SimpleQueue()


def _wait_for(senders: Sequence[threading.Thread], log: logging.Logger) -> None:
    until = time.monotonic() + WAITING_SECONDS
    for sender in senders:
        sender.join(max(0.0, until - time.monotonic()))
        if sender.is_alive():
            log.warning("%s does not answer; it is not waited for", sender.name)
    try:
        while True:
            log.log(*_said.get_nowait())
    except Empty:
        return


def _started(engine: Engine, target: Target) -> threading.Thread | None:
    before = _senders.get(target.name)
    if before is not None and before.is_alive():
        return None
    sender = threading.Thread(
        target=_send_all, args=(engine, target), name=target.name, daemon=True
    )
    _senders[target.name] = sender
    sender.start()
    return sender


def _send_all(engine: Engine, target: Target) -> None:
    """Send what is due to one target, in order, until one fails or the time is up."""
    until = time.monotonic() + SENDING_SECONDS
    try:
        while time.monotonic() < until and _send_one(engine, target):
            pass
    except (DatabaseUnavailable, DBAPIError) as error:
        if not is_unreachable(error):
            raise
        _said.put((logging.WARNING, f"the database went away while sending to {target.name}"))


def _send_one(engine: Engine, target: Target) -> bool:
    """Whether there was something to send, and the target took it."""
    with _alone(engine) as connection:
        claimed = _claim(connection, target)
    if claimed is None:
        return False
    message, title, body = claimed
    try:
        target.send(title, body)
    except NotSent as error:
        with _alone(engine) as connection:
            _failed(connection, target, message, str(error))
        return False
    with _alone(engine) as connection:
        _set(connection, target, message, sent_at=func.clock_timestamp(), error=None)
        connection.execute(sooner([target.name]))
    return True


@contextmanager
def _alone(engine: Engine) -> Iterator[Connection]:
    """A transaction over a connection that is closed afterwards, for the pool may be closed."""
    with engine.connect() as connection:
        connection.detach()
        with connection.begin():
            yield connection


def _claim(connection: Connection, target: Target) -> tuple[int, str, str] | None:
    """The first message that is due, put down as an attempt that failed."""
    first = _due([target.name]).order_by(deliveries.c.message).limit(1)
    row = connection.execute(first.with_for_update(of=deliveries, skip_locked=True)).first()
    if row is None:
        return None
    wait = timedelta(minutes=min(2**row.attempts, LONGEST_WAIT_MINUTES))
    due_at = func.clock_timestamp() + literal(wait)
    _set(connection, target, row.message, attempts=row.attempts + 1, due_at=due_at, error=NO_ANSWER)
    return row.message, row.title, row.body


def _failed(connection: Connection, target: Target, message: int, why: str) -> None:
    of = messages.c
    row = connection.execute(
        select(
            deliveries.c.attempts,
            of.title,
            of.body,
            (of.made_at < func.now() - literal(GIVEN_UP_AFTER)).label("is_old"),
        )
        .join(messages, of.id == deliveries.c.message)
        .where(deliveries.c.message == message, deliveries.c.target == target.name)
    ).first()
    if row is None:
        return
    if row.is_old and row.attempts >= FEWEST_ATTEMPTS:
        _set(connection, target, message, error=why, given_up_at=func.clock_timestamp())
        _said.put((logging.ERROR, str(Lost(target.name, row.title, row.body, why))))
        return
    _set(connection, target, message, error=why)
    said = f"{target.name} did not get {row.title!r} ({why}); it is tried again"
    _said.put((logging.WARNING, said))


def _set(connection: Connection, target: Target, message: int, **values: Any) -> None:
    columns = deliveries.c
    one = update(deliveries).where(columns.message == message, columns.target == target.name)
    connection.execute(one.values(values))


def _due(names: Sequence[str]) -> Select[tuple[Any, ...]]:
    columns = deliveries.c
    return (
        select(columns.message, columns.attempts, messages.c.title, messages.c.body)
        .join(messages, messages.c.id == columns.message)
        .where(_waits, columns.target.in_(names), columns.due_at <= func.now())
    )

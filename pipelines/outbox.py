"""Messages on their way: written with the incidents they tell of, delivered afterwards.

What is to be told follows from the incidents and from what was told of them before, so that a
process that dies between two steps neither loses nor repeats a message. A delivery is claimed, as
one that failed, before it is tried, and its outcome committed by itself. Only where the process
dies, or the database goes, between the sending and that commit a message is sent a second time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine, func, insert, literal, select, true, update

from pipelines import wording
from pipelines.repairing import REPAIR_JOB
from pipelines.wording import AGAIN, FOUND, MENDED, NOT_MENDED, Text
from resources.alerts import NotSent, Target
from tallies import incidents
from tallies.incidents import Incident, deliveries, messages

# More of a kind at once are told in one message.
MOST_SINGLE = 5
# What was mended longer ago than this, and was never told, is history.
NEWS_FOR = timedelta(days=1)
GIVEN_UP_AFTER = timedelta(hours=24)
FEWEST_ATTEMPTS = 10
LONGEST_WAIT_MINUTES = 60
# A look ends well within the minute that Dagster gives a sensor.
SENDING_SECONDS = 15.0
WAITING_SECONDS = 20.0
NO_ANSWER = "no answer yet, or the process ended while it was being sent"
GONE = "the address is not in TALLY_ALERT_URLS any more"


@dataclass(frozen=True)
class Undelivered:
    """A message that one target will not get."""

    target: str
    title: str
    body: str
    error: str | None


def write(
    connection: Connection, found_now: Collection[int], targets: Sequence[Target], repeat_hours: int
) -> list[Text]:
    """Write what is to be told now, and its deliveries to all targets; returns the texts.

    `found_now` are the ids of the incidents that were found, or found again, in this transaction.
    """
    by_kind: dict[str, list[Incident]] = {}
    for incident, kind in _untold(connection, found_now, timedelta(hours=repeat_hours)):
        by_kind.setdefault(kind, []).append(incident)
    sent: list[Text] = []
    for kind, of_kind in by_kind.items():
        texts = [wording.told(incident, kind) for incident in of_kind]
        ids = [
            _write(connection, incident, kind, text)
            for incident, text in zip(of_kind, texts, strict=True)
        ]
        if len(of_kind) > MOST_SINGLE:
            texts = [wording.together(of_kind, kind)]
            ids = [_write(connection, of_kind[0], kind, texts[0])]
        _address(connection, ids, targets)
        sent += texts
    return sent


def give_up_gone(connection: Connection, targets: Sequence[Target]) -> list[Undelivered]:
    """Give up what was for addresses that are not among `targets`."""
    columns = deliveries.c
    gone = (
        update(deliveries)
        .where(columns.sent_at.is_(None), columns.given_up_at.is_(None))
        .where(columns.target.not_in([target.name for target in targets]))
        .where(columns.message == messages.c.id)
        .values(given_up_at=func.now(), error=GONE)
        .returning(columns.target, messages.c.title, messages.c.body, columns.error)
    )
    return [Undelivered(*row) for row in connection.execute(gone)]


def deliver(engine: Engine, targets: Sequence[Target], log: logging.Logger) -> None:
    """Send what is due, to all targets at once; returns after `WAITING_SECONDS` at the latest.

    A target that does not answer is left to itself, and delays nothing; what it was sent counts as
    failed until it is known better.
    """
    names = [target.name for target in targets]
    with engine.connect() as connection:
        due = set(connection.scalars(_due(names).with_only_columns(deliveries.c.target).distinct()))
    until = time.monotonic() + WAITING_SECONDS
    senders = [
        sender
        for target in targets
        if target.name in due and (sender := _started(engine, target, log)) is not None
    ]
    for sender in senders:
        sender.join(max(0.0, until - time.monotonic()))
        if sender.is_alive():
            log.warning("%s does not answer; it is not waited for", sender.name)


def _untold(
    connection: Connection, found_now: Collection[int], repeat_after: timedelta
) -> list[tuple[Incident, str]]:
    """The incidents of which something is to be told, with the kind of message, oldest first."""
    columns = incidents.incidents.c
    told = (
        select(
            func.max(messages.c.made_at).label("told_at"),
            func.coalesce(func.bool_or(messages.c.kind == MENDED), False).label("told_mended"),
            (func.max(messages.c.made_at) <= func.now() - literal(repeat_after)).label("long_ago"),
        )
        .where(messages.c.incident == columns.id)
        .lateral("told")
    )
    news = columns.mended_at.is_(None) | (columns.mended_at > func.now() - literal(NEWS_FOR))
    query = select(
        *(c for c in incidents.incidents.c), told.c.told_at, told.c.told_mended, told.c.long_ago
    )
    query = query.join(told, true()).where(news).order_by(columns.id)
    found = []
    for row in connection.execute(query).mappings():
        values = dict(row)
        told_at, told_mended = values.pop("told_at"), values.pop("told_mended")
        long_ago = values.pop("long_ago")
        incident = Incident(**values)
        kind = None if told_mended else _kind(incident, told_at, incident.id in found_now, long_ago)
        if kind is not None:
            found.append((incident, kind))
    return found


def _kind(
    incident: Incident, told_at: datetime | None, found_now: bool, long_ago: bool
) -> str | None:
    if not incident.is_open:
        return MENDED
    if told_at is None:
        return FOUND
    if found_now and incident.details.get("job") == REPAIR_JOB:
        return NOT_MENDED
    if long_ago and (found_now or incident.last_found_at > told_at):
        return AGAIN
    return None


def _write(connection: Connection, incident: Incident, kind: str, text: Text) -> int:
    values = {"incident": incident.id, "kind": kind, "title": text.title, "body": text.body}
    row = connection.execute(insert(messages).values(values).returning(messages.c.id))
    return int(row.scalar_one())


def _address(connection: Connection, ids: Sequence[int], targets: Sequence[Target]) -> None:
    names = [target.name for target in targets]
    rows = [{"message": message, "target": name} for message in ids for name in names]
    if not rows:
        return
    connection.execute(insert(deliveries), rows)
    # What waits for another attempt goes first, so that messages arrive in their order.
    connection.execute(_sooner(names))


def _sooner(names: Sequence[str]):  # type: ignore[no-untyped-def]
    columns = deliveries.c
    return (
        update(deliveries)
        .where(columns.sent_at.is_(None), columns.given_up_at.is_(None))
        .where(columns.target.in_(names), columns.due_at > func.now())
        .values(due_at=func.now())
    )


def _due(names: Sequence[str]):  # type: ignore[no-untyped-def]
    columns = deliveries.c
    return (
        select(columns.message, columns.attempts, messages.c.title, messages.c.body)
        .join(messages, messages.c.id == columns.message)
        .where(columns.sent_at.is_(None), columns.given_up_at.is_(None))
        .where(columns.target.in_(names), columns.due_at <= func.now())
    )


# Which targets are being sent to by this process, so that one that hangs is sent to once.
_senders: dict[str, threading.Thread] = {}


def _started(engine: Engine, target: Target, log: logging.Logger) -> threading.Thread | None:
    before = _senders.get(target.name)
    if before is not None and before.is_alive():
        return None
    sender = threading.Thread(
        target=_send_all, args=(engine, target, log), name=target.name, daemon=True
    )
    _senders[target.name] = sender
    sender.start()
    return sender


def _send_all(engine: Engine, target: Target, log: logging.Logger) -> None:
    """Send what is due to one target, in order, until one fails or the time is up."""
    until = time.monotonic() + SENDING_SECONDS
    while time.monotonic() < until:
        claimed = _claim(engine, target)
        if claimed is None:
            return
        message, title, body = claimed
        try:
            target.send(title, body)
        except NotSent as error:
            _failed(engine, target, message, str(error), log)
            return
        _sent(engine, target, message)


def _claim(engine: Engine, target: Target) -> tuple[int, str, str] | None:
    """The first message that is due, put down as an attempt that failed."""
    with engine.begin() as connection:
        columns = deliveries.c
        first = _due([target.name]).order_by(columns.message).limit(1)
        row = connection.execute(first.with_for_update(of=deliveries, skip_locked=True)).first()
        if row is None:
            return None
        wait = timedelta(minutes=min(2**row.attempts, LONGEST_WAIT_MINUTES))
        connection.execute(
            update(deliveries)
            .where(columns.message == row.message, columns.target == target.name)
            .values(
                attempts=columns.attempts + 1,
                due_at=func.clock_timestamp() + literal(wait),
                error=NO_ANSWER,
            )
        )
        return row.message, row.title, row.body


def _sent(engine: Engine, target: Target, message: int) -> None:
    columns = deliveries.c
    with engine.begin() as connection:
        connection.execute(
            update(deliveries)
            .where(columns.message == message, columns.target == target.name)
            .values(sent_at=func.clock_timestamp(), error=None, given_up_at=None)
        )
        connection.execute(_sooner([target.name]))


def _failed(engine: Engine, target: Target, message: int, why: str, log: logging.Logger) -> None:
    columns, of = deliveries.c, messages.c
    with engine.begin() as connection:
        row = connection.execute(
            update(deliveries)
            .where(columns.message == message, columns.target == target.name, of.id == message)
            .values(error=why)
            .returning(
                columns.attempts,
                of.title,
                of.body,
                (of.made_at < func.now() - literal(GIVEN_UP_AFTER)).label("old"),
            )
        ).first()
        if row is None:
            return
        given_up = row.old and row.attempts >= FEWEST_ATTEMPTS
        if given_up:
            connection.execute(
                update(deliveries)
                .where(columns.message == message, columns.target == target.name)
                .values(given_up_at=func.clock_timestamp())
            )
    if given_up:
        log.error(
            "%s did not get this message, and is not tried again (%s): %s\n%s",
            target.name,
            why,
            row.title,
            row.body,
        )
    else:
        log.warning("%s did not get %r (%s); it is tried again", target.name, row.title, why)

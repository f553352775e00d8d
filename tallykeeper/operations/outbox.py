"""Messages that are due, recorded for each target. Nothing is sent here.

That follows from the incidents, and from what was sent of them before; it is written in the
transaction in which they were found. So a process that dies neither loses nor repeats a message.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta

from sqlalchemy import Connection, Select, func, insert, literal, select, true

from tallykeeper.dagster_names import REPAIR, prefixed
from tallykeeper.faults import incidents
from tallykeeper.faults.incidents import Incident, deliveries, messages
from tallykeeper.operations import message_templates
from tallykeeper.operations.alert_targets import Target
from tallykeeper.operations.delivery import sooner
from tallykeeper.operations.message_templates import AGAIN, FOUND, NOT_RESOLVED, RESOLVED, Text

# More of a kind at once go into one message.
MOST_SINGLE = 5
# What was resolved longer ago than this, and was never sent, is history.
NEWS_FOR = timedelta(days=1)


def write(
    connection: Connection,
    found_now: AbstractSet[int],
    targets: Sequence[Target],
    repeat_hours: int,
) -> list[Text]:
    """Write the messages that are due, and their deliveries to all targets; returns the texts.

    `found_now` are the ids of the incidents that were found, or found again, in this transaction. A
    message about what is still wrong is repeated after `repeat_hours`, if it was found again since.
    """
    by_kind: dict[str, list[tuple[Incident, bool]]] = {}
    for incident, kind, is_first in _due(connection, found_now, timedelta(hours=repeat_hours)):
        by_kind.setdefault(kind, []).append((incident, is_first))
    sent: list[Text] = []
    for kind, due in by_kind.items():
        of_kind = [incident for incident, _ in due]
        texts = [
            message_templates.message(incident, kind, is_first=first) for incident, first in due
        ]
        # Each has a message of its own, also where only the one of them all is sent: that it was
        # sent is known by it.
        ids = [_write(connection, *one, kind) for one in zip(of_kind, texts, strict=True)]
        if len(of_kind) > MOST_SINGLE:
            texts = [message_templates.together(of_kind, kind)]
            ids = [_write(connection, of_kind[0], texts[0], kind)]
        _address(connection, ids, [target.name for target in targets])
        sent += texts
    return sent


def _due(
    connection: Connection, found_now: AbstractSet[int], repeat_after: timedelta
) -> list[tuple[Incident, str, bool]]:
    """The incidents about which a message is due, oldest first.

    With each the kind of message, and whether it is the first about it.
    """
    found = []
    for row in connection.execute(_news(repeat_after)).mappings():
        values = dict(row)
        notified_at, resolution_sent, long_ago = (values.pop(name) for name in _NOTIFIED)
        incident = Incident(**values)
        kind = (
            None
            if resolution_sent
            else _kind(incident, notified_at, long_ago, incident.id in found_now)
        )
        if kind is not None:
            found.append((incident, kind, notified_at is None))
    return found


_NOTIFIED = ("notified_at", "resolution_sent", "long_ago")


def _news(repeat_after: timedelta) -> Select[tuple[object, ...]]:
    columns = incidents.incidents.c
    notified_at = func.max(messages.c.made_at)
    sent = (
        select(
            notified_at.label("notified_at"),
            func.coalesce(func.bool_or(messages.c.kind == RESOLVED), False).label(
                "resolution_sent"
            ),
            (notified_at <= func.now() - literal(repeat_after)).label("long_ago"),
        )
        .where(messages.c.incident == columns.id)
        .lateral("sent")
    )
    is_news = columns.resolved_at.is_(None) | (columns.resolved_at > func.now() - literal(NEWS_FOR))
    query = select(*columns, *(sent.c[name] for name in _NOTIFIED)).join(sent, true())
    return query.where(is_news).order_by(columns.id)


def _kind(
    incident: Incident, notified_at: datetime | None, long_ago: bool | None, found_now: bool
) -> str | None:
    if not incident.is_open:
        return RESOLVED
    if notified_at is None:
        return FOUND
    if found_now and incident.details.get("job") == prefixed(REPAIR):
        return NOT_RESOLVED
    if long_ago and (found_now or incident.last_found_at > notified_at):
        return AGAIN
    return None


def _write(connection: Connection, incident: Incident, text: Text, kind: str) -> int:
    values = {"incident": incident.id, "kind": kind, "title": text.title, "body": text.body}
    row = connection.execute(insert(messages).values(values).returning(messages.c.id))
    return int(row.scalar_one())


def _address(connection: Connection, ids: Sequence[int], names: Sequence[str]) -> None:
    rows = [{"message": message, "target": name} for message in ids for name in names]
    if not rows:
        return
    connection.execute(insert(deliveries), rows)
    # What waits for another attempt goes first, so that messages arrive in their order.
    connection.execute(sooner(names))

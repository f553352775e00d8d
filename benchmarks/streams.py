"""A made-up stream of events, like that of a busy instance, and a database that has received it.

Of a hundred events 60 are new posts, 20 observations of known posts with other counts, 5 edits, 5
deletions, 10 notifications and conversations. Of the new posts 15 in a hundred are reblogs that
carry the post within, 20 are replies. One event in a hundred comes twice, as on two streams; one
in a thousand is malformed. Payloads have the members and the length of real ones, 2 to 3 kB.
"""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice

from benchmarks.fediverse import EVENTS, INSTANCES, Fediverse
from benchmarks.statuses import Status, Statuses, payload, written
from tallykeeper.database import sql

START = datetime(2026, 6, 1, tzinfo=UTC)
EVENTS_PER_SECOND = 5
# Of so many posts there may be observations, edits, reblogs, replies and deletions.
REMEMBERED = 30_000
AT_ONCE = 20_000

# When it was received, event_type and payload.
Event = tuple[datetime, str, str]


class Stream:
    """The stream from its beginning: each call of `take` goes on where the last one ended."""

    def __init__(self) -> None:
        self._random = random.Random(3)
        self._statuses = Statuses(self._random)
        self._known: deque[Status] = deque(maxlen=REMEMBERED)
        self._events = self._endless()

    def take(self, events: int) -> Iterator[Event]:
        """The next so many events."""
        return islice(self._events, events)

    def load(self, fediverse: Fediverse, events: int) -> None:
        """Write the next so many events, as a client would have received them."""
        for done in range(0, events, AT_ONCE):
            write(fediverse, list(self.take(min(AT_ONCE, events - done))))

    def _endless(self) -> Iterator[Event]:
        received, step = START, timedelta(seconds=1 / EVENTS_PER_SECOND)
        while True:
            kind, written_payload = self._event(received)
            twice = self._random.random() < 0.01
            for _ in range(2 if twice else 1):
                received += step
                yield received, kind, written_payload

    def _event(self, at: datetime) -> tuple[str, str]:
        chance = self._random.random()
        if chance < 0.6 or not self._known:
            return "update", self._new(at)
        if chance < 0.8:
            return "status", self._seen_again()
        if chance < 0.85:
            return "status.update", self._edited(at)
        if chance < 0.899:
            return "delete", json.dumps(str(self._known.popleft().number))
        if chance < 0.9:
            return "update", '{"id": "not a number", "content": null}'
        return self._other(at)

    def _new(self, at: datetime) -> str:
        chance = self._random.random()
        if chance < 0.15 and self._known:
            return self._statuses.reblog(at, self._some())
        replied = self._some() if chance < 0.35 and self._known else None
        status = self._statuses.new(at, replied)
        self._known.append(status)
        return payload(status)

    def _seen_again(self) -> str:
        """Its counts have risen; seldom fallen, or stayed."""
        status, chance = self._some(), self._random.random()
        replies, reblogs, favourites = status.counts
        if chance < 0.87:
            more = self._random.choice([(0, 0, 1), (0, 1, 2), (1, 0, 1), (1, 3, 9)])
            status.counts = (replies + more[0], reblogs + more[1], favourites + more[2])
        elif chance < 0.9:
            status.counts = (replies, reblogs, max(0, favourites - 1))
        return payload(status)

    def _edited(self, at: datetime) -> str:
        status = self._some()
        self._statuses.edit(status, at)
        return payload(status)

    def _some(self) -> Status:
        """Recent ones more often."""
        return self._known[-1 - int(len(self._known) * self._random.random() ** 2)]

    def _other(self, at: datetime) -> tuple[str, str]:
        status, account = self._some(), self._statuses.account_json(self._statuses.account())
        if self._random.random() < 0.5:
            return (
                "conversation",
                f'{{"id": "7", "unread": true, "accounts": [{account}],'
                f' "last_status": {payload(status)}}}',
            )
        return (
            "notification",
            f'{{"id": "{self._statuses.number(at)}", "type": "favourite",'
            f' "created_at": "{written(at)}", "account": {account}, "status": {payload(status)}}}',
        )


def write(fediverse: Fediverse, events: list[Event]) -> None:
    """COPY the events into the log; a partition is made where their day has none."""
    with fediverse.engine.begin() as connection:
        for day in sorted({received.date() for received, _, _ in events}):
            sql.execute(
                connection,
                f"CREATE TABLE IF NOT EXISTS {EVENTS}_{day:%Y%m%d} PARTITION OF {EVENTS}"
                f" FOR VALUES FROM ('{day}Z') TO ('{day + timedelta(days=1)}Z')",
            )
        driver = connection.connection.driver_connection
        assert driver is not None
        columns = "instance_id, received_at, event_type, payload"
        instance = sql.execute(connection, f"SELECT min(id) FROM {INSTANCES}").scalar_one()
        with (
            driver.cursor() as cursor,
            cursor.copy(f"COPY {EVENTS} ({columns}) FROM STDIN") as copy,
        ):
            for event in events:
                copy.write_row((instance, *event))

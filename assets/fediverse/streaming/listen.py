"""Listen to a live Mastodon server, and append what it sends to the raw log as it comes.

One thread reads (`stream.py`), this one writes, in batches; between them stands a buffer.
Invariants:
- Every event that was received whole is written, known or not, well-formed or not: what jsonb
  cannot hold is kept as a string of what came, and processing says what is wrong with it.
- Without a database the buffer fills up, then nothing is read any more: the server is made to wait,
  and nothing is lost silently. What is received but cannot be written by the end is reported.
- Written at least once: where the connection breaks while a batch is committed, it may be written
  again. Processing makes nothing of the repetition.
- A connection that ends is made again, after pauses that grow up to a minute.
"""

from __future__ import annotations

import json
import queue
import random
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime

from mastodon.errors import MastodonWarning
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError

from assets.fediverse.instances import instance_id, saw
from assets.fediverse.processing.parsing import DELETE
from assets.fediverse.storage.partitions import ensure_days
from assets.fediverse.storage.writing import Event, append, days_of
from assets.fediverse.streaming.confinement import Elsewhere
from assets.fediverse.streaming.lines import IS_ID
from assets.fediverse.streaming.stream import Disconnected, Refused, Stream, StreamConnection
from tallykeeper import TallyBusy
from tallykeeper.database.connections import DatabaseUnavailable

_GOES_BY = (OperationalError, InterfaceError, InternalError, DatabaseUnavailable)
"""A database that is away, asks to be tried again, or takes no writes for the time being."""

Say = Callable[[str], None]


class ListenError(Exception):
    """Listening cannot begin or go on: says what was expected, what came, and what to do."""


@dataclass(frozen=True)
class Pace:
    """Seconds and sizes: of pauses, batches, the buffer, and how long the end may take."""

    first_pause: float = 1.0
    longest_pause: float = 60.0
    batch_seconds: float = 1.0
    batch_events: int = 500
    buffer_events: int = 10_000
    end_seconds: float = 30.0

    def pause(self, failures: int) -> float:
        """After so many failures in a row: doubled each time, and spread over half of it.

        Spread, so that listeners whom one fault cut off do not all come back at once.
        """
        longest = min(self.longest_pause, self.first_pause * 2.0 ** min(failures - 1, 30))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 -- nothing secret about a pause


@dataclass
class Received:
    """What was received and written, how much of it was cut, and how often it was connected."""

    events: int = 0
    connections: int = 0
    seconds: float = 0.0
    cut: int = 0

    def summary(self) -> str:
        """The result in one line."""
        cut = f", {self.cut:,} of them cut, being too long" if self.cut else ""
        return (
            f"{self.events:,} events written in {self.seconds:,.1f} s{cut},"
            f" {self.connections:,} connection{'' if self.connections == 1 else 's'}"
        )


@dataclass
class _Listening:
    """What the two threads share."""

    base_url: str
    stream: Stream
    token: str | None
    streaming_host: str | None
    stop: threading.Event
    say: Say
    pace: Pace
    buffer: queue.Queue[tuple[datetime, str | None, str | None]]
    received: Received = field(default_factory=Received)
    refusal: Refused | Elsewhere | None = None
    failure: BaseException | None = None
    connection: StreamConnection | None = None


def listen(
    engine: Engine,
    base_url: str,
    stream: Stream,
    *,
    token: str | None,
    streaming_host: str | None = None,
    stop: threading.Event,
    say: Say,
    pace: Pace | None = None,
) -> Received:
    """Listen to the server's stream until `stop` is set; returns once all received is written.

    `base_url` is as `base_url_of` returns it, `streaming_host` is another host that may have its
    streams, `say` is called with a sentence for each connection that begins or ends. Raises
    ListenError where the server refuses, or where received events could not be written by the end;
    SQLAlchemy's errors where the log is not there or may not be written.
    """
    pace = pace or Pace()
    buffer: queue.Queue[tuple[datetime, str | None, str | None]] = queue.Queue(pace.buffer_events)
    shared = _Listening(base_url, stream, token, streaming_host, stop, say, pace, buffer)
    started = time.monotonic()
    writer = _Writer(engine, shared)
    writer.begin()
    reader = threading.Thread(target=_read, args=(shared,), daemon=True, name="stream")
    with warnings.catch_warnings():
        # Of what an instance says about its timelines; the answer to connecting says it better.
        warnings.simplefilter("ignore", MastodonWarning)
        reader.start()
        try:
            writer.run(reader)
        finally:
            stop.set()
            _close(shared)
            reader.join(timeout=1.0)
    shared.received.seconds = time.monotonic() - started
    if shared.failure is not None:
        raise shared.failure
    if isinstance(shared.refusal, Elsewhere):
        raise ListenError(
            f"{base_url}: {shared.refusal}. Events written before: {shared.received.events:,}"
        )
    if shared.refusal is not None:
        raise ListenError(
            f"{base_url} does not let us listen to {stream}: {shared.refusal};"
            f" {_advice(token)}. Events written before: {shared.received.events:,}"
        )
    return shared.received


def _advice(token: str | None) -> str:
    if token is None:
        return "give an access token in TALLY_MASTODON_TOKEN, or correct the address"
    return "check the token in TALLY_MASTODON_TOKEN and what it may read, or the address"


def _close(shared: _Listening) -> None:
    if shared.connection is not None:
        shared.connection.close()


def _read(shared: _Listening) -> None:
    """Read until stopped; a fault that nobody expects ends the listening, and is raised there."""
    try:
        _read_until_stopped(shared)
    except BaseException as error:  # noqa: BLE001 -- raised again by the thread that listens
        shared.failure = error
    finally:
        shared.stop.set()


def _read_until_stopped(shared: _Listening) -> None:
    """Connect, again and again, and put what comes into the buffer."""
    failures = 0
    latest = datetime.min.replace(tzinfo=UTC)
    connected_at: float | None = None

    def connected() -> None:
        nonlocal connected_at
        connected_at = time.monotonic()
        shared.received.connections += 1
        shared.say(f"listening to {shared.stream} of {shared.base_url}")

    def receive(name: str | None, data: str | None) -> None:
        nonlocal failures, latest
        failures = 0
        # In order also where the clock is set back.
        latest = max(latest, datetime.now(UTC))
        shared.buffer.put((latest, name, data))

    def cut(said: str) -> None:
        shared.received.cut += 1
        shared.say(f"{said}; its beginning is kept")

    while not shared.stop.is_set():
        connection = StreamConnection(
            shared.base_url,
            shared.stream,
            shared.token,
            shared.streaming_host,
            by_websocket=shared.connection is not None and shared.connection.by_websocket,
        )
        shared.connection = connection
        connected_at = None
        if shared.stop.is_set():
            break
        try:
            connection.run(receive, connected, cut)
        except (Refused, Elsewhere) as error:
            shared.refusal = error
            return
        except Disconnected as error:
            lasted = 0.0 if connected_at is None else time.monotonic() - connected_at
            # One that lasted was a good one, though nothing may have happened in it.
            failures = 1 if lasted > shared.pace.longest_pause else failures + 1
            pause = max(shared.pace.pause(failures), error.retry_after)
            if not shared.stop.is_set():
                shared.say(f"disconnected: {error}; connecting again in {pause:.1f} s")
                shared.stop.wait(pause)


class _Writer:
    """Takes events from the buffer, and writes them."""

    def __init__(self, engine: Engine, shared: _Listening) -> None:
        self._engine = engine
        self._shared = shared
        self._instance = 0
        self._days: set[date] = set()

    def begin(self) -> None:
        """Find the instance's row. Raises SQLAlchemy's errors where there is no log."""
        shared = self._shared
        with self._engine.begin() as connection:
            self._instance = instance_id(connection, shared.base_url)

    def run(self, reader: threading.Thread) -> None:
        """Write until the reader has ended and the buffer is empty. Raises ListenError."""
        while True:
            if self._shared.stop.is_set():
                # Wakes what blocks in reading, and ends a stream that would go on for ever.
                _close(self._shared)
            batch = self._batch(reader)
            if batch:
                self._write_until_written(batch)
            elif not self._goes_on(reader):
                return

    def _goes_on(self, reader: threading.Thread) -> bool:
        """Whether anything can still come; one that hangs in connecting is not waited for."""
        if not self._shared.stop.is_set():
            return True
        reader.join(timeout=1.0)
        return not self._shared.buffer.empty()

    def _batch(self, reader: threading.Thread) -> list[Event]:
        """What has come, up to a batch, waiting for it no longer than that takes."""
        pace, stop = self._shared.pace, self._shared.stop
        batch: list[Event] = []
        deadline = time.monotonic() + pace.batch_seconds
        while len(batch) < pace.batch_events:
            wait = deadline - time.monotonic()
            over = wait <= 0 or stop.is_set() or not reader.is_alive()
            try:
                # In short steps: setting `stop` does not wake a queue.
                batch.append(
                    self._event(*self._shared.buffer.get(not over, min(max(wait, 0), 0.1)))
                )
            except queue.Empty:
                if over:
                    break
        return batch

    def _event(self, received_at: datetime, name: str | None, data: str | None) -> Event:
        # Unnamed events are messages, as the standard has it.
        event_type = (name or "message").replace("\0", "\\0")
        payload = None if data is None or data in ("", "undefined") else data.replace("\0", "\\0")
        if event_type == DELETE and payload is not None and _is_bare_id(payload):
            payload = json.dumps(payload, ensure_ascii=False)
        return Event(self._instance, received_at, event_type, payload)

    def _write_until_written(self, batch: list[Event]) -> None:
        shared = self._shared
        failures, ends_at = 0, None
        while True:
            try:
                self._write(batch)
            except _GOES_BY as error:
                failures += 1
                pause = shared.pace.pause(failures)
                if shared.stop.is_set():
                    ends_at = ends_at or time.monotonic() + shared.pace.end_seconds
                    if time.monotonic() + pause > ends_at:
                        raise self._unwritten(len(batch), error) from error
                shared.say(
                    f"the database is away ({_first_line(error)}); {len(batch):,} events and"
                    f" {shared.buffer.qsize():,} in the buffer wait; again in {pause:.1f} s"
                )
                # What a broken connection left in the pool would fail again.
                self._engine.dispose()
                self._wait(pause)
            except DBAPIError as error:
                raise self._unwritten(len(batch), error) from error
            else:
                if failures:
                    shared.say("the database is back")
                shared.received.events += len(batch)
                return

    def _wait(self, seconds: float) -> None:
        """Pause, but once stopped only for a moment: there is not much time left."""
        if self._shared.stop.is_set():
            time.sleep(min(seconds, 1.0))
        else:
            self._shared.stop.wait(seconds)

    def _write(self, batch: list[Event]) -> None:
        self._ensure_partitions(batch)
        with self._engine.begin() as connection:
            refused = append(connection, batch)
            # Whatever came: as a string it can be held, and processing says what is wrong with it.
            still = append(connection, [_as_string(event) for event, _ in refused])
            assert not still, still
            saw(connection, self._instance, batch[-1].received_at, str(self._shared.stream))
        for event, reason in refused:
            self._shared.say(f"an event {event.event_type!r} is kept as a string: {reason}")

    def _ensure_partitions(self, batch: list[Event]) -> None:
        days = days_of(batch)
        if days <= self._days:
            return
        try:
            ensure_days(self._engine, days)
        except TallyBusy as error:
            # The default partition takes them; housekeeping moves them.
            self._shared.say(str(error))
        self._days = days

    def _unwritten(self, events: int, error: Exception) -> ListenError:
        waiting = events + self._shared.buffer.qsize()
        return ListenError(
            f"{waiting:,} events were received but could not be written, and are lost"
            f" ({_first_line(error)}); repair that and listen again. Events written before:"
            f" {self._shared.received.events:,}"
        )


def _is_bare_id(data: str) -> bool:
    """Whether it is an id that is no JSON, or another number as JSON, like 9e12345678."""
    is_json = data.isdigit() or data.startswith("[") or data in ("null", "true", "false")
    return not is_json and IS_ID.fullmatch(data) is not None


def _as_string(event: Event) -> Event:
    return replace(event, payload=json.dumps(event.payload, ensure_ascii=False))


def _first_line(error: BaseException) -> str:
    said = str(getattr(error, "orig", None) or error).splitlines()
    return said[0].rstrip(".") if said else type(error).__name__

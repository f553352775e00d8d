"""Bring stored events into the raw log: from JSON Lines with events, statuses and edit histories.

What is written to the database, and how. What a line says is in `streaming/lines.py`. Invariants:
- The log is append-only: loading a file again appends its events again, in the file's order.
  Processing makes nothing of the repetition.
- A line that does not say when it was received was received now.
- Lines are committed in chunks. A load that was killed left whole chunks, and can simply be run
  again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from sqlalchemy import Connection, Engine, inspect

from assets.fediverse.instances import BadInstance, base_url_of, instance_id, saw
from assets.fediverse.storage.partitions import ensure_days
from assets.fediverse.storage.writing import Event, Refused, append, days_of
from assets.fediverse.streaming.lines import BadLine, Line, read_line
from assets.fediverse.tables import RAW
from tallykeeper.catalog.transactions import retried
from tallykeeper.input.frame_input import FrameObjects, source_of
from tallykeeper.input.jsonl_input import JsonLinesFile
from tallykeeper.input.loader import Loader
from tallykeeper.input.loading import Loaded, LoadError, ProgressCallback, RejectFile

if TYPE_CHECKING:
    import pandas as pd

CHUNK_LINES = 5_000
CHUNK_CHARACTERS = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Numbered:
    """A line, where it stands, and its text."""

    number: int
    line: Line
    raw: str


@dataclass
class _Target:
    """Where lines go: the instance of those that name none, and the ids that are known."""

    base_url: str
    ids: dict[str, int] = field(default_factory=dict)
    # Lines received now are so in the file's order, also where the clock is set back.
    now: datetime = field(default_factory=lambda: datetime.now(UTC))


def load_fediverse(
    engine: Engine,
    path: Path | pd.DataFrame,
    *,
    instance: str,
    by_host: bool = False,
    progress: ProgressCallback | None = None,
) -> Loaded:
    """Append the events, statuses and histories of a file (.jsonl, .jsonl.gz) to the raw log.

    Or of a DataFrame, of which each row is read as such a line would be.

    They are the server's at `instance`; `by_host`, a line that has a `host` is that server's.
    Lines that cannot be loaded are listed in a reject file and do not stop the load. Raises
    LoadError where the file is of no such kind or cannot be read, `instance` is no server's
    address, and where there is no log to load into; TallyBusy where a partition cannot be made.
    """
    started = time.monotonic()
    source = source_of(path)
    if isinstance(path, Path):
        _require_kind(source)
    try:
        target = _Target(base_url_of(instance))
    except BadInstance as error:
        raise LoadError(f"--instance: {error}") from error
    require_log(engine)
    inserted = 0
    with RejectFile(source) as rejects, _open(path) as file:
        for chunk in _chunks(file, rejects, by_host):
            inserted += _write(engine, target, chunk, rejects)
            if progress is not None:
                progress(inserted + rejects.count, file.consumed(), file.size)
    return Loaded(
        read=inserted + rejects.count,
        inserted=inserted,
        changed=0,
        unchanged=0,
        rejected=rejects.count,
        unreadable=0,
        seconds=time.monotonic() - started,
        reject_file=rejects.path,
    )


def require_log(engine: Engine) -> None:
    """Raise LoadError where the tables of the raw log are not there."""
    inspector = inspect(engine)
    for table in RAW:
        if not inspector.has_table(table.name, schema=table.schema):
            raise LoadError(
                f"There is no table {table.fullname} to write to; run"
                " `tally migrate --with-sources`, or name your own tables' schema in"
                " TALLY_SCHEMA_FEDIVERSE."
            )


def _open(path: Path | pd.DataFrame) -> JsonLinesFile | FrameObjects:
    return JsonLinesFile(path.absolute()) if isinstance(path, Path) else FrameObjects(path)


def _require_kind(source: Path) -> None:
    if not source.name.lower().endswith((".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")):
        raise LoadError(
            f"{source} is no file of events that is known here; name one in JSON Lines (.jsonl,"
            " .jsonl.gz)."
        )
    if source.is_dir():
        raise LoadError(f"{source} is a folder; name a file in JSON Lines (.jsonl, .jsonl.gz).")


def _chunks(
    file: JsonLinesFile | FrameObjects, rejects: RejectFile, by_host: bool
) -> Iterator[list[_Numbered]]:
    """The lines that can be loaded, in pieces of bounded size."""
    chunk: list[_Numbered] = []
    size = 0
    for number, row, raw in file.rows(rejects.add):
        try:
            line = read_line(row, raw, by_host=by_host, now=datetime.now(UTC))
        except BadLine as error:
            rejects.add(number, str(error), raw)
            continue
        chunk.append(_Numbered(number, line, raw))
        size += len(raw)
        if len(chunk) >= CHUNK_LINES or size >= CHUNK_CHARACTERS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _write(engine: Engine, target: _Target, chunk: list[_Numbered], rejects: RejectFile) -> int:
    """Commit a chunk; returns how many of its lines were written, and rejects the others."""
    target.now = max(target.now, datetime.now(UTC))
    with engine.begin() as connection:
        for name in dict.fromkeys(each.line.base_url or target.base_url for each in chunk):
            if name not in target.ids:
                target.ids[name] = instance_id(connection, name)
    events = [_event(target, each) for each in chunk]
    ensure_days(engine, days_of(events))
    # Making a partition meanwhile may deadlock with this, and this be the one that is ended.
    refused = retried(partial(_append, engine, events), "the load", engine)
    for event, reason in refused:
        rejects.add(event.line, reason, event.raw)
    return len(events) - len(refused)


def _append(engine: Engine, events: list[Event]) -> list[Refused]:
    with engine.begin() as connection:
        refused = append(connection, events)
        _saw(connection, events)
    return refused


def _event(target: _Target, each: _Numbered) -> Event:
    line = each.line
    return Event(
        target.ids[line.base_url or target.base_url],
        line.received_at or target.now,
        line.event_type,
        line.payload,
        each.number,
        each.raw,
    )


def _saw(connection: Connection, events: list[Event]) -> None:
    latest: dict[int, datetime] = {}
    for event in events:
        latest[event.instance_id] = max(
            event.received_at, latest.get(event.instance_id, event.received_at)
        )
    # In one order, so that two loads at once do not deadlock.
    for id_, moment in sorted(latest.items()):
        saw(connection, id_, moment)


LOADER = Loader(
    load_fediverse,
    "events",
    "JSON Lines with stream events, statuses or edit histories. Loading them again appends the"
    " events again, of which processing makes nothing.",
    options=(
        click.Option(
            ["--instance"], metavar="URL", required=True, help="The server whose events they are."
        ),
        click.Option(["--by-host"], is_flag=True, help="A line with a `host` is that server's."),
    ),
)

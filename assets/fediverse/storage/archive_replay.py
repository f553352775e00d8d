"""Deriving posts again from the log and the archive together, in any window of receipt.

Events of archived days are loaded into a table beside the log (`staged_events.py`), those of some
of the posts at a time: in as many passes as it takes for the table to stay small. Posts are then
derived as by any replay, from both. Invariants: a chunk of posts is derived only while every
archived day that is not in the log is loaded; how far the replay is gets recorded with what it
wrote, so that an interrupted one goes on from there; and at the end the table is empty.

A larger archive than one machine can go through in a night is for an engine that reads the files
where they are: `Passes` is what would have to be replaced.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime
from functools import partial

from sqlalchemy import Connection, Engine

from assets.fediverse.processing import parsing, write_posts
from assets.fediverse.processing.parsing import FOLLOW, UNFOLLOW
from assets.fediverse.questions.follows import write_follows
from assets.fediverse.replay import (
    Chunks,
    Found,
    LogVerification,
    OnProgress,
    Position,
    Replayed,
    each_chunk,
    look,
    repair,
    retry_failed,
    showing,
    window_of,
)
from assets.fediverse.storage import staged_events
from assets.fediverse.storage.archive import EVENTS
from assets.fediverse.storage.staged_events import LOG, STAGED
from assets.fediverse.tables import stream_events
from tallykeeper.archive.loading import load
from tallykeeper.archive.runs import alone
from tallykeeper.archive.store import Store
from tallykeeper.catalog.transactions import retried
from tallykeeper.database.sql import execute, literal, name_of
from tallykeeper.partitions import records
from tallykeeper.partitions.records import CURRENT, ArchivedFile, Replay

ROWS_PER_PASS = 2_000_000
"""About how many archived events are loaded at a time: some 5 GB."""

FOLLOWS_AT_ONCE = 10_000
Say = Callable[[str], object]


class _NotLoaded(Exception):
    """A day was dropped, or a file replaced, since files were loaded."""


def has_archived_days(engine: Engine) -> bool:
    """Whether there are days whose events are in the archive alone."""
    with engine.connect() as connection:
        records.require_installed(connection)
        return bool(records.files(connection, EVENTS, CURRENT, dropped=True))


def replay(
    engine: Engine,
    store: Store,
    start: datetime | None = None,
    end: datetime | None = None,
    *,
    rows_per_pass: int = ROWS_PER_PASS,
    say: Say = lambda _: None,
    on_progress: OnProgress = lambda _done, _total, _doing: None,
) -> Replayed:
    """Derive again every post with an event received in the window, from the log and the archive.

    As `assets.fediverse.replay.replay`, and who follows whom as well. Archived events that had
    failed are not tried again. One that was interrupted goes on where it was, if the window is the
    same; else it begins anew. Raises TallyBusy where another one runs, ArchiveUnavailable, and
    SQLAlchemy's errors.
    """
    started = time.monotonic()
    with alone(engine, EVENTS, "replay"):
        failed = retry_failed(engine, start, end)
        show = showing(engine, start, end, on_progress)
        passes = Passes(engine, store, start, end, rows_per_pass, say, repair, show, commit=True)
        found = passes.run()
    return Replayed(found.posts, found.skipped, failed, found.rows, time.monotonic() - started)


def verify(
    engine: Engine,
    store: Store,
    start: datetime | None = None,
    end: datetime | None = None,
    *,
    limit: int = 100,
    rows_per_pass: int = ROWS_PER_PASS,
    say: Say = lambda _: None,
    on_progress: OnProgress = lambda _done, _total, _doing: None,
) -> LogVerification:
    """Compare what is stored of these posts with what the log and the archive say; from the start.

    As `assets.fediverse.replay.verify_log`. Raises what `replay` raises.
    """
    started = time.monotonic()
    with alone(engine, EVENTS, "replay"):
        work = partial(look, limit)
        show = showing(engine, start, end, on_progress)
        passes = Passes(engine, store, start, end, rows_per_pass, say, work, show, commit=False)
        found = passes.run()
    return LogVerification(
        found.posts,
        found.skipped,
        found.differing,
        tuple(found.differences),
        time.monotonic() - started,
    )


class Passes:
    """All passes over the archive, each with the posts of one part of all posts."""

    def __init__(
        self,
        engine: Engine,
        store: Store,
        start: datetime | None,
        end: datetime | None,
        rows_per_pass: int,
        say: Say,
        work: Callable[[Connection, Found], Found],
        show: Callable[[Found], object],
        *,
        commit: bool,
    ) -> None:
        self._show = show
        self._engine, self._store, self._say = engine, store, say
        self._start, self._end = start, end
        self._window = window_of(start, end)
        self._rows_per_pass, self._work, self._commit = rows_per_pass, work, commit
        self._schema = write_posts.raw_schema()
        self._found = Found()
        self._position: Position | None = None

    def run(self) -> Found:
        """Do what is left; all that was found, also before an interruption."""
        state = self._resumed() or self._begun()
        found = Found(**state.done)
        while state.number < state.passes:
            self._say(f"pass {state.number + 1} of {state.passes}")
            found = self._pass(state, found)
            state = Replay(
                self._start,
                self._end,
                state.passes,
                state.number + 1,
                [],
                None,
                _without_differences(found),
            )
            self._clear(state if state.number < state.passes else None)
        return found

    def _resumed(self) -> Replay | None:
        """The replay that was interrupted, where it is the same one."""
        if not self._commit:
            return None
        with self._engine.begin() as connection:
            state = records.replay_of(connection, EVENTS)
        if state is None or (state.starts_at, state.ends_at) != (self._start, self._end):
            return None
        self._say("going on where an interrupted replay was")
        return state

    def _begun(self) -> Replay:
        with self._engine.begin() as connection:
            archived = records.files(connection, EVENTS, CURRENT, dropped=True)
        rows = sum(file.rows or 0 for file in archived)
        passes = max(1, -(-rows // self._rows_per_pass))
        state = Replay(self._start, self._end, passes, 0, [], None, _without_differences(Found()))
        self._clear(state)
        return state

    def _clear(self, state: Replay | None) -> None:
        """Empty the table of loaded events, and record what comes next; None: nothing does."""
        with self._engine.begin() as connection:
            execute(connection, f"TRUNCATE {STAGED}")
            records.note_replay(connection, EVENTS, state)

    def _pass(self, state: Replay, found: Found) -> Found:
        self._found, self._position = found, None
        if state.position is not None:
            column, instance, post = state.position
            self._position = (str(column), int(instance), str(post))
        while True:
            self._load(state)
            try:
                return self._derive(state)
            except _NotLoaded:
                # From where it is, once what is missing is loaded.
                continue

    def _derive(self, state: Replay) -> Found:
        chunks = Chunks(
            self._schema,
            LOG,
            self._window,
            self._work,
            self._commit,
            part=partial(staged_events.of_pass, state.passes, state.number),
            begin=self._require_loaded,
            note=self._note,
            show=self._show,
        )
        with write_posts.session(self._engine) as connection:
            if state.number == 0 and self._commit:
                self._derive_follows(connection)
            return each_chunk(connection, chunks, self._found, self._position)

    def _note(self, connection: Connection, position: Position, found: Found) -> None:
        if self._commit:
            known = records.replay_of(connection, EVENTS)
            assert known is not None
            done = _without_differences(found)
            records.note_replay(
                connection, EVENTS, replace(known, position=list(position), done=done)
            )
        self._found, self._position = found, position

    def _require_loaded(self, connection: Connection) -> None:
        """Raise _NotLoaded where an archived day is not in the log and not loaded either.

        No day is dropped from here on to the end of the transaction.
        """
        execute(connection, f"LOCK TABLE ONLY {name_of(stream_events)} IN ACCESS SHARE MODE")
        state = records.replay_of(connection, EVENTS)
        wanted = {f.id for f in records.files(connection, EVENTS, CURRENT, dropped=True)}
        if state is None or wanted != set(state.staged):
            raise _NotLoaded

    def _load(self, state: Replay) -> None:
        """Load the events of this pass of all archived days that are not loaded yet."""
        with self._engine.begin() as connection:
            archived = records.files(connection, EVENTS, CURRENT, dropped=True)
            known = records.replay_of(connection, EVENTS)
            assert known is not None
            wanted = {file.id for file in archived}
            if replaced := set(known.staged) - wanted:
                listed = ", ".join(map(str, replaced))
                execute(connection, f"DELETE FROM {STAGED} WHERE archived_file IN ({listed})")
                left = [each for each in known.staged if each in wanted]
                records.note_replay(connection, EVENTS, replace(known, staged=left))
        missing = [file for file in archived if file.id not in known.staged]
        for number, file in enumerate(sorted(missing, key=self._is_outside), 1):
            rows = load(
                self._engine,
                self._store,
                file,
                STAGED,
                where=self._condition(state, file),
                before=partial(self._choose_posts, file),
                after=partial(_note_loaded, file),
            )
            self._say(f"{number:,} of {len(missing):,} files: {rows:,} events of {file.partition}")
        if missing:
            with self._engine.begin() as connection:
                execute(connection, f"ANALYZE {STAGED}")

    def _is_outside(self, file: ArchivedFile) -> bool:
        """Whether no event of the file is in the window."""
        ends_before = self._start is not None and file.ends_at <= self._start
        begins_after = (
            self._end is not None and file.starts_at is not None and file.starts_at >= self._end
        )
        return ends_before or begins_after

    def _choose_posts(self, file: ArchivedFile, connection: Connection) -> None:
        """Find the posts of the window, before other events of theirs are loaded.

        Those of the window itself are in the log, or loaded before.
        """
        if not self._is_outside(file):
            return
        posts = " UNION ".join(
            f'SELECT e.instance_id, e.{column}::text COLLATE "C" AS post FROM {LOG.relation} AS e'
            f" WHERE e.{column} IS NOT NULL AND {self._window}"
            for column in ("payload_status_id", "payload_reblog_id")
        )
        execute(connection, f"CREATE TEMPORARY TABLE window_posts ON COMMIT DROP AS {posts}")
        execute(connection, "CREATE INDEX ON pg_temp.window_posts (instance_id, post)")
        execute(connection, "ANALYZE pg_temp.window_posts")

    def _condition(self, state: Replay, file: ArchivedFile) -> str:
        condition = staged_events.wanted_in(state.passes, state.number)
        if self._is_outside(file):
            among = (
                "EXISTS (SELECT FROM pg_temp.window_posts AS w WHERE w.instance_id = r.instance_id"
                " AND w.post IN (r.payload_status_id::text, r.payload_reblog_id::text))"
            )
            condition = f"{condition} AND {among}"
        return condition

    def _derive_follows(self, connection: Connection) -> None:
        """Bring who follows whom to what the events of the window say."""
        place = "true"
        while place:
            place = retried(
                partial(self._follows_after, connection, place),
                "the replay",
                self._engine,
                (),
                write_posts.LOCK_KEY,
            )

    def _follows_after(self, connection: Connection, place: str) -> str:
        """Do the next events of that kind; the condition of those that follow, empty: none do."""
        with connection.begin():
            write_posts.prepare(connection)
            self._require_loaded(connection)
            parsing.parse(
                connection,
                self._schema,
                "SELECT e.id, e.received_at, e.instance_id, e.event_type, e.payload::jsonb AS"
                f" payload FROM {LOG.relation} AS e WHERE {self._window} AND {place}"
                f" AND e.event_type IN ('{FOLLOW}', '{UNFOLLOW}')"
                " AND e.processed_at IS NOT NULL AND e.process_error IS NULL"
                f" ORDER BY e.received_at, e.id LIMIT {FOLLOWS_AT_ONCE}",
            )
            write_follows(connection, self._schema)
            last = execute(
                connection,
                "SELECT received_at::text AS at, event_id FROM pg_temp.batch"
                " ORDER BY received_at DESC, event_id DESC LIMIT 1",
            ).one_or_none()
        if last is None:
            return ""
        return f"(e.received_at, e.id) > ({literal(last.at)}::timestamptz, {last.event_id})"


def _note_loaded(file: ArchivedFile, connection: Connection) -> None:
    state = records.replay_of(connection, EVENTS)
    assert state is not None
    staged = [*state.staged, file.id]
    records.note_replay(connection, EVENTS, replace(state, staged=staged))


def _without_differences(found: Found) -> dict[str, object]:
    """What is recorded of it: differing rows are named by a comparison, which is never resumed."""
    return {**asdict(replace(found, differences=[])), "differences": []}

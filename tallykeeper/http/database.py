"""How the service reads: each answer in one read-only snapshot, with the moment it is exact as of.

Invariants: nothing is written, whatever role connects; what an answer says, its `as_of`
and its entity tag are of the very same snapshot; and no snapshot holds up vacuum for longer than
twice what a statement may take: it has ended before an answer is sent, and the server ends it where
this process hangs. No SQL over tallies here: questions are the systems' reads, and the state of a
tally is the engine's to tell.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, event
from starlette.requests import Request
from starlette.responses import Response

from tallykeeper.database.retry import Retry
from tallykeeper.database.sqlstates import SERIALIZATION_FAILURE
from tallykeeper.http.answers import JSON, with_moment, written
from tallykeeper.http.caching import CACHE_CONTROL, Remembered, entity_tag, is_known
from tallykeeper.http.problems import too_slow, unaskable
from tallykeeper.maintain.fingerprint import Part, fingerprint
from tallykeeper.settings import serve_statement_seconds

Provider = Engine | Callable[[], Engine]

# A live view fails where a source was truncated just then; the next snapshot is right.
_READ_AGAIN = Retry({SERIALIZATION_FAILURE}, attempts=3)
# No snapshot is taken by these.
_SETTINGS = (
    "SET TRANSACTION READ ONLY; SET LOCAL statement_timeout = '{0}s';"
    " SET LOCAL idle_in_transaction_session_timeout = '{0}s'; SET LOCAL lock_timeout = '2s';"
    " SET LOCAL jit = off; SET LOCAL timezone = 'UTC'"
)

_MOMENT = "SELECT statement_timestamp()"
# Of each system and worker.
REMEMBERED_BYTES = 16 * 1024 * 1024
# Writing the query of a state takes longer than asking it does.
REMEMBERED_CHARACTERS = 1024 * 1024

T = TypeVar("T")


class Snapshots:
    """Answers questions, each in a snapshot of its own, on an engine or on what makes one."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._bodies: Remembered[bytes] = Remembered(REMEMBERED_BYTES)
        self._states: Remembered[str] = Remembered(REMEMBERED_CHARACTERS)

    @property
    def engine(self) -> Engine:
        """The engine, opened now if it was not yet. Raises DatabaseUnavailable, SettingError."""
        return self._provider if isinstance(self._provider, Engine) else self._provider()

    def answer(
        self,
        request: Request,
        read: Callable[[Connection], Mapping[str, Any]],
        *parts: Part,
        question: object = None,
    ) -> Response:
        """What `read` returns, with `as_of`; 304 where the client has it already.

        `parts` are what the answer is read from, all of it: without them it has no entity tag.
        `question` is what was asked, with defaults filled in, where the address does not say it:
        from both together the parts and the answer's form follow.
        """
        parameters = sorted(request.query_params.multi_items())
        asked = json.dumps([request.url.path, parameters, question])
        query = self._state_query(asked, parts)
        known = request.headers.get("if-none-match")

        def attempt() -> Response:
            with self._snapshot() as connection:
                as_of, state = connection.exec_driver_sql(query).one()
                headers = {"cache-control": CACHE_CONTROL}
                if state is not None:
                    headers["etag"] = entity_tag(state, asked)
                    if is_known(headers["etag"], known):
                        return Response(status_code=304, headers=headers)
                body = self._body(connection, read, headers.get("etag"))
            return Response(with_moment(body, as_of), 200, headers, JSON)

        return _READ_AGAIN.call(attempt)

    def _body(
        self,
        connection: Connection,
        read: Callable[[Connection], Mapping[str, Any]],
        tag: str | None,
    ) -> bytes:
        """The answer without its moment, read now where none with that tag is remembered."""
        body = None if tag is None else self._bodies.get(tag)
        if body is None:
            try:
                body = written(read(connection))
            except ValueError as error:
                raise unaskable(str(error)) from error
            if tag is not None:
                self._bodies.put(tag, body)
        return body

    def read(self, question: Callable[[Connection, datetime], T]) -> T:
        """What `question` makes of a snapshot and its moment, without any tag."""

        def attempt() -> T:
            with self._snapshot() as connection:
                (as_of,) = connection.exec_driver_sql(_MOMENT).one()
                return question(connection, as_of)

        return _READ_AGAIN.call(attempt)

    def _state_query(self, asked: str, parts: tuple[Part, ...]) -> str:
        """What tells when a snapshot was taken, and the parts' state in it; to come first in it."""
        query = self._states.get(asked)
        if query is None:
            state = fingerprint(*parts) if parts else "NULL::text"
            query = f"{_MOMENT}, {state}".replace("%", "%%")
            self._states.put(asked, query)
        return query

    @contextmanager
    def _snapshot(self) -> Iterator[Connection]:
        # SQLAlchemy's own option for read-only transactions would leave the connection with an
        # explicit READ WRITE for the next one, whatever the default is.
        connecting = self.engine.connect().execution_options(isolation_level="REPEATABLE READ")
        with connecting as connection, connection.begin() as transaction:
            seconds = serve_statement_seconds()
            connection.exec_driver_sql(_SETTINGS.format(seconds))
            _begin_no_statement_after(connection, seconds)
            yield connection
            transaction.rollback()


def _begin_no_statement_after(connection: Connection, seconds: float) -> None:
    """Let no statement begin on the connection once so many seconds have passed."""
    until = time.monotonic() + seconds

    @event.listens_for(connection, "before_cursor_execute")
    def check(*_: object) -> None:
        if time.monotonic() > until:
            raise too_slow()

"""The PostgreSQL that comes along: one server in `<home>/postgres`, shared by every process.

Here is who may start and stop it, and when; how that is done is in
`tallykeeper.embedded.postmaster`. Invariants: however many processes start, use and leave
it at the same moment, there is one server, and nobody who uses it loses it because another
process ended.
"""

from __future__ import annotations

import atexit
import fcntl
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from tallykeeper import extras, settings
from tallykeeper.database.connections import APPLICATION_NAME, DatabaseUnavailable
from tallykeeper.database.retry import wait_until
from tallykeeper.embedded.file_locks import open_lock, try_lock

if TYPE_CHECKING:
    from tallykeeper.embedded.postmaster import Server

DATABASE = "tallykeeper"
LOCK = "postgres.lock"

_TELL_AFTER_SECONDS = 5
_LEAVING_SECONDS = 5
_LOG = logging.getLogger(__name__)


def start(home: Path | None = None, *, version: int | None = None) -> tuple[str, bool]:
    """Start the server in `home` (TALLY_HOME) unless it runs; it stays when this process ends.

    Returns its address and whether this call started it. The first start makes the data, with the
    PostgreSQL of the given version (16 or 18; None: that of the data, else 18). Raises
    DatabaseUnavailable.
    """
    home = _folder(home)
    with _locked(home):
        return _start(_server(home, version))


def stop(home: Path | None = None) -> bool:
    """Stop the server in `home` (TALLY_HOME), even while it is used; False where none ran.

    Raises DatabaseUnavailable.
    """
    home = _folder(home)
    if not (home / LOCK).is_file():
        return False
    with _locked(home):
        return _server(home).stop()


def is_running(home: Path | None = None) -> bool:
    """Whether the server in `home` (TALLY_HOME) runs, ready or not. Raises DatabaseUnavailable."""
    return _server(_folder(home)).running() is not None


def require_data(home: Path | None = None) -> None:
    """Raise DatabaseUnavailable where `home` (TALLY_HOME) has no data, or of an unknown version."""
    _server(_folder(home)).require_data()


@contextmanager
def serving(home: Path | None = None, *, version: int | None = None) -> Iterator[str]:
    """The server's address, with the server running at least as long as the block.

    At the end the server is stopped if this process started it and nobody else uses it: no other
    process in such a block, no other client connected. Raises DatabaseUnavailable.
    """
    home = _folder(home)
    with _mutex:
        use = _uses.setdefault(home, _Use())
        with _locked(home):
            url, started = _start(_server(home, version))
            if use.marker is None:
                use.marker = open_lock(home / "postgres.users")
                fcntl.flock(use.marker, fcntl.LOCK_SH)
            use.started |= started
            use.blocks += 1
    try:
        yield url
    finally:
        with _mutex:
            use.blocks -= 1
            if use.blocks == 0:
                with _locked(home):
                    _leave(home, use)


def start_for_this_process(before_stop: Callable[[], None], home: Path | None = None) -> str:
    """The address of the server, which runs until this process ends: see `serving`.

    `before_stop` is called at the end, to close what this process holds open. Raises
    DatabaseUnavailable.
    """
    home = _folder(home)
    with _mutex:
        if home not in _until_exit:
            stack = ExitStack()
            url = stack.enter_context(serving(home))
            stack.callback(before_stop)
            _until_exit[home] = stack
            atexit.register(_close_at_exit, home, os.getpid())
            return url
    return start(home)[0]


@dataclass
class _Use:
    """How this process uses one server: open blocks, whether it started it, and its shared lock."""

    blocks: int = 0
    started: bool = False
    marker: int | None = field(default=None)


_mutex = threading.RLock()
_uses: dict[Path, _Use] = {}
_until_exit: dict[Path, ExitStack] = {}


def _close_at_exit(home: Path, process: int) -> None:
    # A forked child has the parent's list, but none of its duties.
    if process == os.getpid():
        _until_exit.pop(home).close()


def _folder(home: Path | None) -> Path:
    return (home or settings.home()).resolve()


def _server(home: Path, version: int | None = None) -> Server:
    try:
        extras.require("embedded")
    except extras.MissingExtra as error:
        what = "without a database in TALLY_DATABASE_URL, the embedded one is used, which"
        raise DatabaseUnavailable(extras.needed_by(what, error.extra, error.name)) from error
    from tallykeeper.embedded.postmaster import Server

    return Server(home / "postgres", version=version)


def _start(server: Server) -> tuple[str, bool]:
    was_running = server.running() is not None
    server.start()
    if not was_running:
        _make_database(server)
    return server.url(DATABASE), not was_running


def _make_database(server: Server) -> None:
    """Create the database for the tallies if the server has none yet."""
    with _connection(server) as connection:
        found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
        if found.fetchone() is None:
            connection.execute(f"CREATE DATABASE {DATABASE}".encode())


def _connection(server: Server) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(server.url(), autocommit=True, application_name=APPLICATION_NAME)


def _leave(home: Path, use: _Use) -> None:
    """End this process's use, and stop the server if it started it and nobody else uses it."""
    assert use.marker is not None
    alone = try_lock(use.marker)
    os.close(use.marker)
    del _uses[home]
    server = _server(home)
    if use.started and alone and server.running() is not None and not _has_clients(server):
        server.stop()


def _has_clients(server: Server) -> bool:
    """Whether anyone is connected; who has just left may still be seen for a moment."""
    with _connection(server) as connection:

        def is_left() -> bool:
            found = connection.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            ).fetchone()
            return found == (0,)

        if wait_until(is_left, _LEAVING_SECONDS, 0.02):
            return False
    _LOG.warning("the embedded database stays running: others are connected to it")
    return True


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    """Alone in starting and stopping the server in `home`; waits for another that does so now."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = open_lock(home / LOCK)
    except OSError as error:
        raise DatabaseUnavailable(
            f"expected to write in {home}, where the embedded database is kept, but cannot"
            f" ({error.strerror}); choose another folder in TALLY_HOME, or set TALLY_DATABASE_URL"
        ) from error
    try:
        if not wait_until(lambda: try_lock(lock), _TELL_AFTER_SECONDS, 0.02):
            _LOG.warning("another process is starting or stopping the embedded database")
            wait_until(lambda: try_lock(lock), float("inf"), 0.02)
        yield
    finally:
        os.close(lock)

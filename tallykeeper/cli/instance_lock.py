"""There is one `tally up` of a home, and `tally stop` ends it.

Two of them would be two daemons on one storage, each with the same schedules. Invariants:
nothing is ended but who holds the lock. It is asked by a file that it looks for, and by no signal
to a number that may be another process's by then.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click

from tallykeeper.database.retry import wait_until
from tallykeeper.embedded.file_locks import open_lock, try_lock

LOOK_EVERY_SECONDS = 0.2


@contextmanager
def only_one(home: Path, stopping: threading.Event) -> Iterator[None]:
    """Nobody else is in this block with that home; `stopping` is set when `end` is called.

    Raises click.ClickException where somebody is in it, or the folder cannot be written.
    """
    with suppress(OSError):  # Reported where it is opened.
        home.mkdir(parents=True, exist_ok=True)
    lock = _opened(home)
    try:
        if not try_lock(lock):
            raise click.ClickException(
                f"another `tally up` keeps what is in {home} up; use that one, end it with `tally"
                " stop`, or choose another folder in TALLY_HOME"
            )
        # Of somebody who asked the one before.
        _request(home).unlink(missing_ok=True)
        with _watched(_request(home), stopping):
            yield
    finally:
        os.close(lock)


def end(home: Path, within: float) -> bool:
    """Ask who is in that block to leave it, and wait until it is left; False where nobody was.

    Raises click.ClickException where that takes more than so many seconds.
    """
    if not _lock(home).exists():
        return False
    asked = False
    lock = _opened(home)

    def is_left() -> bool:
        nonlocal asked
        if try_lock(lock):
            return True
        # Again each time: who has just come takes it for one of before.
        _request(home).touch()
        asked = True
        return False

    try:
        if not wait_until(is_left, within, LOOK_EVERY_SECONDS):
            raise click.ClickException(
                f"`tally up` was asked to end, and has not within {within:.0f} s; end it by"
                " hand, then call `tally stop` again"
            )
        _request(home).unlink(missing_ok=True)
    finally:
        os.close(lock)
    return asked


def _lock(home: Path) -> Path:
    return home / "up.lock"


def _request(home: Path) -> Path:
    return home / "up.stop"


def _opened(home: Path) -> int:
    try:
        return open_lock(_lock(home))
    except OSError as error:
        raise click.ClickException(
            f"expected to write in {home}, but cannot ({error.strerror}); choose another folder in"
            " TALLY_HOME"
        ) from error


@contextmanager
def _watched(request: Path, stopping: threading.Event) -> Iterator[None]:
    left = threading.Event()

    def watch() -> None:
        while not left.wait(LOOK_EVERY_SECONDS):
            if request.exists():
                stopping.set()
                return

    watcher = threading.Thread(target=watch, name="tally-stop")
    watcher.start()
    try:
        yield
    finally:
        left.set()
        watcher.join()

"""`tally serve`: uvicorn with one or several worker processes, until Ctrl-C or SIGTERM.

Invariants: each worker opens connections of its own, after it was started; a signal lets answers
that are under way be finished, and while it starts it ends it at once.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType, ModuleType
from typing import Any

import uvicorn

from tallykeeper import settings
from tallykeeper.database.connections import check_database, open_engine
from tallykeeper.embedded import shared_server

LOOPBACK = "127.0.0.1"
APP = "tallykeeper.http.app"
OPTIONS: dict[str, Any] = {
    "factory": True,
    "log_level": "warning",
    "access_log": False,
    "server_header": False,
    "timeout_keep_alive": 30,
    "timeout_graceful_shutdown": 10,
}
# As uvicorn ends where it cannot start.
NOT_STARTED = 3


class CannotListen(RuntimeError):
    """The address is in use, or none of this machine's."""


def run_server(
    host: str = LOOPBACK,
    port: int = 8000,
    workers: int = 1,
    say: Callable[[str], object] = print,
    folder_app: ModuleType | None = None,
) -> None:
    """Serve until a signal ends it; the folder of TALLY_SERVE_FOLDER, where `folder_app` is given.

    That is a module with `create_app`, and `require`, which raises where the folder cannot be read.

    Raises CannotListen, DatabaseUnavailable, SettingError.
    """
    # What is malformed is refused now, not at the first request.
    settings.serve_token()
    settings.serve_ready_seconds()
    settings.serve_statement_seconds()
    _require_free(host, port)
    with ExitStack() as stack:
        signals = stack.enter_context(_signals_handled())
        folder = settings.serve_folder() if folder_app is not None else None
        if folder_app is None or folder is None:
            _require_database(stack)
        else:
            folder_app.require(folder)
        shown = f"[{host}]" if ":" in host else host
        say(f"Tallykeeper answers at http://{shown}:{port}  (Ctrl-C ends it)")
        if folder is not None:
            say(f"No database is asked: it counts the files of {folder}")
        app = f"{folder_app.__name__ if folder_app else APP}:create_app"
        if workers > 1:
            signals.are_ignored = True
            uvicorn.run(app, host=host, port=port, workers=workers, **OPTIONS)
            return
        config = uvicorn.Config(app, host=host, port=port, **OPTIONS)
        config.load_app()
        signals.server = server = uvicorn.Server(config)
        server.run()
        if not server.started:
            raise SystemExit(NOT_STARTED)


def _require_database(stack: ExitStack) -> None:
    """See that there is a database; the embedded one is started, and stopped with the stack."""
    if settings.serve_database_url() is None and settings.database_url() is None:
        stack.enter_context(shared_server.serving())
    engine = open_engine(settings.serve_database_url())
    check_database(engine)
    engine.dispose()


class _Signals:
    """What Ctrl-C and SIGTERM do while uvicorn does not handle them itself.

    They end the command as long as there is no server, and then the server. One that has ended the
    server is passed on to here as well; there is nothing left to do then.
    """

    def __init__(self) -> None:
        self.server: uvicorn.Server | None = None
        self.are_ignored = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self.server is not None:
            self.server.should_exit = True
        elif not self.are_ignored:
            raise SystemExit(0)


@contextmanager
def _signals_handled() -> Iterator[_Signals]:
    signals = _Signals()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signals.handle) for number in numbers]
    try:
        yield signals
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _require_free(host: str, port: int) -> None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise CannotListen(
            f"cannot listen on port {port} of {host} ({error.strerror}); end what uses it, or"
            f" choose another, as in `tally serve --port {port + 1 if port < 65535 else 8000}`"
        ) from error

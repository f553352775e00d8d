"""`tally up`: the Dagster UI and daemon, and what settings add to them, until one ends it.

The embedded database is started and migrated first, source tables included, so that one who brings
no database sees something; one's own is `tally migrate`'s business. Invariants: whatever
this starts ends with it, whether by Ctrl-C, by SIGTERM or because one part failed.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import FrameType

import click

from tallykeeper import settings
from tallykeeper.cli.environment import dagster_environment
from tallykeeper.cli.instance_lock import only_one
from tallykeeper.cli.output.limited import LimitedOutput
from tallykeeper.dagster.workspace import workspace_file
from tallykeeper.database.connections import check_database, open_engine
from tallykeeper.embedded import shared_server

LOOPBACK = "127.0.0.1"
LOOK_EVERY_SECONDS = 0.5
READY_WITHIN_SECONDS = 120
# The daemon waits for its loops, the servers of the code location for their last requests.
END_WITHIN_SECONDS = 30
KILLED_WITHIN_SECONDS = 5


def run_up(port: int = 3000, host: str = LOOPBACK) -> None:
    """Run webserver and daemon until Ctrl-C or SIGTERM, then stop them and what they used.

    Raises click.ClickException where the port or the home is in use or a process ends, and
    what the settings, the database and a migration raise.
    """
    with ExitStack() as stack:
        # Before any child is started: what a shell ignores for its background jobs, Ctrl-C, its
        # children would ignore too, and Dagster turns SIGTERM into Ctrl-C.
        stopping = stack.enter_context(stop_signals())
        stack.enter_context(only_one(settings.home(), stopping))
        require_free_port(host, port)
        _make_ready(stack)
        # Links in alerts lead to this very UI, unless people reach it otherwise.
        here = {"TALLY_UI_URL": f"http://{host}:{port}"}
        environment = here | dict(os.environ) | dagster_environment()
        click.echo("Starting the Dagster UI and daemon ...")
        running = stack.enter_context(children(commands(host, port), environment))
        _wait_until_ready(host, port, running, stopping)
        while not stopping.wait(LOOK_EVERY_SECONDS):
            _keep_database()
            _require_alive(running)
        click.echo("Stopping ...")


def commands(host: str, port: int) -> dict[str, list[str]]:
    """What runs, by the name that people see: program and arguments.

    Raises SettingError.
    """
    workspace = str(workspace_file())
    parts = {
        "Dagster webserver": [
            *("dagster-webserver", "--workspace", workspace),
            *("--host", host, "--port", str(port)),
            *("--dagster-log-level", "error", "--code-server-log-level", "error"),
        ],
        "Dagster daemon": [
            *("dagster-daemon", "run", "--workspace", workspace),
            *("--log-level", "error", "--code-server-log-level", "error"),
        ],
    }
    if settings.metrics_address() is not None:
        parts["metrics server"] = ["tally", "metrics"]
    return parts


def require_free_port(host: str, port: int) -> None:
    """Raise click.ClickException where nobody may listen on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise click.ClickException(
                f"cannot listen on port {port} of {host} ({error.strerror}); end what uses it, or"
                f" choose another, as in `tally up --port {port + 1 if port < 65535 else 3000}`"
            ) from error


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set, instead of what they did before."""
    stopping = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        stopping.set()

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, stop) for number in numbers]
    try:
        yield stopping
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def children(
    commands: dict[str, list[str]], environment: dict[str, str]
) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Processes by name, none of which outlives the block, nor does anything that they started.

    Each leads a process group of its own, so that Ctrl-C in a terminal reaches this process alone,
    which then ends everything in order.
    """
    programs = Path(sys.executable).parent
    started: dict[str, subprocess.Popen[bytes]] = {}
    console = LimitedOutput(click.echo)
    readers = []
    try:
        for name, (program, *arguments) in commands.items():
            started[name] = subprocess.Popen(
                [str(programs / program), *arguments],
                env=environment,
                cwd=settings.project_root(),
                start_new_session=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            output = started[name].stdout
            assert output is not None
            readers.append(console.follow(output))
        yield started
    finally:
        _end(list(started.values()))
        for reader in readers:
            reader.join(KILLED_WITHIN_SECONDS)
        console.finish()


def _make_ready(stack: ExitStack) -> None:
    if settings.database_url() is None:
        from tallykeeper.installation.migrate import migrate

        stack.enter_context(shared_server.serving())
        for sentence in migrate(open_engine(), with_sources=True).done:
            click.echo(sentence)
    else:
        check_database(open_engine())


def _keep_database() -> None:
    """Start the embedded database again where it ended by itself.

    What Dagster's processes were doing is tried again by them. Raises DatabaseUnavailable where it
    does not start.
    """
    if settings.database_url() is None and not shared_server.is_running():
        # A start would make an empty database, and hide that everything is lost.
        shared_server.require_data()
        click.echo("The embedded PostgreSQL ended by itself; starting it again ...")
        shared_server.start()
        click.echo("It runs again.")


def _wait_until_ready(
    host: str, port: int, running: dict[str, subprocess.Popen[bytes]], stopping: threading.Event
) -> None:
    address = f"http://{host}:{port}"
    deadline = time.monotonic() + READY_WITHIN_SECONDS
    while not stopping.wait(LOOK_EVERY_SECONDS):
        _keep_database()
        _require_alive(running)
        if _answers(host, port):
            click.echo(f"Tallykeeper is up: {address}  (Ctrl-C ends it)")
            return
        if time.monotonic() > deadline:
            raise click.ClickException(
                f"the Dagster UI did not answer at {address} within {READY_WITHIN_SECONDS} s;"
                " is the machine busy? Its messages are above"
            )


def _answers(host: str, port: int) -> bool:
    with closing(HTTPConnection(host, port, timeout=2)) as connection:
        try:
            connection.request("GET", "/server_info")
            return connection.getresponse().status == HTTPStatus.OK
        except (OSError, HTTPException):
            return False


def _require_alive(running: dict[str, subprocess.Popen[bytes]]) -> None:
    for name, process in running.items():
        code = process.poll()
        if code is not None:
            raise click.ClickException(
                f"the {name} ended by itself (exit code {code}); its messages are above"
            )


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    """Ask the processes and all they started to end, and make those that do not."""
    left = processes
    for number, seconds in (
        (signal.SIGTERM, END_WITHIN_SECONDS),
        (signal.SIGKILL, KILLED_WITHIN_SECONDS),
    ):
        deadline = time.monotonic() + seconds
        left = [process for process in left if _signal_group(process, number)]
        while left and time.monotonic() < deadline:
            time.sleep(0.1)
            left = [process for process in left if _signal_group(process, 0)]


def _signal_group(process: subprocess.Popen[bytes], number: int) -> bool:
    """Send a signal to the process and all it started; False where nothing of it is left."""
    process.poll()  # or it would be left as a zombie, and so be there for ever
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return False
    return True

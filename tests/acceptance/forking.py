"""`tally` as a fork of a process that has its libraries loaded, for tests that run it often.

To load them is most of what a short command takes, and it is the same each time. What depends on
the environment, the declarations among it, each fork loads for itself. Invariants: a fork has the
arguments, the environment, the folder and the output that the program would have.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tallykeeper.settings import project_root
from tests.servers import in_memory

PROGRAM = Path(sys.executable).with_name("tally")
LOADED = (
    "rich.table",
    "sqlalchemy.dialects.postgresql.psycopg",
    "tallykeeper.cli.failures",
    "tallykeeper.cli.main",
    "tallykeeper.cli.output.tallies",
)
START_SECONDS = 60
LONGEST = 2**20
_addresses: list[str] = []


def run(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str], seconds: float
) -> tuple[int, str, str]:
    """The exit code of `tally`, and what it wrote. Raises TimeoutError after so many seconds."""
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as out,
        tempfile.TemporaryFile("w+", encoding="utf-8") as err,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel,
    ):
        channel.settimeout(seconds)
        channel.connect(address())
        asked = json.dumps([[*arguments], str(folder), dict(environment)]).encode()
        socket.send_fds(channel, [asked], [out.fileno(), err.fileno()])
        pid = int(channel.recv(LONGEST))
        try:
            code = int(channel.recv(LONGEST))
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            raise
        out.seek(0)
        err.seek(0)
        return code, out.read(), err.read()


def address() -> str:
    """Where the process listens; it is started when first needed, and ends with this one."""
    if not _addresses:
        folder = Path(tempfile.mkdtemp(prefix="tally-", dir=in_memory()))
        atexit.register(shutil.rmtree, folder)
        place = folder / "forks"
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(place)],
            cwd=project_root(),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        atexit.register(process.communicate)
        until = time.monotonic() + START_SECONDS
        while not place.exists():
            assert process.poll() is None, "the process that forks has ended"
            assert time.monotonic() < until, "the process that forks does not listen"
            time.sleep(0.01)
        _addresses.append(str(place))
    return _addresses[0]


def _serve(address: str) -> None:
    """Fork for each connection, until the standard input ends. Returns in forks alone."""
    for name in LOADED:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        # It has its name when somebody may connect.
        listening.bind(f"{address}.new")
        listening.listen()
        Path(f"{address}.new").rename(address)
        while True:
            ready, _, _ = select.select([listening, sys.stdin], [], [])
            if sys.stdin in ready:
                os._exit(0)
            channel, _ = listening.accept()
            if not os.fork():
                break
            channel.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with channel:
        # Output, errors, and input if there is any.
        asked, files, _, _ = socket.recv_fds(channel, LONGEST, 3)
        pid = os.fork()
        if pid:
            channel.send(str(pid).encode())
            _, status = os.waitpid(pid, 0)
            channel.send(str(os.waitstatus_to_exitcode(status)).encode())
            os._exit(0)
    arguments, folder, environment = json.loads(asked)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    if len(files) == 2:
        files.append(os.open(os.devnull, os.O_RDONLY))
    for number, file in zip((1, 2, 0), files, strict=True):
        os.dup2(file, number)
        os.close(file)
    sys.argv = [str(PROGRAM), *arguments]
    # Where the program is, in place of where this module was started.
    sys.path[0] = str(PROGRAM.parent)


if __name__ == "__main__":
    _serve(sys.argv[1])
    from tallykeeper.cli.main import main

    main()

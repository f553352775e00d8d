"""The embedded server: one for all processes, started and stopped at any moment, killed and back.

Each test has a home of its own, in a short folder, because a socket's path has to be short.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import psycopg
import pytest

from tallykeeper.database.connections import DatabaseUnavailable
from tallykeeper.embedded import postmaster, shared_server
from tests.environment import environment as clean
from tests.servers import in_memory

# Other processes import what this one does.
PATHS = os.pathsep.join(filter(None, sys.path))
START = "from tallykeeper.embedded import shared_server; print(shared_server.start())"
USE = """
import sys, psycopg
from tallykeeper.embedded import shared_server
for _ in range(int(sys.argv[1])):
    with shared_server.serving() as url, psycopg.connect(url) as connection:
        connection.execute("SELECT 1")
"""
ON_DEMAND = """
from tallykeeper.database.connections import check_database, open_engine
engine = open_engine()
check_database(engine)
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder for a server of the test's own, which is stopped at the end."""
    folder = Path(tempfile.mkdtemp(prefix="tally-", dir=in_memory()))
    yield folder
    for data in [*folder.glob("**/postgres")]:
        shared_server.stop(data.parent)
    shutil.rmtree(folder)


def python(home: Path, script: str, *arguments: str) -> subprocess.Popen[str]:
    """Another process with the same home."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        env=clean(TALLY_HOME=str(home), PYTHONPATH=PATHS),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


WAITING = "another process is starting or stopping the embedded database"


def finished(process: subprocess.Popen[str]) -> str:
    """What a process printed; it has to end well and without complaints.

    On a slow machine it may say that it waits for others, which is none.
    """
    out, err = process.communicate(timeout=120)
    complaints = [line for line in err.splitlines() if line != WAITING]
    assert (process.returncode, complaints) == (0, []), err
    return out.strip()


def value(url: str, query: str) -> object:
    """The first value that a query returns."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def kill(home: Path) -> None:
    """SIGKILL the server's first process, and nothing else."""
    pid = int((home / "postgres" / "postmaster.pid").read_text().split()[0])
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while shared_server.is_running(home):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_it_starts_from_nothing_and_stops(home: Path) -> None:
    assert not shared_server.is_running(home)
    url, started = shared_server.start(home / "new" / "folder")
    assert started
    assert shared_server.is_running(home / "new" / "folder")
    assert value(url, "SELECT current_database()") == "tallykeeper"
    assert shared_server.start(home / "new" / "folder") == (url, False)
    assert shared_server.stop(home / "new" / "folder")
    assert not shared_server.is_running(home / "new" / "folder")
    assert not shared_server.stop(home / "new" / "folder")


def test_stopping_what_was_never_there_makes_nothing(home: Path) -> None:
    assert not shared_server.stop(home / "nothing")
    assert not (home / "nothing").exists()


def test_it_fits_the_machine_and_is_safe(home: Path) -> None:
    url, _ = shared_server.start(home)
    expected = {
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "jit": "off",
        "max_prepared_transactions": "20",
        "TimeZone": "UTC",
        "server_encoding": "UTF8",
        "data_checksums": "on",
        "listen_addresses": "",
        "unix_socket_permissions": "0700",
    }
    assert {name: value(url, f"SHOW {name}") for name in expected} == expected
    assert value(url, "SHOW shared_buffers") != "128MB"
    errors = "SELECT count(*) FROM pg_file_settings WHERE error IS NOT NULL"
    assert value(url, errors) == 0


def test_nobody_else_can_read_the_data_or_reach_the_socket(home: Path) -> None:
    shared_server.start(home)
    for name in ("postgres", "postgres/.s.PGSQL.5432", "postgres.log"):
        assert stat.S_IMODE((home / name).stat().st_mode) & 0o077 == 0


def test_settings_of_ones_own_survive_a_restart(home: Path) -> None:
    shared_server.start(home)
    shared_server.stop(home)
    with (home / "postgres" / "postgresql.conf").open("a") as file:
        file.write("work_mem = 7MB\n")
    assert value(shared_server.start(home)[0], "SHOW work_mem") == "7MB"


@pytest.mark.parametrize("version", [16, 18])
def test_data_stay_with_the_version_that_made_them(home: Path, version: int) -> None:
    url, _ = shared_server.start(home, version=version)
    assert str(value(url, "SHOW server_version")).startswith(str(version))
    shared_server.stop(home)
    assert shared_server.start(home)[1]
    assert value(url, "SHOW server_version_num") is not None
    other = 34 - version
    with pytest.raises(
        DatabaseUnavailable, match=f"of PostgreSQL {other} .* they are of {version}"
    ):
        shared_server.start(home, version=other)


def test_a_version_that_is_not_there_is_reported(home: Path) -> None:
    with pytest.raises(DatabaseUnavailable, match="9 does not come along"):
        shared_server.start(home, version=9)


@pytest.mark.concurrency
def test_many_starts_at_once_make_one_server(home: Path) -> None:
    said = [finished(process) for process in [python(home, START) for _ in range(6)]]
    assert len({line.split(",")[0] for line in said}) == 1
    assert sum("True" in line for line in said) == 1
    servers = [
        process
        for process in psutil.process_iter(["name"])
        if process.info["name"] == "postgres" and str(home) in _folder_of(process)
    ]
    # A worker that has just ended has no parent any more.
    parents = [process.parent() for process in servers]
    assert sum(parent is not None and parent not in servers for parent in parents) == 1


def _folder_of(process: psutil.Process) -> str:
    try:
        return process.cwd()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return ""


@pytest.mark.concurrency
def test_nobody_finds_it_missing_while_others_come_and_go(home: Path) -> None:
    for process in [python(home, USE, "6") for _ in range(4)]:
        finished(process)


@pytest.mark.concurrency
def test_threads_share_it_too(home: Path) -> None:
    def use(_: int) -> object:
        with shared_server.serving(home) as url:
            return value(url, "SELECT 1")

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(use, range(12))) == [1] * 12
    assert not shared_server.is_running(home)


def test_who_started_it_stops_it(home: Path) -> None:
    with shared_server.serving(home) as url:
        with shared_server.serving(home) as again:
            assert again == url
        assert shared_server.is_running(home)
    assert not shared_server.is_running(home)


def test_who_found_it_running_leaves_it_running(home: Path) -> None:
    shared_server.start(home)
    with shared_server.serving(home):
        pass
    assert shared_server.is_running(home)


def test_it_stays_while_a_client_is_connected(home: Path) -> None:
    with shared_server.serving(home) as url:
        client = psycopg.connect(url)
    assert shared_server.is_running(home)
    client.close()


def test_it_stays_while_another_process_uses_it(home: Path) -> None:
    waits = (
        "from tallykeeper.embedded import shared_server\n"
        "with shared_server.serving(): print(flush=True); input()"
    )
    with shared_server.serving(home):
        other = subprocess.Popen(
            [sys.executable, "-c", waits],
            env=clean(TALLY_HOME=str(home), PYTHONPATH=PATHS),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert other.stdout is not None
        other.stdout.readline()
    assert shared_server.is_running(home)
    other.communicate("\n", timeout=30)
    assert shared_server.is_running(home)


def test_an_error_in_the_block_is_not_lost(home: Path) -> None:
    with pytest.raises(ZeroDivisionError), shared_server.serving(home):
        _ = 1 / 0
    assert not shared_server.is_running(home)


def test_a_process_that_opened_it_on_demand_stops_it_at_its_end(home: Path) -> None:
    finished(python(home, ON_DEMAND))
    assert (home / "postgres" / "PG_VERSION").exists()
    assert not shared_server.is_running(home)


def test_a_server_that_vanished_under_a_block_is_no_trouble(home: Path) -> None:
    with shared_server.serving(home):
        shared_server.stop(home)
    assert not shared_server.is_running(home)


def test_ctrl_c_in_the_terminal_does_not_reach_the_server(home: Path) -> None:
    shared_server.start(home)
    pid = int((home / "postgres" / "postmaster.pid").read_text().split()[0])
    assert os.getsid(pid) != os.getsid(0)


def test_after_a_kill_it_comes_back_with_what_was_committed(home: Path) -> None:
    url, _ = shared_server.start(home)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (n integer)")
    for _ in range(5):
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("INSERT INTO kept SELECT generate_series(1, 1000)")
            kill(home)
        assert shared_server.start(home) == (url, True)
    assert value(url, "SELECT count(*) FROM kept") == 5000


def test_after_a_kill_what_the_dead_server_had_begun_is_ended(home: Path) -> None:
    url, _ = shared_server.start(home)
    # It looks for the dead postmaster at no time, and would be busy for minutes.
    busy = "SELECT count(*) FROM generate_series(1, 10000000000) AS n"
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(value, url, busy)
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%000000) AS n'"
        while value(url, waiting) != 1:
            time.sleep(0.01)
        kill(home)
        assert shared_server.start(home) == (url, True)
        assert isinstance(running.exception(), psycopg.OperationalError)
    assert value(url, "SELECT 1") == 1


def test_a_long_recovery_is_waited_for_and_reported(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shared_server.start(home)
    shared_server.stop(home)
    # Recovery from an archive, in which every look takes a second and finds nothing.
    with (home / "postgres" / "postgresql.conf").open("a") as file:
        file.write("hot_standby = off\nrestore_command = 'sleep 1; false'\n")
    (home / "postgres" / "recovery.signal").touch()
    monkeypatch.setattr(postmaster, "_QUIET_SECONDS", 1)
    url, _ = shared_server.start(home)
    assert value(url, "SELECT pg_is_in_recovery()") is False
    assert "recovers from a crash; this can take minutes" in caplog.text


def test_a_recovery_that_takes_too_long_goes_on(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared_server.start(home)
    shared_server.stop(home)
    with (home / "postgres" / "postgresql.conf").open("a") as file:
        file.write("hot_standby = off\nrestore_command = 'sleep 1; false'\n")
    (home / "postgres" / "recovery.signal").touch()
    monkeypatch.setattr(postmaster, "_QUIET_SECONDS", 1)
    monkeypatch.setattr(postmaster, "_PATIENCE_SECONDS", 0)
    with pytest.raises(DatabaseUnavailable, match=r"still recovering .* try again later"):
        shared_server.start(home)
    assert shared_server.is_running(home)
    monkeypatch.setattr(postmaster, "_PATIENCE_SECONDS", 60)
    assert shared_server.start(home)[1] is False


def test_a_process_id_that_belongs_to_something_else_does_not_stop_it(home: Path) -> None:
    url, _ = shared_server.start(home)
    kill(home)
    for name in ("postmaster.pid", ".s.PGSQL.5432.lock"):
        lock = home / "postgres" / name
        lines = lock.read_text().splitlines()
        lock.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    assert not shared_server.is_running(home)
    assert shared_server.start(home) == (url, True)


@pytest.mark.parametrize("left", ["", "\0\0\0\0", "nonsense\n"])
def test_a_broken_pid_file_is_no_server(home: Path, left: str) -> None:
    shared_server.start(home)
    shared_server.stop(home)
    (home / "postgres" / "postmaster.pid").write_text(left)
    assert not shared_server.is_running(home)


def test_an_interrupted_first_start_is_begun_again(home: Path) -> None:
    (home / "postgres.part" / "base").mkdir(parents=True)
    (home / "postgres.part" / "PG_VERSION").write_text("18\n")
    assert shared_server.start(home)[1]
    assert not (home / "postgres.part").exists()


@pytest.mark.parametrize(
    "name", ["with space", "it's", 'say "so"', "a$HOME`b", "back\\slash", "comma,", "ü%20&?#+"]
)
def test_a_folder_may_have_any_name(home: Path, name: str) -> None:
    url, _ = shared_server.start(home / name)
    assert value(url, "SELECT 1") == 1
    assert shared_server.stop(home / name)


def test_a_folder_may_be_deeper_than_a_socket_can_be(home: Path) -> None:
    deep = home.joinpath(*["a-folder-with-a-long-name"] * 8)
    url, _ = shared_server.start(deep)
    assert value(url, "SELECT 1") == 1
    with shared_server.serving(deep) as again:
        assert again == url
    sockets = Path(str(value(url, "SHOW unix_socket_directories")).strip('"'))
    assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    shared_server.stop(deep)
    sockets.rmdir()


def test_a_socket_folder_of_somebody_else_is_not_used(home: Path) -> None:
    deep = home.joinpath(*["a-folder-with-a-long-name"] * 8)
    url, _ = shared_server.start(deep)
    sockets = Path(str(value(url, "SHOW unix_socket_directories")).strip('"'))
    shared_server.stop(deep)
    sockets.rmdir()
    sockets.symlink_to(home)
    try:
        with pytest.raises(DatabaseUnavailable, match=r"expected to own the folder .*shorter path"):
            shared_server.start(deep)
    finally:
        sockets.unlink()


def test_a_disk_without_room_is_refused_before_anything_is_made(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallykeeper.embedded.postmaster.NEEDED_BYTES", 2**60)
    said = r"expected 1,099,511,627,776 MB of free space .* at .*postgres, but there are [\d,]+ MB"
    with pytest.raises(DatabaseUnavailable, match=said):
        shared_server.start(home)
    monkeypatch.undo()
    assert not list(home.glob("postgres.part"))


def test_why_it_could_not_be_made_is_said_and_not_how_that_was_tidied_up(home: Path) -> None:
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10**5, 10**5))\n" + START
    process = python(home, limited)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    (last,) = [line for line in said.splitlines() if "could not be made" in line]
    assert "File too large" in last, said
    assert not (home / "postgres").exists()


def test_a_folder_with_something_else_in_it_is_left_alone(home: Path) -> None:
    (home / "postgres").mkdir()
    (home / "postgres" / "letter.txt").write_text("dear")
    with pytest.raises(DatabaseUnavailable, match=r"expected an empty folder, or none"):
        shared_server.start(home)
    assert (home / "postgres" / "letter.txt").read_text() == "dear"


def test_a_home_that_cannot_be_is_reported(home: Path) -> None:
    (home / "file").touch()
    with pytest.raises(DatabaseUnavailable, match=r"expected to write in .*TALLY_HOME"):
        shared_server.start(home / "file" / "home")


def test_a_setting_that_it_does_not_know_is_reported(home: Path) -> None:
    shared_server.start(home)
    shared_server.stop(home)
    with (home / "postgres" / "postgresql.conf").open("a") as file:
        file.write("no_such_setting = 1\n")
    with pytest.raises(DatabaseUnavailable, match=r"did not start \(.*see .*postgres\.log"):
        shared_server.start(home)


def test_a_log_that_grew_large_is_put_aside(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared_server.start(home)
    shared_server.stop(home)
    monkeypatch.setattr(postmaster, "_LARGEST_LOG", 10)
    shared_server.start(home)
    assert "shut down" in (home / "postgres.log.1").read_text()
    assert "shut down" not in (home / "postgres.log").read_text().split("starting")[0]


def test_waiting_for_another_process_is_reported(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shared_server, "_TELL_AFTER_SECONDS", 0)
    with ThreadPoolExecutor(1) as pool:
        with shared_server._locked(home):
            starting = pool.submit(shared_server.start, home)
            while "another process is starting" not in caplog.text:
                time.sleep(0.01)
            assert not starting.done()
        assert starting.result()[1]


def test_variables_of_libpq_do_not_reach_the_server(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "6543")
    monkeypatch.setenv("PGDATA", "/nowhere")
    url, _ = shared_server.start(home)
    monkeypatch.delenv("PGPORT")
    assert value(url, "SHOW port") == "5432"


def test_importing_it_warns_of_nothing() -> None:
    command = [
        sys.executable,
        "-W",
        "error",
        "-c",
        "from tallykeeper.embedded import shared_server",
    ]
    bare = {"PATH": os.environ["PATH"], "PYTHONPATH": PATHS}
    subprocess.run(command, check=True, env=bare)
    assert logging.getLogger("resources").handlers == []

"""A deployment's processes, killed one after the other; no figure is ever wrong in between.

Code location, daemon and webserver are started by the commands of their systemd units, over a
PostgreSQL that keeps the tallies and Dagster's own records, and is killed too. A writer and a
reader work all the time; the reader compares what is stored, and the live views, with the sources.
"""

from __future__ import annotations

import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dagster as dg
import httpx
import psutil
import psycopg
import pytest

import tallykeeper
from assets.media.tallies import system
from tallykeeper.dagster.automation.schedules import refresh_request
from tallykeeper.dagster.code_location import assets_of
from tallykeeper.dagster.partitions import daily
from tallykeeper.database.connections import dagster_url, open_engine
from tallykeeper.installation.migrate import migrate
from tests.concurrency.server import Server, connect
from tests.dagster.location import FIRST, Ran
from tests.dagster.processes import NAMES, Processes, until
from tests.oracle import DAILY, HOURLY, OracleViolation, look

pytestmark = pytest.mark.slow

TABLES = ("daily_contributions", "hourly_contributions")
HELD = "2025-05-02"
WRITE = (
    "INSERT INTO media.media_files (path, original_created_at) VALUES"
    f" (gen_random_uuid()::text, '{HELD} 12:00Z'),"
    " (gen_random_uuid()::text, now() - random() * interval '300 days')"
)
RUN_WITHIN = 120.0
START_WITHIN = 120.0
# The webserver may have connections that a killed server left behind.
LAUNCH_WITHIN = 60.0
TICK_WITHIN = 150.0
# Longer than Dagster goes on trying to connect.
OUTAGE_SECONDS = 12.0
# The server asks for none; what becomes of it is the same.
PASSWORD = "it's:a\\secret"
TOKEN = "of-this-test-alone-0123456789-0123456789"
FIRST_STEP = 'Started execution of step "media__daily_contributions"'
PAUSE_SECONDS = 0.1
SUCCESS, FAILURE = dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE

LOCATIONS = """{ workspaceOrError { ... on Workspace { locationEntries {
    name loadStatus locationOrLoadError { __typename }
} } } }"""
LOADED = [
    {
        "name": "tallykeeper",
        "loadStatus": "LOADED",
        "locationOrLoadError": {"__typename": "RepositoryLocation"},
    }
]
LAUNCH = """
mutation ($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}
"""


@dataclass
class Deployment:
    """The processes, the server under them, and who writes and reads meanwhile."""

    server: Server
    processes: Processes
    instance: dg.DagsterInstance
    traffic: Traffic
    refused: str = ""

    def launch(self) -> str:
        """Click on Launch for the hourly job, again where that fails; the run's id."""
        try:
            return until(self._launch, LAUNCH_WITHIN, "run that could be launched")
        except AssertionError as error:
            error.add_note(self.refused)
            raise

    def _launch(self) -> str | None:
        request = refresh_request(assets_of(system, daily()))
        selector = {
            "repositoryLocationName": "tallykeeper",
            "repositoryName": "__repository__",
            "jobName": request.job_name,
        }
        answer = self.processes.ask(
            LAUNCH,
            params={"selector": selector, "runConfigData": request.run_config},
        )
        if answer is None or answer["launchRun"]["__typename"] != "LaunchRunSuccess":
            self.refused = str(answer)
            return None
        return str(answer["launchRun"]["run"]["runId"])

    def run(self, run_id: str) -> dg.DagsterRun:
        found = self.instance.get_run_by_id(run_id)
        assert found is not None
        return found

    def wait(self, run_id: str, status: dg.DagsterRunStatus, seconds: float = RUN_WITHIN) -> Ran:
        """The run, once it has that status."""
        try:
            until(lambda: self.run(run_id).status is status, seconds, f"{status} of run {run_id}")
        except AssertionError as error:
            error.add_note(f"it is {self.run(run_id).status}\n{self.said_of(run_id)}")
            raise
        return Ran(self.instance, run_id)

    def said_of(self, run_id: str) -> str:
        """What the event log has on the run: its steps' and Dagster's own messages."""
        entries = self.instance.all_logs(run_id)
        events = [entry.dagster_event for entry in entries]
        return "\n".join(
            (event.message if event else None) or entry.user_message
            for event, entry in zip(events, entries, strict=True)
        )

    def retry_of(self, run_id: str) -> str:
        """The run that was started in place of a failed one."""
        tag = "dagster/auto_retry_run_id"
        return until(lambda: self.run(run_id).tags.get(tag), RUN_WITHIN, f"retry of {run_id}")

    def process_of(self, run_id: str) -> psutil.Process:
        """The process in which a run runs."""
        for entry in self.instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
            metadata = entry.get_dagster_event().engine_event_data.metadata
            if "pid" in metadata:
                return psutil.Process(int(str(metadata["pid"].value)))
        raise AssertionError(f"run {run_id} has no process")

    def is_loaded(self) -> bool:
        """Whether the webserver shows the code location as loaded."""
        answer = self.processes.ask(LOCATIONS)
        return answer is not None and answer["workspaceOrError"]["locationEntries"] == LOADED

    def scheduled(self) -> list[str]:
        """The runs that the schedule launched, newest first."""
        wanted = dg.RunsFilter(tags={"dagster/schedule_name": "media_hourly"})
        return [run.run_id for run in self.instance.get_runs(wanted)]

    def next_scheduled(self, before: set[str] | None = None) -> Ran:
        """The first run to succeed of those that the schedule launches, now or after those.

        One that was launched while something was away may fail; it is started again, as any other.
        """
        known = set(self.scheduled()) if before is None else before

        def succeeded() -> str | None:
            later = [run_id for run_id in self.scheduled() if run_id not in known]
            return next((r for r in later if self.run(r).status is SUCCESS), None)

        return Ran(self.instance, until(succeeded, TICK_WITHIN, "run of the schedule"))

    def kill_server(self) -> None:
        """What an immediate shutdown does: every process of the server ends at once."""
        running = self.server.running()
        assert running is not None
        process = psutil.Process(running.pid)
        process.send_signal(signal.SIGQUIT)
        until(lambda: self.server.running() is None or None, RUN_WITHIN, "end of the server")


class Traffic:
    """A writer and a reader at work until asked to stop, whatever the server does."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stop = threading.Event()
        self.looks = 0
        self.violation: OracleViolation | None = None
        self._threads = [
            threading.Thread(target=self._repeat, args=(work,))
            for work in (self._write, self._read)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _write(self, connection: psycopg.Connection[Any]) -> None:
        connection.execute(WRITE)

    def _read(self, connection: psycopg.Connection[Any]) -> None:
        for oracle in (DAILY, HOURLY):
            try:
                look(connection, oracle)
            except OracleViolation as violation:
                self.violation = self.violation or violation
        self.looks += 1

    def _repeat(self, work: Callable[[psycopg.Connection[Any]], None]) -> None:
        """Do it again and again, over another connection whenever one is lost."""
        while not self._stop.is_set():
            try:
                with connect(self._url) as connection:
                    while not self._stop.wait(PAUSE_SECONDS):
                        work(connection)
            except psycopg.OperationalError:
                time.sleep(PAUSE_SECONDS)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """All processes up, the code location loaded, the tallies built, traffic on."""
    folder = tmp_path_factory.mktemp("deployment")
    with ExitStack() as stack:
        # Not pytest's own folder, whose path is too long for a socket and closed to other users.
        short = stack.enter_context(TemporaryDirectory(prefix="tally-"))
        server = Server(Path(short) / "pg")
        server.start()
        stack.callback(server.stop)
        url = server.create_database("deployed")
        engine = open_engine(url)
        migrate(engine, [system], with_sources=True)
        with engine.begin() as connection:
            connection.exec_driver_sql(WRITE)
        for tally in system.tallies:
            tallykeeper.refresh(engine, tally)
        engine.dispose()
        secret = folder / "password"
        secret.write_text(PASSWORD + "\n")
        environment = {
            "TALLY_START_DATE": FIRST,
            "TALLY_DATABASE_URL": url,
            "TALLY_HOME": str(folder),
            "TALLY_PASSWORD_FILE": str(secret),
            "TALLY_SERVE_TOKEN": TOKEN,
            "TALLY_SYSTEMS": system.name,
        }
        processes = Processes(folder, environment, "tests.dagster.every_minute")
        stack.callback(processes.stop)
        processes.start("code")
        until(lambda: processes.listens("code") or None, START_WITHIN, "server of the code")
        processes.start("daemon")
        processes.start("webserver")
        traffic = Traffic(url)
        stack.callback(traffic.stop)
        until(lambda: processes.ask("{ version }"), START_WITHIN, "answer of the webserver")
        env = stack.enter_context(pytest.MonkeyPatch.context())
        env.setenv("DAGSTER_HOME", str(folder / "dagster"))
        env.setenv("DAGSTER_PG_URL", dagster_url(url))
        instance = stack.enter_context(dg.DagsterInstance.get())
        deployment = Deployment(server, processes, instance, traffic)
        until(lambda: deployment.is_loaded() or None, START_WITHIN, "loaded code location")
        yield deployment


@pytest.fixture(autouse=True)
def _always_right(deployment: Deployment) -> Iterator[None]:
    """Whatever a test kills, the reader goes on looking, and finds nothing wrong."""
    before = deployment.traffic.looks
    yield
    until(lambda: deployment.traffic.looks > before or None, RUN_WITHIN, "look of the reader")
    if deployment.traffic.violation is not None:
        raise deployment.traffic.violation


@contextmanager
def held(deployment: Deployment) -> Iterator[None]:
    """No refresh gets past one day's row: in mid-transaction, its changes deleted from the log."""
    with connect(deployment.server.url("deployed")) as holder:
        holder.execute("BEGIN")
        holder.execute(
            f"SELECT FROM media.daily_contributions WHERE date = '{HELD} 00:00Z' FOR UPDATE"
        )
        yield


def wait_until_held(deployment: Deployment, run_id: str) -> None:
    """Wait until the run is in the middle of its transaction."""
    until(
        lambda: FIRST_STEP in deployment.said_of(run_id) or None,
        RUN_WITHIN,
        f"step of run {run_id}",
    )
    with connect(deployment.server.url("deployed")) as connection:
        until(
            lambda: connection.execute(
                "SELECT pid FROM pg_stat_activity"
                " WHERE wait_event_type = 'Lock' AND application_name = 'tallykeeper'"
            ).fetchone(),
            RUN_WITHIN,
            "refresh that waits",
        )


def require_all_right(ran: Ran) -> None:
    """The run reported both tallies, and all its checks passed."""
    assert ran.failures() == []
    for table in TABLES:
        assert None in ran.materialized(table)


def test_a_killed_code_server_is_loaded_again_and_its_run_started_again(
    deployment: Deployment,
) -> None:
    with held(deployment):
        run_id = deployment.launch()
        wait_until_held(deployment, run_id)
        deployment.processes.kill("code")
        deployment.processes.start("code")
        deployment.wait(run_id, FAILURE)
    assert "its process ended with the old one" in deployment.said_of(run_id)
    until(lambda: deployment.is_loaded() or None, RUN_WITHIN, "loaded code location")
    assert deployment.wait(deployment.retry_of(run_id), SUCCESS).failures() == []


def test_the_schedule_ticks_and_its_run_refreshes_and_checks(deployment: Deployment) -> None:
    ran = deployment.next_scheduled()
    require_all_right(ran)
    assert all(ran.materialized(table)[None]["pending_consumed"] > 0 for table in TABLES)


def test_a_run_goes_on_without_the_daemon(deployment: Deployment) -> None:
    with held(deployment):
        run_id = deployment.launch()
        wait_until_held(deployment, run_id)
        deployment.processes.kill("daemon")
        deployment.processes.start("daemon")
    require_all_right(deployment.wait(run_id, SUCCESS))


def test_a_run_killed_with_the_database_server_is_started_again_and_the_schedule_ticks_on(
    deployment: Deployment,
) -> None:
    with suppress(psycopg.OperationalError), held(deployment):
        run_id = deployment.launch()
        wait_until_held(deployment, run_id)
        process = deployment.process_of(run_id)
        before = set(deployment.scheduled())
        deployment.kill_server()
        process.kill()
        time.sleep(OUTAGE_SECONDS)
        deployment.server.start()
    deployment.wait(run_id, FAILURE)
    deployment.wait(deployment.retry_of(run_id), SUCCESS)
    require_all_right(deployment.next_scheduled(before))
    assert all(deployment.processes.alive(name) for name in NAMES)
    assert deployment.is_loaded()


def test_figures_are_served_beside_them(deployment: Deployment) -> None:
    processes = deployment.processes
    processes.start("metrics")
    figures = until(lambda: processes.get("metrics", "/metrics"), START_WITHIN, "figures")
    assert 'tally="media.daily_contributions"' in figures


def test_a_rebuild_asked_for_over_http_is_done_by_a_backfill(deployment: Deployment) -> None:
    processes = deployment.processes
    processes.start("serve")
    until(lambda: processes.get("serve", "/health"), START_WITHIN, "answer of the reads")

    def ask() -> dict[str, Any] | None:
        answer = httpx.post(
            f"{processes.address('serve')}/api/tallies/media.daily_contributions/rebuild",
            params={"start": HELD, "end": HELD},
            headers={"authorization": f"Bearer {TOKEN}"},
            timeout=60,
        )
        # The webserver may have connections that a killed server left behind.
        assert answer.status_code in (202, 503), answer.text
        found: dict[str, Any] = answer.json()
        return found if answer.status_code == 202 else None

    asked = until(ask, LAUNCH_WITHIN, "backfill that could be asked for")
    assert asked["partitions"] == 1
    assert asked["url"] == f"{processes.address('webserver')}/runs/b/{asked['backfill_id']}"
    of_backfill = dg.RunsFilter(tags={"dagster/backfill": asked["backfill_id"]})
    (run,) = until(lambda: deployment.instance.get_runs(of_backfill), RUN_WITHIN, "its run")
    ran = deployment.wait(run.run_id, SUCCESS)
    done = ran.materialized("daily_contributions")[HELD]
    assert done["reason"] == f"rebuild on request: {HELD}"


def test_the_password_is_where_clients_look_for_it_and_nowhere_else(deployment: Deployment) -> None:
    processes = deployment.processes
    kept = processes.folder / "pgpass"
    assert kept.read_text() == "*:*:*:*:it's\\:a\\\\secret\n"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    for name in processes.running:
        assert processes.alive(name)
        process = psutil.Process(processes.running[name].pid)
        shown = [*process.cmdline(), *process.environ().values(), processes.said(name)]
        assert not any(PASSWORD in text for text in shown), name

"""Whether a run's process is still there, where the server that started it does not answer.

Where it does, and knows the run or not, is seen in `tests/dagster/test_processes.py`.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path

import dagster as dg
from dagster._core.launcher import WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG

from tallykeeper.dagster.instance.launcher import WatchedRunLauncher


def started_by(server: dict[str, str | int] | None) -> dg.DagsterRun:
    tags = {} if server is None else {GRPC_INFO_TAG: json.dumps(server)}
    return dg.DagsterRun(job_name="media_hourly", tags=tags)


def status_of(run: dg.DagsterRun) -> WorkerStatus:
    return WatchedRunLauncher().check_run_worker_health(run).status


def test_a_server_at_a_port_may_come_back_and_is_waited_for() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        server: dict[str, str | int] = {"host": "127.0.0.1", "port": probe.getsockname()[1]}
        assert status_of(started_by(server)) is WorkerStatus.RUNNING


def test_a_server_on_a_socket_of_its_own_never_comes_back(tmp_path: Path) -> None:
    server: dict[str, str | int] = {"host": "localhost", "socket": str(tmp_path / "gone")}
    assert status_of(started_by(server)) is WorkerStatus.NOT_FOUND


def test_a_run_that_no_server_started_is_left_alone() -> None:
    assert status_of(started_by(None)) is WorkerStatus.RUNNING


def test_runs_are_watched() -> None:
    assert WatchedRunLauncher().supports_check_run_worker_health

"""How runs are launched: as Dagster does by default, but a run whose process is dead is noticed.

Dagster's own launcher cannot tell a run that works from one whose process ended together with the
server of the code location: such a run counts as running until its time is up, and takes one of the
places for runs. Here the server that started the run is asked. Invariants: a run is given
up only on a server's own word, or where that server can never answer again.
"""

from __future__ import annotations

import json

from dagster import DagsterRun, DefaultRunLauncher

from tallykeeper.dagster._internals import (
    GRPC_INFO_TAG,
    CheckRunHealthResult,
    ServerUnreachable,
    WorkerStatus,
    runs_of_server,
)


class WatchedRunLauncher(DefaultRunLauncher):
    """Dagster's default launcher, with an answer to whether a run's process is still there."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Ask the server that started the run's process whether it still has it.

        A server that does not answer is being restarted; it is asked again at the next look, and
        then does not know the run. One on a socket of its own (`dg dev`, `tally up`) is
        never restarted at the same place.
        """
        if GRPC_INFO_TAG not in run.tags:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "it was started by no server")
        server = json.loads(run.tags[GRPC_INFO_TAG])
        try:
            known = runs_of_server(server)
        except ServerUnreachable:
            if server.get("socket"):
                return CheckRunHealthResult(
                    WorkerStatus.NOT_FOUND, "the server that started its process is down"
                )
            return CheckRunHealthResult(WorkerStatus.RUNNING, "its server does not answer now")
        if run.run_id in known:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(
            WorkerStatus.NOT_FOUND,
            "the server of the code location was restarted, and its process ended with the old one",
        )

"""Dagster's server of a code location, for a deployment: `python -m` with this module's name.

The same as `dagster api grpc`, whose options it takes, but for one thing. Dagster's server looks
every second whether a run's process has ended without a word, and tells the storage. If the storage
cannot be reached then, Dagster 1.13 gives up looking for as long as the server lives, and a run
that has ended counts as running. Here it looks again a second later.
"""

from __future__ import annotations

import logging
import sys

from dagster._cli import main as dagster
from dagster._grpc.server import DagsterApiServer
from dagster_postgres.utils import DagsterPostgresException
from sqlalchemy.exc import SQLAlchemyError

_LOG = logging.getLogger("dagster.code_server")
_look = DagsterApiServer._check_for_orphaned_runs  # noqa: SLF001 -- there is no public way


def _look_and_go_on(server: DagsterApiServer) -> None:
    try:
        _look(server)
    except (DagsterPostgresException, SQLAlchemyError) as error:
        _LOG.warning("the storage could not be told which runs ended; trying again: %s", error)


def main() -> None:
    """Serve until told to stop."""
    DagsterApiServer._check_for_orphaned_runs = _look_and_go_on  # type: ignore[assignment]  # noqa: SLF001
    sys.argv[1:1] = ["api", "grpc"]
    dagster()


if __name__ == "__main__":
    main()

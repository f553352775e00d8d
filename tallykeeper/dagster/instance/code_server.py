"""Dagster's server of a code location, for a deployment: `python -m` with this module's name.

The same as `dagster api grpc`, whose options it takes, but for one thing. Dagster's server looks
every second whether a run's process has ended without a word, and tells the storage. If the storage
cannot be reached then, Dagster 1.13 gives up looking for as long as the server lives, and a run
that has ended counts as running. Here it looks again a second later.
"""

from __future__ import annotations

import logging
import sys

from tallykeeper.dagster._internals import keep_checking_for_orphans, run_command_line

_LOG = logging.getLogger("dagster.code_server")


def _warn(error: Exception) -> None:
    _LOG.warning("the storage could not be notified of runs that ended; trying again: %s", error)


def main() -> None:
    """Serve until it is stopped."""
    keep_checking_for_orphans(_warn)
    sys.argv[1:1] = ["api", "grpc"]
    run_command_line()


if __name__ == "__main__":
    main()

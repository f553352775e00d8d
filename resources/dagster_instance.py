"""Dagster's instance for a process that does much with it.

By itself Dagster's storage in PostgreSQL connects anew for every event, and a run has hundreds: a
server takes longer to begin a connection than to write an event. Its webserver keeps a connection,
and so does what asks for one here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

_NO_LIMIT = 0
_HOUR = 3600
_MOST_AT_ONCE = 20


@contextmanager
def connected_instance() -> Iterator[dg.DagsterInstance]:
    """The instance that DAGSTER_HOME names; its connections are kept, and closed at the end."""
    with dg.DagsterInstance.get() as instance:
        instance.optimize_for_webserver(_NO_LIMIT, _HOUR, _MOST_AT_ONCE)
        try:
            yield instance
        finally:
            for storage in (
                instance.run_storage,
                instance.event_log_storage,
                instance.schedule_storage,
            ):
                # Their own dispose() does not close it, nor is there another way to its pool.
                engine = getattr(storage, "_engine", None)
                if engine is not None:
                    engine.dispose()

"""Figures about the tallies for Prometheus, read from the database at each scrape.

Nothing is remembered between two scrapes, so several processes may serve the same figures. What
must stay true: a scrape always answers, within seconds, and changes nothing; what cannot be read
is left out and said to be down. Who serves it, and where, is decided elsewhere.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from sqlalchemy import Connection, Engine, RowMapping
from sqlalchemy.exc import DBAPIError

from resources.database import DatabaseUnavailable
from resources.settings import wanted_systems
from tallies import System, Tally, sql
from tallies.tally import LOGGED_AT

MOST_PENDING = 1_000_000
STATEMENT_SECONDS = 2.0
SCRAPE_SECONDS = 8.0
PREFIX = "tallykeeper"

_LOG = logging.getLogger(__name__)

TALLY = ("system", "tally")
# Name, what it says, labels.
GAUGES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("up", "1 where the database could be read, 0 where not.", ()),
    (
        "tally_up",
        "1 where the tally is installed and all its figures could be read, 0 where not.",
        TALLY,
    ),
    (
        "pending_changes",
        "Rows of the change log that no refresh has taken yet; the live view counts them in."
        f" Counted up to {MOST_PENDING}.",
        TALLY,
    ),
    (
        "oldest_pending_seconds",
        "Age of the oldest pending change; 0 where none is pending.",
        TALLY,
    ),
    (
        "last_refresh_timestamp_seconds",
        "When the last refresh or rebuild was done, as a Unix time; absent before the first.",
        TALLY,
    ),
    (
        "last_refresh_duration_seconds",
        "How long the last refresh or rebuild took; absent before the first.",
        TALLY,
    ),
    ("rows", "Rows of the derived table after its last refresh; absent until built.", TALLY),
    (
        "last_verify_timestamp_seconds",
        "When the last comparison with the sources was made, as a Unix time; absent before it.",
        TALLY,
    ),
    (
        "differing_keys",
        "Keys that differed from the sources at the last verify; absent before the first.",
        TALLY,
    ),
    ("stale", "1 where the next refresh rebuilds the tally, 0 where it does not.", TALLY),
    ("table_bytes", "Size of the derived table on disk, with indexes and TOAST.", TALLY),
    ("log_bytes", "Size of the change log on disk.", TALLY),
    (
        "waiting_rows",
        "Rows of a system's raw log that are still to be processed.",
        ("system",),
    ),
    (
        "oldest_waiting_seconds",
        "Age of the oldest row of a system's raw log that is still to be processed; 0 where none.",
        ("system",),
    ),
    ("scrape_duration_seconds", "How long reading these figures took.", ()),
)


_STATE = f"{sql.ENGINE_SCHEMA}.tally_state"
_OF_STATE = (
    "rows",
    "last_refresh_timestamp_seconds",
    "last_refresh_duration_seconds",
    "last_verify_timestamp_seconds",
    "differing_keys",
    "stale",
)
_STATES = f"""
SELECT s.tally,
       s.rows - (SELECT coalesce(sum(c.rows), 0)
                 FROM {sql.ENGINE_SCHEMA}.cascaded AS c WHERE c.tally = s.tally) AS rows,
       extract(epoch FROM s.refreshed_at) AS last_refresh_timestamp_seconds,
       s.seconds AS last_refresh_duration_seconds,
       extract(epoch FROM v.verified_at) AS last_verify_timestamp_seconds,
       v.differing AS differing_keys,
       EXISTS (SELECT FROM {sql.ENGINE_SCHEMA}.stale_marks AS m WHERE m.tally = s.tally) AS stale
FROM {_STATE} AS s LEFT JOIN {sql.ENGINE_SCHEMA}.verifications AS v USING (tally)"""
# A partitioned table has no size of its own, and one that is not has no tree.
_SIZES = """
SELECT coalesce((SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree(r.relation)),
                pg_total_relation_size(r.relation)) AS table_bytes,
       pg_total_relation_size(r.log) AS log_bytes
FROM (SELECT to_regclass(%s) AS relation, to_regclass(%s) AS log) AS r"""
# Rows of a log lie about in the order in which they were written; so the oldest is among the first.
_PENDING = f"""
SELECT count(*) AS rows,
       greatest(0, coalesce(extract(epoch FROM statement_timestamp() - min({LOGGED_AT})), 0))
           AS seconds
FROM (SELECT {LOGGED_AT} FROM {{log}} LIMIT %s) AS first"""
_ALL_THERE = "SELECT bool_and(to_regclass(t) IS NOT NULL) AS found FROM unnest(%s::text[]) AS t"


class _OutOfTime(Exception):
    """A scrape has used up its seconds."""


def exposition(
    engine: Engine, systems: Sequence[System], accept: str | None = None
) -> tuple[bytes, str]:
    """The figures of now about the tallies of `systems`, and their content type.

    In the OpenMetrics format where `accept`, a request's header, asks for that. Of systems that
    the database does not keep nothing is said. Raises nothing where the database is out of reach.
    """
    encode, content_type = choose_encoder(accept or "")
    return encode(registry(engine, systems)), content_type


def registry(engine: Engine, systems: Sequence[System]) -> CollectorRegistry:
    """A registry of these figures alone, which are read whenever it is asked for them."""
    fresh = CollectorRegistry()
    fresh.register(TallyCollector(engine, systems))
    return fresh


class TallyCollector(Collector):
    """Reads the figures when asked, and keeps none."""

    def __init__(self, engine: Engine, systems: Sequence[System]) -> None:
        self._engine = engine
        self._systems = tuple(systems)

    def collect(self) -> Iterable[Metric]:
        """All figures of now."""
        build = InfoMetricFamily(
            f"{PREFIX}_build", "Which release this is.", {"version": version(PREFIX)}
        )
        return [build, *_Scrape(self._systems).of(self._engine)]


class _Part:
    """Whether a part of a scrape could be read."""

    up = True


class _Scrape:
    """One scrape: the figures found so far, and the time that is left."""

    def __init__(self, systems: Sequence[System]) -> None:
        self._systems = systems
        self._began = time.monotonic()
        self._found: dict[str, Metric] = {
            name: GaugeMetricFamily(f"{PREFIX}_{name}", what, labels=labels)
            for name, what, labels in GAUGES
        }

    def of(self, engine: Engine) -> Iterable[Metric]:
        """All that can be had."""
        up = 1
        try:
            with engine.connect() as connection:
                self._read(connection)
        except (DatabaseUnavailable, DBAPIError, _OutOfTime) as error:
            up = 0
            _LOG.warning("metrics: the database could not be read (%s)", _sentence(error))
        self._set("up", up)
        self._set("scrape_duration_seconds", time.monotonic() - self._began)
        return self._found.values()

    def _set(self, name: str, value: Any, *labels: str) -> None:
        if value is not None:
            self._found[name].add_metric(labels, float(value))  # type: ignore[attr-defined]

    def _read(self, connection: Connection) -> None:
        states = self._states(connection)
        for system in self._kept(connection, states):
            for tally in system.tallies:
                labels = (system.name, tally.name)
                with self._part(connection, tally.name) as part:
                    self._tally(connection, tally, states.get(tally.name), labels)
                self._set("tally_up", part.up and tally.name in states, *labels)
            self._waiting(connection, system)

    def _states(self, connection: Connection) -> dict[str, RowMapping]:
        """What the engine wrote down of each installed tally, by its name."""
        if not self._rows(connection, f"SELECT 1 WHERE to_regclass('{_STATE}') IS NOT NULL"):
            return {}
        return {row["tally"]: row for row in self._rows(connection, _STATES)}

    def _kept(self, connection: Connection, states: dict[str, RowMapping]) -> list[System]:
        if wanted_systems() is not None:
            return list(self._systems)
        return [
            system
            for system in self._systems
            if any(tally.name in states for tally in system.tallies)
            or self._has_sources(connection, system)
        ]

    def _has_sources(self, connection: Connection, system: System) -> bool:
        names = [sql.name_of(source) for source in system.sources]
        (row,) = self._rows(connection, _ALL_THERE, names)
        return bool(row["found"])

    def _tally(
        self,
        connection: Connection,
        tally: Tally,
        state: RowMapping | None,
        labels: tuple[str, ...],
    ) -> None:
        if state is None:
            return
        for name in _OF_STATE:
            self._set(name, state[name], *labels)
        (sizes,) = self._rows(connection, _SIZES, sql.name_of(tally.table), tally.log_name)
        self._set("table_bytes", sizes["table_bytes"], *labels)
        self._set("log_bytes", sizes["log_bytes"], *labels)
        (pending,) = self._rows(connection, _PENDING.format(log=tally.log_name), MOST_PENDING)
        self._set("pending_changes", pending["rows"], *labels)
        self._set("oldest_pending_seconds", pending["seconds"], *labels)

    def _waiting(self, connection: Connection, system: System) -> None:
        if system.waiting is None:
            return
        with self._part(connection, system.name), self._transaction(connection):
            waiting = system.waiting(connection)
            age = max(0.0, time.time() - waiting.oldest.timestamp()) if waiting.oldest else 0
            self._set("waiting_rows", waiting.rows, system.name)
            self._set("oldest_waiting_seconds", age, system.name)

    @contextmanager
    def _part(self, connection: Connection, name: str) -> Iterator[_Part]:
        """A part of the whole: where it cannot be read, the others still can."""
        part = _Part()
        try:
            yield part
        except (DBAPIError, _OutOfTime) as error:
            part.up = False
            _LOG.warning("metrics: %s could not be read (%s)", name, _sentence(error))
            if connection.invalidated:
                raise

    def _rows(self, connection: Connection, query: str, *parameters: object) -> list[RowMapping]:
        with self._transaction(connection):
            return list(connection.exec_driver_sql(query, parameters).mappings())

    @contextmanager
    def _transaction(self, connection: Connection) -> Iterator[None]:
        left = SCRAPE_SECONDS - (time.monotonic() - self._began)
        if left <= 0:
            raise _OutOfTime(f"the {SCRAPE_SECONDS:g} s of a scrape are over")
        milliseconds = max(1, round(1000 * min(left, STATEMENT_SECONDS)))
        with connection.begin():
            connection.exec_driver_sql(
                "SELECT set_config('transaction_read_only', 'on', true),"
                " set_config('statement_timeout', %s, true)",
                (str(milliseconds),),
            )
            yield


def _sentence(error: BaseException) -> str:
    """The error on one line, without the SQL."""
    said = str(getattr(error, "orig", None) or error)
    return next(iter(said.splitlines()), type(error).__name__)

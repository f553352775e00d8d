"""Figures about the tallies for Prometheus, read from the database at each scrape.

Nothing is remembered between two scrapes, so several processes may serve the same figures.
Invariants: a scrape always answers, within seconds, and changes nothing; what cannot be read is
left out and said to be down. Who serves it, and where, is decided elsewhere.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from sqlalchemy import Connection, Engine, RowMapping, func, select
from sqlalchemy.exc import DBAPIError

from tallykeeper import System, Tally, incidents_ever
from tallykeeper.catalog.state import is_there
from tallykeeper.database import sql
from tallykeeper.database.connections import DatabaseUnavailable
from tallykeeper.faults.incidents import incidents
from tallykeeper.operations import figures
from tallykeeper.settings import wanted_systems

STATEMENT_SECONDS = 2.0
SCRAPE_SECONDS = 8.0
LOCK_MILLISECONDS = 500

_LOG = logging.getLogger(__name__)


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
            f"{figures.PREFIX}_build",
            "Which release this is.",
            {"version": version(figures.PREFIX)},
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
            name: GaugeMetricFamily(f"{figures.PREFIX}_{name}", what, labels=labels)
            for name, what, labels in figures.GAUGES
        }
        self._ever = CounterMetricFamily(
            f"{figures.PREFIX}_{figures.INCIDENTS}", figures.INCIDENTS_EVER, labels=["kind"]
        )

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
        return [*self._found.values(), self._ever]

    def _set(self, name: str, value: Any, *labels: str) -> None:
        if value is not None:
            self._found[name].add_metric(labels, float(value))  # type: ignore[attr-defined]

    def _read(self, connection: Connection) -> None:
        states = self._states(connection)
        compared = self._compared(connection)
        for system in self._kept(connection, states):
            for tally in system.tallies:
                labels = (system.name, tally.name)
                with self._part(connection, tally.name) as part:
                    self._tally(connection, tally, states.get(tally.name), labels)
                self._set(figures.ALL_COMPARED, compared.get(tally.name), *labels)
                self._set("tally_up", part.up and tally.name in states, *labels)
            self._waiting(connection, system)
        self._incidents(connection)

    def _states(self, connection: Connection) -> dict[str, RowMapping]:
        """What the engine wrote down of each installed tally, by its name."""
        if not self._is_there(connection, figures.STATE):
            return {}
        return {row["tally"]: row for row in self._rows(connection, figures.STATES)}

    def _compared(self, connection: Connection) -> dict[str, Any]:
        """Since when all keys of each tally have been compared; what an older release has not."""
        with self._part(connection, "audits"):
            if self._is_there(connection, figures.AUDITS):
                rows = self._rows(connection, figures.COMPARED)
                return {row["tally"]: row[figures.ALL_COMPARED] for row in rows}
        return {}

    def _is_there(self, connection: Connection, table: str) -> bool:
        return bool(self._rows(connection, f"SELECT 1 WHERE to_regclass('{table}') IS NOT NULL"))

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
        (row,) = self._rows(connection, figures.ALL_THERE, names)
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
        for name in figures.OF_STATE:
            self._set(name, state[name], *labels)
        (pending,) = self._rows(
            connection, figures.PENDING.format(log=tally.log_name), figures.MOST_PENDING
        )
        self._set("pending_changes", pending["rows"], *labels)
        self._set("oldest_pending_seconds", pending["seconds"], *labels)
        (sizes,) = self._rows(connection, figures.SIZES, sql.name_of(tally.table), tally.log_name)
        self._set("table_bytes", sizes["table_bytes"], *labels)
        self._set("log_bytes", sizes["log_bytes"], *labels)

    def _waiting(self, connection: Connection, system: System) -> None:
        if system.waiting is None:
            return
        with self._part(connection, system.name), self._transaction(connection):
            waiting = system.waiting(connection)
            age = max(0.0, time.time() - waiting.oldest.timestamp()) if waiting.oldest else 0
            self._set("waiting_rows", waiting.rows, system.name)
            self._set("oldest_waiting_seconds", age, system.name)

    def _incidents(self, connection: Connection) -> None:
        with self._part(connection, "incidents"), self._transaction(connection):
            if not is_there(connection, incidents):
                return
            columns = (incidents.c.subject, incidents.c.kind)
            still = select(*columns, func.count()).where(incidents.c.resolved_at.is_(None))
            for subject, kind, count in connection.execute(still.group_by(*columns)):
                self._set("open_incidents", count, subject, kind)
            for kind, times in incidents_ever(connection).items():
                self._ever.add_metric([kind], times)

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
                " set_config('statement_timeout', %s, true), set_config('lock_timeout', %s, true),"
                " set_config('idle_in_transaction_session_timeout', %s, true)",
                (str(milliseconds), str(LOCK_MILLISECONDS), str(milliseconds)),
            )
            yield


def _sentence(error: BaseException) -> str:
    """The error on one line, without the SQL."""
    said = str(getattr(error, "orig", None) or error)
    return next(iter(said.splitlines()), type(error).__name__)

"""What a day of changes leaves on the disk: change logs and derived tables, hour by hour.

Equal libraries live through the same day of 24 refreshes, each with its logs cleared in another
way. An hour is as many seconds as its changes take, and autovacuum looks as often in proportion as
it would. From hour 9 to 12 a transaction stays open, as of a backup, behind which nothing can be
cleared. The changes of an hour come in transactions of a thousand; after each refresh the touched
days are verified, as the hourly run does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlalchemy import Connection, Engine, create_engine, text

import tallykeeper
from assets.media.reads import daily_counts
from assets.media.tallies import system
from benchmarks.bench import Bench
from benchmarks.library import Library
from benchmarks.progress import announce
from benchmarks.report import Row, Section, count
from benchmarks.timing import Sample, seconds_of
from tallykeeper.database import sql

HOURS = 24
CHANGES, AT_A_TIME = 10_000, 1_000
FILES_BEFORE = 200_000
BACKUP_FROM, BACKUP_TO = 9, 12
SHOWN_HOURS = (1, 8, 12, 13, 16, 24)
# A minute, PostgreSQL's own, to an hour is as a second to a minute; an hour here is shorter.
NAPTIME = "1s"
ROLE = "tally_bench_refresher"

LOGS = tuple(tally.log_name for tally in system.tallies)
DERIVED = tuple(sql.name_of(tally.table) for tally in system.tallies)
OWN = "ALTER TABLE {} SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,"
OWN += " autovacuum_vacuum_insert_threshold = -1)"
OFF = "ALTER TABLE {} SET (autovacuum_enabled = off)"


class Hour(NamedTuple):
    """What was measured at its end: bytes, dead rows, and how often autovacuum had come by then."""

    logs: int
    logs_dead: int
    autovacuums: int
    derived: int
    derived_dead: int
    others: int


@dataclass
class Kept:
    """A library whose logs are kept small in one way, and what was measured of it."""

    how: str
    library: Library
    engine: Engine
    hours: list[Hour] = field(default_factory=list)
    refreshes: list[float] = field(default_factory=list)
    reads: list[float] = field(default_factory=list)

    def live_through_an_hour(self) -> None:
        """Change, read, refresh and verify, and measure what is left."""
        for _ in range(CHANGES // AT_A_TIME):
            self.library.change(AT_A_TIME)
        self.reads.append(seconds_of(self._read))
        self.refreshes.append(seconds_of(self._refresh))
        for tally in system.tallies:
            tallykeeper.verify(self.engine, tally, "touched")
        self.hours.append(self._measured())

    def _refresh(self) -> None:
        for tally in system.tallies:
            tallykeeper.refresh(self.engine, tally)

    def _read(self) -> None:
        with self.engine.connect() as connection:
            daily_counts(connection)

    def _measured(self) -> Hour:
        with self.engine.connect() as connection:
            logs, derived = (
                connection.exec_driver_sql(
                    "SELECT sum(pg_total_relation_size(relid))::bigint AS bytes,"
                    " sum(n_dead_tup)::bigint AS dead, sum(autovacuum_count)::bigint AS times"
                    " FROM pg_stat_user_tables WHERE relid = ANY (%s::regclass[]::oid[])",
                    (list(names),),
                ).one()
                for names in (LOGS, DERIVED)
            )
            others = connection.exec_driver_sql(
                "SELECT sum(pg_total_relation_size(relid))::bigint FROM pg_stat_user_tables"
                " WHERE schemaname = 'tallykeeper' AND relid <> ALL (%s::regclass[]::oid[])",
                (list(LOGS),),
            ).scalar_one()
        return Hour(logs.bytes, logs.dead, logs.times, derived.bytes, derived.dead, others)


def measure(bench: Bench) -> Section:
    """A day, in each way."""
    with _often(bench), _refresher(bench) as user:
        ways = [
            _kept(bench, "owner", "logs' owner refreshes", None),
            _kept(bench, "other", "another role", user),
            _kept(bench, "own", "another role, settings for logs", user, OWN),
            _kept(bench, "off", "another role, no autovacuum of logs", user, OFF),
        ]
        for hour in range(1, HOURS + 1):
            announce(f"hour {hour} of {HOURS}")
            if hour == BACKUP_FROM:
                backups = contextlib.ExitStack()
                for way in ways:
                    _backup(backups.enter_context(way.library.engine.connect()))
            for way in ways:
                way.live_through_an_hour()
            if hour == BACKUP_TO:
                backups.close()
        for way in ways:
            way.engine.dispose()
    return Section("bloat", _rows(ways), [_table(ways)])


def _kept(bench: Bench, name: str, how: str, user: str | None, settings: str = "") -> Kept:
    library = Library(bench.server, min(FILES_BEFORE, bench.sizes[0]), f"bloat_{name}")
    if settings:
        library.execute(*(settings.format(log) for log in LOGS))
    engine = library.engine
    if user is not None:
        engine = create_engine(engine.url.set(username=user))
    return Kept(how, library, engine)


def _backup(connection: Connection) -> None:
    """Take a snapshot, and keep it until the connection is closed."""
    connection.execution_options(isolation_level="REPEATABLE READ")
    connection.execute(text("SELECT count(*) FROM pg_class"))


@contextlib.contextmanager
def _often(bench: Bench) -> Iterator[None]:
    """Let autovacuum look as often as fits hours that are so short."""
    bench.server.execute(f"ALTER SYSTEM SET autovacuum_naptime = '{NAPTIME}'")
    bench.server.execute("SELECT pg_reload_conf()")
    try:
        yield
    finally:
        bench.server.execute("ALTER SYSTEM RESET autovacuum_naptime")
        bench.server.execute("SELECT pg_reload_conf()")


@contextlib.contextmanager
def _refresher(bench: Bench) -> Iterator[str]:
    """A role that may read and write everything, and owns nothing."""
    bench.server.execute(f"DROP ROLE IF EXISTS {ROLE}")
    bench.server.execute(f"CREATE ROLE {ROLE} LOGIN IN ROLE pg_read_all_data, pg_write_all_data")
    try:
        yield ROLE
    finally:
        bench.server.execute(f"DROP ROLE {ROLE}")


def _rows(ways: list[Kept]) -> list[Row]:
    first, *others = ways
    size = f"{count(CHANGES)} changes an hour"
    rows = []
    for what, name in (
        ("hourly refresh of both", "refreshes"),
        ("`daily_counts` before it", "reads"),
    ):
        mine = Sample(tuple(getattr(first, name)))
        rows += [
            Row(
                f"{what}, {way.how}",
                size,
                Sample(tuple(getattr(way, name))),
                first.how,
                mine,
            )
            for way in others
        ]
    return rows


def _table(ways: list[Kept]) -> str:
    """Logs after the refresh of some hours, and the largest of all; the rest of the first way."""
    lines = [
        "| After hour | " + " | ".join(f"logs: {way.how}" for way in ways) + " | derived tables |",
        "|---" * (len(ways) + 2) + "|",
    ]
    for number in SHOWN_HOURS:
        hours = [way.hours[number - 1] for way in ways]
        cells = [_size(hour.logs, hour.logs_dead) for hour in hours]
        lines.append(_line([f"{number}", *cells, _size(hours[0].derived, hours[0].derived_dead)]))
    largest = [_mb(max(hour.logs for hour in way.hours)) for way in ways]
    lines.append(_line(["largest", *largest, _mb(max(h.derived for h in ways[0].hours))]))
    lines.append(_line(["autovacuums", *(f"{way.hours[-1].autovacuums}" for way in ways), ""]))
    others = _mb(max(hour.others for way in ways for hour in way.hours))
    return "\n".join(lines) + f"\n\nThe other tables of the schema `tallykeeper`: at most {others}."


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _size(size: int, dead: int) -> str:
    return f"{_mb(size)}, {dead:,} dead rows"


def _mb(size: int) -> str:
    return f"{size / 1024**2:.1f} MB"

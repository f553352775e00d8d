"""kill -9, of the process that refreshes and of PostgreSQL itself, at random moments.

100 times by `make test-slow`, a third of them where all tests are run. Meanwhile writers work, some
keeping a ledger of what the server said is committed. After every kill the oracle holds; at the end
the derived tables are what the ledgers add up to.
"""

from __future__ import annotations

import random
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from tallykeeper import Tally, rebuild, refresh, verify
from tests.concurrency.conftest import new_seed, share
from tests.concurrency.harness import processes
from tests.concurrency.ledger import Account, LedgerWriter, reconnected
from tests.concurrency.server import Server, connect, for_sqlalchemy
from tests.concurrency.subjects import SUBJECTS
from tests.concurrency.writers import Writer
from tests.oracle import Oracle, look, settle

KILLED_REFRESHERS = share(70)
KILLED_SERVERS = share(30)
LEDGERS = 2
# So many files that a rebuild takes its time: a kill should hit it.
FILES_BEFORE = 8_000

MEDIA, FORUM = SUBJECTS["media"], SUBJECTS["tag hours"]
TALLIES = (*MEDIA.system.tallies, *FORUM.system.tallies)
ORACLES: tuple[Oracle, ...] = (*MEDIA.oracles, *FORUM.oracles)

pytestmark = [pytest.mark.concurrency, pytest.mark.slow]


@dataclass
class Crowd:
    """Processes that write and refresh, whatever dies around them."""

    url: str
    seed: str

    def __post_init__(self) -> None:
        self.stop = processes.Event()
        self.ledgers = processes.Queue()
        self.inside = processes.Value("b", 0)
        self.started = processes.Value("i", 0)
        works = [*[_keep_ledger] * LEDGERS, _write_posts]
        self.writers = [
            self._process(_report, work, self.url, f"{self.seed} {n}", self.stop, self.ledgers)
            for n, work in enumerate(works)
        ]
        self.start_refresher(0)

    def start_refresher(self, number: int) -> None:
        """Start another one, and wait until it refreshes."""
        before, seed = self.started.value, f"{self.seed} refresher {number}"
        self.refresher = self._process(
            _refresh_on, self.url, seed, self.stop, self.inside, self.started
        )
        while self.started.value == before:
            assert self.refresher.is_alive(), "the refresher died by itself"
            time.sleep(0.002)

    def kill_refresher(self) -> bool:
        """SIGKILL; whether it was in the middle of something."""
        inside = bool(self.inside.value)
        self.refresher.kill()
        self.refresher.join()
        return inside

    def finish(self) -> tuple[list[Account], Counter[str]]:
        """Stop all; the ledgers, and what the writers counted."""
        self.stop.set()
        accounts, counts = [], Counter[str]()
        for _ in self.writers:
            account, counted, error = self.ledgers.get(timeout=60)
            assert not error, f"{error}\nseed {self.seed}"
            accounts.append(account)
            counts += counted
        for process in (*self.writers, self.refresher):
            process.join(30)
        assert self.refresher.exitcode == 0, f"the refresher failed, seed {self.seed}"
        return accounts, counts

    def abandon(self) -> None:
        """Leave nothing behind when a test fails half way."""
        self.stop.set()
        for process in (*self.writers, self.refresher):
            process.join(5)
            if process.is_alive():
                process.kill()

    def _process(self, work: Callable[..., None], *args: Any) -> Any:
        process = processes.Process(target=work, args=args, daemon=True)
        process.start()
        return process


def _report(
    work: Callable[[str, str, Any], tuple[Account, Counter[str]]],
    url: str,
    seed: str,
    stop: Any,
    ledgers: Any,
) -> None:
    try:
        account, counts = work(url, seed, stop)
        ledgers.put((account, counts, ""))
    except Exception:  # noqa: BLE001 - the test raises it
        ledgers.put(({}, Counter(), traceback.format_exc()))


def _keep_ledger(url: str, seed: str, stop: Any) -> tuple[Account, Counter[str]]:
    writer = LedgerWriter(url, f"ledger {seed.rsplit(' ', 1)[1]}", seed)
    while not stop.is_set():
        writer.transaction()
    return writer.account, writer.counts


def _write_posts(url: str, seed: str, stop: Any) -> tuple[Account, Counter[str]]:
    done: Counter[str] = Counter()
    name = 0
    while not stop.is_set():
        name += 1
        reconnected(url).close()
        try:
            writer = Writer(url, f"posts {name}", f"{seed} {name}", FORUM.operations)
        except psycopg.OperationalError:
            continue  # It was killed again between the two.
        with suppress(psycopg.OperationalError):
            while not stop.is_set():
                writer.transaction()
                writer.resolve_prepared()
        done += writer.done
    return {}, done


def _refresh_on(url: str, seed: str, stop: Any, inside: Any, started: Any) -> None:
    rng = random.Random(seed)
    engine = create_engine(for_sqlalchemy(url))
    while not stop.is_set():
        tally = rng.choice(TALLIES)
        start = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=rng.randrange(70))
        inside.value = 1
        started.value += 1
        try:
            _work(engine, tally, start, rng.random())
        except DBAPIError as error:
            if not error.connection_invalidated and not isinstance(
                error.orig, psycopg.OperationalError
            ):
                raise
            engine.dispose()
            reconnected(url).close()
        inside.value = 0


def _work(engine: Engine, tally: Tally, start: datetime, draw: float) -> None:
    if draw < 0.5:
        refresh(engine, tally)
    elif draw < 0.75:
        rebuild(engine, tally)
    else:
        rebuild(engine, tally, start, start + timedelta(days=7))


@pytest.fixture
def crowd(database: Callable[[str], str]) -> Iterator[Crowd]:
    url = database("killed")
    engine = create_engine(for_sqlalchemy(url))
    with engine.begin() as connection:
        MEDIA.create(connection)
        FORUM.create(connection)
        connection.exec_driver_sql(
            "INSERT INTO media.media_files (path, original_created_at)"
            " SELECT 'before/' || i, '2024-01-01Z'::timestamptz + i * interval '7 minutes'"
            f" FROM generate_series(1, {FILES_BEFORE}) AS i"
        )
    for tally in TALLIES:
        refresh(engine, tally)
    engine.dispose()
    crowd = Crowd(url, new_seed())
    yield crowd
    crowd.abandon()


def _look_at_all(url: str, seed: str) -> None:
    with reconnected(url) as connection:
        for oracle in ORACLES:
            try:
                _look(connection, oracle)
            except AssertionError as violation:
                violation.add_note(f"seed {seed}")
                raise


def _look(connection: psycopg.Connection[Any], oracle: Oracle) -> None:
    """A TRUNCATE with CASCADE locks the sources in an order of its own; then nothing was seen."""
    while True:
        try:
            look(connection, oracle)
        except psycopg.errors.DeadlockDetected:
            continue
        return


def _settle_by(accounts: list[Account], url: str) -> None:
    """Refresh all; then derived tables, sources and ledgers say the same."""
    with connect(url) as connection:
        for (gid,) in connection.execute("SELECT gid FROM pg_prepared_xacts").fetchall():
            connection.execute(f"ROLLBACK PREPARED '{gid}'")
        engine = create_engine(for_sqlalchemy(url), poolclass=NullPool)
        for tally in TALLIES:
            refresh(engine, tally)
            assert verify(engine, tally).ok
        for oracle in ORACLES:
            settle(connection, oracle)
        by_hand = Counter(at[:10] for account in accounts for at in account.values())
        for number in range(1, FILES_BEFORE + 1):
            at = datetime(2024, 1, 1, tzinfo=UTC) + number * timedelta(minutes=7)
            by_hand[f"{at:%Y-%m-%d}"] += 1
        rows = connection.execute(
            "SELECT to_char(date AT TIME ZONE 'UTC', 'YYYY-MM-DD'), count"
            " FROM media.daily_contributions"
        )
        assert dict(rows.fetchall()) == dict(by_hand)


def test_a_refresher_killed_at_any_moment_leaves_every_snapshot_right(crowd: Crowd) -> None:
    rng = random.Random(crowd.seed)
    inside = 0
    for number in range(1, KILLED_REFRESHERS + 1):
        time.sleep(rng.uniform(0, 0.12))
        inside += crowd.kill_refresher()
        _look_at_all(crowd.url, crowd.seed)
        crowd.start_refresher(number)
    accounts, counts = crowd.finish()
    _settle_by(accounts, crowd.url)
    assert inside >= KILLED_REFRESHERS // 3, f"only {inside} kills hit a refresh or rebuild"
    assert counts["committed"] > KILLED_REFRESHERS


def test_a_server_killed_at_any_moment_loses_nothing_and_counts_nothing_twice(
    server: Server, crowd: Crowd
) -> None:
    rng = random.Random(crowd.seed)
    for _ in range(KILLED_SERVERS):
        time.sleep(rng.uniform(0.05, 0.6))
        server.kill()
        server.start()
        _look_at_all(crowd.url, crowd.seed)
    accounts, counts = crowd.finish()
    _settle_by(accounts, crowd.url)
    assert counts["committed"] > KILLED_SERVERS
    assert counts["in doubt"] + counts["interrupted"] >= KILLED_SERVERS

"""kill -9 of a backfill and of PostgreSQL itself, at random moments, while writers edit tags.

After each kill the live view is right, and another backfill goes on where the killed one was: no
batch that was committed is done again. At the end the junction is what the arrays say.
"""

from __future__ import annotations

import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from assets.gallery.tallies import content_tags, system
from tallykeeper import backfill, capture_faults, refresh, verify
from tests import gallery
from tests.concurrency.conftest import new_seed, share
from tests.concurrency.harness import processes
from tests.concurrency.ledger import reconnected
from tests.concurrency.server import Server, connect, for_sqlalchemy
from tests.gallery import JUNCTION, built, differing, require_each_batch_once
from tests.integration.support import create, execute, rows, scalar

KILLED_BACKFILLS = share(14)
KILLED_SERVERS = share(6)
ITEMS = 2_500
BATCH_ROWS = 150
WRITERS = 2
SERVER_GONE = 3

# From the beginning of an empty table: its indexes are dropped, and built at the end.
ANEW = (
    f"TRUNCATE {JUNCTION}",
    "INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES ('gallery.content_tags', 'anew')",
)
EDITS = (
    "UPDATE gallery.{t} SET tags = tags[2:] WHERE id BETWEEN {n} AND {n} + 3",
    "UPDATE gallery.{t} SET tags = tags || (SELECT id FROM gallery.tags ORDER BY random() LIMIT 1)"
    " WHERE id BETWEEN {n} AND {n} + 3 AND cardinality(tags) < 12",
    "UPDATE gallery.{t} SET tags = ARRAY(SELECT id FROM gallery.tags WHERE random() < 0.2)"
    " WHERE id = {n}",
    "DELETE FROM gallery.{t} WHERE id = {n}",
    "INSERT INTO gallery.{t} (creator_id, tags) SELECT creator_id, tags FROM gallery.{t}"
    " WHERE id BETWEEN {n} AND {n} + 2",
    "DELETE FROM gallery.tags WHERE name = 't{few}'",
    "INSERT INTO gallery.tags (name) VALUES ('t{few}') ON CONFLICT DO NOTHING",
)

pytestmark = [pytest.mark.concurrency, pytest.mark.slow]


class Editor(threading.Thread):
    """Edits tags until it is asked to stop, whatever becomes of the server."""

    def __init__(self, url: str, seed: str, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.url, self.random, self.stop = url, random.Random(seed), stop
        self.done: Counter[str] = Counter()
        self.failure: BaseException | None = None

    def run(self) -> None:
        """Keeps what ends it, for the test to raise."""
        try:
            self._edit()
        except BaseException as failure:  # noqa: BLE001 -- the test raises it
            self.failure = failure

    def _edit(self) -> None:
        connection = connect(self.url)
        while not self.stop.is_set():
            statement = self.random.choice(EDITS).format(
                t=self.random.choice(("content_items", "content_items_auto")),
                n=self.random.randrange(ITEMS),
                few=self.random.randrange(40),
            )
            try:
                connection.execute(statement)
                self.done["committed"] += 1
            except psycopg.OperationalError as error:
                self.done[type(error).__name__] += 1
                if connection.broken:
                    connection.close()
                    connection = reconnected(self.url)
            self.stop.wait(0.01)
        connection.close()


def _backfill(url: str, inside: Any) -> None:
    """Backfill in small batches, in a process of its own."""
    sizes = sys.modules["tallykeeper.maintain.backfill.run"]
    for name in ("FIRST_ROWS", "LEAST_ROWS", "MOST_ROWS"):
        setattr(sizes, name, BATCH_ROWS)

    def begun(_progress: object) -> None:
        inside.value = 1

    try:
        backfill(create_engine(for_sqlalchemy(url)), content_tags, on_progress=begun)
    except OperationalError:
        sys.exit(SERVER_GONE)
    inside.value = 0


@pytest.fixture
def url(database: Callable[[str], str]) -> str:
    address = database("backfill_killed")
    engine = create_engine(for_sqlalchemy(address), poolclass=NullPool)
    create(engine, system)
    gallery.fill(engine, ITEMS)
    execute(engine, *gallery.KEEP_HISTORY)
    return address


def _start(url: str, inside: Any) -> Any:
    process = processes.Process(target=_backfill, args=(url, inside), daemon=True)
    process.start()
    deadline = time.monotonic() + 20
    while not inside.value and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.005)
    return process


def _kills(rng: random.Random) -> list[str]:
    kills = ["backfill"] * KILLED_BACKFILLS + ["server"] * KILLED_SERVERS
    rng.shuffle(kills)
    return kills


def test_a_backfill_killed_at_any_moment_goes_on_where_it_was(server: Server, url: str) -> None:
    seed = new_seed()
    rng = random.Random(seed)
    engine = create_engine(for_sqlalchemy(url), poolclass=NullPool)
    shape = built(engine)
    stop = threading.Event()
    editors = [Editor(url, f"{seed} {number}", stop) for number in range(WRITERS)]
    for editor in editors:
        editor.start()
    inside = processes.Value("b", 0)
    seen: Counter[str] = Counter()
    for kill in _kills(rng):
        seen += _kill_one(server, url, kill, rng, inside)
        assert differing(engine, f"{JUNCTION}_live") == 0, f"seed {seed}"
    # Through at last, and once more: that one goes over what is built, whatever the chances were.
    for _ in range(2):
        inside.value = 0
        process = _start(url, inside)
        process.join(60)
        assert process.exitcode == 0, f"the last backfill failed, seed {seed}"
    stop.set()
    for editor in editors:
        editor.join(30)
        assert editor.failure is None, (editor.failure, seed)
        assert editor.done["committed"] > KILLED_BACKFILLS
    _settle(engine, shape, seed)
    assert seen["in the middle"] >= (KILLED_BACKFILLS + KILLED_SERVERS) // 2, seen
    assert {mode for (mode,) in rows(engine, "SELECT DISTINCT mode FROM public.history")} == {
        "load",
        "replace",
    }


def _kill_one(server: Server, url: str, kill: str, rng: random.Random, inside: Any) -> Counter[str]:
    """Let a backfill run for a while and kill it, or the server under it."""
    inside.value = 0
    process = _start(url, inside)
    time.sleep(rng.uniform(0, 0.9))
    alive = process.is_alive() and bool(inside.value)
    if kill == "backfill":
        process.kill()
    else:
        server.kill()
        server.start()
    process.join(30)
    assert process.exitcode in {0, -signal.SIGKILL, SERVER_GONE}, "the backfill failed by itself"
    if not alive:
        engine = create_engine(for_sqlalchemy(url), poolclass=NullPool)
        # It was through: half of those that follow load the table again, the others go over it.
        if process.exitcode == 0 and rng.random() < 0.5:
            execute(engine, *ANEW)
    return Counter({"in the middle": int(alive), kill: 1})


def _settle(engine: Engine, shape: list[tuple[str, ...]], seed: str) -> None:
    refresh(engine, content_tags)
    assert differing(engine) == 0, f"seed {seed}"
    assert verify(engine, content_tags).ok
    assert built(engine) == shape
    assert scalar(engine, "SELECT count(*) FROM tallykeeper.unbuilt") == 0
    with engine.connect() as connection:
        assert capture_faults(connection, content_tags) == []
    assert set(require_each_batch_once(engine)) == {"regular", "auto"}

"""Keeping tallies of SELECTs while writers change all their sources, and comparing every snapshot.

The oracle is the definition view, which holds the SELECT as it was written. Rows are compared as
text, so a number that is equal but shown otherwise is a difference too. A refresh's own snapshot is
looked at from inside its transaction, just before it commits.
"""

from __future__ import annotations

import random
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, MetaData, event

from tallykeeper import System, TallyBusy, refresh, verify
from tallykeeper.database import sql
from tallykeeper.installation.migrate import migrate
from tallykeeper.select.plan import COPY
from tallykeeper.select.tally import SelectTally
from tests.concurrency.writers import Operation, Writer
from tests.select.lookups import half_looked_up

WRITERS = 3
Operations = Mapping[Callable[[psycopg.Cursor[Any], random.Random], None], float]


@dataclass
class Kept:
    """What a run saw, by tally: refreshes, those that changed rows, and snapshots compared.

    `wrote` counts what writers did. A snapshot is `settled` where nothing was pending in it.
    """

    refreshes: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    rebuilt: Counter[str] = field(default_factory=Counter)
    settled: Counter[str] = field(default_factory=Counter)
    live: Counter[str] = field(default_factory=Counter)
    live_pending: Counter[str] = field(default_factory=Counter)
    looked_up: Counter[str] = field(default_factory=Counter)
    wrote: Counter[str] = field(default_factory=Counter)


class Different(AssertionError):
    """A snapshot in which a derived table or a live view is not what its SELECT says."""


def install(engine: Engine, name: str, selects: Mapping[str, str]) -> System:
    """A system of tallies with these SELECTs, by name, installed and built."""
    tallies = [SelectTally(f"{name}.{table}", select=text) for table, text in selects.items()]
    system = System(name, MetaData(), tallies)
    migrate(engine, [system])
    for tally in tallies:
        refresh(engine, tally)
    return system


def keep(
    url: str,
    engine: Engine,
    system: System,
    operations: Operations,
    *,
    rounds: int,
    seed: str,
    seconds: float = 240,
) -> Kept:
    """Refresh all tallies so many rounds, and on until each was changed and read while pending.

    Raises Different for a wrong snapshot; AssertionError where `seconds` are not enough.
    """
    seen = Kept()
    deadline = time.monotonic() + seconds
    rng = random.Random(seed)
    tallies = [t for t in system.tallies if isinstance(t, SelectTally)]
    with _writing(url, operations, seed, seen) as writers:
        done = 0
        while done < rounds or (missing := _missing(seen, tallies)):
            assert time.monotonic() < deadline or done < rounds, (
                f"after {seconds} s not yet changed, or read with changes pending:"
                f" {missing}; seed {seed}; {seen}"
            )
            rng.shuffle(tallies)
            for tally in tallies:
                writers.check()
                _refresh(engine, tally, seen)
                _look_at_live(engine, tally, seen)
            done += 1
    for tally in tallies:
        _refresh(engine, tally, seen)
        found = verify(engine, tally)
        assert not found.differing, (found, seed)
        assert not found.stale, (found, seed)
    return seen


def _missing(seen: Kept, tallies: Sequence[SelectTally]) -> list[str]:
    """The tallies that no refresh changed, or whose live view was not read with changes pending."""
    return [t.name for t in tallies if not (seen.changed[t.name] and seen.live_pending[t.name])]


def all_was_seen(seen: Kept, system: System, operations: Operations) -> None:
    """Every tally was changed by refreshes alone, and read with changes pending; all was written.

    Raises AssertionError.
    """
    names = {tally.name for tally in system.tallies}
    assert set(seen.changed) == set(seen.settled) == set(seen.live) == names
    assert [name for name in names if not seen.live_pending[name]] == []
    assert [run.__name__ for run in operations if not seen.wrote[run.__name__]] == []


def _refresh(engine: Engine, tally: SelectTally, seen: Kept) -> None:
    """Refresh, and compare in each of its snapshots in which nothing is pending."""

    def before_commit(connection: Connection) -> None:
        if _is_repeatable(connection):
            _compare(connection, tally, sql.name_of(tally.table), seen.settled, settled=True)

    event.listen(engine, "commit", before_commit)
    try:
        done = refresh(engine, tally)
    except TallyBusy:
        return
    finally:
        event.remove(engine, "commit", before_commit)
    seen.refreshes[tally.name] += 1
    seen.changed[tally.name] += done.how == "refresh" and done.keys_changed > 0
    seen.rebuilt[tally.name] += done.how != "refresh"


def _look_at_live(engine: Engine, tally: SelectTally, seen: Kept) -> None:
    with engine.begin() as connection:
        pending = _compare(connection, tally, tally.live_name, seen.live, settled=False)
        if tally.has_lookup:
            looked_up = half_looked_up(tally)
            _compare(connection, tally, looked_up, seen.looked_up, settled=False)
    seen.live_pending[tally.name] += pending > 0


def _is_repeatable(connection: Connection) -> bool:
    level = sql.execute(connection, "SELECT current_setting('transaction_isolation')").scalar()
    return level == "repeatable read"


def _compare(
    connection: Connection, tally: SelectTally, kept: str, counted: Counter[str], *, settled: bool
) -> int:
    """Compare at one snapshot; `settled`: only if nothing is pending in it. Returns what is."""
    columns = sql.columns([n for n in tally.columns if n != COPY])
    row = sql.execute(
        connection,
        f"""
WITH wanted AS MATERIALIZED (SELECT s::text FROM {tally.definition_name} AS s),
found AS MATERIALIZED (SELECT s::text FROM (SELECT {columns} FROM {kept} AS k) AS s)
SELECT
  (SELECT count(*) FROM {tally.log_name}) AS pending,
  EXISTS (SELECT FROM tallykeeper.stale_marks WHERE tally = '{tally.name}') AS is_stale,
  ARRAY(SELECT * FROM wanted EXCEPT ALL SELECT * FROM found) AS missing,
  ARRAY(SELECT * FROM found EXCEPT ALL SELECT * FROM wanted) AS wrong""",
    ).one()
    if settled and (row.pending or row.is_stale):
        return int(row.pending)
    if row.missing or row.wrong:
        raise Different(
            f"{kept} with {row.pending} pending rows: should have {row.missing[:5]},"
            f" has {row.wrong[:5]} ({len(row.missing)} and {len(row.wrong)})"
        )
    counted[tally.name] += 1
    return int(row.pending)


class _Writers:
    """Threads that write until the end; whatever one of them ends of is raised by `check`."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.failures: list[str] = []

    def check(self) -> None:
        assert not self.failures, self.failures[0]


@contextmanager
def _writing(url: str, operations: Operations, seed: str, seen: Kept) -> Iterator[_Writers]:
    drawn = [Operation(run.__name__, weight, run) for run, weight in operations.items()]
    state = _Writers()
    writers = [Writer(_libpq(url), f"writer {n}", seed, drawn) for n in range(WRITERS)]

    def write(writer: Writer) -> None:
        try:
            while not state.stop.is_set():
                writer.transaction()
                if writer.random.random() < 0.3:
                    writer.resolve_prepared()
                # Others share the machine; and refreshes are to come to something.
                time.sleep(writer.random.uniform(0, 0.02))
        except Exception:  # noqa: BLE001 - raised by the thread that runs the test
            state.failures.append(f"{writer.name}, seed {seed}:\n{traceback.format_exc()}")

    threads = [threading.Thread(target=write, args=(w,), daemon=True) for w in writers]
    for thread in threads:
        thread.start()
    try:
        yield state
    finally:
        state.stop.set()
        for thread in threads:
            thread.join(30)
        while writers[0].resolve_prepared():
            pass
        for writer in writers:
            seen.wrote += writer.done
            writer.connection.close()
    state.check()


def _libpq(url: str) -> str:
    return url.replace("+psycopg", "", 1)

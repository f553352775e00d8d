"""A rebuild by another engine writes what any rebuild writes, and leaves what is pending exact."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
from sqlalchemy import Engine

from tallykeeper import Tally, refresh, verify
from tallykeeper.database.sql import CLAIM_WRITING
from tallykeeper.engines.audit import audit_with, rebuild_with
from tallykeeper.engines.translation.refusal import Refused
from tests.engines import books
from tests.integration.support import execute, rows, scalar

pytest.importorskip("duckdb")

# A SELECT with an intermediate result of its own, and one whose log has sums.
SELECTS = {
    **books.SELECTS,
    "spenders": (
        "SELECT s.customer, s.total FROM (SELECT customer, sum(amount) AS total, count(*) AS n"
        " FROM books.orders GROUP BY customer) AS s JOIN books.orders AS o"
        " ON o.customer = s.customer WHERE o.id < 20 GROUP BY 1, 2"
    ),
}


def different(engine: Engine, tally: Tally) -> int:
    """How many rows of derived table and SELECT differ, both ways."""
    columns = ", ".join(tally.columns)
    view, table = tally.definition_name, f"books.{tally.table.name}"  # type: ignore[attr-defined]
    both = (
        f"(SELECT {columns} FROM {a} EXCEPT ALL SELECT {columns} FROM {b})"
        for a, b in ((view, table), (table, view))
    )
    return int(scalar(engine, f"SELECT count(*) FROM ({' UNION ALL '.join(both)}) AS d"))


def test_it_has_to_be_equal_first(engine: Engine) -> None:
    (tally, *_) = books.make(engine).tallies
    with pytest.raises(Refused, match=r"not yet equal by duckdb .* run `tally audit books.by_hour"):
        rebuild_with(engine, tally, "duckdb")
    assert audit_with(engine, tally, "duckdb").ok
    rebuild_with(engine, tally, "duckdb")
    # Another version of the engine, or another SELECT, is another matter.
    execute(engine, "UPDATE tallykeeper.translations SET version = '1.0'")
    with pytest.raises(Refused, match="was not yet equal"):
        rebuild_with(engine, tally, "duckdb")
    execute(engine, "UPDATE tallykeeper.translations SET version = '2.0.1', digest = 'x'")
    with pytest.raises(Refused, match="was not yet equal"):
        rebuild_with(engine, tally, "duckdb")


@pytest.mark.parametrize("name", SELECTS)
def test_it_repairs_and_consumes_as_any_rebuild(engine: Engine, name: str) -> None:
    tally = next(t for t in books.make(engine, **SELECTS).tallies if t.table.name == name)
    assert audit_with(engine, tally, "duckdb").ok
    execute(engine, CLAIM_WRITING, f"DELETE FROM books.{name}")
    execute(engine, "UPDATE books.orders SET amount = amount + 1, tags = '{z}' WHERE id % 9 = 0")
    done = rebuild_with(engine, tally, "duckdb")
    assert done.how == "rebuild"
    assert done.rows == scalar(engine, f"SELECT count(*) FROM books.{name}") > 2
    assert different(engine, tally) == 0
    assert not scalar(engine, f"SELECT count(*) FROM {tally.log_name}")
    assert verify(engine, tally).ok
    execute(engine, "DELETE FROM books.orders WHERE id % 10 = 0")
    refresh(engine, tally)
    assert different(engine, tally) == 0
    # Nothing that differs, nothing that is written.
    assert rebuild_with(engine, tally, "duckdb").keys_changed == 0


def test_what_is_committed_after_its_snapshot_stays_pending(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tallykeeper.engines import export

    (tally, *_) = books.make(engine).tallies
    assert audit_with(engine, tally, "duckdb").ok
    exported = export.export

    def beside(*arguments: object) -> object:
        execute(engine, "DELETE FROM books.orders WHERE id % 3 = 0")
        return exported(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("tallykeeper.engines.audit.export", beside)
    rebuild_with(engine, tally, "duckdb")
    assert scalar(engine, f"SELECT count(*) FROM {tally.log_name}")
    assert verify(engine, tally).ok
    refresh(engine, tally)
    assert different(engine, tally) == 0


def write(engine: Engine, first: int, ended: threading.Event) -> None:
    n = first
    while not ended.is_set():
        n += 1
        execute(
            engine,
            f"INSERT INTO books.orders SELECT {n}, {n % 7}, now(), {n}, 1.5, 'paid', '{{a}}'",
            f"UPDATE books.orders SET amount = amount + 1, tags = '{{b}}' WHERE id = {n % 400}",
            f"DELETE FROM books.orders WHERE id = {n - 30}",
        )


def keep(
    engine: Engine, tallies: Sequence[Tally], wrong: list[object], ended: threading.Event
) -> None:
    while not ended.is_set():
        for tally in tallies:
            refresh(engine, tally)
            found = verify(engine, tally)
            if not found.ok:
                wrong.append(found)


def test_rebuilds_are_exact_while_writers_refreshes_and_verifies_run(engine: Engine) -> None:
    tallies = books.make(engine, **SELECTS).tallies
    for tally in tallies:
        assert audit_with(engine, tally, "duckdb").ok
    ended, wrong = threading.Event(), list[object]()
    threads = [
        threading.Thread(target=write, args=(engine, 1_000, ended)),
        threading.Thread(target=write, args=(engine, 1_000_000, ended)),
        threading.Thread(target=keep, args=(engine, tallies, wrong, ended)),
    ]
    for thread in threads:
        thread.start()
    try:
        for tally in [*tallies, *tallies]:
            rebuild_with(engine, tally, "duckdb")
            found = verify(engine, tally)
            wrong += [] if found.ok else [found]
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    for tally in tallies:
        refresh(engine, tally)
        assert different(engine, tally) == 0


def test_it_is_recorded_as_any_other(engine: Engine) -> None:
    """The record of a rebuild by an engine is that of any other."""
    (tally, *_) = books.make(engine).tallies
    assert audit_with(engine, tally, "duckdb").ok
    rebuild_with(engine, tally, "duckdb")
    query = (
        "SELECT rows, built_at = refreshed_at FROM tallykeeper.tally_state WHERE tally LIKE '%hour'"
    )
    ((count, at_once),) = rows(engine, query)
    assert at_once
    assert count == scalar(engine, "SELECT count(*) FROM books.by_hour")

"""What a refresh sends, keys of which some columns are null, and how states are built."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, MetaData, event

from tallykeeper import System, migrate, rebuild, refresh, verify
from tallykeeper.maintain import select_changes
from tallykeeper.maintain.derived_rows import MOST_NULLABLE
from tallykeeper.select.refresh_costs import Costs
from tallykeeper.select.tally import SelectTally
from tests.integration.support import execute, rows, scalar
from tests.select.support import differences

SCHEMA = """
CREATE SCHEMA store;
CREATE TABLE store.orders (id int PRIMARY KEY, a int, b int, c int, d int, cents int);
CREATE TABLE store.words (a int, word text);
INSERT INTO store.words VALUES (0, 'none'), (1, 'one'), (1, 'uno'), (NULL, 'null');
INSERT INTO store.orders SELECT n, nullif(n % 3, 2), nullif(n % 5, 4), nullif(n % 2, 1), n % 7, n
FROM generate_series(1, 60) AS n
"""
JOINED = "FROM store.orders AS o LEFT JOIN store.words AS w ON w.a = o.a"
# What a refresh may send in its transaction; more is a round trip and a parsing that was forgotten.
MOST_STATEMENTS = 20


def store(engine: Engine, select: str) -> SelectTally:
    """A tally of that SELECT over a few orders, refreshed."""
    execute(engine, SCHEMA)
    tally = SelectTally("store.made", select=select)
    migrate(engine, [System("store", MetaData(), [tally])])
    refresh(engine, tally)
    return tally


def test_a_refresh_sends_few_statements(engine: Engine) -> None:
    tally = store(engine, f"SELECT o.d, count(*) AS n, sum(o.cents) AS cents {JOINED} GROUP BY o.d")
    execute(engine, "UPDATE store.orders SET cents = cents + 1 WHERE id < 10")
    sent: list[str] = []

    @event.listens_for(engine, "before_cursor_execute")
    def note(_a: object, _b: object, text: str, _c: object, _d: object, _e: object) -> None:
        sent.append(text)

    assert refresh(engine, tally).keys_changed == 7
    event.remove(engine, "before_cursor_execute", note)
    assert len(sent) <= MOST_STATEMENTS, "\n".join(sent)
    assert not [text for text in sent if "TEMPORARY" in text]
    assert differences(engine, tally, "store.made") == []


@pytest.mark.parametrize("number", range(1, MOST_NULLABLE + 2))
@pytest.mark.parametrize("what", ["max(o.cents)", "sum(o.cents)"])
def test_keys_are_found_whichever_of_them_are_null(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, number: int, what: str
) -> None:
    # Written in parts, what was not found would be found after all.
    monkeypatch.delattr(select_changes, "_write_computed")
    key = ", ".join(["o.a", "o.b", "o.c", "w.word"][:number])
    tally = store(engine, f"SELECT {key}, count(*) AS n, {what} AS x {JOINED} GROUP BY {key}")
    for change in (
        "INSERT INTO store.orders VALUES (100, NULL, NULL, NULL, 1, 5), (101, 1, NULL, 0, 1, 700)",
        "UPDATE store.orders SET a = NULL, cents = cents * 2 WHERE id % 4 = 0",
        "UPDATE store.words SET word = NULL WHERE word = 'uno'",
        "DELETE FROM store.orders WHERE a IS NULL AND id % 3 = 0",
        "DELETE FROM store.orders",
    ):
        execute(engine, change)
        assert differences(engine, tally, tally.live_name) == []
        refresh(engine, tally)
        assert differences(engine, tally, "store.made") == []
        assert verify(engine, tally).ok


def test_what_a_derived_table_cannot_hold_is_put_aside_after_all(engine: Engine) -> None:
    tally = store(engine, f"SELECT o.d, sum(o.cents)::int AS cents {JOINED} GROUP BY o.d")
    execute(engine, "ALTER TABLE store.made ADD CONSTRAINT small CHECK (cents < 1000000)")
    execute(engine, "UPDATE store.orders SET cents = 2000000 WHERE id = 7")
    execute(engine, "UPDATE store.orders SET cents = 3 WHERE id = 8")
    refresh(engine, tally)
    assert rows(engine, "SELECT key FROM tallykeeper.quarantine") == [({"d": 0},)]
    assert {each[0] for each in differences(engine, tally, "store.made")} == {0}
    execute(engine, "UPDATE store.orders SET cents = 2 WHERE id = 7")
    refresh(engine, tally)
    assert scalar(engine, "SELECT count(*) FROM tallykeeper.quarantine") == 0
    assert differences(engine, tally, "store.made") == []


CHAIN = """
SELECT q.a, q.word, q.n FROM (
  SELECT o.a, w.word, count(*) AS n FROM store.orders AS o LEFT JOIN store.words AS w ON w.a = o.a
  GROUP BY o.a, w.word
) AS q ORDER BY q.n DESC, q.word, q.a LIMIT 3"""


@pytest.mark.parametrize(
    "spoiling",
    [
        "DELETE FROM {0}",
        "DELETE FROM {0} WHERE ctid = '(0,1)'",
        "UPDATE {0} SET tally_n = tally_n + 1",
        "INSERT INTO {0} SELECT (jsonb_populate_record(s, jsonb_build_object('g0', 77))).*"
        " FROM {0} AS s LIMIT 1",
    ],
)
def test_states_are_built_anew_each_from_those_before(engine: Engine, spoiling: str) -> None:
    tally = store(engine, CHAIN)
    *first, last = tally.plan.nodes
    assert last.rebuild
    assert " store." not in last.rebuild
    read = next(node for node in first if node.state in last.rebuild)
    assert [column.name for column in read.columns][:2] == list(read.key)
    counter = read.columns[2].name
    execute(engine, spoiling.replace("tally_n", counter).format(read.state))
    execute(engine, f"DELETE FROM {last.state}")
    assert not verify(engine, tally).ok
    rebuild(engine, tally)
    assert verify(engine, tally).ok
    execute(engine, "UPDATE store.orders SET a = 1 WHERE id % 2 = 0")
    refresh(engine, tally)
    assert differences(engine, tally, "store.made") == []
    assert verify(engine, tally).ok


def test_states_that_are_right_are_not_written(engine: Engine) -> None:
    tally = store(engine, CHAIN)
    state = tally.plan.nodes[0].state
    before = rows(engine, f"SELECT ctid::text, xmin::text FROM {state}")
    assert before
    rebuild(engine, tally)
    assert rows(engine, f"SELECT ctid::text, xmin::text FROM {state}") == before


def test_everything_is_written_by_one_statement(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were it in parts, it would be so for every refresh, and nobody would notice."""
    tally = store(engine, CHAIN)
    monkeypatch.delattr(select_changes, "_write_computed")
    execute(engine, "UPDATE store.orders SET a = 1 WHERE id % 2 = 0")
    assert refresh(engine, tally).keys_changed
    assert differences(engine, tally, "store.made") == []


def test_a_plan_of_an_earlier_release_builds_from_the_sources(engine: Engine) -> None:
    tally = store(engine, CHAIN)
    execute(
        engine,
        "UPDATE tallykeeper.select_plans SET digest = 'earlier', plan = jsonb_set(plan, '{nodes}',"
        " (SELECT jsonb_agg(n - 'rebuild') FROM jsonb_array_elements(plan -> 'nodes') AS n))",
    )
    earlier = SelectTally("store.made", select=CHAIN)
    execute(engine, "UPDATE store.orders SET a = 1 WHERE id % 2 = 0")
    assert rebuild(engine, earlier).how == "rebuild"
    assert [node.rebuild for node in earlier.plan.nodes] == [""] * len(tally.plan.nodes)
    assert verify(engine, earlier).ok


WHOLE = (
    CHAIN,
    f"SELECT o.a, o.b, count(*) AS n, sum(o.cents) AS cents {JOINED} GROUP BY o.a, o.b"
    " HAVING sum(o.cents) > 50",
    f"SELECT avg(o.cents) AS cents, count(w.word) AS words {JOINED} WHERE o.b > 0",
    f"SELECT o.b, count(DISTINCT w.word) AS words, max(o.cents) AS most {JOINED} GROUP BY o.b",
    f"SELECT DISTINCT o.a, w.word {JOINED}",
)


@pytest.mark.parametrize("select", WHOLE)
def test_everything_comes_from_the_states_and_is_what_the_select_returns(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, select: str
) -> None:
    tally = store(engine, select)
    assert tally.plan.from_states
    monkeypatch.setattr(Costs, "is_less_for_all", lambda _, pending: bool(pending))
    for change in (
        "UPDATE store.orders SET a = NULL, cents = cents * 2 WHERE id % 4 = 0",
        "UPDATE store.words SET word = NULL WHERE word = 'uno'",
        "DELETE FROM store.orders WHERE a IS NULL AND id % 3 = 0",
        "DELETE FROM store.orders",
        "INSERT INTO store.orders VALUES (100, NULL, NULL, NULL, 1, 5), (101, 1, 3, 0, 1, 700)",
    ):
        execute(engine, change)
        refresh(engine, tally)
        assert differences(engine, tally, "store.made") == []
        assert verify(engine, tally).ok

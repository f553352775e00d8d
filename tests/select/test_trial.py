"""`tally check`: rows of the sources are changed and compared, and nothing stays of it."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import Engine, MetaData

from tallykeeper import NotInstalled, System, TallyError, migrate, refresh
from tallykeeper.cli.output.trials import as_json, in_words
from tallykeeper.maintain.trial import Trial, trial
from tallykeeper.select.tally import SelectTally
from tests.integration.support import execute, rows, scalar

SOURCES = (
    "CREATE SCHEMA shop",
    "CREATE TYPE shop.status AS ENUM ('open', 'paid')",
    "CREATE TABLE shop.customers (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
    " region text, note text)",
    "CREATE TABLE shop.orders (id serial PRIMARY KEY, customer_id integer NOT NULL"
    " REFERENCES shop.customers, status shop.status NOT NULL, cents integer CHECK (cents > 0))",
    "INSERT INTO shop.customers (region) SELECT 'r' || n % 3 FROM generate_series(1, 9) AS n",
    "INSERT INTO shop.orders (customer_id, status, cents)"
    " SELECT 1 + n % 8, CASE WHEN n % 2 = 0 THEN 'paid' ELSE 'open' END::shop.status, n"
    " FROM generate_series(1, 40) AS n",
)
SELECT = (
    "SELECT c.region, o.status, count(*) AS orders, max(o.cents) AS most FROM shop.customers c"
    " LEFT JOIN shop.orders o ON o.customer_id = c.id GROUP BY 1, 2"
)


@pytest.fixture
def tally(engine: Engine) -> SelectTally:
    execute(engine, *SOURCES)
    tally = SelectTally("shop.spent", select=SELECT)
    migrate(engine, [System("shop", MetaData(), [tally])])
    refresh(engine, tally)
    return tally


def outcomes(found: Trial, source: str) -> dict[str, str]:
    return {each.change: each.outcome for each in found.tries if each.source == source}


def test_all_changes_are_compared_and_none_stays(engine: Engine, tally: SelectTally) -> None:
    query = (
        "SELECT to_jsonb(o) FROM shop.orders o UNION ALL SELECT to_jsonb(c) FROM shop.customers c"
    )
    before = rows(engine, query), rows(engine, "SELECT last_value FROM shop.orders_id_seq")
    found = trial(engine, tally, rows=3)
    assert found.ok
    assert outcomes(found, "shop.orders") == {
        "insert a copy of a row": "equal",
        "delete the copy": "equal",
        "set customer_id to another row's value": "equal",
        "set status to another row's value": "equal",
        "set cents to another row's value": "equal",
        "set cents to null": "equal",
        "delete a row": "equal",
        "move customer_id between 20 rows": "equal",
        "move status between 20 rows": "equal",
        "move cents between 20 rows": "equal",
    }
    assert list(outcomes(found, "shop.spent").values()) == ["equal", "equal"], "and a refresh"
    assert before == (
        rows(engine, query),
        rows(engine, "SELECT last_value FROM shop.orders_id_seq"),
    )
    assert scalar(engine, f"SELECT count(*) FROM {tally.log_name}") == 0


def test_what_a_constraint_forbids_is_named(engine: Engine, tally: SelectTally) -> None:
    execute(
        engine,
        "DELETE FROM shop.customers WHERE id = 9",
        "CREATE FUNCTION shop.refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN RAISE EXCEPTION ''regions are fixed''; END'",
        "CREATE TRIGGER fixed BEFORE UPDATE OF region ON shop.customers"
        " FOR EACH ROW EXECUTE FUNCTION shop.refuse()",
    )
    refresh(engine, tally)
    found = trial(engine, tally)
    assert found.ok
    made = outcomes(found, "shop.customers")
    assert made["delete a row"] == "not possible"
    assert made["delete the copy"] == "equal"
    assert made["set region to another row's value"] == "not possible"
    lines = list(in_words(found))
    assert "  shop.customers: could not set region to null: regions are fixed" in lines
    assert any("could not delete a row: update or delete on table" in line for line in lines)


def test_a_difference_is_found_and_the_next_change_begins_without_it(
    engine: Engine, tally: SelectTally, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A fault that nothing else notices.
    monkeypatch.setenv("TALLY_EVENT_TRIGGERS", "off")
    migrate(engine, [System("shop", MetaData(), [tally])])
    function = scalar(
        engine,
        "SELECT p.oid::regprocedure FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid"
        " WHERE t.tgrelid = 'shop.orders'::regclass AND p.proname ~ '_delete$' LIMIT 1",
    )
    execute(
        engine,
        f"CREATE OR REPLACE FUNCTION {function} RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN RETURN NULL; END'",
    )
    found = trial(engine, tally)
    assert not found.ok
    made = outcomes(found, "shop.orders")
    assert made["delete a row"] == "different"
    assert {outcome for change, outcome in made.items() if "delete" not in change} == {"equal"}
    assert list(outcomes(found, "shop.spent").values()) == ["equal", "equal"], "what was captured"
    assert next(iter(in_words(found))).startswith("shop.spent: WRONG, equal after ")
    assert json.loads(as_json(found))["ok"] is False


def test_what_there_is_no_time_for_is_named(engine: Engine, tally: SelectTally) -> None:
    found = trial(engine, tally, seconds=0.0)
    assert not found.ok
    assert "shop.customers: insert a copy of a row, for want of time" in found.left_out
    assert next(iter(in_words(found))).startswith("shop.spent: nothing could be tried")


def test_an_empty_source_is_named(engine: Engine, tally: SelectTally) -> None:
    execute(engine, "DELETE FROM shop.orders")
    refresh(engine, tally)
    found = trial(engine, tally)
    assert found.ok
    assert found.left_out == ("shop.orders has no rows to be changed",)


def test_a_tally_that_is_stale_or_not_installed_is_refused(
    engine: Engine, tally: SelectTally
) -> None:
    other = SelectTally("shop.other", select=SELECT)
    with pytest.raises(NotInstalled, match=r"shop\.other is not installed; run `tally migrate`"):
        trial(engine, other)
    execute(engine, "TRUNCATE shop.orders")
    with pytest.raises(TallyError, match=r"shop\.spent is stale \(.*truncated\), so that its live"):
        trial(engine, tally)

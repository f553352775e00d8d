"""Keys that a derived table cannot hold cost themselves alone, are named, and come back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine
from sqlalchemy.schema import CreateSchema

from tallykeeper import Tally, install, rebuild, refresh, status, verify
from tallykeeper.database.connections import open_engine
from tallykeeper.maintain.refresh import rebuild_keys
from tallykeeper.reads.rows import tally_rows
from tests import odd
from tests.integration.support import execute, rows, scalar
from tests.odd import ADOPTED, FUNCTIONS, VALUES, Odd, facts_tally, sums_tally
from tests.servers import Servers

ADD = "INSERT INTO odd.things (label, at, number, exact, expression) VALUES"
HEALTHY = ("one", "two")


def created(engine: Engine) -> Engine:
    """The odd system in an empty database, with what its owner put on it, and healthy keys."""
    with engine.begin() as connection:
        connection.execute(CreateSchema("odd"))
        for statement in FUNCTIONS:
            connection.exec_driver_sql(statement.replace("%", "%%"))
        odd.metadata.create_all(connection)
        install(connection, odd.system.tallies)
    execute(engine, *ADOPTED)
    execute(
        engine,
        f"{ADD} ('one', '2024-03-01Z', 1, 1, NULL), ('two', '2024-03-01Z', 2, 2.5, '1 + 1'),"
        " ('unique', NULL, 1500, NULL, NULL), ('excluded', NULL, 2000, 77, NULL)",
    )
    # The last two are there to be in another's way; their numbers are known to all constraints.
    execute(engine, "INSERT INTO odd.known VALUES (1500), (2000)")
    for tally in odd.system.tallies:
        refresh(engine, tally)
        assert verify(engine, tally).ok
    return engine


@pytest.fixture(scope="module")
def oddities(postgres_servers: Servers) -> Iterator[Engine]:
    with postgres_servers.fresh_database(18) as url:
        engine = open_engine(url)
        yield created(engine)
        engine.dispose()


@pytest.fixture
def clean(oddities: Engine) -> Iterator[Engine]:
    """The same, and after a test that failed as it was."""
    yield oddities
    clear(oddities)
    for tally in odd.system.tallies:
        rebuild(oddities, tally)


@pytest.fixture
def any_oddities(any_postgres_engine: Engine) -> Engine:
    return created(any_postgres_engine)


def clear(engine: Engine) -> None:
    """Delete what a test has added."""
    # One by one: what they add up to may be more than a statement's change can be.
    execute(
        engine,
        "DO $$ DECLARE r record; BEGIN FOR r IN SELECT id FROM odd.things WHERE at = '2024-03-02Z'"
        " OR label NOT IN ('one', 'two', 'unique', 'excluded')"
        " LOOP DELETE FROM odd.things WHERE id = r.id; END LOOP; END $$",
    )


def touch(engine: Engine) -> None:
    """A change of a healthy key."""
    execute(engine, f"{ADD} ('one', '2024-03-02Z', 1, NULL, NULL)")


SUMS = (
    "SELECT label, count(*)::integer AS things, coalesce(sum(number), 0) AS total"
    " FROM odd.things"
    f" WHERE label IN {HEALTHY} GROUP BY label ORDER BY label"
)
FACTS = (
    "SELECT label, min(number)::smallint AS smallest, round(max(exact), 2) AS share,"
    " max(at)::text AS latest, max(odd.evaluated(expression)) AS said FROM odd.things"
    f" WHERE label IN {HEALTHY} GROUP BY label ORDER BY label"
)
COLUMNS = {
    sums_tally: "label, things, total",
    facts_tally: "label, smallest, share, latest::text, said",
}


def healthy_are_right(engine: Engine) -> None:
    """The healthy keys in the derived tables and in the live views."""
    for tally, source in ((sums_tally, SUMS), (facts_tally, FACTS)):
        wanted = rows(engine, source)
        live_is_right(engine, tally, wanted)
        stored = f"SELECT {COLUMNS[tally]} FROM odd.{tally.table.name} WHERE label IN {HEALTHY}"
        assert rows(engine, f"{stored} ORDER BY label") == wanted, tally.name


def live_is_right(engine: Engine, tally: Tally, wanted: list[tuple[object, ...]]) -> None:
    # All keys are asked for, not only the healthy ones.
    live = rows(engine, f"SELECT {COLUMNS[tally]} FROM {tally.live_name} ORDER BY label")
    assert [row for row in live if row[0] in HEALTHY] == wanted, tally.name


def named(engine: Engine, tally: Tally) -> list[str]:
    """The SQLSTATEs of what is in quarantine, as verify names it."""
    found = verify(engine, tally)
    assert not found.differing, found.differences
    assert found.ok == (not found.quarantined)
    assert status(engine, tally).quarantined == found.quarantined == len(found.quarantine)
    assert all(each.key and each.since for each in found.quarantine)
    return [each.reason.partition(":")[0] for each in found.quarantine]


def test_what_is_in_quarantine_is_read_page_by_page_as_in_the_live_view(clean: Engine) -> None:
    for value in VALUES[::5]:
        execute(clean, *(f"{ADD} {row}" for row in value.rows))
    touch(clean)
    for tally in (sums_tally, facts_tally):
        refresh(clean, tally)
        assert status(clean, tally).quarantined
        live = rows(clean, f"SELECT label FROM {tally.live_name} ORDER BY label")
        paged: list[tuple[str]] = []
        cursor = None
        with clean.connect() as connection:
            while not paged or cursor is not None:
                page = tally_rows(connection, tally, limit=2, cursor=cursor)
                paged += [(row["label"],) for row in page.rows]
                cursor = page.next_cursor
        assert paged == live


def test_the_list_of_odd_values_is_long_enough() -> None:
    assert len(VALUES) >= 40
    assert len({value.name for value in VALUES}) == len(VALUES)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: value.name)
def test_an_odd_value_costs_its_key_alone(clean: Engine, value: Odd) -> None:
    oddities = clean
    execute(oddities, *(f"{ADD} {row}" for row in value.rows))
    touch(oddities)
    live_is_right(oddities, sums_tally, rows(oddities, SUMS))
    live_is_right(oddities, facts_tally, rows(oddities, FACTS))
    for tally in odd.system.tallies:
        refresh(oddities, tally)
        code = value.refused.get(tally.name)
        assert named(oddities, tally) == ([code] if code else [])
    healthy_are_right(oddities)
    clear(oddities)
    for tally in odd.system.tallies:
        refresh(oddities, tally)
        assert named(oddities, tally) == []
    healthy_are_right(oddities)


def test_every_postgres_keeps_the_others_and_ends_it_by_itself(any_oddities: Engine) -> None:
    engine = any_oddities
    big = f"{ADD} ('big', NULL, 9000000000000000000, NULL, NULL)"
    execute(engine, big, f"{ADD} ('{'x' * 30}', NULL, 666, NULL, '1 / 0')")
    execute(engine, big)
    # Nothing is known of it yet.
    live = dict(rows(engine, "SELECT label, total FROM odd.sums_live WHERE label LIKE '%g'"))
    assert live == {"big": 18 * 10**18}
    for tally in odd.system.tallies:
        refresh(engine, tally)
    first, second = verify(engine, sums_tally).quarantine
    assert (first.key, first.rows) == (
        {"label": "big"},
        [{"things": 2, "total": 18 * 10**18}],
    )
    assert first.reason == "22003: bigint out of range"
    assert second.reason.startswith("23514: ")
    # What the table cannot hold, the live view may.
    assert rows(engine, "SELECT total FROM odd.sums_live WHERE label LIKE 'xx%'") == [(666,)]
    assert rows(engine, "SELECT count(*) FROM odd.sums WHERE label IN ('one', 'big')") == [(1,)]
    # Pending changes of a key in quarantine are not lost, whatever is done meanwhile.
    execute(engine, f"{ADD} ('big', NULL, -9000000000000000000, NULL, NULL)")
    assert rows(engine, "SELECT things, total FROM odd.sums_live WHERE label = 'big'") == [
        (3, 9 * 10**18)
    ]
    since = first.since
    execute(engine, f"{ADD} ('big', NULL, 5000000000000000000, NULL, NULL)")
    refresh(engine, sums_tally)
    again = verify(engine, sums_tally).quarantine[0]
    assert (again.rows, again.since) == ([{"things": 4, "total": 14 * 10**18}], since)
    execute(engine, "DELETE FROM odd.things WHERE number = 5000000000000000000")
    done = refresh(engine, sums_tally)
    assert (done.inserted, done.rows) == (1, 5)
    assert rows(engine, "SELECT things, total FROM odd.sums WHERE label = 'big'") == [
        (3, 9 * 10**18)
    ]
    # The owner of the table changes his mind.
    execute(engine, "ALTER TABLE odd.sums DROP CONSTRAINT sums_total_check")
    assert refresh(engine, sums_tally).inserted == 1
    assert verify(engine, sums_tally).ok
    execute(engine, "UPDATE odd.things SET expression = '1 / 1' WHERE expression = '1 / 0'")
    execute(engine, "UPDATE odd.things SET number = 7 WHERE label = 'big'")
    refresh(engine, facts_tally)
    refresh(engine, sums_tally)
    for tally in odd.system.tallies:
        assert named(engine, tally) == []


def test_a_rebuild_behaves_likewise_whole_or_of_single_keys(clean: Engine) -> None:
    execute(clean, f"{ADD} ('odd', NULL, 666, NULL, '1 / 0')")
    touch(clean)
    codes: dict[Tally, str] = {sums_tally: "23514", facts_tally: "22012"}
    for tally, code in codes.items():
        for again in range(2):
            rebuild(clean, tally)
            assert named(clean, tally) == [code], again
        execute(clean, f"TRUNCATE odd.{tally.table.name}")
        rebuild(clean, tally)
        assert named(clean, tally) == [code]
        rebuild_keys(clean, tally, [{"label": "odd"}, {"label": "one"}])
        assert named(clean, tally) == [code]
    healthy_are_right(clean)
    execute(clean, "UPDATE odd.things SET number = 3, expression = '1' WHERE label = 'odd'")
    for tally in odd.system.tallies:
        rebuild_keys(clean, tally, [{"label": "odd"}])
        assert named(clean, tally) == []


def test_a_key_that_does_not_fit_any_more_has_no_row_and_a_verify_before_that_says_nothing_wrong(
    clean: Engine,
) -> None:
    execute(clean, "INSERT INTO odd.things (label, number) VALUES ('odd', 5)")
    for tally in odd.system.tallies:
        refresh(clean, tally)
    execute(clean, "INSERT INTO odd.things (label, number) VALUES ('odd', 9223372036854775807)")
    assert named(clean, sums_tally) == []
    done = refresh(clean, sums_tally)
    assert (done.deleted, named(clean, sums_tally)) == (1, ["22003"])
    assert rows(clean, "SELECT FROM odd.sums WHERE label = 'odd'") == []
    assert status(clean, sums_tally).rows == scalar(clean, "SELECT count(*) FROM odd.sums")


def test_thousands_of_keys_are_put_aside_in_seconds_and_tried_again(clean: Engine) -> None:
    execute(
        clean,
        "INSERT INTO odd.things (label, number) SELECT 'n' || n, CASE WHEN n % 3 = 0 THEN 666"
        " ELSE 1 END FROM generate_series(1, 6000) AS n",
    )
    refresh(clean, sums_tally)
    found = verify(clean, sums_tally)
    assert (found.quarantined, found.differing, len(found.quarantine)) == (2_000, 0, 100)
    assert scalar(clean, "SELECT count(*) FROM odd.sums WHERE label LIKE 'n%'") == 4_000
    execute(clean, "UPDATE odd.things SET number = 7 WHERE number = 666")
    refresh(clean, sums_tally)
    assert verify(clean, sums_tally).ok
    execute(clean, "DELETE FROM odd.things WHERE label LIKE 'n%'")


def test_one_statement_whose_sum_overflows_costs_its_key(clean: Engine) -> None:
    big = "('odd', NULL, 9000000000000000000, NULL, NULL)"
    execute(clean, f"{ADD} {big}, {big}")
    assert not status(clean, sums_tally).stale
    shown = rows(clean, "SELECT things, total FROM odd.sums_live WHERE label = 'odd'")
    assert shown == [(2, 18 * 10**18)]
    assert refresh(clean, sums_tally).how == "refresh"
    refresh(clean, facts_tally)
    assert named(clean, sums_tally) == ["22003"]
    execute(clean, "DELETE FROM odd.things WHERE label = 'odd'")
    for tally in odd.system.tallies:
        refresh(clean, tally)
        assert named(clean, tally) == []
    healthy_are_right(clean)


def test_while_a_tally_is_stale_the_others_are_answered_from_the_sources(clean: Engine) -> None:
    execute(clean, f"{ADD} ('odd', NULL, 666, NULL, '1 / 0')")
    touch(clean)
    for tally in odd.system.tallies:
        execute(
            clean,
            "INSERT INTO tallykeeper.stale_marks (tally, reason)"
            f" VALUES ('{tally.name}', 'somebody says so')",
        )
    live_is_right(clean, sums_tally, rows(clean, SUMS))
    live_is_right(clean, facts_tally, rows(clean, FACTS))
    found = rows(clean, f"SELECT {COLUMNS[facts_tally]} FROM odd.facts_live WHERE label = 'odd'")
    assert found == [("odd", None, None, None, None)]
    assert rows(clean, "SELECT total FROM odd.sums_live WHERE label = 'odd'") == [(666,)]
    for tally in odd.system.tallies:
        assert refresh(clean, tally).how == "rebuild"
    assert (named(clean, sums_tally), named(clean, facts_tally)) == (["23514"], ["22012"])
    healthy_are_right(clean)

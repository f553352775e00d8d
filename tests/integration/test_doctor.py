"""`tally doctor`: each finding fires, and says what to do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import Engine, text

from tallykeeper import SelectTally, System, Tally, migrate, open_engine, refresh
from tallykeeper.drift import event_triggers
from tallykeeper.operations.diagnosis import database, machine
from tallykeeper.operations.diagnosis.findings import Finding
from tests.integration.support import execute
from tests.pgbouncer import in_front_of

SOURCES = (
    "CREATE SCHEMA shop",
    "CREATE TABLE shop.orders (id integer PRIMARY KEY, cents integer NOT NULL)",
)


@pytest.fixture
def tallies(engine: Engine) -> Sequence[Tally]:
    """One tally, which is built."""
    execute(engine, *SOURCES)
    revenue = SelectTally("shop.revenue", select="SELECT sum(o.cents) AS cents FROM shop.orders o")
    migrate(engine, [System("shop", revenue.table.metadata, [revenue])])
    refresh(engine, revenue)
    return [revenue]


@pytest.fixture
def role(engine: Engine) -> Iterator[str]:
    """A role that owns nothing, and may read the source."""
    execute(engine, "CREATE ROLE doctor_one", "GRANT USAGE ON SCHEMA shop TO doctor_one")
    execute(engine, "GRANT SELECT ON shop.orders TO doctor_one")
    yield "doctor_one"
    execute(engine, "DROP OWNED BY doctor_one", "DROP ROLE doctor_one")


def found(engine: Engine, tallies: Sequence[Tally], subject: str) -> Finding:
    """The worst finding about the subject."""
    findings = [f for f in database.examine(engine, tallies) if f.subject == subject]
    return max(findings, key=lambda f: ("ok", "warn", "fail").index(f.level))


def test_all_is_well(engine: Engine, tallies: Sequence[Tally]) -> None:
    findings = list(database.examine(engine, tallies))
    assert [f for f in findings if f.level != "ok"] == []
    assert all(not f.todo for f in findings)


@pytest.mark.parametrize(
    ("name", "value", "subject", "level", "said"),
    [
        ("OLDEST_VERSION", 99, "database", "fail", "upgrade the server: 99 is the oldest"),
        ("NEWEST_VERSION", 14, "database", "warn", "14 is the newest that is tested"),
        ("CLOCK_WARNS", timedelta(-1), "clock", "warn", "set both by NTP: ages"),
        ("CLOCK_FAILS", timedelta(-1), "clock", "fail", "set both by NTP: partitions"),
        ("LITTLE_FREE_CONNECTIONS", 10_000, "sessions", "warn", "or raise max_connections"),
        ("OLD_TRANSACTION", timedelta(-1), "sessions", "warn", "end it (pg_stat_activity)"),
        (
            "is_pooled",
            lambda _: True,
            "poolers",
            "warn",
            "name the server itself in DAGSTER_PG_URL",
        ),
    ],
)
def test_limits(
    engine: Engine,
    tallies: Sequence[Tally],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: object,
    subject: str,
    level: str,
    said: str,
) -> None:
    monkeypatch.setattr(database, name, value)
    finding = found(engine, tallies, subject)
    assert finding.level == level
    assert said in finding.todo


def test_a_pooler_is_seen(database_url: str, tallies: Sequence[Tally]) -> None:
    with in_front_of(database_url) as pooled:
        engine = open_engine(pooled)
        assert found(engine, tallies, "poolers").level == "warn"
        engine.dispose()


def test_a_database_that_takes_no_writes(
    engine: Engine, database_url: str, tallies: Sequence[Tally]
) -> None:
    name = engine.url.database
    execute(engine, f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    other = open_engine(database_url)
    finding = found(other, tallies, "database")
    other.dispose()
    assert (finding.level, finding.todo.partition(" for ")[0]) == (
        "fail",
        "unset default_transaction_read_only",
    )


def test_rights_and_row_security_are_those_of_the_role(
    engine: Engine, tallies: Sequence[Tally], role: str
) -> None:
    execute(engine, "ALTER TABLE shop.orders ENABLE ROW LEVEL SECURITY")
    limited = open_engine(
        engine.url.update_query_dict({"options": f"-crole={role}"}).render_as_string(
            hide_password=False
        )
    )
    rights = found(limited, tallies, "rights")
    hidden = found(limited, tallies, "row security")
    limited.dispose()
    assert rights.level in ("warn", "fail")
    assert "may not install tallies here" in rights.found
    assert (hidden.level, hidden.found) == ("fail", "hides rows of shop.orders")


def test_what_is_installed_is_compared_with_what_is_declared(
    engine: Engine, tallies: Sequence[Tally]
) -> None:
    other = SelectTally(
        "shop.revenue", select="SELECT sum(o.cents + 1) AS cents FROM shop.orders o"
    )
    more = SelectTally("shop.more", select="SELECT count(*) AS orders FROM shop.orders o")
    assert found(engine, [other], "installed").found == "declared otherwise since: shop.revenue"
    assert found(engine, [more], "installed").found == "not installed: shop.more"
    gone = SelectTally("shop.gone", select="SELECT count(*) AS n FROM shop.nothing n")
    assert found(engine, [gone], "sources").found == "there is no shop.nothing"
    execute(engine, "TRUNCATE shop.orders")
    assert found(engine, tallies, "installed").todo == "run `tally refresh`"


def test_broken_capture_and_incidents(engine: Engine, tallies: Sequence[Tally]) -> None:
    execute(engine, "ALTER TABLE shop.orders DISABLE TRIGGER USER")
    assert found(engine, tallies, "capture").todo == "run `tally migrate`, then `tally refresh`"
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO tallykeeper.incidents (subject, kind, what, details)"
                " VALUES ('shop.revenue', 'differs', 'one key differs', '{}')"
            )
        )
    assert found(engine, tallies, "incidents").todo == "see `tally incidents --open`"


def test_what_an_older_release_did_not_record(engine: Engine, tallies: Sequence[Tally]) -> None:
    execute(engine, "DELETE FROM tallykeeper.dependencies")
    finding = found(engine, tallies, "capture")
    assert (finding.level, finding.found, finding.todo) == (
        "warn",
        "what tallies depend on was not recorded",
        "run `tally migrate`",
    )


def test_an_event_trigger_that_is_switched_off(engine: Engine, tallies: Sequence[Tally]) -> None:
    with engine.connect() as connection:
        if event_triggers.faults(connection):
            pytest.skip("this server's role may not create event triggers")
    execute(engine, "ALTER EVENT TRIGGER tallykeeper_ddl DISABLE")
    finding = found(engine, tallies, "capture")
    assert (finding.level, finding.todo) == ("warn", "run `tally migrate`")
    assert "tallykeeper_ddl" in finding.found


def test_a_prepared_transaction_that_nobody_ends(
    engine: Engine, tallies: Sequence[Tally], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "OLD_TRANSACTION", timedelta(0))
    with engine.connect() as connection:
        connection.exec_driver_sql("INSERT INTO shop.orders VALUES (1, 100)")
        connection.exec_driver_sql("PREPARE TRANSACTION 'forgotten by the tests of doctor'")
    try:
        (finding,) = [
            each
            for each in database.examine(engine, tallies)
            if each.subject == "sessions" and "prepared" in each.found
        ]
        assert finding.level == "warn"
        assert "ROLLBACK PREPARED" in finding.todo
    finally:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("ROLLBACK PREPARED 'forgotten by the tests of doctor'")


@pytest.mark.parametrize(
    ("free", "level"), [(100 * machine.GIB, "ok"), (machine.GIB, "warn"), (1, "fail")]
)
def test_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, level: str) -> None:
    usage = SimpleNamespace(total=200 * machine.GIB, free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    (finding,) = machine.examine_disk(tmp_path / "not" / "there", "tests")
    assert finding.level == level
    assert str(tmp_path) in finding.found


def test_versions_that_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    (well,) = machine.examine_versions()
    assert (well.level, "tallykeeper" in well.found) == ("ok", True)
    monkeypatch.setattr("importlib.metadata.requires", lambda _: ["click>=99", "no-such>=1"])
    (wrong,) = machine.examine_versions()
    assert wrong.level == "warn"
    assert "click" in wrong.found
    assert ">=99" in wrong.found

"""Forgetting incidents resolved long ago: what goes, what stays, and what is counted still."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, Engine

from tallykeeper import incidents_ever, prune_incidents
from tallykeeper.catalog import state
from tallykeeper.faults import incidents
from tests.integration.support import execute, rows

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
LIMIT = LONG_AGO + timedelta(days=10)


@pytest.fixture
def empty(engine: Engine) -> Engine:
    with engine.begin() as connection:
        state.create(connection)
    return engine


def _resolved(connection: Connection, subject: str, kind: str, at: datetime) -> None:
    incidents.report(connection, subject, kind, "it was wrong", at=LONG_AGO)
    assert incidents.resolve(connection, subject, kind, "a check", at=at)


def test_what_was_resolved_long_ago_goes_and_what_is_open_stays_however_old(empty: Engine) -> None:
    with empty.begin() as connection:
        _resolved(connection, "a", "differs", LIMIT - timedelta(days=1))
        _resolved(connection, "b", "differs", LIMIT + timedelta(days=1))
        incidents.report(connection, "c", "differs", "it is wrong", at=LONG_AGO)
        assert prune_incidents(connection, LIMIT) == 1
    found = rows(empty, "SELECT subject FROM tallykeeper.incidents ORDER BY 1")
    assert found == [("b",), ("c",)]


def test_how_many_there_ever_were_never_falls(empty: Engine) -> None:
    with empty.begin() as connection:
        for number in range(3):
            _resolved(connection, str(number), "differs", LIMIT - timedelta(days=1))
        _resolved(connection, "x", "nothing_left_out", LIMIT - timedelta(days=1))
        before = incidents_ever(connection)
        assert (before["differs"], before["nothing_left_out"], before["run"]) == (3, 1, 0)
        assert prune_incidents(connection, LIMIT) == 4
        assert incidents_ever(connection) == before
        _resolved(connection, "again", "differs", LIMIT - timedelta(days=1))
        assert prune_incidents(connection, LIMIT) == 1
        assert incidents_ever(connection) == before | {"differs": 4}
        assert prune_incidents(connection, LIMIT) == 0


def test_messages_about_it_go_with_it(empty: Engine) -> None:
    with empty.begin() as connection:
        _resolved(connection, "a", "differs", LIMIT - timedelta(days=1))
    execute(
        empty,
        "INSERT INTO tallykeeper.messages (incident, kind, title, body)"
        " SELECT id, 'found', 'a', 'b' FROM tallykeeper.incidents",
    )
    with empty.begin() as connection:
        assert prune_incidents(connection, LIMIT) == 1
    assert rows(empty, "SELECT * FROM tallykeeper.messages") == []


def test_tables_of_an_earlier_version_are_left_alone(empty: Engine) -> None:
    with empty.begin() as connection:
        _resolved(connection, "a", "differs", LIMIT - timedelta(days=1))
    execute(empty, "DROP TABLE tallykeeper.pruned_incidents")
    with empty.begin() as connection:
        assert prune_incidents(connection, LIMIT) == 0
        assert incidents_ever(connection) == {}

"""`tally places` over places that a file declares."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import make_url

from tallykeeper import discovery
from tallykeeper.cli.main import tally
from tallykeeper.errors import DoesNotFit
from tallykeeper.places.place import Place, read_places, require_distinct
from tallykeeper.settings import SettingError
from tests.places import network
from tests.servers import Servers


@pytest.fixture
def places(
    postgres_servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[Place]]:
    """Two places in a file that TALLY_PLACES names, with a system of three tallies."""
    system = network.system()
    monkeypatch.setattr(discovery, "all_systems", lambda: (system,))
    monkeypatch.setattr("tallykeeper.cli.selection.all_systems", lambda: (system,))
    with postgres_servers.fresh_database(18) as first, postgres_servers.fresh_database(18) as other:
        found = [network.place("a", first, "1"), network.place("b", other, "2")]
        lines = []
        for place in found:
            network.create(place)
            tables = ", ".join(
                f'"{".".join(own)}" = "{".".join(there)}"' for own, there in place.tables.items()
            )
            lines.append(
                f'[[places]]\nname = "{place.name}"\ndatabase = "{place.url}"\n'
                f"tables = {{ {tables} }}\n"
            )
        file = tmp_path / "places.toml"
        file.write_text("\n".join(lines), encoding="utf-8")
        monkeypatch.setenv("TALLY_PLACES", str(file))
        monkeypatch.setenv("TALLY_DATABASE_URL", first)
        assert list(read_places(file)) == found
        yield found


def run(*arguments: str) -> Result:
    return CliRunner().invoke(tally, arguments, standalone_mode=False)


def test_tallies_are_installed_refreshed_and_compared_at_each_place(places: list[Place]) -> None:
    tried = run("places", "migrate", "--dry-run")
    assert "a: compiled network.hours_1" in tried.output
    missing = run("places", "verify", "hours")
    assert missing.return_value == 1
    installed = run("places", "migrate")
    assert installed.return_value == 0, installed.output
    assert "b: compiled network.hours_2: delta" in installed.output
    with network.connect(places[0].url) as connection:
        connection.execute("INSERT INTO network.posts_1 VALUES (1, 1, 'somebody', now(), 3, true)")
    status = run("places", "status", "hours")
    assert "network.hours at a: never built, 1 pending; never built" in status.output
    refreshed = run("places", "refresh")
    assert refreshed.return_value == 0, refreshed.output
    assert "network.hours at a: rebuild, 1 changes consumed, 1 rows" in refreshed.output
    verified = run("places", "verify", "network.*")
    assert verified.return_value == 0
    assert "network.top at a: 1 keys compared, 0 differ" in verified.output
    assert run("places", "rebuild", "hours").return_value == 0
    incidents = run("places", "incidents")
    assert incidents.output.count(": none") == 6
    shown = json.loads(run("places", "status", "hours", "--json").stdout)
    assert (shown["version"], shown["command"], shown["ok"]) == (1, "places status", True)
    assert {(each["tally"], each["place"]) for each in shown["places"]} == {
        ("network.hours", "a"),
        ("network.hours", "b"),
    }
    assert shown["places"][0]["result"]["pending"] == 0
    again = json.loads(run("places", "migrate", "--json").stdout)
    assert [each["error"] for each in again["places"]] == [None, None]


def test_what_is_wrong_at_a_place_is_the_exit_code(places: list[Place]) -> None:
    run("places", "migrate")
    run("places", "refresh")
    with network.connect(places[1].url) as connection:
        connection.execute("ALTER TABLE network.posts_2 DISABLE TRIGGER USER")
    status = run("places", "status", "hours")
    assert status.return_value == 1
    assert "network.hours at b: 0 rows, 0 pending; " in status.output
    assert "network.hours at a: 0 rows, 0 pending\n" in status.output


@pytest.mark.usefixtures("places")
def test_a_database_that_is_no_coordinator_is_refused() -> None:
    refused = run("migrate", "--distribute", "--dry-run")
    assert isinstance(refused.exception, DoesNotFit)
    assert "not the coordinator of a Citus cluster" in str(refused.exception)


@pytest.mark.usefixtures("places")
def test_without_a_system_that_is_divided_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "all_systems", lambda: ())
    monkeypatch.setattr("tallykeeper.discovery.chosen_systems", lambda: ())
    refused = run("places", "status")
    assert "no system says how its rows are divided" in str(refused.exception)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "a list [[places]] and nothing besides"),
        ("places = 1", "a list [[places]] and nothing besides"),
        ("[[places]]\nname = 'a'", "a text as `database`"),
        ("[[places]]\ndatabase = 'postgresql:///a'", "a text as `name`"),
        ("places = ['a']", "name, database, tables in"),
        ("[[places]]\nnamed = 'a'", "name, database, tables in"),
        ("[[places]]\nname = 'a'\ndatabase = 'x'\ntables = 1", "names by declared names"),
        (
            "[[places]]\nname = 'a'\ndatabase = 'x'\ntables = { orders = 'a.b' }",
            "tables with their schemas",
        ),
        ("[[places]", "a TOML file"),
        (
            "[[places]]\nname = 'a'\ndatabase = 'x'\n[[places]]\nname = 'a'\ndatabase = 'y'",
            "places of different names",
        ),
    ],
)
def test_a_malformed_file_is_refused(tmp_path: Path, content: str, expected: str) -> None:
    file = tmp_path / "places.toml"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(SettingError) as refused:
        read_places(file)
    assert expected in str(refused.value)


def test_one_table_at_two_places_is_refused() -> None:
    tables = {("shop", "orders"): ("shop", "orders_1")}
    url = "postgresql://somebody:secret@host/shop"
    with pytest.raises(SettingError, match="each table at one place") as refused:
        require_distinct([Place("a", url, tables), Place("b", url, tables)])
    assert "secret" not in str(refused.value)
    assert "secret" not in repr(Place("a", url, tables))


def test_sessions_have_the_options_of_their_place(postgres_servers: Servers) -> None:
    with postgres_servers.fresh_database(18) as url:
        address = make_url(url).update_query_dict({"options": "-c app.mine=1"})
        given = address.render_as_string(hide_password=False)
        place = Place("a", given, options={"app.other": "off"})
        with place.connected() as engine, engine.connect() as connection:
            shown = [
                connection.exec_driver_sql(f"SHOW app.{name}").scalar_one()
                for name in ("mine", "other")
            ]
    assert shown == ["1", "off"]

"""`tally metrics` as one starts it: what it serves, how it ends, what it says when it cannot."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine

from assets.media.tallies import system
from tallykeeper.cli import up
from tests.acceptance.command import Command
from tests.templates import migrated


def _url(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    said = process.stdout.readline()
    assert said.startswith("Metrics are at http://127.0.0.1:"), said
    return said.split()[3]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_figures_until_it_is_asked_to_end(
    tally: Command, engine: Engine, number: signal.Signals
) -> None:
    migrated(engine, system)
    tally.environment["TALLY_METRICS_ADDRESS"] = "0"
    with tally.start("metrics") as process:
        answer = httpx.get(_url(process), timeout=30)
        names = {family.name for family in text_string_to_metric_families(answer.text)}
        assert {"tallykeeper_up", "tallykeeper_pending_changes"} <= names
        assert 'tallykeeper_tally_up{system="media",tally="media.daily_contributions"} 1.0' in (
            answer.text
        )
        process.send_signal(number)
        assert process.wait(30) == 0


def test_it_serves_on_while_the_database_is_away(tally: Command) -> None:
    tally.url = "postgresql://nobody@127.0.0.1:1/nowhere"
    with tally.start("metrics", "--address", "127.0.0.1:0") as process:
        answer = httpx.get(_url(process), timeout=30)
        assert "\ntallykeeper_up 0.0\n" in answer.text
        process.terminate()
        assert process.wait(30) == 0


def test_tally_up_serves_it_too_where_an_address_is_set(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    dagster_alone = {"Dagster webserver", "Dagster daemon"}
    assert set(up.commands("127.0.0.1", 3000)) == dagster_alone
    monkeypatch.setenv("TALLY_METRICS_ADDRESS", "0")
    monkeypatch.setenv("TALLY_DATABASE_URL", database_url)
    commands = up.commands("127.0.0.1", 3000)
    assert set(commands) - dagster_alone == {"metrics server"}
    part = {"metrics server": commands["metrics server"]}
    with up.children(part, dict(os.environ)) as running:
        said = ""
        while "Ctrl-C" not in said:
            assert running["metrics server"].poll() is None, capfd.readouterr()
            said += capfd.readouterr().out
            time.sleep(0.1)
        assert "\ntallykeeper_up 1.0\n" in httpx.get(said.split()[3], timeout=30).text


@pytest.mark.parametrize(
    ("arguments", "setting", "said"),
    [
        ((), "", "no address to listen at; name one, as in `tally metrics --address 127.0.0.1"),
        (("--address", "nowhere"), "", "--address: expected an address to listen at"),
    ],
)
def test_called_wrongly_it_says_how(
    tally: Command, arguments: tuple[str, ...], setting: str, said: str
) -> None:
    tally.environment["TALLY_METRICS_ADDRESS"] = setting
    result = tally.run("metrics", *arguments)
    assert result.code == 2
    assert said in result.err
    assert result.err.endswith("see `tally metrics --help`\n")


@pytest.mark.parametrize("command", ["metrics", "up", "status"])
def test_a_malformed_address_is_refused_by_every_command(tally: Command, command: str) -> None:
    tally.environment["TALLY_METRICS_ADDRESS"] = "here"
    result = tally.run(command)
    assert (result.code, result.out) == (1, "")
    assert "TALLY_METRICS_ADDRESS: expected an address to listen at" in result.err


def test_a_port_that_is_in_use_is_a_clear_error(tally: Command) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        result = tally.run("metrics", "--address", str(port))
    assert (result.code, result.out) == (1, "")
    assert f"cannot listen on port {port} of 127.0.0.1 (Address already in use)" in result.err

"""The running UI in a real browser: lineage, heat map, days and checks are there to be seen."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page
from sqlalchemy import Engine, text

from tallykeeper import Incident
from tallykeeper.database.connections import open_engine
from tallykeeper.database.sql import CLAIM_WRITING
from tallykeeper.embedded import shared_server
from tallykeeper.faults import incidents
from tests.browser import screenshots
from tests.environment import environment as clean

View = Callable[[Browser, str], Page]
WAIT = screenshots.RUN_SECONDS * 1000
SENSOR = """query ($alerts: SensorSelector!) {
  sensorOrError(sensorSelector: $alerts) { ... on Sensor { sensorState { id } } } }"""
STOP = """mutation ($id: String!) {
  stopSensor(id: $id) { ... on StopSensorMutationResult { instigationState { status } } } }"""
START = """mutation ($alerts: SensorSelector!) {
  startSensor(sensorSelector: $alerts) { ... on Sensor { sensorState { status } } } }"""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(screenshots.CHROMIUM is None, reason="there is no chromium on this machine"),
]


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    # Not pytest's own folder, which every session of pytest closes to other users anew: the
    # server's account among them.
    with tempfile.TemporaryDirectory(prefix="tally-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def ui(home: Path) -> Iterator[str]:
    environment = clean(TALLY_HOME=str(home))
    tally = Path(sys.executable).with_name("tally")
    subprocess.run([tally, "demo", "--size", "20000"], env=environment, check=True)
    with screenshots.running_ui(environment) as base:
        yield base


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with screenshots.chromium() as browser:
        yield browser


@pytest.fixture(autouse=True)
def _closed(browser: Browser) -> Iterator[None]:
    """No page goes on asking the UI once its test is over."""
    yield
    for context in browser.contexts:
        context.close()


def test_each_system_is_a_group_of_the_graph(ui: str, browser: Browser) -> None:
    page = screenshots.systems(browser, ui)
    for system in ("media", "gallery", "fediverse", "classroom", "tallykeeper"):
        assert page.get_by_text(system, exact=True).last.is_visible()


@pytest.mark.parametrize("view", [screenshots.trending, screenshots.activity])
def test_the_charts_are_drawn(ui: str, browser: Browser, view: View) -> None:
    image = view(browser, ui).get_by_role("dialog").locator(screenshots.DRAWN).first
    assert image.evaluate("i => i.complete && i.naturalWidth > 500 && i.naturalHeight > 100")


def test_the_graph_leads_from_the_files_to_both_tallies(ui: str, browser: Browser) -> None:
    page = screenshots.graph(browser, ui)
    for asset in ("media_files", "daily_contributions", "hourly_contributions"):
        assert page.get_by_text(asset, exact=True).first.is_visible()


def test_the_heat_map_is_drawn(ui: str, browser: Browser) -> None:
    image = screenshots.heat_map(browser, ui).get_by_role("dialog").locator(screenshots.DRAWN)
    assert image.evaluate("i => i.complete && i.naturalWidth > 800 && i.naturalHeight > 100")


def test_days_are_partitions(ui: str, browser: Browser) -> None:
    page = screenshots.partitions(browser, ui)
    first = f"{datetime.now(UTC).year - 1}-01-01"
    assert page.get_by_text(first).first.is_visible()
    assert page.get_by_text("Missing (0)").is_visible()
    assert page.get_by_text("Failed (0)").is_visible()


def test_a_backfill_shows_how_far_it_is(ui: str, browser: Browser) -> None:
    page = screenshots.backfill(browser, ui)
    for number in ("percent", "items_done", "items_total", "rows_per_second"):
        assert page.get_by_text(number, exact=True).first.is_visible()
    assert page.get_by_text("observed in run").is_visible()


def test_the_junction_warns_of_what_it_leaves_out(ui: str, browser: Browser) -> None:
    page = screenshots.left_out(browser, ui)
    assert page.get_by_text("left_out_unknown_ids").first.is_visible()


def test_the_checks_are_green(ui: str, browser: Browser) -> None:
    page = screenshots.checks(browser, ui)
    for check in ("matches_source", "capture_intact", "fresh"):
        assert page.get_by_text(check, exact=True).first.is_visible()
    assert page.get_by_text("Passed").first.is_visible()


def test_materialize_clicked_launches_a_run_that_succeeds(ui: str, browser: Browser) -> None:
    page = screenshots.materialize(browser, ui)
    page.get_by_role("link", name="View", exact=True).click()
    page.get_by_text("Success", exact=True).first.wait_for(timeout=WAIT)


def test_a_backfill_clicked_rebuilds_its_days_in_one_run(ui: str, browser: Browser) -> None:
    page = screenshots.launch_backfill(browser, ui)
    page.get_by_role("link", name="View", exact=True).click()
    page.get_by_text("100% completed").first.wait_for(timeout=WAIT)


def test_a_check_turns_red_by_a_wrong_row_and_green_by_the_repair(
    ui: str, browser: Browser, home: Path
) -> None:
    url, started = shared_server.start(home)
    assert not started, "it is the one that the UI is using"
    engine = open_engine(url)
    with engine.begin() as connection:
        connection.execute(text(CLAIM_WRITING))
        edited = connection.execute(
            text("UPDATE media.daily_contributions SET count = count + 1 WHERE id = 1")
        )
        assert edited.rowcount == 1
    with _nothing_repaired(ui):
        page = screenshots.failed_check(browser, ui)
        assert page.get_by_text("1 key differs from the sources").first.is_visible()
        assert page.get_by_text("Failed", exact=True).first.is_visible()
    # The sensor hears of it, asks for the repair, and that checks again; nobody clicks.
    page.get_by_text("Passed", exact=True).first.wait_for(timeout=2 * WAIT)
    incident = _resolved_incident(engine)
    engine.dispose()
    assert (incident.kind, incident.differing) == ("differs", 1)


@contextmanager
def _nothing_repaired(ui: str) -> Iterator[None]:
    """The sensor is off: what it has repaired within seconds, a page that looks again may miss."""
    alerts = {
        "repositoryLocationName": "tallykeeper",
        "repositoryName": "__repository__",
        "sensorName": "alerts",
    }
    found = _ask(ui, SENSOR, alerts=alerts)["sensorOrError"]["sensorState"]["id"]
    stopped = _ask(ui, STOP, id=found)["stopSensor"]["instigationState"]["status"]
    assert stopped == "STOPPED"
    try:
        yield
    finally:
        started = _ask(ui, START, alerts=alerts)["startSensor"]["sensorState"]["status"]
    assert started == "RUNNING"


def _ask(ui: str, query: str, **variables: Any) -> dict[str, Any]:
    """The answer of the UI's GraphQL."""
    asked = {"query": query, "variables": variables}
    answer = httpx.post(f"{ui}/graphql", json=asked, timeout=120).json()
    assert "errors" not in answer, answer
    data: dict[str, Any] = answer["data"]
    return data


def _resolved_incident(engine: Engine) -> Incident:
    """The one incident, once the sensor has recorded that it is resolved."""
    until = time.monotonic() + screenshots.RUN_SECONDS
    while True:
        with engine.connect() as connection:
            (found,) = incidents.listed(connection, subject="media.daily_contributions")
        if not found.is_open:
            return found
        assert time.monotonic() < until, found
        time.sleep(1)

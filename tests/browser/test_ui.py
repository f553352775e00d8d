"""`tally demo`, and the UI over what it made: lineage, heat map, days and checks are to be seen.

The demo takes longest of all, so what it says is looked at here too, without a browser.
"""

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

# As many events of the fediverse as without it; a tenth of the rest.
SIZE = 20_000

pytestmark = pytest.mark.slow


def in_browser(test: Callable[..., None]) -> Callable[..., None]:
    """The test needs a browser, and is skipped where there is none."""
    missing = screenshots.CHROMIUM is None
    skipped = pytest.mark.skipif(missing, reason="there is no chromium on this machine")
    return pytest.mark.browser(skipped(test))


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    # Not pytest's own folder, which every session of pytest closes to other users anew: the
    # server's account among them.
    with tempfile.TemporaryDirectory(prefix="tally-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def ended(home: Path) -> subprocess.CompletedProcess[str]:
    """The demo, at its end."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("tally")), "demo", "--size", str(SIZE)],
        env=clean(TALLY_HOME=str(home)),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def ui(home: Path, ended: subprocess.CompletedProcess[str]) -> Iterator[str]:
    assert ended.returncode == 0, ended.stderr
    with screenshots.running_ui(clean(TALLY_HOME=str(home))) as base:
        yield base


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with screenshots.chromium() as browser:
        yield browser


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """No page goes on asking the UI once its test is over."""
    yield chromium
    for context in chromium.contexts:
        context.close()


def test_the_demo_shows_every_tally_and_leaves_nothing_running(
    ended: subprocess.CompletedProcess[str], home: Path
) -> None:
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count("6 of 6 checks passed") == 4
    warns = "checks passed; nothing_left_out of gallery/content_tags warns"
    assert ended.stdout.count(f"12 of 13 {warns}") == 2
    assert ended.stdout.count(f"3 of 4 {warns}") == 1
    broken = "checks passed; events_processed of fediverse/mastodon_posts warns"
    assert ended.stdout.count(f"13 of 14 {broken}") == 2
    assert ended.stdout.count("12 of 12 checks passed") == 1
    assert ended.stdout.count("24 of 24 checks passed") == 2
    both = "events_processed of fediverse/mastodon_posts, nothing_left_out of gallery/content_tags"
    assert ended.stdout.count(f"56 of 58 checks passed; {both} warn") == 1
    names = (
        "media.daily_contributions",
        "media.hourly_contributions",
        "gallery.content_tags ",
        "fediverse.hashtag_hourly_stats",
        "classroom.submission_counts",
        "classroom.submission_daily_activity",
    )
    for name in names:
        (row,) = [line for line in ended.stdout.splitlines() if line.strip().startswith(name)]
        assert "every key" in row
        assert row.split()[2] == "0", "nothing is pending"
    assert "Trending on https://demo-one.example: #auroratonight (" in ended.stdout
    assert "Trending on https://demo-two.example: #夏祭り (" in ended.stdout
    assert "make up" in ended.stdout
    assert not shared_server.is_running(home), ended.stderr


@in_browser
def test_each_system_is_a_group_of_the_graph(ui: str, browser: Browser) -> None:
    page = screenshots.systems(browser, ui)
    for system in ("media", "gallery", "fediverse", "classroom", "tallykeeper"):
        assert page.get_by_text(system, exact=True).last.is_visible()


@pytest.mark.parametrize("view", [screenshots.trending, screenshots.activity])
@in_browser
def test_the_charts_are_drawn(ui: str, browser: Browser, view: View) -> None:
    image = view(browser, ui).get_by_role("dialog").locator(screenshots.DRAWN).first
    assert image.evaluate("i => i.complete && i.naturalWidth > 500 && i.naturalHeight > 100")


@in_browser
def test_the_graph_leads_from_the_files_to_both_tallies(ui: str, browser: Browser) -> None:
    page = screenshots.graph(browser, ui)
    for asset in ("media_files", "daily_contributions", "hourly_contributions"):
        assert page.get_by_text(asset, exact=True).first.is_visible()


@in_browser
def test_the_heat_map_is_drawn(ui: str, browser: Browser) -> None:
    image = screenshots.heat_map(browser, ui).get_by_role("dialog").locator(screenshots.DRAWN)
    assert image.evaluate("i => i.complete && i.naturalWidth > 800 && i.naturalHeight > 100")


@in_browser
def test_days_are_partitions(ui: str, browser: Browser) -> None:
    page = screenshots.partitions(browser, ui)
    first = f"{datetime.now(UTC).year - 1}-01-01"
    assert page.get_by_text(first).first.is_visible()
    assert page.get_by_text("Missing (0)").is_visible()
    assert page.get_by_text("Failed (0)").is_visible()


@in_browser
def test_a_backfill_shows_how_far_it_is(ui: str, browser: Browser) -> None:
    page = screenshots.backfill(browser, ui)
    for number in ("percent", "items_done", "items_total", "rows_per_second"):
        assert page.get_by_text(number, exact=True).first.is_visible()
    assert page.get_by_text("observed in run").is_visible()


@in_browser
def test_the_junction_warns_of_what_it_leaves_out(ui: str, browser: Browser) -> None:
    page = screenshots.left_out(browser, ui)
    assert page.get_by_text("left_out_unknown_ids").first.is_visible()


@in_browser
def test_the_checks_are_green(ui: str, browser: Browser) -> None:
    page = screenshots.checks(browser, ui)
    for check in ("matches_source", "capture_intact", "fresh"):
        assert page.get_by_text(check, exact=True).first.is_visible()
    assert page.get_by_text("Passed").first.is_visible()


@in_browser
def test_materialize_clicked_launches_a_run_that_succeeds(ui: str, browser: Browser) -> None:
    page = screenshots.materialize(browser, ui)
    page.get_by_role("link", name="View", exact=True).click()
    page.get_by_text("Success", exact=True).first.wait_for(timeout=WAIT)


@in_browser
def test_a_backfill_clicked_rebuilds_its_days_in_one_run(ui: str, browser: Browser) -> None:
    page = screenshots.launch_backfill(browser, ui)
    page.get_by_role("link", name="View", exact=True).click()
    page.get_by_text("100% completed").first.wait_for(timeout=WAIT)


@in_browser
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

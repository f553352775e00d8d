"""The first hour with a clone: `make demo`, `make up`, own photographs, a row that is broken.

Every command that the README and the first tutorial print is run as it is printed, and the UI shows
lineage, heat map, days and checks. The demo takes longest of all, so what it says is looked at here
too, without a browser.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from PIL.ExifTags import IFD, Base
from playwright.sync_api import Browser, Page
from sqlalchemy import Engine, text

from tallykeeper import Incident
from tallykeeper.database.connections import open_engine
from tallykeeper.database.sql import CLAIM_WRITING
from tallykeeper.embedded import shared_server
from tallykeeper.faults import incidents
from tallykeeper.settings import project_root
from tests.browser import screenshots
from tests.clone import Clone, cloned

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
def clone() -> Iterator[Clone]:
    with cloned() as clone:
        yield clone


@pytest.fixture(scope="module")
def home(clone: Clone) -> Path:
    return clone.root / ".tally"


@pytest.fixture(scope="module")
def ended(clone: Clone) -> subprocess.CompletedProcess[str]:
    """The demo, at its end."""
    return clone.run("make", "demo", ARGS=f"--size {SIZE}")


@pytest.fixture(scope="module")
def ui(clone: Clone, ended: subprocess.CompletedProcess[str]) -> Iterator[str]:
    assert ended.returncode == 0, ended.stderr

    def environment(port: int) -> dict[str, str]:
        return {**clone.environment, "ARGS": f"--port {port}"}

    with screenshots.running(
        lambda _: ["make", "up"], "server_info", environment, clone.root
    ) as base:
        yield base
        assert clone.run("make", "down").returncode == 0


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
    assert ended.stdout.count(f"57 of 59 checks passed; {both} warn") == 1
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


@pytest.mark.usefixtures("ui")
def test_the_readme_and_the_tutorial_are_followed_word_for_word(clone: Clone) -> None:
    readme, tutorial = (_commands(page) for page in ("README.md", "docs/tutorial/first-graph.md"))
    load, status, env, breaks = (tutorial[n] for n in (1, 2, 4, 5))
    ways = ("verify", "refresh daily_contributions", "incidents")
    verify, refresh, listing = (f".venv/bin/tally {name}" for name in ways)
    demo, test, up, install = readme[:4]
    assert [demo, test, up] == ["make demo", "make test", "make up"]
    assert readme[4:] == [load, up]
    assert tutorial == [demo, load, status, up, env, breaks, verify, refresh, verify, listing]
    # Without what pip would download: all of that is here. To pip, "0" is what its flag says.
    options = {
        "PIP_NO_DEPS": "1",
        "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_TARGET": str(clone.home / "installed"),
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
    }
    installed = clone.run("bash", "-c", install, **options)
    assert installed.returncode == 0, installed.stderr
    assert (clone.home / "installed" / "tallykeeper").is_dir()

    pictures = clone.home / "Pictures" / "2019"
    pictures.mkdir(parents=True)
    for number in range(3):
        taken = Image.Exif()
        taken.get_ifd(IFD.Exif)[Base.DateTimeOriginal] = f"2019:05:0{1 + number} 12:00:00"
        Image.new("RGB", (8, 8), (number, 0, 0)).save(pictures / f"{number}.jpg", exif=taken)
    (pictures / "broken.jpg").write_bytes(b"no picture")

    loaded = clone.run("bash", "-c", load)
    assert loaded.returncode == 0, loaded.stderr
    assert "3 inserted, 0 changed, 0 unchanged, 1 unreadable" in loaded.stdout
    shown = clone.run("bash", "-c", status).stdout.splitlines()
    (line,) = [line for line in shown if "daily_contributions " in line]
    assert " 3 " in line, "what was loaded is pending"

    # The hourly run may come between breaking it and looking.
    for _ in range(2):
        broken = clone.run("bash", "-c", f"{env}\n{breaks}\n{verify}")
        if broken.returncode:
            break
    assert broken.returncode == 1, broken.stdout
    assert "UPDATE 1" in broken.stdout
    assert "edited by hand: UPDATE by postgres through psql" in broken.stdout
    repaired = clone.run("bash", "-ec", f"{env}\n{refresh}\n{verify}\n{listing}")
    assert repaired.returncode == 0, repaired.stderr
    assert "media.daily_contributions: ok" in repaired.stdout
    assert "edited" in repaired.stdout.partition("media.daily_contributions: ok")[2]


def _commands(page: str) -> list[str]:
    """What the blocks of a page would have one type, without comments."""
    text = (project_root() / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [line.removeprefix("$ ").partition("  #")[0].rstrip() for line in lines]

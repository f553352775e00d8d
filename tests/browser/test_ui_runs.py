"""What the UI says of runs: the demo's, those over thousands of partitions, a cancelled one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page

from tests.browser import screenshots
from tests.environment import environment as clean

# Thousands of partitions, and ever more.
FIRST = "2020-12-31"
PARTITIONS = f"{screenshots.ASSET}?view=partitions"
CANCEL = """mutation ($id: String!) { cancelPartitionBackfill(backfillId: $id) {
  ... on CancelBackfillSuccess { backfillId } ... on PythonError { message } } }"""
STATUS = """query ($id: String!) { partitionBackfillOrError(backfillId: $id) {
  ... on PartitionBackfill { status } } }"""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(screenshots.CHROMIUM is None, reason="there is no chromium on this machine"),
]


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    # Not pytest's own folder, which is closed to the account of the embedded server.
    with tempfile.TemporaryDirectory(prefix="tally-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def ui(home: Path) -> Iterator[str]:
    environment = clean(TALLY_HOME=str(home), TALLY_SYSTEMS="media,gallery", TALLY_START_DATE=FIRST)
    tally = Path(sys.executable).with_name("tally")
    subprocess.run([tally, "demo", "--size", "2000"], env=environment, check=True)
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


def test_the_demos_runs_are_in_the_timeline_and_in_their_jobs_history(
    ui: str, browser: Browser
) -> None:
    page = screenshots.timeline(browser, ui)
    for job in ("media_hourly", "gallery_hourly", "audit"):
        page.get_by_role("link", name=job).first.wait_for()
    page.goto(f"{ui}/locations/tallykeeper/jobs/media_hourly/runs")
    page.get_by_text("Success").nth(1).wait_for()


def test_what_the_demo_shows_on_purpose_is_no_incident(ui: str, browser: Browser) -> None:
    page = screenshots.incidents(browser, ui)
    assert page.get_by_text("none was ever found").first.is_visible()


def test_the_catalogue_says_in_prose_what_a_tally_is_and_its_page_in_sql(
    ui: str, browser: Browser
) -> None:
    page = screenshots.catalog(browser, ui)
    assert page.get_by_text("Files per UTC day. Equal to its sources").first.is_visible()
    page = screenshots.description(browser, ui)
    assert page.get_by_text("when a refresh last changed the row").is_visible()


def test_all_partitions_are_materialized_in_one_run(ui: str, browser: Browser) -> None:
    page = screenshots.all_partitions(browser, ui)
    require_all_materialized(page, ui)


def test_all_partitions_are_as_they_were_when_that_is_cancelled(ui: str, browser: Browser) -> None:
    page = screenshots.launch_all(browser, ui)
    page.wait_for_url("**/runs/b/**")
    backfill = page.url.split("/b/")[1].split("?")[0].split("/")[0]
    assert ask(ui, CANCEL, id=backfill)["cancelPartitionBackfill"] == {"backfillId": backfill}
    until = time.monotonic() + screenshots.RUN_SECONDS
    while ask(ui, STATUS, id=backfill)["partitionBackfillOrError"]["status"] == "CANCELING":
        assert time.monotonic() < until
        time.sleep(1)
    require_all_materialized(page, ui)


def test_the_history_of_a_check_has_results_only(ui: str, browser: Browser) -> None:
    page = screenshots.checks(browser, ui)
    page.get_by_text("Passed", exact=True).first.wait_for()
    assert page.get_by_text("Skipped").count() == 0


def test_after_the_database_was_killed_the_ui_goes_on(
    ui: str, browser: Browser, home: Path
) -> None:
    postmaster = home / "postgres" / "postmaster.pid"
    killed = int(postmaster.read_text().splitlines()[0])
    os.kill(killed, signal.SIGKILL)
    until = time.monotonic() + screenshots.START_SECONDS
    while int(postmaster.read_text().splitlines()[0] or 0) in (killed, 0):
        assert time.monotonic() < until
        time.sleep(0.2)
    page = screenshots.checks(browser, ui)
    page.get_by_text("Passed", exact=True).first.wait_for()


def require_all_materialized(page: Page, ui: str) -> None:
    page.goto(f"{ui}{PARTITIONS}")
    page.get_by_text("Partitions Selected").wait_for()
    show_all = page.get_by_text("Show all partitions")
    page.wait_for_timeout(screenshots.SETTLE_MILLISECONDS)
    if show_all.count():
        show_all.first.click()
    for none in ("Failed (0)", "Materializing (0)", "Missing (0)"):
        page.get_by_text(none).wait_for()


def ask(ui: str, query: str, **variables: Any) -> dict[str, Any]:
    """The answer of the UI's GraphQL."""
    asked = {"query": query, "variables": variables}
    answer = httpx.post(f"{ui}/graphql", json=asked, timeout=120).json()
    assert "errors" not in answer, answer
    data: dict[str, Any] = answer["data"]
    return data

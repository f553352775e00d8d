"""The running UI in a real browser: lineage, heat map, days and checks are there to be seen."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser import screenshots

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(screenshots.CHROMIUM is None, reason="there is no chromium on this machine"),
]


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    environment = {**os.environ, "TALLY_HOME": str(tmp_path_factory.mktemp("home"))}
    tally = Path(sys.executable).with_name("tally")
    subprocess.run([tally, "demo"], env=environment, check=True)
    with screenshots.running_ui(environment) as base:
        yield base


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with screenshots.chromium() as browser:
        yield browser


def test_the_graph_leads_from_the_files_to_both_tallies(ui: str, browser: Browser) -> None:
    page = screenshots.graph(browser, ui)
    for asset in ("media_files", "daily_contributions", "hourly_contributions"):
        assert page.get_by_text(asset, exact=True).first.is_visible()


def test_the_heat_map_is_drawn(ui: str, browser: Browser) -> None:
    image = screenshots.heat_map(browser, ui).get_by_role("dialog").locator(screenshots.DRAWN)
    assert image.evaluate("i => i.complete && i.naturalWidth > 800 && i.naturalHeight > 100")


def test_days_are_partitions(ui: str, browser: Browser) -> None:
    page = screenshots.partitions(browser, ui)
    assert page.get_by_text("2015-01-01").first.is_visible()
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

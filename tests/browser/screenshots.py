"""The documentation's pictures, taken from the running UI and service: `make screenshots`.

Demo data in a home of its own, `tally up`, `tally serve`, headless Chromium. The browser tests look
at the same pages through the same functions, so that a picture that cannot be taken is a failing
test. ARGS="page-dark.png" takes that picture alone.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Literal

import click
from playwright.sync_api import Browser, Page, sync_playwright

from tests.environment import environment as clean

IMAGES = Path(__file__).parents[2] / "docs" / "images"
CHROMIUM = next((p for n in ("chromium", "chromium-browser") if (p := shutil.which(n))), None)
SWITCHES = (
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
SIZE = (1280, 800)
START_SECONDS = 120
# A run is queued, gets a process of its own, and loads the code.
RUN_SECONDS = 200
DRAWN = "img[src^='data:image/png']"
ASSET = "/assets/media/daily_contributions"
JUNCTION = "/assets/gallery/content_tags"


def running_ui(environment: dict[str, str]) -> AbstractContextManager[str]:
    """Run `tally up` with `environment` on a free port; returns the address, and ends it after."""
    return _running("up", "server_info", environment)


def running_service(environment: dict[str, str]) -> AbstractContextManager[str]:
    """The same with `tally serve`."""
    return _running("serve", "health", environment)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser that talks to nobody but the page asked for."""
    if CHROMIUM is None:
        raise RuntimeError("the pictures need Debian's package chromium; install it and try again")
    # Chromium refuses its sandbox to root.
    switches = [*SWITCHES, "--no-sandbox"] if os.geteuid() == 0 else list(SWITCHES)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=switches)
        yield browser
        browser.close()


def open_page(browser: Browser, address: str) -> Page:
    """A page of the pictures' size at `address`."""
    page = browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]})
    # On a busy machine the UI takes its time.
    page.set_default_timeout(START_SECONDS * 1000)
    page.goto(address)
    return page


def systems(browser: Browser, base: str) -> Page:
    """All that is kept, a group for each system."""
    page = open_page(browser, f"{base}/asset-groups")
    # In the list at the left, and in the graph, where statuses come later.
    page.get_by_text("fediverse", exact=True).filter(visible=True).nth(1).wait_for()
    page.get_by_text("fetching statuses").first.wait_for(state="hidden")
    return page


def graph(browser: Browser, base: str) -> Page:
    """The lineage from the files to both tallies."""
    page = open_page(browser, f"{base}/locations/tallykeeper/asset-groups/media/lineage")
    page.get_by_text("3 / 3 Passed").nth(1).wait_for()
    return page


def heat_map(browser: Browser, base: str) -> Page:
    """The calendar heat map in the metadata of the last materialization."""
    return _drawn(browser, f"{base}{ASSET}?view=events")


def trending(browser: Browser, base: str) -> Page:
    """The chart of what is trending on the first instance, in the metadata of the last report."""
    address = f"{base}/assets/fediverse/trending_hashtags?view=events"
    return _drawn(browser, address, "chart of https://demo-one.example")


def activity(browser: Browser, base: str) -> Page:
    """The chart of a course's days, in the metadata of the last materialization."""
    return _drawn(browser, f"{base}/assets/classroom/submission_daily_activity?view=events")


def _drawn(browser: Browser, address: str, name: str | None = None) -> Page:
    """The picture of an asset's last event that has one, or the one of that name."""
    page = open_page(browser, address)
    places = page.locator("tr")
    if name is not None:
        places = places.filter(has=page.get_by_text(name, exact=True))
    places.get_by_text("[Show Markdown]").first.click()
    page.get_by_role("dialog").locator(DRAWN).first.wait_for()
    return page


def materialize(browser: Browser, base: str) -> Page:
    """A click on Materialize of a tally without days: a run is launched."""
    page = open_page(browser, f"{base}/assets/gallery/gen_source_stats?view=overview")
    page.get_by_role("button", name="Materialize").first.click()
    page.get_by_text("Launched run").wait_for()
    return page


def launch_backfill(browser: Browser, base: str) -> Page:
    """The last ninety days chosen and launched as one backfill."""
    page = open_page(browser, f"{base}{ASSET}?view=partitions")
    page.get_by_role("button", name="Materialize").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="All", exact=True).click()
    dialog.get_by_role("button", name="Launch backfill").click()
    page.get_by_text("Created backfill").wait_for()
    return page


def launch_all(browser: Browser, base: str) -> Page:
    """All partitions of both tallies of media, launched from the page of their job."""
    page = open_page(browser, f"{base}/locations/tallykeeper/jobs/media_hourly")
    page.get_by_role("button", name="Materialize all").first.click()
    dialog = page.get_by_role("dialog")
    show_all = dialog.get_by_text("Show all partitions")
    dialog.get_by_role("button", name="All", exact=True).wait_for()
    page.wait_for_timeout(SETTLE_MILLISECONDS)
    if show_all.count():
        show_all.click()
    dialog.get_by_role("button", name="All", exact=True).click()
    page.wait_for_timeout(SETTLE_MILLISECONDS)
    dialog.get_by_role("button", name="Launch backfill").click()
    page.get_by_text("Created backfill").wait_for()
    page.get_by_role("link", name="View", exact=True).click()
    return page


def all_partitions(browser: Browser, base: str) -> Page:
    """The same, when it is done."""
    page = launch_all(browser, base)
    page.get_by_text("100% completed").first.wait_for(timeout=RUN_SECONDS * 1000)
    return page


def timeline(browser: Browser, base: str) -> Page:
    """The runs of the last hours, by their jobs."""
    page = open_page(browser, f"{base}/overview/activity/timeline")
    page.get_by_role("link", name="media_hourly").first.wait_for()
    return page


def catalog(browser: Browser, base: str) -> Page:
    """All assets with the beginnings of their descriptions."""
    page = open_page(browser, f"{base}/assets")
    # Of whatever tally comes first: rows below the window are not drawn.
    page.get_by_text("Equal to its sources").first.wait_for()
    page.get_by_text("Loading...").first.wait_for(state="hidden")
    return page


def description(browser: Browser, base: str) -> Page:
    """What a tally is, the SQL that says it, and its columns."""
    page = open_page(browser, f"{base}{ASSET}?view=overview")
    page.get_by_text("Equal to its sources").wait_for()
    return page


def incidents(browser: Browser, base: str) -> Page:
    """The asset of the incidents, with the list of them."""
    page = open_page(browser, f"{base}/assets/tallykeeper/incidents?view=events")
    page.get_by_text("incidents_open").first.wait_for()
    return page


def failed_check(browser: Browser, base: str) -> Page:
    """What a comparison with the source tells that finds a key which differs."""
    page = checks(browser, base)
    page.get_by_role("button").filter(has_text=re.compile("^Execute$")).click()
    page.get_by_text("to_resolve", exact=True).wait_for(timeout=RUN_SECONDS * 1000)
    return page


def partitions(browser: Browser, base: str) -> Page:
    """The days, and how the chosen one came to be."""
    page = open_page(browser, f"{base}{ASSET}?view=partitions")
    page.get_by_text("Partitions Selected").wait_for()
    return page


def checks(browser: Browser, base: str) -> Page:
    """The three checks, and what the last comparison with the source found."""
    page = open_page(browser, f"{base}{ASSET}?view=checks")
    page.get_by_text("matches_source").first.click()
    page.get_by_text("Latest execution").wait_for()
    return page


def backfill(browser: Browser, base: str) -> Page:
    """How far a backfill had come in its first lane, among the junction's events."""
    page = open_page(browser, f"{base}{JUNCTION}?view=events")
    events = page.get_by_text("regular", exact=True)
    events.first.wait_for()
    # Among them is the lane's materialization; which of them stands first depends on their times.
    for number in range(events.count()):
        events.nth(number).click()
        page.wait_for_timeout(SETTLE_MILLISECONDS)
        if page.get_by_text("eta_seconds").is_visible():
            break
    page.get_by_text("eta_seconds").wait_for()
    return page


def left_out(browser: Browser, base: str) -> Page:
    """The warning that the junction leaves something out, with a sample of it."""
    page = open_page(browser, f"{base}{JUNCTION}?view=checks")
    page.get_by_text("nothing_left_out").first.click()
    page.get_by_text("left_out_sample").first.wait_for()
    return page


def page_light(browser: Browser, base: str, scheme: Literal["light", "dark"] = "light") -> Page:
    """The service's page with a user and a course, by day."""
    page = browser.new_page(
        color_scheme=scheme, viewport={"width": 1000, "height": 800}, reduced_motion="reduce"
    )
    newest = page.request.get(f"{base}/api/v1/content/unified?page_size=1").json()["items"][0]
    page.goto(f"{base}/?user={newest['creator_id']}&course=1")
    page.wait_for_load_state("networkidle")
    for name in ("files", "gallery", "course", "trending"):
        page.locator(f"#{name} .figures").wait_for()
    return page


def page_dark(browser: Browser, base: str) -> Page:
    """The same by night."""
    return page_light(browser, base, "dark")


def _listing(size: tuple[int, int], scheme: Literal["light", "dark"]) -> Callable[..., Page]:
    """The list of all tallies, with the beginning of the charts."""

    def view(browser: Browser, base: str) -> Page:
        page = browser.new_page(color_scheme=scheme, viewport={"width": size[0], "height": size[1]})
        page.goto(f"{base}/tallies")
        page.wait_for_load_state("networkidle")
        page.locator("svg.chart").first.wait_for()
        return page

    return view


def of_documentation(
    size: tuple[int, int], scheme: Literal["light", "dark"], path: str = ""
) -> Callable[..., Page]:
    """A page of the documentation, the first one by default, as `make docs` builds it."""

    def view(browser: Browser, base: str) -> Page:
        page = browser.new_page(color_scheme=scheme, viewport={"width": size[0], "height": size[1]})
        page.goto(f"{base}/{path}")
        page.get_by_role("heading", level=1).wait_for()
        page.wait_for_load_state("networkidle")
        return page

    return view


@contextmanager
def documentation() -> Iterator[str]:
    """Build the documentation, and serve it: its search needs that; returns its address."""
    with tempfile.TemporaryDirectory() as folder:
        mkdocs = Path(sys.executable).with_name("mkdocs")
        command = [str(mkdocs), "build", "--quiet", "--strict", "--site-dir", folder]
        quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
        subprocess.run(command, cwd=Path(__file__).parents[2], env=quiet, check=True)
        handler = partial(_Quiet, directory=folder)
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            Thread(target=server.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{server.server_port}"
            server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    """Serves files, and says nothing of it."""

    def log_message(self, *_: object) -> None:
        return


PICTURES = {
    "ui-systems.png": systems,
    "ui-graph.png": graph,
    "ui-daily-contributions.png": heat_map,
    "ui-partitions.png": partitions,
    "ui-timeline.png": timeline,
    "ui-catalog.png": catalog,
    "ui-description.png": description,
    "ui-all-partitions.png": all_partitions,
    "ui-incidents.png": incidents,
    "ui-checks.png": checks,
    "ui-backfill.png": backfill,
    "ui-trending.png": trending,
    "ui-activity.png": activity,
}
OF_SERVICE = {
    "page-light.png": page_light,
    "page-dark.png": page_dark,
    "tallies-desk-light.png": _listing((1000, 800), "light"),
    "tallies-desk-dark.png": _listing((1000, 800), "dark"),
    "tallies-phone-light.png": _listing((390, 844), "light"),
    "tallies-phone-dark.png": _listing((390, 844), "dark"),
}
OF_SITE = {
    "site-desk-light.png": of_documentation((1280, 800), "light"),
    "site-desk-dark.png": of_documentation((1280, 800), "dark"),
    "site-phone-light.png": of_documentation((390, 844), "light"),
    "site-phone-dark.png": of_documentation((390, 844), "dark"),
}
# The UI draws its plots and curves in after its texts.
SETTLE_MILLISECONDS = 1_500


def main() -> None:
    """Take all pictures anew, or those that are named."""
    wanted = sys.argv[1:] or [*PICTURES, *OF_SERVICE, *OF_SITE]
    of_site = {name: view for name, view in OF_SITE.items() if name in wanted}
    if of_site:
        with documentation() as base, chromium() as browser:
            _take(browser, base, of_site)
    if not set(wanted) - set(OF_SITE):
        return
    # A short name: the socket's path has a limit.
    with tempfile.TemporaryDirectory(prefix="tally-") as home:
        environment = clean(TALLY_HOME=home)
        tally = Path(sys.executable).with_name("tally")
        subprocess.run([tally, "demo"], env=environment, check=True)
        # The list has links to these.
        linked = environment | {"TALLY_UI_URL": "http://127.0.0.1:3000", "TALLY_SERVE_DOCS": "1"}
        for running, views, given in (
            (running_ui, PICTURES, environment),
            (running_service, OF_SERVICE, linked),
        ):
            chosen = {name: view for name, view in views.items() if name in wanted}
            if chosen:
                with running(given) as base, chromium() as browser:
                    _take(browser, base, chosen)


def _take(browser: Browser, base: str, views: Mapping[str, Callable[[Browser, str], Page]]) -> None:
    for name, view in views.items():
        page = view(browser, base)
        page.wait_for_timeout(SETTLE_MILLISECONDS)
        page.screenshot(path=IMAGES / name)
        page.close()
        click.echo(f"docs/images/{name}")


def _running(name: str, asked: str, environment: dict[str, str]) -> AbstractContextManager[str]:
    tally = str(Path(sys.executable).with_name("tally"))
    return running(lambda port: [tally, name, "--port", str(port)], asked, lambda _: environment)


@contextmanager
def running(
    command: Callable[[int], list[str]],
    asked: str,
    environment: Callable[[int], dict[str, str]],
    folder: Path | None = None,
) -> Iterator[str]:
    """Run a command on a free port; returns the address once it answers, and ends it after.

    `asked` is what it answers to; command and environment are those for the port.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command(port), cwd=folder, env=environment(port), stdout=output, stderr=output
        )
        try:
            _wait_for(f"{address}/{asked}", process, output)
            yield address
        finally:
            process.terminate()
            process.wait(60)


def _wait_for(address: str, process: subprocess.Popen[bytes], output: object) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=5).close()  # noqa: S310 -- our own
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.5)
        else:
            return
    output.seek(0)  # type: ignore[attr-defined]
    raise RuntimeError(f"{address} did not come up:\n{output.read()}")  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()

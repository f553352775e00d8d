"""The documentation as a site, in a real browser: read at a desk and on a phone, light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import screenshots

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(screenshots.CHROMIUM is None, reason="there is no chromium on this machine"),
]

SIZES = {"desk": (1280, 800), "phone": (390, 844)}
# The first page, a tutorial, a wide table, code, a picture, and a long page.
PAGES = (
    "",
    "tutorial/ten-tallies/",
    "reference/commands/",
    "reference/select/",
    "how-to/page/",
    "reference/python/",
)


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with screenshots.documentation() as base:
        yield base


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with screenshots.chromium() as browser:
        yield browser


@pytest.fixture
def said() -> list[str]:
    """What pages say in the browser's console."""
    return []


def opened(browser: Browser, site: str, size: str, scheme: Any, path: str, said: list[str]) -> Page:
    page = screenshots.of_documentation(SIZES[size], scheme, path)(browser, site)
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_pages_fit_the_screen_and_follow_the_system_s_colours(
    browser: Browser, site: str, size: str, scheme: str, said: list[str]
) -> None:
    for path in PAGES:
        page = opened(browser, site, size, scheme, path, said)
        assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0], path
        used = page.evaluate("document.body.getAttribute('data-md-color-scheme')")
        assert used == {"light": "default", "dark": "slate"}[scheme]
        broken = page.locator("article img").evaluate_all(
            "all => all.filter(at => at.complete && !at.naturalWidth).map(at => at.src)"
        )
        assert broken == []
        page.close()
    assert said == []


@pytest.mark.parametrize("size", SIZES)
def test_what_is_looked_for_is_found(
    browser: Browser, site: str, size: str, said: list[str]
) -> None:
    page = opened(browser, site, size, "light", "", said)
    if size == "phone":
        page.locator("label.md-header__button[for=__search]").click()
    page.get_by_role("textbox", name="Search").click()
    page.keyboard.type("quarantine")
    results = page.locator(".md-search-result__link")
    title = "Handle keys that a derived table cannot hold"
    expect(results.first).to_contain_text(title, timeout=60_000)
    results.first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Handle keys that")
    page.close()
    assert said == []


def test_on_a_phone_the_menu_leads_to_every_part(
    browser: Browser, site: str, said: list[str]
) -> None:
    page = opened(browser, site, "phone", "light", "", said)
    page.locator("label.md-header__button[for=__drawer]").click()
    page.locator(".md-nav--primary").get_by_text("Tutorial").first.click()
    page.get_by_role("link", name="Tutorial: ten tallies for a shop").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("ten tallies for a shop")
    page.close()
    assert said == []

"""The service's page in a real browser: figures as SQL has them, by pointer, keyboard and ear."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect
from sqlalchemy import Engine
from starlette.applications import Starlette
from starlette.routing import Mount

from assets.media.tallies import system as media
from tallykeeper.database.connections import open_engine
from tallykeeper.http.app import create_app
from tallykeeper.installation.migrate import migrate
from tests import serving
from tests.browser import screenshots
from tests.browser.looking import COLOURS, STOP, UNNAMED, contrast, luminance
from tests.integration.support import execute, rows, scalar
from tests.servers import VERSIONS, Servers

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(screenshots.CHROMIUM is None, reason="there is no chromium on this machine"),
]

PER_DAY = (
    "SELECT to_char(coalesce(original_created_at, created_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD'),"
    " count(*) FROM media.media_files GROUP BY 1 ORDER BY 1"
)
ITEMS = "(SELECT count(*) FROM gallery.{} WHERE {})"
LABEL = re.compile(r"(No|[0-9,]+) files? on (.+)")
# What a browser says of an answer that is no success; the page says it in a sentence.
REFUSED = "Failed to load resource"


@pytest.fixture(scope="module")
def database(postgres_servers: Servers) -> Iterator[Engine]:
    with serving.filled(postgres_servers) as engine:
        yield engine


@pytest.fixture(scope="module")
def base(database: Engine) -> Iterator[str]:
    with serving.served(create_app(database)) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with screenshots.chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that must not say anything in the browser's console."""
    page = browser.new_page(viewport={"width": 1000, "height": 900})
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    yield page
    page.close()
    assert [text for text in said if not text.startswith(REFUSED)] == []


def opened(page: Page, address: str) -> Page:
    page.goto(address)
    page.wait_for_load_state("networkidle")
    return page


def squares(page: Page) -> dict[str, int]:
    """The count of each day that the graph shows, from what is read aloud of its square."""
    labels = page.locator("rect").evaluate_all(
        "all => all.map(r => [r.dataset.day, r.getAttribute('aria-label')])"
    )
    counts = {}
    for day, label in labels:
        found = LABEL.fullmatch(label)
        assert found, label
        counts[day] = 0 if found[1] == "No" else int(found[1].replace(",", ""))
    return counts


def figures(page: Page, section: str) -> dict[str, str]:
    fields = page.locator(f"#{section} [data-field]")
    return dict(fields.evaluate_all("all => all.map(f => [f.dataset.field, f.textContent])"))


def test_the_graph_shows_the_counts_of_the_files(page: Page, base: str, database: Engine) -> None:
    shown = squares(opened(page, base))
    truth = dict(rows(database, PER_DAY))
    assert 52 * 7 < len(shown) <= 53 * 7
    assert max(shown) == scalar(database, "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD')")
    assert shown == {day: truth.get(day, 0) for day in shown}
    assert sum(shown.values()) > 500
    total, days = sum(shown.values()), sum(count > 0 for count in shown.values())
    expect(page.locator("#files .sum")).to_have_text(f"{total:,} files on {days} days")


def test_every_year_that_has_files_can_be_chosen(page: Page, base: str, database: Engine) -> None:
    opened(page, base)
    truth = dict(rows(database, PER_DAY))
    years = sorted({day[:4] for day in truth}, reverse=True)
    options = page.locator("#year option").evaluate_all("all => all.map(o => o.value)")
    assert options == ["", *years]
    page.get_by_label("Shown").select_option(years[1])
    expect(page.locator(f"rect[data-day='{years[1]}-01-01']")).to_be_attached()
    page.wait_for_load_state("networkidle")
    shown = squares(page)
    assert shown == {day: truth.get(day, 0) for day in shown}
    assert (min(shown), max(shown)) == (f"{years[1]}-01-01", f"{years[1]}-12-31")
    page.reload()
    page.wait_for_load_state("networkidle")
    assert squares(page) == shown


def test_pointer_and_focus_tell_the_count_of_a_day(page: Page, base: str) -> None:
    opened(page, base)
    day, count = max(squares(page).items(), key=lambda item: item[1])
    read, square = page.locator("#files .read"), page.locator(f"rect[data-day='{day}']")
    square.hover()
    expect(read).to_have_text(re.compile(rf"{count} files on \w+,? \d+ \w+ {day[:4]}"))
    page.mouse.move(0, 0)
    expect(read).to_have_text(re.compile("Point at a day"))
    page.locator("rect[tabindex='0']").focus()
    expect(read).to_have_text(str(page.locator("rect[tabindex='0']").get_attribute("aria-label")))


def test_arrow_keys_lead_from_day_to_day(page: Page, base: str) -> None:
    opened(page, base)
    days = list(squares(page))
    page.locator("rect[tabindex='0']").focus()

    def focused() -> str:
        return str(page.evaluate("document.activeElement.dataset.day"))

    place = sorted(days).index(focused())
    assert place == len(days) - 1
    moves = {"ArrowUp": -1, "ArrowLeft": -7, "ArrowDown": 1, "ArrowRight": 7}
    for key, move in moves.items():
        page.keyboard.press(key)
        place += move
        assert focused() == sorted(days)[place]
        assert page.locator("rect[tabindex='0']").count() == 1
    page.keyboard.press("Control+Home")
    assert focused() == min(days)
    page.keyboard.press("ArrowLeft")
    assert focused() == min(days)
    page.keyboard.press("End")
    assert focused() > sorted(days)[-8]
    stroke = "getComputedStyle(document.activeElement).stroke"
    assert page.evaluate(stroke) not in ("none", "transparent", "rgba(0, 0, 0, 0)")


def test_the_table_says_the_same_as_the_graph(page: Page, base: str) -> None:
    opened(page, base)
    page.get_by_text("The same as a table").click()
    lines = page.locator("#files tbody tr")
    shown = lines.evaluate_all("all => all.map(r => [...r.cells].map(c => c.textContent))")
    labels = page.locator("rect:not([data-level='0'])").evaluate_all(
        "all => all.sort((a, b) => b.dataset.day.localeCompare(a.dataset.day))"
        ".map(r => r.getAttribute('aria-label'))"
    )
    assert [f"{n} file{'' if n == '1' else 's'} on {day}" for day, n in shown] == labels


def test_the_gallery_shows_its_four_counts(page: Page, base: str, database: Engine) -> None:
    user = scalar(
        database,
        "SELECT creator_id FROM gallery.content_items GROUP BY 1 ORDER BY count(*) DESC LIMIT 1",
    )
    opened(page, base)
    page.get_by_label("User’s id").fill(str(user))
    page.get_by_label("User’s id").press("Enter")
    expect(page.locator("#gallery .figures")).to_be_visible()
    page.wait_for_load_state("networkidle")
    expected = {}
    for source, table in (("regular", "content_items"), ("auto", "content_items_auto")):
        for whose, where in (("user", f"creator_id = '{user}'"), ("community", "true")):
            number = scalar(database, f"SELECT count(*) FROM gallery.{table} WHERE {where}")
            expected[f"{whose}_{source}_count"] = f"{number:,}"
    assert figures(page, "gallery") == expected
    assert f"user={user}" in page.url


def test_a_course_shows_its_numbers(page: Page, base: str, database: Engine) -> None:
    (course,) = rows(
        database, "SELECT course_id FROM classroom.submissions GROUP BY 1 ORDER BY count(*) DESC"
    )[0]
    opened(page, base)
    offered = page.locator("#courses option")
    expect(offered.first).to_be_attached()
    assert str(course) in [option.get_attribute("value") for option in offered.all()]
    page.get_by_label("Course’s id").fill(str(course))
    page.locator("#course").get_by_role("button").click()
    expect(page.get_by_text(f"Course {course}", exact=True)).to_be_visible()
    shown = figures(page, "course")
    query = "SELECT count(*) FROM classroom.{} WHERE course_id = {}"
    for field, table in (("submissions", "submissions"), ("assignments", "assignments")):
        number = scalar(database, query.format(table, course))
        assert shown[f"total_{field}"] == f"{number:,}"
    last = scalar(
        database,
        "SELECT to_char(max(date_created) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') || ' UTC'"
        f" FROM classroom.submissions WHERE course_id = {course}",
    )
    assert shown["date_last_submission"] == last


def test_what_is_trending_is_counted_from_the_posts(
    page: Page, base: str, database: Engine
) -> None:
    with page.expect_response(re.compile("/api/hashtags/trending")) as answered:
        opened(page, base)
    at = answered.value.json()["at"]
    lines = page.locator("#trending tbody tr")
    shown = lines.evaluate_all("all => all.map(r => [...r.cells].map(c => c.textContent))")
    assert shown
    for name, posts, accounts, rise in shown:
        expected = rows(
            database,
            "SELECT count(*), count(DISTINCT p.account_id) FROM fediverse.mastodon_posts AS p"
            " JOIN fediverse.post_hashtags AS t"
            " ON t.instance_id = p.instance_id AND t.post_id = p.id"
            " JOIN fediverse.hashtags AS h ON h.id = t.hashtag_id"
            f" WHERE p.instance_id = {page.locator('#instance').input_value()}"
            f" AND h.name = '{name[1:]}' AND p.deleted_at IS NULL"
            " AND p.visibility IN ('public', 'unlisted')"
            f" AND p.created_at < '{at}' AND p.created_at >="
            f" date_trunc('hour', timestamptz '{at}', 'UTC') - interval '4 hours'",
        )
        assert [(int(posts), int(accounts))] == expected
        assert re.fullmatch(r"[0-9]+\.[0-9]×", rise)


def test_each_figure_is_looked_up_again_by_itself(page: Page, base: str, database: Engine) -> None:
    page.clock.install()
    opened(page, base)
    before = squares(page)
    with page.expect_response(re.compile("daily-counts")) as answered:
        page.clock.run_for(31_000)
    assert answered.value.status == 304
    assert squares(page) == before

    execute(database, "INSERT INTO media.media_files (path) SELECT 'now/' || now()")
    with page.expect_response(re.compile("daily-counts")):
        page.clock.run_for(31_000)
    today = max(before)
    square = page.locator(f"rect[data-day='{today}']")
    expect(square).to_have_attribute("aria-label", re.compile(rf"^{before[today] + 1} file"))
    assert squares(page) == {**before, today: before[today] + 1}


def test_a_page_that_nobody_sees_asks_nothing(page: Page, base: str) -> None:
    page.clock.install()
    opened(page, base)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    turn = (
        "value => { Object.defineProperty(document, 'hidden', {value, configurable: true});"
        " document.dispatchEvent(new Event('visibilitychange')); }"
    )
    page.evaluate(turn, True)
    page.clock.run_for(600_000)
    assert asked == []
    with page.expect_response(re.compile("daily-counts")):
        page.evaluate(turn, False)
        page.clock.run_for(1_000)


def test_an_empty_database_is_a_page_without_figures(page: Page, postgres_servers: Servers) -> None:
    with postgres_servers.fresh_database(VERSIONS[0]) as url:
        engine = open_engine(url)
        serving.empty(engine)
        with serving.served(create_app(engine)) as address:
            opened(page, f"{address}/?course=1")
            assert set(squares(page).values()) == {0}
            expect(page.locator("#files .sum")).to_have_text(
                "No files in this time. `tally load media FOLDER` brings files in."
            )
            course = page.get_by_label("Course’s id")
            expect(course).to_have_attribute("placeholder", "none yet: tally load classroom PATH")
            assert set(figures(page, "gallery").values()) == {"0"}
            assert set(figures(page, "course").values()) == {"0", "never"}
            expect(page.get_by_text("No instance is known yet.")).to_be_visible()
            assert said(page) == {}
        engine.dispose()


def test_a_system_that_is_missing_is_a_sentence_and_the_others_go_on(
    page: Page, postgres_servers: Servers
) -> None:
    with postgres_servers.fresh_database(VERSIONS[0]) as url:
        engine = open_engine(url)
        migrate(engine, [media], with_sources=True)
        with serving.served(create_app(engine)) as address:
            opened(page, f"{address}/?course=1")
            sentences = said(page)
            assert set(sentences) == {"gallery", "course", "trending"}
            assert all("tally migrate" in sentence for sentence in sentences.values())
            assert len(squares(page)) > 52 * 7
        with serving.served(create_app(engine, ["media"])) as address:
            opened(page, f"{address}/?course=1")
            sentences = said(page)
            assert set(sentences) == {"gallery", "course", "trending"}
            assert set(sentences.values()) == {"This service does not answer for this system."}
        engine.dispose()


def test_a_project_without_a_page_has_the_list_of_its_tallies(
    page: Page, database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.tallykeeper]\n")
    monkeypatch.setenv("TALLY_PROJECT", str(tmp_path))
    daily = (
        "SELECT to_char(date AT TIME ZONE 'UTC', 'YYYY-MM-DD') FROM media.daily_contributions_live"
    )
    days = [day for (day,) in rows(database, f"{daily} ORDER BY 1")]
    assert len(days) > 100
    with serving.served(create_app(database, [media])) as address:
        opened(page, address)
        expect(page.locator("#tallies li")).to_have_count(2)
        page.get_by_role("button", name="media.daily_contributions").click()
        lines = page.locator("#rows tbody tr")
        expect(lines).to_have_count(50)
        page.get_by_role("button", name="More rows").click()
        expect(lines).to_have_count(100)
        expect(page.locator("#exact")).to_contain_text("exact as of 20")
        shown = page.locator("#rows tbody td:first-child").evaluate_all(
            "all => all.map(cell => cell.textContent.slice(0, 10))"
        )
        assert sorted(shown) in (days[:100], days[-100:])
        assert page.url == f"{address}/?tally=media.daily_contributions"
        assert page.evaluate(UNNAMED) == []
        opened(page, page.url)
        expect(lines).to_have_count(50)
        opened(page, f"{address}/?tally=nothing")
        expect(page.locator("#rows")).to_be_hidden()


def test_a_service_that_is_away_is_said_and_noticed_when_it_is_back(page: Page, base: str) -> None:
    page.clock.install()
    opened(page, base)
    before = squares(page)
    away = True

    def answer(route: Route) -> None:
        route.abort() if away else route.continue_()

    page.route(re.compile("/api/"), answer)
    page.clock.run_for(61_000)
    expect(page.locator("#files .said")).to_have_text(re.compile("does not answer just now"))
    assert squares(page) == before
    away = False
    # By little, for the page's patience with an answer goes by the same clock, and answers do not.
    for _ in range(40):
        page.clock.run_for(3_000)
        page.wait_for_timeout(200)
        if said(page) == {}:
            break
    assert said(page) == {}


def test_what_cannot_be_asked_is_said_in_its_section(page: Page, base: str) -> None:
    opened(page, f"{base}/?course=seven&user=%3Cscript%3Ealert(1)%3C/script%3E&year=1x")
    assert set(said(page)) == {"course", "gallery"}
    assert page.locator("main script").count() == 0
    assert page.get_by_label("Course’s id").input_value() == "seven"
    expect(page.locator("#course .figures")).to_be_hidden()


def said(page: Page) -> dict[str, str]:
    """The sentences that stand in place of figures, by section."""
    page.wait_for_load_state("networkidle")
    found = page.locator(".said").evaluate_all(
        "all => all.map(p => [p.closest('section').id, p.textContent])"
    )
    return {section: sentence for section, sentence in found if sentence}


def test_the_tab_key_leads_through_the_page_in_its_order(page: Page, base: str) -> None:
    opened(page, f"{base}/?course=1")
    stops = []
    for _ in range(12):
        page.keyboard.press("Tab")
        stops.append(page.evaluate(STOP))
    assert stops == [
        "a",
        "select#year",
        "rect",
        "summary",
        "input#user",
        "button",
        "input#course-id",
        "button",
        "select#instance",
        "body",
        "a",
        "select#year",
    ]


def test_everything_has_a_name_and_its_place(page: Page, base: str) -> None:
    opened(page, f"{base}/?course=1")
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.locator("main").count() == 1
    assert page.locator("h1").count() == 1
    for name in ("Files per day", "Gallery", "Course", "Trending"):
        region = page.get_by_role("region", name=name, exact=True)
        assert region.get_by_role("heading", level=2, name=name).count() == 1
        assert region.get_by_role("status").count() == 1
    grid = page.get_by_role("grid", name="Files per day")
    assert grid.get_by_role("row").count() == 7
    assert grid.get_by_role("gridcell", name=re.compile("files? on ")).count() > 52 * 7
    assert page.evaluate(UNNAMED) == []
    for table in page.locator("table").all():
        assert table.locator("caption").count() == 1
    # Figures that change are not read out by themselves.
    assert page.locator("[aria-live], [role=status], [role=alert], output").count() == 4


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_focus_stand_out_light_and_dark(browser: Browser, base: str, scheme: Any) -> None:
    page = browser.new_page(color_scheme=scheme, viewport={"width": 1000, "height": 900})
    opened(page, f"{base}/?course=none")
    page.get_by_text("The same as a table").click()
    texts = page.evaluate(COLOURS)
    assert len(texts) > 30
    weak = [(text, ratio) for text, *pair in texts if (ratio := contrast(*pair)) < 4.5]
    assert weak == []
    for control in page.locator("input, select, button").all():
        border, ground = control.evaluate(
            "at => [getComputedStyle(at).borderTopColor,"
            " getComputedStyle(at.closest('section')).backgroundColor]"
        )
        assert contrast(border, ground) >= 3
        control.focus()
    page.keyboard.press("Shift+Tab")
    outline, ground = page.evaluate(
        "[getComputedStyle(document.activeElement).outlineColor,"
        " getComputedStyle(document.querySelector('section')).backgroundColor]"
    )
    assert contrast(outline, ground) >= 3
    levels = page.locator(".legend [data-level]").evaluate_all(
        "all => all.map(at => getComputedStyle(at).backgroundColor)"
    )
    brightness = [luminance(level) for level in levels]
    assert brightness == sorted(brightness, reverse=scheme == "light")
    assert contrast(levels[0], levels[-1]) > 7
    page.close()


def test_nothing_comes_from_elsewhere_and_the_browser_keeps_it_so(page: Page, base: str) -> None:
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    response = page.goto(base)
    page.wait_for_load_state("networkidle")
    assert response is not None
    assert response.headers["content-security-policy"].startswith("default-src 'self';")
    assert len(requests) > 5
    assert [url for url in requests if not url.startswith(base)] == []


def test_the_page_works_where_a_proxy_puts_a_path_before_it(page: Page, database: Engine) -> None:
    behind = Starlette(routes=[Mount("/tallies", create_app(database))])
    with serving.served(behind) as address:
        opened(page, f"{address}/tallies/")
        assert sum(squares(page).values()) > 500
        assert said(page) == {}
        page.get_by_label("Course’s id").fill("1")
        page.get_by_label("Course’s id").press("Enter")
        expect(page.locator("#course .figures")).to_be_visible()
        assert page.url == f"{address}/tallies/?course=1"


def test_a_narrow_screen_shows_the_latest_days_and_scrolls_nothing_but_the_graph(
    page: Page, base: str
) -> None:
    page.set_viewport_size({"width": 340, "height": 700})
    opened(page, f"{base}/?course=1")
    assert page.evaluate("document.documentElement.scrollWidth") <= 340
    expect(page.locator("rect[tabindex='0']")).to_be_in_viewport()


LAST_DAYS = (
    "SELECT to_char(date AT TIME ZONE 'UTC', 'YYYY-MM-DD'), count::int"
    " FROM media.daily_contributions_live"
    " WHERE (date AT TIME ZONE 'UTC')::date >= (now() AT TIME ZONE 'UTC')::date - 90"
)
SIZES = {"desk": (1200, 900), "phone": (390, 844)}


@pytest.fixture(scope="module")
def listing(database: Engine) -> Iterator[str]:
    """The list of all tallies, of a service that shows its addresses and names Dagster's UI."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TALLY_SERVE_DOCS", "1")
        patch.setenv("TALLY_UI_URL", "https://dagster.example/ui")
        execute(
            database,
            "INSERT INTO tallykeeper.incidents (subject, kind, what, cause) VALUES"
            " ('media.daily_contributions', 'differs', '<b>1 key differs</b>', 'it was edited')",
        )
        with serving.served(create_app(database)) as address:
            yield f"{address}/tallies"
        execute(database, "DELETE FROM tallykeeper.incidents")


def bars(page: Page, tally: str) -> dict[str, int]:
    """What the chart of a tally shows of each day."""
    card = page.locator("#tallies li").filter(has_text=tally)
    expect(card.locator("svg.chart")).to_be_visible()
    titles = card.locator("rect title").all_text_contents()
    return {
        day: int(value.replace(",", "")) for day, _, value in (t.partition(": ") for t in titles)
    }


def test_every_tally_with_a_time_has_a_chart(page: Page, listing: str, database: Engine) -> None:
    opened(page, listing)
    described = page.request.get(f"{listing.removesuffix('/tallies')}/api/tallies").json()
    timed = [each["name"] for each in described["tallies"] if each["time_key"]]
    expect(page.locator("svg.chart")).to_have_count(len(timed))
    assert len(timed) > 5
    assert page.get_by_text("no chart").count() == 0
    assert bars(page, "media.daily_contributions") == dict(rows(database, LAST_DAYS))
    select = page.get_by_label("Measure of media.daily_contributions")
    select.select_option("rows")
    assert set(bars(page, "media.daily_contributions").values()) == {1}


def test_the_list_shows_what_is_wrong_and_leads_to_dagster(page: Page, listing: str) -> None:
    opened(page, listing)
    expect(page.locator("#open")).to_have_text("1 open")
    expect(page.locator("#incidents li")).to_contain_text("<b>1 key differs</b>")
    ui = "https://dagster.example/ui"
    assert page.locator("#ui").get_attribute("href") == ui
    link = page.get_by_role("link", name="media.daily_contributions in Dagster")
    assert link.get_attribute("href") == f"{ui}/assets/media/daily_contributions"
    page.get_by_role("button", name="media.daily_contributions").press("Enter")
    expect(page.locator("#rows-title")).to_be_focused()
    days = page.locator("#rows tbody td:first-child").all_text_contents()
    assert days == sorted(days, reverse=True), "the latest first"


def test_the_addresses_can_be_tried(page: Page, listing: str) -> None:
    opened(page, listing)
    page.get_by_role("link", name="Addresses").click()
    page.get_by_text("GET /api/tallies/{system}/{table}", exact=True).click()
    form = page.locator("details[open] form")
    for name, value in (("system", "media"), ("table", "daily_contributions"), ("limit", "1")):
        form.locator(f"[name={name}]").fill(value)
    form.get_by_role("button", name="Ask").click()
    expect(form.locator("pre")).to_contain_text("200")
    expect(form.locator("pre")).to_contain_text('"next_cursor"')
    assert page.evaluate(UNNAMED) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_the_list_and_the_addresses_are_read_at_a_desk_and_on_a_phone(
    browser: Browser, listing: str, size: str, scheme: Any
) -> None:
    width, height = SIZES[size]
    page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": height})
    for address in (f"{listing}?tally=media.daily_contributions", f"{listing[:-7]}docs"):
        opened(page, address)
        page.evaluate("document.querySelectorAll('details').forEach((d, n) => { d.open = n < 2; })")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        texts = page.evaluate(COLOURS)
        assert len(texts) > 30
        assert [t for t, *pair in texts if contrast(*pair) < 4.5] == []
        assert page.evaluate(UNNAMED) == []
        pressed = page.locator("button, select, summary, nav a").filter(visible=True)
        heights = pressed.evaluate_all("all => all.map(at => at.getBoundingClientRect().height)")
        assert min(heights) >= 43.9
    page.close()

"""The calendar heat map: which square has which shade, what it says, and that it is a picture."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
from collections.abc import Mapping
from datetime import date, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageColor

from assets.media.heatmap import (
    SHADES,
    calendar_heatmap_png,
    first_day_of,
    heatmap_markdown,
    shades_of,
    strip_markdown,
    title_of,
)
from tallykeeper.settings import project_root

FRIDAY = date(2026, 11, 20)
WHITE = (255, 255, 255)
LEFT, TOP, STEP, SQUARE = 42, 46, 16, 13


def drawn(counts: Mapping[date, int], last_day: date) -> Image.Image:
    return Image.open(io.BytesIO(calendar_heatmap_png(counts, last_day))).convert("RGB")


def color_of(picture: Image.Image, day: date, last_day: date) -> object:
    week, weekday = divmod((day - first_day_of(last_day)).days, 7)
    corner = LEFT + week * STEP, TOP + weekday * STEP
    corners = {
        picture.getpixel((corner[0] + x, corner[1] + y)) for x in (0, SQUARE - 1) for y in (0, 12)
    }
    assert len(corners) == 1, "a square has sharp edges"
    assert picture.getpixel((corner[0] - 1, corner[1])) == WHITE
    return corners.pop()


def rgb(shade: str) -> object:
    return ImageColor.getrgb(shade)


@pytest.mark.parametrize("last_day", [FRIDAY + timedelta(days=n) for n in range(7)])
def test_each_day_up_to_the_last_has_its_square_and_later_ones_none(last_day: date) -> None:
    first_day = first_day_of(last_day)
    assert first_day.strftime("%A") == "Sunday"
    assert 52 * 7 < (last_day - first_day).days + 1 <= 53 * 7
    picture = drawn({first_day: 1, last_day: 1}, last_day)
    middle = rgb(SHADES[2])
    assert color_of(picture, first_day, last_day) == middle
    assert color_of(picture, last_day, last_day) == middle
    assert color_of(picture, last_day - timedelta(days=1), last_day) == rgb(SHADES[0])
    if last_day.isoweekday() != 6:
        assert color_of(picture, last_day + timedelta(days=1), last_day) == WHITE


def test_the_picture_fits_a_page_and_is_small() -> None:
    png = calendar_heatmap_png({FRIDAY - timedelta(days=n): n * n for n in range(400)}, FRIDAY)
    assert Image.open(io.BytesIO(png)).size == (900, 184)
    assert len(png) < 30_000


def test_without_files_all_squares_are_grey_and_the_title_says_so() -> None:
    picture = drawn({}, FRIDAY)
    year = [first_day_of(FRIDAY) + timedelta(days=n) for n in range(53 * 7 - 1)]
    assert {color_of(picture, day, FRIDAY) for day in year} == {rgb(SHADES[0])}
    assert title_of({}, FRIDAY) == "No files in the last year"


def test_the_title_counts_the_days_that_are_shown_alone() -> None:
    first_day = first_day_of(FRIDAY)
    shown = {first_day: 1200, FRIDAY: 34}
    beyond = {first_day - timedelta(days=1): 7, FRIDAY + timedelta(days=1): 7}
    assert title_of(shown | beyond, FRIDAY) == "1,234 files in the last year"
    assert title_of({FRIDAY: 1}, FRIDAY) == "1 file in the last year"


def test_a_few_huge_days_do_not_bleach_the_rest() -> None:
    shades = shades_of([0, *[1] * 100, *[2] * 100, *[3] * 100, 90_000])
    assert [shades[count] for count in (0, 1, 2, 3, 90_000)] == SHADES


def test_days_that_are_all_alike_are_neither_the_palest_nor_the_darkest() -> None:
    assert shades_of([5] * 300) == {5: SHADES[2]}


@given(st.lists(st.integers(-3, 10**6), min_size=1, max_size=371))
def test_more_files_are_never_paler_and_no_files_are_always_grey(counts: list[int]) -> None:
    shades = shades_of(counts)
    levels = [SHADES.index(shades[count]) for count in sorted(set(counts))]
    assert levels == sorted(levels)
    assert all((count <= 0) == (shade == SHADES[0]) for count, shade in shades.items())


def test_the_shades_grow_darker_for_every_eye() -> None:
    lightness = [Image.new("RGB", (1, 1), shade).convert("L").tobytes()[0] for shade in SHADES]
    assert min(paler - darker for paler, darker in pairwise(lightness)) > 25


def test_the_markdown_carries_the_picture_and_its_title() -> None:
    counts = {FRIDAY: 3}
    markdown = heatmap_markdown(counts, FRIDAY)
    title, data = markdown.removesuffix(")").split("](data:image/png;base64,")
    assert title == "![3 files in the last year"
    assert base64.b64decode(data) == calendar_heatmap_png(counts, FRIDAY)


@given(st.lists(st.integers(0, 9), min_size=400, max_size=400))
def test_the_strip_is_small_enough_to_be_shown_in_place(counts: list[int]) -> None:
    by_day = {FRIDAY - timedelta(days=n): count for n, count in enumerate(counts)}
    assert len(strip_markdown(by_day, FRIDAY)) < 1_000


def test_the_strip_has_the_same_squares_as_the_picture() -> None:
    counts = {FRIDAY: 3, FRIDAY - timedelta(days=1): 1}
    data = strip_markdown(counts, FRIDAY).removesuffix(")").split("base64,")[1]
    image = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
    place = (FRIDAY - first_day_of(FRIDAY)).days
    left, top = (7 * n for n in divmod(place, 7))
    shade = shades_of([3, 1, 0])
    assert image.getpixel((left, top)) == ImageColor.getrgb(shade[3])
    assert image.getpixel((left, top - 7)) == ImageColor.getrgb(shade[1])
    assert image.getpixel((0, 0)) == ImageColor.getrgb(SHADES[0])
    assert image.getpixel((left + 6, top)) == WHITE


def test_the_global_state_of_the_plotting_library_is_never_loaded() -> None:
    program = (
        "import datetime, sys\n"
        "from assets.media.heatmap import calendar_heatmap_png\n"
        "assert 'matplotlib' not in sys.modules\n"
        "calendar_heatmap_png({}, datetime.date(2026, 11, 20))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=project_root())

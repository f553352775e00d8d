"""The calendar heat map: a year of files per day in one picture, as on a code host's profile page.

Draws what it is given; counting is in `reads.py`, showing it in Dagster in `assets.py`. Invariants:
no global state of the plotting library is touched (no pyplot), so that it can be drawn in any
thread of a run.
"""

from __future__ import annotations

import io
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from datetime import date, timedelta

from tallykeeper.charts import INK, Canvas, in_markdown

WEEKS = 53
# No files, then few to many: one hue that only grows darker, so that it reads the same to every
# eye and in print; no files is grey, not the palest blue.
SHADES = ["#eceef0", "#b3d1ec", "#62a3d6", "#2569ad", "#0a2a5c"]
# The share of the days with files that is paler than each of the three darker shades: the fewer
# days a shade has, the more it says.
_PALER = [0.4, 0.7, 0.9]

_WIDTH, _HEIGHT = 900, 184
_SQUARE, _STEP = 13, 16
_STRIP_SQUARE, _STRIP_STEP = 6, 7
_LEFT, _TOP = 42, 46


def calendar_heatmap_png(counts: Mapping[date, int], last_day: date) -> bytes:
    """A PNG of 900 x 184 pixels: 53 weeks up to the one of `last_day`, one square per day.

    The weeks begin on Sundays; days that are not in `counts` have no files. Shades tell how a day
    compares with the year's other days that have files, not how large its count is: a few huge
    days do not bleach the rest.
    """
    canvas = Canvas(_WIDTH, _HEIGHT)

    first_day = first_day_of(last_day)
    year = _days(first_day, last_day)
    shade = shades_of([counts.get(day, 0) for day in year])
    for place, day in enumerate(year):
        week, weekday = divmod(place, 7)
        _square(canvas, _LEFT + week * _STEP, _TOP + weekday * _STEP, shade[counts.get(day, 0)])
    canvas.write(_LEFT, 14, title_of(counts, last_day), size=10, color=INK)
    _label_weekdays(canvas)
    _label_months(canvas, first_day)
    _explain(canvas, f"{first_day} to {last_day}")

    return canvas.png()


def heatmap_markdown(counts: Mapping[date, int], last_day: date) -> str:
    """The heat map as Markdown: an image that carries its own data, titled with the number."""
    return in_markdown(title_of(counts, last_day), calendar_heatmap_png(counts, last_day))


def strip_markdown(counts: Mapping[date, int], last_day: date) -> str:
    """The same squares alone, in under 1,000 characters: Dagster shows that in place, not linked.

    371 x 49 pixels without letters, a colour being one of a palette.
    """
    from PIL import Image

    first_day = first_day_of(last_day)
    shade = shades_of([counts.get(day, 0) for day in _days(first_day, last_day)])
    image = Image.new("P", (WEEKS * _STRIP_STEP, 7 * _STRIP_STEP), len(SHADES))
    image.putpalette(bytes.fromhex("".join(SHADES).replace("#", "") + "ffffff"))
    for place, day in enumerate(_days(first_day, last_day)):
        left, top = (n * _STRIP_STEP for n in divmod(place, 7))
        square = (left, top, left + _STRIP_SQUARE, top + _STRIP_SQUARE)
        image.paste(SHADES.index(shade[counts.get(day, 0)]), square)
    png = io.BytesIO()
    image.save(png, format="PNG", optimize=True, bits=4)
    return in_markdown(title_of(counts, last_day), png.getvalue())


def first_day_of(last_day: date) -> date:
    """The first day that the heat map shows: a Sunday, 52 weeks before the week of the last day."""
    return last_day - timedelta(days=last_day.isoweekday() % 7, weeks=WEEKS - 1)


def title_of(counts: Mapping[date, int], last_day: date) -> str:
    """How many files the heat map shows, in words."""
    files = sum(max(counts.get(day, 0), 0) for day in _days(first_day_of(last_day), last_day))
    shown = f"{files:,}" if files else "No"
    return f"{shown} file{'' if files == 1 else 's'} in the last year"


def shades_of(counts: list[int]) -> dict[int, str]:
    """The shade of each count that occurs: by its place among the days that have files."""
    ranked = sorted(count for count in counts if count > 0)
    shades = {}
    for count in set(counts):
        if count <= 0:
            shades[count] = SHADES[0]
            continue
        # Half of its equals count as less, so that days that are all alike are neither extreme.
        less = (bisect_left(ranked, count) + bisect_right(ranked, count)) / 2
        shades[count] = SHADES[1 + bisect_right(_PALER, less / len(ranked))]
    return shades


def _days(first: date, last: date) -> list[date]:
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def _label_weekdays(canvas: Canvas) -> None:
    for weekday, name in ((1, "Mon"), (3, "Wed"), (5, "Fri")):
        middle = _TOP + weekday * _STEP + _SQUARE / 2
        canvas.write(_LEFT - 8, middle, name, align="right")


def _label_months(canvas: Canvas, first_day: date) -> None:
    """The month's name above its first whole week; not above the first, if the next one is near."""
    sundays = [first_day + timedelta(weeks=week) for week in range(WEEKS)]
    begins = [w for w in range(1, WEEKS) if sundays[w].month != sundays[w - 1].month]
    if begins[0] > 2:
        begins.insert(0, 0)
    for week in begins:
        if week < WEEKS - 1:
            canvas.write(_LEFT + week * _STEP, _TOP - 11, f"{sundays[week]:%b}")


def _explain(canvas: Canvas, span: str) -> None:
    middle = _HEIGHT - 13
    canvas.write(_LEFT, middle, span)
    right = _LEFT + WEEKS * _STEP - (_STEP - _SQUARE)
    canvas.write(right, middle, "More", align="right")
    start = right - 36 - len(SHADES) * _STEP
    canvas.write(start - 5, middle, "Less", align="right")
    for place, shade in enumerate(SHADES):
        _square(canvas, start + place * _STEP, round(middle - _SQUARE / 2), shade)


def _square(canvas: Canvas, left: float, top: float, shade: str) -> None:
    canvas.box(left, top, _SQUARE, _SQUARE, shade)

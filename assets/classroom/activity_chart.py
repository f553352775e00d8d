"""Activity per day as a picture: eight weeks of bars, what was done above, errors below.

Draws what it is given; counting and showing it in Dagster is in `assets.py`. Invariants:
no global state of the plotting library is touched (no pyplot), so that it can be drawn in any
thread of a run.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import date, timedelta

from tallykeeper.charts import INK, LINE, Canvas, in_markdown

WEEKS = 8
DAYS = 7 * WEEKS
# One hue that only grows paler for what was done, another for what went wrong.
DONE = {"edits": "#0a2a5c", "runs": "#2569ad", "attempts": "#62a3d6", "other": "#ccd9e6"}
WENT_WRONG = {
    "syntax_errors": "#8f3208",
    "runtime_errors": "#d9701c",
    "failed_instructor_tests": "#f3bd86",
}

_WIDTH, _HEIGHT = 900, 290
_LEFT, _STEP, _BAR = 54, 15, 12
# Where the bars stand, and how high the highest is.
_UPPER, _LOWER = (186, 124), (262, 52)
_STRIP_STEP, _STRIP_BAR, _STRIP_HEIGHT = 7, 6, 40


@dataclass(frozen=True)
class Day:
    """What happened on a day, in all courses together: rows of the log, and what they were."""

    events: int = 0
    runs: int = 0
    edits: int = 0
    attempts: int = 0
    syntax_errors: int = 0
    runtime_errors: int = 0
    failed_instructor_tests: int = 0

    @property
    def other(self) -> int:
        """Events that are neither runs nor edits nor attempts."""
        return max(self.events - self.runs - self.edits - self.attempts, 0)


COUNTED = tuple(field.name for field in fields(Day))
"""What is counted of a day, as its table names it."""


def activity_chart_png(days: Mapping[date, Day], last_day: date) -> bytes:
    """A PNG of 900 x 290 pixels: a bar for each of the 56 days up to `last_day`.

    Upper bars are the events of a day, by what they were; lower ones its errors, at a scale of
    their own. Days that are not in `days` have none.
    """
    canvas = Canvas(_WIDTH, _HEIGHT)

    shown = [days.get(day, Day()) for day in span_of(last_day)]
    canvas.write(_LEFT, 14, title_of(days, last_day), size=10, color=INK)
    _legend(canvas, 38, DONE)
    _bars(canvas, shown, DONE, *_UPPER)
    _legend(canvas, _LOWER[0] - _LOWER[1] - 10, WENT_WRONG)
    _bars(canvas, shown, WENT_WRONG, *_LOWER)
    _label_mondays(canvas, last_day)

    return canvas.png()


def activity_chart_markdown(days: Mapping[date, Day], last_day: date) -> str:
    """The chart as Markdown: an image that carries its own data, titled with the number."""
    return in_markdown(title_of(days, last_day), activity_chart_png(days, last_day))


def strip_markdown(days: Mapping[date, Day], last_day: date) -> str:
    """The bars of the events alone, in under 1,000 characters: Dagster shows that in place.

    392 x 40 pixels without letters.
    """
    from PIL import Image

    image = Image.new("P", (DAYS * _STRIP_STEP, _STRIP_HEIGHT), 0)
    image.putpalette(bytes.fromhex(f"ffffff{LINE[1:]}{DONE['runs'][1:]}"))
    shown = [max(days.get(day, Day()).events, 0) for day in span_of(last_day)]
    most = max(shown) or 1
    for place, events in enumerate(shown):
        left = place * _STRIP_STEP
        high = -(-events * (_STRIP_HEIGHT - 1) // most)
        image.paste(1, (left, _STRIP_HEIGHT - 1, left + _STRIP_BAR, _STRIP_HEIGHT))
        image.paste(2, (left, _STRIP_HEIGHT - 1 - high, left + _STRIP_BAR, _STRIP_HEIGHT - 1))
    png = io.BytesIO()
    image.save(png, format="PNG", optimize=True, bits=2)
    return in_markdown(title_of(days, last_day), png.getvalue())


def span_of(last_day: date) -> list[date]:
    """The days that are shown, in order."""
    return [last_day - timedelta(days=DAYS - 1 - n) for n in range(DAYS)]


def title_of(days: Mapping[date, Day], last_day: date) -> str:
    """How many events are shown, in words."""
    events = sum(max(days.get(day, Day()).events, 0) for day in span_of(last_day))
    shown = f"{events:,}" if events else "No"
    first = span_of(last_day)[0]
    return f"{shown} event{'' if events == 1 else 's'} from {first} to {last_day}"


def _bars(
    canvas: Canvas, shown: list[Day], kinds: Mapping[str, str], foot: int, height: int
) -> None:
    """A bar for each day, standing at `foot`, the highest `height` pixels high."""
    counts = [[max(getattr(day, kind), 0) for kind in kinds] for day in shown]
    most = max(map(sum, counts))
    for place, day in enumerate(counts):
        left, top = _LEFT + place * _STEP, float(foot)
        for count, colour in zip(day, kinds.values(), strict=True):
            high = height * count / (most or 1)
            top -= high
            canvas.box(left, top, _BAR, high, colour)
    right = _LEFT + DAYS * _STEP - (_STEP - _BAR)
    canvas.line(_LEFT, right, foot)
    if most:
        canvas.write(_LEFT - 6, foot - height + 3, _short(most), align="right")
    canvas.write(_LEFT - 6, foot - 3, "0", align="right")


def _legend(canvas: Canvas, middle: float, kinds: Mapping[str, str]) -> None:
    left = float(_LEFT)
    for kind, colour in kinds.items():
        words = kind.replace("_", " ")
        canvas.box(left, middle - 5, 10, 10, colour)
        canvas.write(left + 15, middle, words)
        left += 36 + 5.6 * len(words)


def _label_mondays(canvas: Canvas, last_day: date) -> None:
    for place, day in enumerate(span_of(last_day)):
        if day.isoweekday() == 1:
            canvas.write(_LEFT + place * _STEP, _HEIGHT - 14, f"{day.day} {day:%b}")


def _short(number: int) -> str:
    """`980`, `12.4k`, `3.1M`."""
    for limit, unit in ((1_000_000, "M"), (1_000, "k")):
        if number >= limit:
            return f"{number / limit:.1f}{unit}"
    return str(number)

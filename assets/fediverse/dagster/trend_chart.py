"""What is trending, as a picture: a bar for each hashtag's uses per hour, recently and before.

Draws what it is given; what is trending is found in `trends.py`, shown in Dagster by `reports.py`.
Invariants: no global state of the plotting library is touched (no pyplot), and whatever
hashtags people write is drawn: where the font lacks a character, the hashtag's place stands for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from assets.fediverse.questions.trends import Trend
from tallykeeper.charts import INK, Canvas, in_markdown

RECENT, BEFORE = "#2569ad", "#c3ccd5"
_WIDTH, _ROW, _HEAD, _FOOT = 900, 34, 58, 12
_LEFT, _RIGHT = 230, 150
_LONGEST = 24


def trend_chart_png(trends: Sequence[Trend], title: str) -> bytes:
    """A PNG, 900 pixels wide and 34 high for each hashtag, under a head of 58.

    Each hashtag has two bars: its uses per hour in the recent window, and in the baseline.
    """
    height = _HEAD + _FOOT + _ROW * max(1, len(trends))
    canvas = Canvas(_WIDTH, height)
    canvas.write(14, 16, title, size=10, color=INK)
    _legend(canvas)
    if not trends:
        canvas.write(14, _HEAD + _ROW / 2, "Nothing is trending.")
    longest = max((max(t.recent_rate, t.baseline_rate) for t in trends), default=0) or 1
    for place, trend in enumerate(trends, start=1):
        _bars(canvas, place, trend, (_WIDTH - _LEFT - _RIGHT) / longest)

    return canvas.png()


def trend_chart_markdown(trends: Sequence[Trend], title: str) -> str:
    """The chart as Markdown: an image that carries its own data, and the figures as a table."""
    return f"{in_markdown(title, trend_chart_png(trends, title))}\n\n{trend_table(trends)}"


def trend_table(trends: Sequence[Trend]) -> str:
    """The hashtags and their figures as a Markdown table."""
    head = "| | hashtag | uses | accounts | per hour | before | times | score | latest use |"
    lines = [head, "|--:|---" + "|--:" * 6 + "|---|"]
    for place, t in enumerate(trends, start=1):
        lines.append(
            f"| {place} | #{_plain(t.name)} | {t.posts:,} | {t.accounts:,} | {t.recent_rate:.1f}"
            f" | {t.baseline_rate:.1f} | {t.rise:.1f} | {t.score:.2f} | {_clock(t.latest_use)} |"
        )
    return "\n".join(lines)


def _plain(name: str) -> str:
    """A name that Markdown takes as it stands."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>()#+-.!|~" else c for c in name)


def _clock(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"


def _bars(canvas: Canvas, place: int, trend: Trend, pixels_per_use: float) -> None:
    top = _HEAD + (place - 1) * _ROW
    name = trend.name if len(trend.name) <= _LONGEST else f"{trend.name[: _LONGEST - 1]}…"
    label = f"#{name}" if _is_drawable(name) else f"(number {place})"
    canvas.write(_LEFT - 10, top + 12, label, align="right", size=9, color=INK)
    for offset, thick, rate, colour in (
        (2, 14, trend.recent_rate, RECENT),
        (17, 7, trend.baseline_rate, BEFORE),
    ):
        long = rate * pixels_per_use
        canvas.box(_LEFT, top + offset, long, thick, colour)
    end = _LEFT + max(trend.recent_rate, trend.baseline_rate) * pixels_per_use
    said = f"{trend.recent_rate:.1f} an hour, {trend.rise:.1f} times"
    canvas.write(end + 6, top + 12, said)


def _legend(canvas: Canvas) -> None:
    for left, colour, words in (
        (_LEFT, RECENT, "uses per hour, recently"),
        (_LEFT + 180, BEFORE, "before"),
    ):
        canvas.box(left, 34, 12, 12, colour)
        canvas.write(left + 18, 40, words)


def _is_drawable(words: str) -> bool:
    """Whether the font that is used has every character of it."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    known = get_font(findfont(FontProperties())).get_charmap()
    return all(ord(c) in known for c in words)

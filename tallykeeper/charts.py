"""What the pictures in Dagster's UI are drawn on, and how they get into Markdown.

Invariants: no global state of the plotting library is touched (no pyplot), so that
pictures can be drawn in any thread of a run; and who draws nothing does not import it, for that
takes a third of a second.
"""

from __future__ import annotations

import base64
import io

INK, FAINT, LINE = "#24292f", "#636c76", "#d0d7de"
PALETTE_COLOURS = 64


class Canvas:
    """A white sheet of so many pixels; coordinates are pixels from the upper left."""

    def __init__(self, width: float, height: float) -> None:
        from matplotlib.figure import Figure

        self._figure = Figure(figsize=(width / 100, height / 100), dpi=100, facecolor="white")
        self._axes = self._figure.add_axes((0, 0, 1, 1))
        self._axes.set_xlim(0, width)
        self._axes.set_ylim(height, 0)
        self._axes.set_axis_off()
        self._corners: list[list[tuple[float, float]]] = []
        self._colours: list[str] = []

    def box(self, left: float, top: float, width: float, height: float, colour: str) -> None:
        """A filled box with sharp edges."""
        right, bottom = left + width, top + height
        self._corners.append([(left, top), (right, top), (right, bottom), (left, bottom)])
        self._colours.append(colour)

    def line(self, left: float, right: float, height: float) -> None:
        """A thin level line."""
        self._axes.plot([left, right], [height, height], color=LINE, linewidth=0.8)

    def write(
        self,
        x: float,
        y: float,
        words: str,
        *,
        align: str = "left",
        size: float = 8,
        color: str = FAINT,
    ) -> None:
        """A line of text, its middle at the height `y`; a dollar sign is one, and no formula."""
        self._axes.text(
            x, y, words, ha=align, va="center", fontsize=size, color=color, parse_math=False
        )

    def png(self) -> bytes:
        """The picture, in at most 64 colours: one is stored every hour, and is a third as long."""
        from matplotlib.collections import PolyCollection
        from PIL import Image

        # All boxes at once: a year's, one by one, take four times as long as all the rest.
        self._axes.add_collection(
            PolyCollection(
                self._corners, facecolors=self._colours, edgecolors="none", antialiaseds=False
            ),
            autolim=False,
        )
        drawn, png = io.BytesIO(), io.BytesIO()
        self._figure.savefig(drawn, format="png")
        colours = Image.open(drawn).convert("RGB").quantize(PALETTE_COLOURS)
        colours.save(png, format="PNG", optimize=True)
        return png.getvalue()


def in_markdown(title: str, png: bytes) -> str:
    """The picture as Markdown: an image that carries its own data, with its title."""
    return f"![{title}](data:image/png;base64,{base64.b64encode(png).decode('ascii')})"

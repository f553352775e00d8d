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

    def box(self, left: float, top: float, width: float, height: float, colour: str) -> None:
        """A filled box with sharp edges."""
        from matplotlib.patches import Rectangle

        box = Rectangle((left, top), width, height, facecolor=colour, antialiased=False)
        self._axes.add_patch(box)

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
        from PIL import Image

        drawn, png = io.BytesIO(), io.BytesIO()
        self._figure.savefig(drawn, format="png")
        colours = Image.open(drawn).convert("RGB").quantize(PALETTE_COLOURS)
        colours.save(png, format="PNG", optimize=True)
        return png.getvalue()


def in_markdown(title: str, png: bytes) -> str:
    """The picture as Markdown: an image that carries its own data, with its title."""
    return f"![{title}](data:image/png;base64,{base64.b64encode(png).decode('ascii')})"

"""The picture of the layers in docs/images/layers.svg, drawn from the order that a test holds.

`make golden` writes it; tests/unit/test_contributing.py says when that is due.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from tallykeeper.settings import project_root
from tests.unit.test_layers import LAYERS, PROJECT

# The lowest package of each band, and what the band is; the packages between follow from LAYERS.
BANDS = (
    ("dagster", "entry points"),
    ("operations", "around the engine"),
    ("maintain", "the engine"),
    ("capture", "in the database"),
    ("faults", "what is maintained"),
    ("database", "state and declarations"),
    ("errors", "for everyone"),
)
WIDTH, MARGIN, LABEL, HEIGHT, STEP = 760, 16, 170, 34, 54
COLOURS = ("#e9f6ec", "#2e7d32"), ("#e8f1fb", "#3465a4")


def bands() -> list[tuple[str, Sequence[str]]]:
    """The bands from the highest to the lowest: what each is, and its packages and modules."""
    found: list[tuple[str, Sequence[str]]] = [("the project that uses it", PROJECT[::-1])]
    rest: tuple[str, ...] = LAYERS
    for lowest, label in BANDS:
        place = rest.index(lowest)
        found.append((label, rest[place:][::-1]))
        rest = rest[:place]
    return found


def svg() -> str:
    """The picture: a band for each layer, which may import from the bands below it."""
    drawn = []
    for row, (label, names) in enumerate(bands()):
        top = MARGIN + row * STEP
        middle = top + HEIGHT / 2 + 4
        fill, edge = COLOURS[min(row, 1)]
        drawn.append(f'<text x="{MARGIN}" y="{middle}" fill="#555">{label}</text>')
        # As wide as the names are long, so that each fits into its box.
        lengths = [len(name) + 4 for name in names]
        left = float(LABEL + MARGIN)
        for name, length in zip(names, lengths, strict=True):
            wide = (WIDTH - LABEL - 2 * MARGIN) * length / sum(lengths)
            drawn.append(
                f'<rect x="{left:.1f}" y="{top}" width="{wide - 10:.1f}" height="{HEIGHT}" rx="6"'
                f' fill="{fill}" stroke="{edge}"/><text x="{left + wide / 2 - 5:.1f}" y="{middle}"'
                f' text-anchor="middle" fill="#1a1a1a">{name}</text>'
            )
            left += wide
        if row:
            drawn.append(
                f'<line x1="{LABEL}" y1="{top - STEP + HEIGHT / 2}" x2="{LABEL}"'
                f' y2="{top + HEIGHT / 2}" stroke="#555" stroke-width="1.5" marker-end="url(#a)"/>'
            )
    height = 2 * MARGIN + (len(BANDS)) * STEP + HEIGHT
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
        ' font-family="system-ui, sans-serif" font-size="13">'
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>'
        '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6"'
        ' orient="auto"><path d="M0 0L8 4L0 8z" fill="#555"/></marker></defs>'
        f"{''.join(drawn)}</svg>\n"
    )


def picture() -> Path:
    """Where the picture is."""
    return project_root() / "docs" / "images" / "layers.svg"


if __name__ == "__main__":
    picture().write_text(svg(), encoding="utf-8")
    click.echo(picture())

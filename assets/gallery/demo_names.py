"""Names for made-up tags, as people would give them, the most used ones the plainest."""

from __future__ import annotations

from itertools import chain, islice

# 40 kinds of things, 36 ways to be and 36 settings: names for the 54,760 most used tags.
_THINGS = (
    "portrait sky forest sea city cat dragon castle mountain robot flower river horse night garden"
    " ship knight street bird sunset village bridge wolf desert snow library train island fox tower"
    " lake market dancer moon waterfall harbour temple meadow lantern clock"
)
_WAYS = (
    "blue golden quiet misty red ancient tiny neon wild broken silver sleeping painted frozen green"
    " haunted floating crimson old bright dusty hidden lonely marble paper rusty secret shining"
    " soft stormy velvet wooden glass giant cosy distant"
)
_SETTINGS = (
    "at dawn, at dusk, in rain, in fog, in autumn, in spring, in winter, in summer, at midnight,"
    " from above, from afar, up close, in watercolour, in oil, in ink, in pencil, in clay,"
    " as a poster, as a stamp, as a mosaic, in pastel, by candlelight, by moonlight, in motion,"
    " under water, in space, on film, in miniature, in black and white, in pixels, in wool,"
    " in origami, in stained glass, in chalk, in a dream, in ruins"
)


def tag_names(number: int) -> list[str]:
    """That many names, all different: things, things in some way, and those in some setting."""
    things = _THINGS.split()
    plain = [*things, *(f"{way} {thing}" for way in _WAYS.split() for thing in things)]
    elaborate = (f"{name} {setting}" for setting in _SETTINGS.split(", ") for name in plain)
    return list(islice(chain(plain, elaborate), number))

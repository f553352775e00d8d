"""Hashtags for made-up posts, as people write them in several scripts, the plainest first."""

from __future__ import annotations

from itertools import chain, islice

_PLAIN = (
    "Photography News Cats Art Music Caturday Books Introduction Nature Fediverse Mastodon Gaming"
    " Birds OpenSource Climate Linux Science Garden Python Coffee Café Straße 日本語 写真 音楽"
    " Köln Österreich España Русский Ελλάδα 한국어 ﾈｺ PostgreSQL Trains Cycling Space"
    " Baking History Maps"
)
_MORE = (
    "OfTheDay Monday Tuesday Wednesday Thursday Friday Saturday Sunday Lovers Life Club Week 2026"
    " Tips Help Fans Daily Challenge Night Morning Winter Summer Autumn Spring Walks Talk Share"
    " Project Ideas Quiz"
)


def hashtag_names(number: int) -> list[str]:
    """That many names (at most 48,640), all different."""
    plain = _PLAIN.split()
    pairs = (f"{word}{more}" for more in _MORE.split() for word in plain)
    triples = (f"{a}{word}{more}" for a in plain for more in _MORE.split() for word in plain)
    return list(islice(chain(plain, pairs, triples), number))

"""Putting together SQL whose pieces depend on which sources have pending changes."""

from __future__ import annotations

from collections.abc import Iterable

from tallykeeper.select.plan import Piece, Text


def text(*parts: str | Text) -> Text:
    """One text of strings and texts."""
    pieces: list[Piece] = []
    for part in parts:
        for piece in (Piece(part),) if isinstance(part, str) else part:
            if pieces and pieces[-1].needs == piece.needs:
                pieces[-1] = Piece(pieces[-1].sql + piece.sql, piece.needs)
            elif piece.sql:
                pieces.append(piece)
    return tuple(pieces)


def only_if(parts: frozenset[int], inner: Text) -> Text:
    """A text that is there only while one of the parts is pending."""
    return tuple(Piece(p.sql, p.needs if parts in p.needs else (parts, *p.needs)) for p in inner)


def joined(separator: str, texts: Iterable[Text]) -> Text:
    """Texts that are always there, with a separator between them."""
    found: list[str | Text] = []
    for each in texts:
        if found:
            found.append(separator)
        found.append(each)
    return text(*found)

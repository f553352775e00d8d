"""Putting together SQL whose pieces depend on which sources have pending changes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from tallykeeper.select.plan import Piece, Purpose, Text


def text(*parts: str | Text) -> Text:
    """One text of strings and texts."""
    pieces: list[Piece] = []
    for part in parts:
        for piece in (Piece(part),) if isinstance(part, str) else part:
            last = pieces[-1] if pieces else None
            if last and (last.needs, last.purpose) == (piece.needs, piece.purpose):
                pieces[-1] = replace(piece, sql=last.sql + piece.sql)
            elif piece.sql:
                pieces.append(piece)
    return tuple(pieces)


def only_if(parts: frozenset[int], inner: Text) -> Text:
    """A text that is there only while one of the parts is pending."""
    return tuple(
        replace(p, needs=p.needs if parts in p.needs else (parts, *p.needs)) for p in inner
    )


def only_for(purpose: Purpose, sql: str) -> Text:
    """A text that is there for that purpose alone."""
    return (Piece(sql, purpose=purpose),) if sql else ()


def joined(separator: str, texts: Iterable[Text]) -> Text:
    """Texts that are always there, with a separator between them."""
    found: list[str | Text] = []
    for each in texts:
        if found:
            found.append(separator)
        found.append(each)
    return text(*found)

"""Where in the user's text a word stands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tallykeeper.select.files.lexer import BadToken, Token, tokens

_TIMES = ("DATE", "TIME", "TIMESTAMP", "TIMESTAMPTZ", "TIMETZ")


class Words:
    """The words and signs of a SELECT, without comments and texts in quotes."""

    def __init__(self, select: str) -> None:
        try:
            self._tokens = [t for t in tokens(select) if t.kind != "comment"]
        except BadToken:
            self._tokens = []

    def position(self, word: str) -> int | None:
        """The number, from 1, of the character where a word or sign first stands; None: nowhere."""
        for number, token in enumerate(self._tokens):
            if token.kind == "string" and not word.startswith("'"):
                continue
            if _plain(token) == word.lower() or self._is_sign(number, word):
                return token.start + 1
        # Another way of writing it.
        return self.position("cast") if word == "::" else None

    def _is_sign(self, number: int, word: str) -> bool:
        signs = self._tokens[number : number + len(word)]
        if not signs or any(t.kind != "symbol" for t in signs) or len(signs) != len(word):
            return False
        touching = signs[-1].start - signs[0].start == len(word) - 1
        return touching and "".join(t.text for t in signs) == word

    def dated(self, texts: Sequence[str]) -> Iterator[str]:
        """Those of the texts that are written as a constant of a date or time."""
        for number, token in enumerate(self._tokens):
            if token.kind != "string" or token.text.strip("'").strip().lower() not in texts:
                continue
            before = self._tokens[number - 1].keyword if number else ""
            after = [t.text for t in self._tokens[number + 1 : number + 3]]
            cast = self._tokens[number + 3].keyword if after == [":", ":"] else ""
            if before in _TIMES or cast in _TIMES:
                yield token.text


def _plain(token: Token) -> str:
    """A word as PostgreSQL knows it: in small letters unless in quotes."""
    if token.kind == "quoted":
        return token.text[1:-1].replace('""', '"').lower()
    return token.text.lower()

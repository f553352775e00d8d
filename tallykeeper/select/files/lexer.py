"""The tokens of SQL as PostgreSQL reads it, as far as a file with one statement needs them.

It finds where comments, strings and quoted names begin and end, and where statements do. It knows
no grammar: whether a SELECT is right is for PostgreSQL to say.

Invariants: the tokens and what lies between them are the whole text; a token's text is as written.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["comment", "word", "quoted", "string", "number", "symbol"]

_TOKEN = re.compile(
    r"""
      (?P<space>[ \t\n\r\f\v]+)
    | (?P<comment>--[^\n\r]*)
    | (?P<block>/\*)
    | (?P<escaped>[eE]'(?:[^'\\]|\\.|'')*(?P<escaped_end>')?)
    | (?P<string>(?:[bBnNxX]|[uU]&)?'(?:[^']|'')*(?P<string_end>')?)
    | (?P<quoted>(?:[uU]&)?"(?:[^"]|"")*(?P<quoted_end>")?)
    | (?P<dollar>\$(?:[^\W\d]\w*)?\$)
    | (?P<word>[^\W\d][\w$]*)
    | (?P<number>\$?\d[\w.]*)
    | (?P<symbol>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_GROUPS = [name for name in _TOKEN.groupindex if not name.endswith("_end")]
_KINDS: dict[str, Kind] = {
    "comment": "comment",
    "escaped": "string",
    "string": "string",
    "quoted": "quoted",
    "word": "word",
    "number": "number",
    "symbol": "symbol",
}
_BLOCK = re.compile(r"/\*|\*/")
_UNCLOSED = {
    "string": "the text that begins here is not closed by '",
    "escaped": "the text that begins here is not closed by '",
    "quoted": 'the name that begins here is not closed by "',
}
_QUOTES = {"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"'}


class BadToken(ValueError):
    """Text that is no token of SQL; `position` is where it begins."""

    def __init__(self, position: int, found: str, todo: str) -> None:
        super().__init__(found)
        self.position, self.found, self.todo = position, found, todo


@dataclass(frozen=True)
class Token:
    """A piece of the text from `start` up to, not including, `end`."""

    kind: Kind
    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)

    @property
    def keyword(self) -> str:
        """A word in capital letters; empty for what is no bare word."""
        return self.text.upper() if self.kind == "word" else ""


def tokens(text: str) -> Iterator[Token]:
    """Each token of the text in its order, comments too. Raises BadToken."""
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        assert match is not None, "any character is at least a symbol"
        found = next(name for name in _GROUPS if match[name] is not None)
        position = match.end()
        if found != "space":
            token = _token(text, match, found)
            yield token
            position = token.end


def _token(text: str, match: re.Match[str], found: str) -> Token:
    start = match.start()
    if found == "block":
        return Token("comment", text[start : _end_of_block(text, start)], start)
    if found == "dollar":
        end = text.find(match[0], match.end())
        if end < 0:
            said = f"the text that begins here is not closed by {match[0]}"
            raise BadToken(start, said, "close it")
        return Token("string", text[start : end + len(match[0])], start)
    if found in _UNCLOSED and match[f"{found}_end"] is None:
        raise BadToken(start, _UNCLOSED[found], "close it")
    if found == "symbol" and not match[0].isascii():
        raise _odd(match[0], start)
    return Token(_KINDS[found], match[0], start)


def _end_of_block(text: str, start: int) -> int:
    """Where a comment ends that begins with a slash and a star; such comments may be nested."""
    depth = 0
    for mark in _BLOCK.finditer(text, start):
        depth += 1 if mark[0] == "/*" else -1
        if depth == 0:
            return mark.end()
    raise BadToken(start, "the comment that begins here is not closed by */", "close it")


def _odd(character: str, position: int) -> BadToken:
    """What editors and web pages put in place of a blank or a quote, and PostgreSQL misreads."""
    name = unicodedata.name(character, "without a name")
    said = f"the character U+{ord(character):04X} ({name})"
    if character in _QUOTES:
        return BadToken(position, said, f"write {_QUOTES[character]}")
    if character.isspace() or unicodedata.category(character) in ("Cf", "Zs"):
        return BadToken(position, said, "write a plain blank, or remove it")
    return BadToken(position, said, "a name that has it is written in double quotes")

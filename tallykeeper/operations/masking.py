"""Taking secrets out of a line of text that somebody else wrote, before it is stored or sent.

Nobody knows where in an error's words a password stands, so more is masked than need be: what
follows a word like password or token, and of an address all that may hold a secret. Invariants: a
secret in one of the forms below is never in what comes out, not even a piece of it.
"""

from __future__ import annotations

import re

MASK = "***"

_WORDS = (
    r"(?:pass(?:word|wd|phrase|code)?|pwd|token|secret|authorization|credentials?"
    r"|api[_-]?key|access[_-]?key|private[_-]?key|signature)"
)
_QUOTED = r"""'(?:[^'\\]|\\.|'')*(?:'|$)|"(?:[^"\\]|\\.|"")*(?:"|$)"""
# What `secret` matches in one of them, in the line as it came.
_FORMS = [
    re.compile(form, re.IGNORECASE)
    for form in (
        # password=x, sslpassword='a b', PGPASSWORD: x, "token": "x", PASSWORD 'x'; but not:
        # password failed
        rf"""(?:\w*{_WORDS}["']?\s*[=:]\s*|\w*{_WORDS}\s+(?=')|\bkey["']?=\s*)"""
        rf"""(?P<secret>(?:(?:bearer|basic|token|digest)\s+)?(?:(?:{_QUOTED})\S*|\S+))""",
        r"""\bauthorization["']?\s*[=:]\s*(?P<secret>.+)""",
        r"\bbearer\s+(?P<secret>\S+)",
        r"\bbasic\s+(?P<secret>[\w+/=-]{8,})",
        # Up to the last @ of the line: a password may hold blanks, slashes, and @ itself.
        r"\b[a-z][a-z0-9+.-]*://(?P<secret>.*)@",
        # Of an address on the web the host is enough, for the path may be the secret, as of a
        # webhook; of a database all of it; of any other, as Apprise has them, nothing is.
        r"""\bhttps?://[^\s/?#'"]*[/?#](?P<secret>\S+)""",
        r"\b(?!https?:|postgres(?:ql)?(?:\+\w+)?:|file:)[a-z][a-z0-9+.-]*://(?P<secret>\S+)",
    )
]


def masked(line: str) -> str:
    """The line without what may be a secret in it."""
    spans = sorted(found.span("secret") for form in _FORMS for found in form.finditer(line))
    parts: list[str] = []
    at = 0
    for start, end in spans:
        if start >= at:
            parts += [line[at:start], MASK]
        at = max(at, end)
    return "".join([*parts, line[at:]])

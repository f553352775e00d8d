"""Entity tags: when a client may go on using the answer that it has.

A tag is made from the state of the tallies that the answer is read from (`tallies.fingerprint`)
and from what was asked. What must stay true: while a tag stays the same, so does the answer. The
tag is weak, because `as_of` in two equal answers differs.
"""

from __future__ import annotations

import hashlib
import json
import re
from importlib.metadata import version

CACHE_CONTROL = "private, max-age=0, must-revalidate"

_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')


def entity_tag(fingerprint: str, question: object) -> str:
    """The tag of the answer to `question`, which JSON can hold, while tallies are in that state."""
    content = json.dumps([version("tallykeeper"), fingerprint, question], sort_keys=True)
    return f'W/"{hashlib.blake2b(content.encode(), digest_size=12).hexdigest()}"'


def is_known(tag: str, if_none_match: str | None) -> bool:
    """Whether a request's If-None-Match names the tag; by the weak comparison."""
    if if_none_match is None:
        return False
    if if_none_match.strip() == "*":
        return True
    opaque = tag.removeprefix("W/")
    return any(each.removeprefix("W/") == opaque for each in _TAG.findall(if_none_match))

"""Entity tags: when a client, or this process, may go on using the answer that it has.

A tag is made from the state of the tallies that the answer is read from (`tallies.fingerprint`)
and from what was asked. What must stay true: while a tag stays the same, so does the answer. The
tag is weak, because `as_of` in two equal answers differs.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import OrderedDict
from importlib.metadata import version

REMEMBERED_BYTES = 16 * 1024 * 1024
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


class Remembered:
    """The answers given last, by their tags, up to so many bytes: what a tag names does not change.

    For threads of one process.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = REMEMBERED_BYTES if most is None else most
        self._bytes = 0
        self._bodies: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, tag: str) -> bytes | None:
        """The answer that has the tag, if it is still there."""
        with self._lock:
            body = self._bodies.get(tag)
            if body is not None:
                self._bodies.move_to_end(tag)
            return body

    def put(self, tag: str, body: bytes) -> None:
        """Keep the answer that has the tag; those that were asked for longest ago make room."""
        with self._lock:
            if tag in self._bodies:
                return
            self._bodies[tag] = body
            self._bytes += len(body)
            while self._bytes > self._most:
                _, gone = self._bodies.popitem(last=False)
                self._bytes -= len(gone)

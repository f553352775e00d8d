"""Entity tags: when a client, or this process, may go on using the answer that it has.

A tag is made from the state of the tallies that the answer is read from
(`tallykeeper.maintain.fingerprint`) and from what was asked. Invariants: while a tag stays
the same, so does the answer. The tag is weak, because `as_of` in two equal answers differs.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import OrderedDict
from importlib.metadata import version
from typing import Generic, TypeVar

CACHE_CONTROL = "private, max-age=0, must-revalidate"

# Looked up once: the installed package's metadata is parsed for it.
_VERSION = version("tallykeeper")
_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')

Kept = TypeVar("Kept", str, bytes)


def entity_tag(fingerprint: str, question: str) -> str:
    """The tag of the answer to the question while tallies are in that state."""
    content = json.dumps([_VERSION, fingerprint, question])
    return f'W/"{hashlib.blake2b(content.encode(), digest_size=12).hexdigest()}"'


def is_known(tag: str, if_none_match: str | None) -> bool:
    """Whether a request's If-None-Match names the tag; by the weak comparison."""
    if if_none_match is None:
        return False
    if if_none_match.strip() == "*":
        return True
    opaque = tag.removeprefix("W/")
    return any(each.removeprefix("W/") == opaque for each in _TAG.findall(if_none_match))


class Remembered(Generic[Kept]):
    """What was of use last, by its key, up to so many bytes or characters in all.

    For threads of one process. What has a key must not change: a tag's answer does not.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = 0
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> Kept | None:
        """What has the key, if it is still there."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def put(self, key: str, value: Kept) -> None:
        """Keep what has the key; what was asked for longest ago makes room."""
        with self._lock:
            if key in self._kept:
                return
            self._kept[key] = value
            self._size += len(value)
            while self._size > self._most:
                _, evicted = self._kept.popitem(last=False)
                self._size -= len(evicted)

"""Server-sent events: bytes of a stream in, events out, whatever pieces the bytes come in.

Nothing here knows Mastodon or a network. As the HTML standard has it: lines of fields, an empty
line ends an event, a line that begins with a colon is a comment, and an event that breaks off is
none. A lone carriage return ends no line here: no server sends it.
"""

from __future__ import annotations

from collections.abc import Iterator

LONGEST_EVENT = 16 * 1024 * 1024
"""Bytes of one event: of a longer one the beginning is kept, for it would fill the memory."""
BEGINNING = 1_000
"""Characters of a longer event that are kept."""


class Events:
    """Reads a stream: `feed` it with bytes, and it yields each event as soon as it is complete."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._looked_at = 0
        self._name: str | None = None
        self._data: list[str] = []
        self._size = 0
        # Within a line that is longer than an event may be.
        self._skipping = False
        self.cut = 0
        """How many events were longer, and have their beginning alone."""

    def feed(self, received: bytes) -> Iterator[tuple[str | None, str | None]]:
        """Name and data of each event that these bytes complete.

        A byte that is not UTF-8 is written out: a backslash, an x and two digits. None: the
        event has no such field.
        """
        self._rest += received
        while (end := self._rest.find(b"\n", self._looked_at)) >= 0:
            line = bytes(self._rest[:end]).removesuffix(b"\r")
            del self._rest[: end + 1]
            self._looked_at = 0
            if self._skipping:
                self._skipping = False
            elif line:
                self._take(line)
            elif self._name is not None or self._data:
                yield self._name, "\n".join(self._data) if self._data else None
                self._forget()
        if self._skipping:
            self._rest.clear()
        elif len(self._rest) > LONGEST_EVENT:
            self._take(bytes(self._rest))
            self._rest.clear()
            self._skipping = True
        self._looked_at = len(self._rest)

    def _take(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        text = value.removeprefix(b" ").decode(errors="backslashreplace")
        # A comment has an empty name; id and retry are of no use here.
        if name == b"event":
            self._name = text
        elif name == b"data":
            before, self._size = self._size, self._size + len(line)
            if self._size <= LONGEST_EVENT:
                self._data.append(text)
            elif before <= LONGEST_EVENT:
                self._data = ["\n".join([*self._data, text])[:BEGINNING]]
                self.cut += 1

    def _forget(self) -> None:
        self._name, self._data, self._size = None, [], 0

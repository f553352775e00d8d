"""What a run has in common: the server, the sizes, and what is measured on, each made once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.fediverse import Fediverse
from benchmarks.gallery import Gallery
from benchmarks.library import Library
from benchmarks.server import Server


@dataclass
class Bench:
    """One run. `sizes` count files, uses of hashtags or events of a classroom; `links` items' tags.

    `events` is how many events of a stream are processed at a time, `hour_seconds` how long an hour
    of the day in fast motion takes. `before` is another checkout, to compare its loaders with.
    `scale` is that of TPC-H.
    """

    server: Server
    sizes: tuple[int, ...]
    links: tuple[int, ...]
    events: int = 200_000
    hour_seconds: float = 150.0
    before: Path | None = None
    scale: float = 0.1
    _libraries: dict[int, Library] = field(default_factory=dict)
    _galleries: dict[int, Gallery] = field(default_factory=dict)
    _fediverses: dict[int, Fediverse] = field(default_factory=dict)

    def library(self, files: int) -> Library:
        """The library of that many files, made at the first call; benchmarks change it."""
        if files not in self._libraries:
            self._libraries[files] = Library(self.server, files)
        return self._libraries[files]

    def gallery(self, links: int) -> Gallery:
        """The gallery of that many links, made and built at the first call."""
        if links not in self._galleries:
            self._galleries[links] = Gallery(self.server, links)
        return self._galleries[links]

    def add(self, gallery: Gallery) -> None:
        """Let what follows use this gallery, which is built by then."""
        self._galleries[gallery.links] = gallery

    def fediverse(self, uses: int) -> Fediverse:
        """The instance of that many uses of hashtags, made and built at the first call."""
        if uses not in self._fediverses:
            self._fediverses[uses] = Fediverse(self.server, uses)
        return self._fediverses[uses]

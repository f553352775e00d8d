"""What a run has in common: the server, the sizes, and the libraries, each made once."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.library import Library
from benchmarks.server import Server


@dataclass
class Bench:
    """One run. `sizes` are numbers of files, smallest first."""

    server: Server
    sizes: tuple[int, ...]
    _libraries: dict[int, Library] = field(default_factory=dict)

    def library(self, files: int) -> Library:
        """The library of that many files, made at the first call; benchmarks change it."""
        if files not in self._libraries:
            self._libraries[files] = Library(self.server, files)
        return self._libraries[files]

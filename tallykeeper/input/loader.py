"""How a system's real input is brought in: what its module `load` declares as LOADER."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import click

from tallykeeper.input.loading import Loaded


@dataclass(frozen=True)
class Loader:
    """The function that loads a system's input, and what the command `tally load` says of it.

    `load(engine, path, progress=..., **options)` reads the file or folder at `path`. `unit` is what
    the input is counted in, as `files`. `help` says what files it takes, and `options` are those of
    the command besides, passed on by their names.
    """

    load: Callable[..., Loaded]
    unit: str
    help: str
    options: Sequence[click.Option] = field(default_factory=tuple)

"""A system: the tallies that one application needs, over source tables that belong together."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import MetaData, Table

from tallies.errors import DeclarationError
from tallies.tally import Tally


class System:
    """A named group of tallies that are installed together.

    `metadata` holds all their tables, sources and derived. Tallies over one source share its
    capture functions, so all tallies over a source belong to one system.
    """

    def __init__(self, name: str, metadata: MetaData, tallies: Sequence[Tally]) -> None:
        self.name = name
        self.metadata = metadata
        self.tallies = tuple(tallies)
        names = [t.table.name for t in self.tallies]
        if len(set(names)) != len(names):
            raise DeclarationError(f"{name}: two tallies keep the same table ({', '.join(names)})")
        for tally in self.tallies:
            if tally.system != name:
                raise DeclarationError(f"{tally.name} does not belong to the system {name!r}")
            tally.siblings = self.tallies

    def __repr__(self) -> str:
        return f"<System {self.name}>"

    @property
    def sources(self) -> tuple[Table, ...]:
        """The source tables, each once."""
        return tuple(dict.fromkeys(s for t in self.tallies for s in t.sources))

"""TPC-H at a scale in a database of its own, its queries kept as tallies and as materialized views.

A materialized view has a unique index over what makes its rows unique, which REFRESH ...
CONCURRENTLY asks for; where nothing does, or there is one row, over all columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from sqlalchemy import Engine, MetaData

import tallykeeper
from benchmarks.progress import announce
from benchmarks.server import Server, execute, vacuum
from benchmarks.timing import Contender
from benchmarks.tpch import data
from tallykeeper import System
from tallykeeper.database import sql
from tallykeeper.installation.migrate import migrate
from tallykeeper.select.plan import COPY
from tallykeeper.select.tally import SelectTally

REFRESH, CONCURRENTLY = "refresh", "`REFRESH MATERIALIZED VIEW CONCURRENTLY`"
# Which query, and which way of keeping it.
Name = tuple[str, str]


class World:
    """The tables, with a tally of each of the given SELECTs by name, built."""

    def __init__(
        self, server: Server, name: str, scale: float, selects: Mapping[str, str] | None = None
    ) -> None:
        announce(f"making TPC-H at scale {scale:g}")
        self.scale = scale
        self.engine: Engine = server.database(name)
        self.sizes = data.create(self.engine, scale)
        if selects is None:
            selects = {name: data.query(name, scale) for name in data.NAMES}
        self.tallies = tuple(SelectTally(f"tpch.{n}", select=s) for n, s in selects.items())
        announce("building its tallies")
        migrate(self.engine, [System("tpch", MetaData(), self.tallies)])
        for tally in self.tallies:
            tallykeeper.refresh(self.engine, tally)
        self.vacuum()

    def execute(self, *statements: str) -> None:
        """Run SQL in one transaction of its own."""
        execute(self.engine, *statements)

    def vacuum(self) -> None:
        """VACUUM and ANALYZE everything, and a checkpoint."""
        vacuum(self.engine)

    def orders(self) -> int:
        """How many orders there are now."""
        with self.engine.connect() as connection:
            counted = sql.execute(connection, "SELECT count(*) FROM tpch.orders")
            return int(counted.scalar_one())

    def add_materialized_views(self) -> None:
        """Make a materialized view beside each tally."""
        announce("making materialized views")
        self.execute("CREATE SCHEMA bench")
        for tally in self.tallies:
            key = [n for n in tally.key if n != COPY] or [n for n in tally.columns if n != COPY]
            view = self.view(tally)
            self.execute(
                f"CREATE MATERIALIZED VIEW {view} AS {tally.text}",
                f"CREATE UNIQUE INDEX ON {view} ({sql.columns(key)})",
            )

    def view(self, tally: SelectTally) -> str:
        """The name of the materialized view beside the tally."""
        return f"bench.{tally.table.name}"

    def contenders(self) -> dict[Name, Contender]:
        """Each tally and each materialized view, to be brought up to date."""
        found: dict[Name, Contender] = {}
        for tally in self.tallies:
            found[tally.table.name, REFRESH] = Contender(
                partial(tallykeeper.refresh, self.engine, tally)
            )
            concurrently = f"REFRESH MATERIALIZED VIEW CONCURRENTLY {self.view(tally)}"
            found[tally.table.name, CONCURRENTLY] = Contender(partial(self.execute, concurrently))
        return found

    def check(self) -> None:
        """Raise AssertionError where a tally is not what its SELECT says."""
        for tally in self.tallies:
            found = tallykeeper.verify(self.engine, tally)
            assert not found.differing, found
            assert not found.stale, found

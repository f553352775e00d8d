"""Keeps the tallies of a case as users do: declared, migrated, refreshed."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, MetaData, event

from tallykeeper import System, refresh
from tallykeeper.database import sql
from tallykeeper.database.connections import open_engine
from tallykeeper.errors import DeclarationError
from tallykeeper.installation.migrate import migrate
from tallykeeper.select.syntax.normal_form import NotUnderstood
from tallykeeper.select.tally import SelectTally
from tests.select.lookups import half_looked_up
from tests.select_fuzz.adapters import Check, Kept, Refused


class Installed:
    """Tallykeeper itself. Each tally is a system of its own, so that one that fails is alone."""

    def __init__(self, url: str) -> None:
        self.engine = open_engine(url)
        self._before_commit: Check | None = None
        self._looks = 0
        event.listen(self.engine, "commit", self._check)

    def _check(self, connection: Connection) -> None:
        if self._before_commit is not None:
            driver: Any = connection.connection.driver_connection
            self._before_commit(driver)

    def keep(self, name: str, select: str) -> Kept:
        try:
            tally = SelectTally(f"fuzz_{name}.{name}", select=select)
            migrate(self.engine, [System(f"fuzz_{name}", MetaData(), [tally])])
        except (DeclarationError, NotUnderstood) as error:
            raise Refused(str(error)) from error
        plan = tally.plan
        nodes = tuple(node.strategy for node in plan.nodes) or (plan.strategy,)
        derived = sql.name_of(tally.table)
        return Kept(name, tally.definition_name, derived, plan.strategy, nodes, plan.reasons, tally)

    def refresh(self, kept: Kept, before_commit: Check | None = None) -> None:
        self._before_commit = before_commit
        try:
            refresh(self.engine, kept.engine_data)
        finally:
            self._before_commit = None

    def live(self, kept: Kept) -> str:
        tally: SelectTally = kept.engine_data
        self._looks += 1
        return half_looked_up(tally) if self._looks % 2 else tally.live_name

    def close(self) -> None:
        self.engine.dispose()

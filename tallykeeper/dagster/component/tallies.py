"""The component: tallies that a `defs.yaml` declares, with all that keeps them.

`dg scaffold defs tallykeeper.dagster.Tallies NAME` writes its folder, see `scaffold.py`. Loading it
touches no database. Its definitions are made to be merged with those of the project: there is no
executor among them, and runs of others are not deleted.
"""

# No `from __future__ import annotations` here: Dagster reads the annotations as they stand.

import os
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated

import dagster as dg
from pydantic import BaseModel, Field

from tallykeeper import System
from tallykeeper.dagster import partitions
from tallykeeper.dagster._internals import components_of, longest_pause
from tallykeeper.dagster.assets import SystemAssets, build_assets
from tallykeeper.dagster.automation.schedules import EVERY_HOUR
from tallykeeper.dagster.code_location import of_location, of_systems
from tallykeeper.dagster.component.scaffold import TalliesScaffolder
from tallykeeper.dagster.database import Database
from tallykeeper.dagster.project_database import ProjectDatabase
from tallykeeper.discovery import systems_of_files
from tallykeeper.select.files.components import declared_in, require_single_keys
from tallykeeper.settings import SettingError, fresh_seconds

DATABASE_ENV = "TALLY_DATABASE_URL"


@dg.scaffold_with(TalliesScaffolder)
class Tallies(dg.Component, dg.Resolvable, dg.Model):
    """Tables in PostgreSQL that are kept exactly equal to a SELECT each, by their changes.

    Assets with partitions, three checks each, an hourly job with its schedule, and alerts.
    """

    selects: Annotated[dict[str, str], dg.Resolver.passthrough()] = Field(
        default_factory=dict,
        description=(
            "A SELECT for each name of a tally, as in `shop.revenue_daily`. The comment above a"
            " SELECT is its description, and may have header lines, as in a file."
        ),
        examples=[{"shop.revenue_daily": "SELECT day, sum(cents) FROM shop.orders GROUP BY day"}],
    )
    files: list[str] | None = Field(
        default=None,
        description=(
            "Patterns of files with a SELECT each, from the folder of the defs.yaml. Unset: every"
            " file under it whose name ends in `.sql`, if there are no `selects`."
        ),
        examples=[["shop/*.sql"]],
    )
    database_env: str = Field(
        default=DATABASE_ENV,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description=(
            "The environment variable with the address of the database, read when a run starts."
            f" {DATABASE_ENV} may be unset: then it is the embedded server."
        ),
        examples=["SHOP_DATABASE_URL"],
    )
    owners: list[str] = Field(
        default_factory=list,
        description="Who owns the assets: addresses, or teams as in `team:sales`.",
        examples=[["team:sales", "jo@example.org"]],
    )
    first_partition: str = Field(
        default="",
        pattern=r"^(\d{4}-\d{2}-\d{2})?$",
        description=(
            "The day of the first partition, UTC; all that is older belongs to it. Empty:"
            " TALLY_START_DATE, else 1 January of last year."
        ),
        examples=["2026-01-01"],
    )
    schedule: str = Field(
        default=EVERY_HOUR,
        description=(
            "When tallies are refreshed and checked, as a cron expression in UTC. A change may wait"
            " for TALLY_FRESH_SECONDS at most, so a rarer schedule needs a higher setting."
        ),
        examples=["*/15 * * * *"],
    )
    alerts: bool = Field(
        default=True,
        description=(
            "Whether a sensor writes down what is wrong, asks for repairs and sends messages to"
            " TALLY_ALERT_URLS. It needs PostgreSQL as the storage of Dagster's instance."
        ),
    )

    @classmethod
    def model(cls) -> type[BaseModel]:
        """The schema of `attributes`: this class itself, for messages that name the type."""
        return cls

    @classmethod
    def get_spec(cls) -> dg.ComponentTypeSpec:
        kinds = ["asset", "asset_check", "job", "schedule", "sensor", "resource"]
        return dg.ComponentTypeSpec(tags=["postgres", "sql"], produces=kinds)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The definitions. Raises SettingError, or BadFile where a SELECT is malformed.

        What a code location has once, the first of its components brings, for all of them.
        """
        # The code server of a workspace runs in the folder of the workspace, not in the project's.
        os.environ.setdefault("TALLY_PROJECT", str(context.project_root))
        built = self.built_systems(context.path, context.project_root)
        own = of_systems(built, cron=self.schedule)
        beside = components_of(context.component_tree, Tallies)
        if beside and self is not beside[0][1]:
            return own
        _require_alike([each for _, each in beside])
        for path, each in beside[1:]:
            built += each.built_systems(path, context.project_root)
        _require_own_schemas(built)
        of_all = of_location(built, self._database(), shared=True, with_alerts=self.alerts)
        return dg.Definitions.merge(own, of_all)

    def built_systems(self, path: Path, root: Path) -> list[SystemAssets]:
        """Assets and checks of its own tallies, by their schemas. Raises as `build_defs`."""
        self._require_frequent()
        daily = partitions.daily(self._first_day())
        systems = self._systems(path, root)
        return [build_assets(system, daily, owners=self.owners) for system in systems]

    def _systems(self, path: Path, root: Path) -> list[System]:
        folder = path if path.is_dir() else path.parent
        shown = (folder / "defs.yaml").relative_to(root)
        require_single_keys(folder / "defs.yaml", shown)
        declared = declared_in(folder, self.selects, self.files, shown)
        if not declared:
            todo = "write one under `selects`, or a file that ends in .sql beside it"
            raise SettingError(str(shown), "a tally", "none", todo)
        return list(systems_of_files(declared).values())

    def _database(self) -> Database:
        if self.database_env == DATABASE_ENV:
            return ProjectDatabase()
        return Database(url=dg.EnvVar(self.database_env))

    def _first_day(self) -> date | None:
        if not self.first_partition:
            return None
        todo = "write a day that there was as YYYY-MM-DD"
        try:
            day = date.fromisoformat(self.first_partition)
        except ValueError as error:
            expected = "a date like 2026-01-01"
            raise SettingError("first_partition", expected, self.first_partition, todo) from error
        if day > datetime.now(UTC).date():
            expected = "a day not after today (UTC)"
            raise SettingError("first_partition", expected, self.first_partition, todo)
        return day

    def _require_frequent(self) -> None:
        """Refuse a schedule between two ticks of which every tally would count as late."""
        pause, limit = longest_pause(self.schedule), timedelta(seconds=fresh_seconds())
        if pause is None:
            todo = 'write it as in "0 * * * *"'
            raise SettingError("schedule", "a cron expression", self.schedule, todo)
        if pause > limit:
            seconds = round((pause + timedelta(hours=1)).total_seconds())
            raise SettingError(
                "schedule",
                f"a tick at least every {limit}, as TALLY_FRESH_SECONDS says",
                f"{self.schedule}, with pauses of {pause}",
                f"write a closer one, or set TALLY_FRESH_SECONDS={seconds}",
            )


def _require_alike(components: Sequence[Tallies]) -> None:
    """Refuse components that differ in what a code location has once."""
    for name in ("database_env", "alerts"):
        values = sorted({str(getattr(each, name)) for each in components})
        if len(values) > 1:
            raise SettingError(
                name,
                "one value for all components of a project",
                " and ".join(values),
                "write the same in each; another database needs a project of its own",
            )


def _require_own_schemas(built: Sequence[SystemAssets]) -> None:
    """Refuse a schema of which two components declare tallies: its job would be there twice."""
    for name, times in Counter(each.system.name for each in built).items():
        if times > 1:
            raise SettingError(
                "selects",
                "the tallies of a schema in one component",
                f"{name} in {times}",
                "put them into one of these",
            )

"""The standing inventory: what is left undone or wrong, in all systems that the database keeps.

No tally unbuilt, no partition of a source without capture, no backfill stuck, no incident open.
The checks of each asset tell most of this too, but when they run; a tally whose checks do not run
is found here. Nothing is changed, and systems that are not in this database are passed over.
"""

# No `from __future__ import annotations` here: Dagster judges an op's context by the annotation
# as it stands.

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import dagster as dg
from sqlalchemy import Connection, Engine, func, select

import tallykeeper
from tallykeeper import NotInstalled, System, Tally
from tallykeeper.catalog import state
from tallykeeper.dagster.database import Database
from tallykeeper.dagster.metadata import columns, source_rows
from tallykeeper.dagster_names import asset_path
from tallykeeper.discovery import kept_systems, why_left_out
from tallykeeper.faults import incidents
from tallykeeper.maintain.backfill.lock import holder
from tallykeeper.settings import fresh_seconds

GROUP = "tallykeeper"
INVENTORY = "inventory"
# The sensor `alerts` reads from this how much of what is found is none yet.
NEWS = "news"

STUCK_AFTER = timedelta(hours=1)
MOST_SHOWN = 10
MOST_INCIDENTS = 1_000


@dataclass(frozen=True)
class Undone:
    """One thing that is left undone or wrong: what, why, since when if known, what repairs it."""

    what: str
    why: str
    since: datetime | None
    to_resolve: str


@dataclass(frozen=True)
class Inventory:
    """All that was found. `news` counts what no open incident tells of already."""

    unbuilt: Sequence[Undone]
    uncaptured: Sequence[Undone]
    stuck: Sequence[Undone]
    incidents: Sequence[Undone]
    news: int

    @property
    def kinds(self) -> dict[str, Sequence[Undone]]:
        """What was found, by what is wrong with it, in the words of the metadata."""
        return {
            "tallies_unbuilt": self.unbuilt,
            "capture_missing": self.uncaptured,
            "backfills_stuck": self.stuck,
            "incidents_open": self.incidents,
        }

    @property
    def clear(self) -> bool:
        """Whether nothing was found."""
        return not any(self.kinds.values())


def incidents_key() -> dg.AssetKey:
    """The asset of the table of incidents. Raises SettingError."""
    return dg.AssetKey(asset_path(GROUP, incidents.incidents.name))


def inventory_key() -> dg.AssetCheckKey:
    """The check of the table of incidents. Raises SettingError."""
    return dg.AssetCheckKey(incidents_key(), INVENTORY)


def incidents_asset() -> dg.AssetSpec:
    """The table of incidents, which the sensors write."""
    table = incidents.incidents
    return dg.AssetSpec(
        incidents_key(),
        description=(
            "What was found wrong: when, why, what was done about it, and when it was right again."
            " `tally incidents` lists them."
        ),
        group_name=GROUP,
        kinds={"postgres", "table"},
        tags={"tallykeeper/role": "bookkeeping"},
        metadata={
            "dagster/table_name": columns.table_name(table),
            "dagster/column_schema": columns.schema_of_table(table),
        },
    )


def inventory_check(systems: Sequence[System]) -> dg.AssetChecksDefinition:
    """The check of the table of incidents, over `systems`."""

    @dg.asset_check(
        asset=incidents_key(),
        name=INVENTORY,
        description=(
            "No tally is unbuilt, no partition of a source is without capture, no backfill is"
            " stuck, and no incident is open."
        ),
    )
    def inventory(
        context: dg.AssetCheckExecutionContext, tally_database: Database
    ) -> dg.AssetCheckResult:
        engine = tally_database.engine()
        for observation in source_rows.observe(context.instance, engine, systems):
            context.op_execution_context.log_event(observation)
        return verdict(take(engine, systems))

    return inventory


def take(engine: Engine, systems: Sequence[System]) -> Inventory:
    """Look at everything that the database keeps of `systems`.

    Raises SettingError, or SQLAlchemy's errors.
    """
    kept: list[Tally] = []
    left_out: dict[str, list[str]] = {}
    for system in kept_systems(engine, systems):
        for tally in system.tallies:
            if why := why_left_out(engine, system, tally):
                left_out.setdefault(why, []).append(tally.name)
            else:
                kept.append(tally)
    with engine.connect() as connection:
        now: datetime = connection.execute(select(func.now())).scalar_one()
        missing = {t.name for t in kept if not _is_installed(connection, t)}
        installed = [tally for tally in kept if tally.name not in missing]
        opened = _open_incidents(connection)
        broken = {i.subject for i in opened if i.kind == incidents.CAPTURE}
        unbuilt = [
            Undone(", ".join(names), why, None, "tally migrate") for why, names in left_out.items()
        ]
        unbuilt += [
            Undone(tally.name, "not installed", None, "tally migrate")
            for tally in kept
            if tally.name in missing
        ]
        uncaptured: dict[str, Undone] = {}
        counted: set[str] = set()
        stuck: list[Undone] = []
        for tally in installed:
            unbuilt += _unbuilt(connection, tally, now)
            stuck += _stuck(connection, tally, now)
            for fault in tallykeeper.capture_faults(connection, tally):
                relation, _, what = fault.partition(": ")
                uncaptured[fault] = Undone(
                    relation, what, None, f"tally migrate && tally refresh {tally.name}"
                )
                counted |= {fault} if tally.name in broken else set()
        return Inventory(
            unbuilt=unbuilt,
            uncaptured=list(uncaptured.values()),
            stuck=stuck,
            incidents=[Undone(i.subject, i.what, i.found_at, _next_step(i)) for i in opened],
            news=len(unbuilt) + len(stuck) + len(uncaptured.keys() - counted),
        )


def verdict(found: Inventory) -> dg.AssetCheckResult:
    """What was found as a check result: exact numbers, and the first of each kind with its cure."""
    metadata: dict[str, dg.MetadataValue] = {NEWS: dg.MetadataValue.int(found.news)}
    for kind, undone in found.kinds.items():
        metadata[kind] = dg.MetadataValue.int(len(undone))
        if undone:
            metadata[f"{kind}_sample"] = _table(undone[:MOST_SHOWN])
    if found.clear:
        return dg.AssetCheckResult(passed=True, metadata=metadata)
    counted = ", ".join(
        f"{kind.replace('_', ' ')}: {len(undone):,}"
        for kind, undone in found.kinds.items()
        if undone
    )
    first = next(undone[0] for undone in found.kinds.values() if undone)
    return dg.AssetCheckResult(
        passed=False,
        severity=dg.AssetCheckSeverity.WARN,
        description=(
            f"{counted[0].upper()}{counted[1:]}. The first is {first.what}, {first.why};"
            f" `{first.to_resolve}`."
        ),
        metadata=metadata,
    )


def _is_installed(connection: Connection, tally: Tally) -> bool:
    try:
        return state.installed(connection, tally) is not None
    except NotInstalled:
        connection.rollback()
        return False


def _unbuilt(connection: Connection, tally: Tally, now: datetime) -> list[Undone]:
    """The tally, if it waits to be built for longer than a change may wait to be consumed."""
    found = state.installed(connection, tally)
    if found is None or holder(connection, tally) is not None:
        return []
    invalidations, states = state.stale_marks.c, state.tally_state.c
    if found.stale:
        why = "; ".join(found.stale)
        since = connection.scalar(
            select(func.min(invalidations.marked_at)).where(invalidations.tally == tally.name)
        )
    elif found.declaration_hash != tally.declaration_hash():
        # It is marked by the next refresh, so there was none since.
        why = state.DECLARATION_CHANGED
        since = connection.scalar(select(states.refreshed_at).where(states.tally == tally.name))
    else:
        return []
    if since is not None and now - since <= timedelta(seconds=fresh_seconds()):
        return []
    return [Undone(tally.name, why, since, f"tally refresh {tally.name}")]


def _stuck(connection: Connection, tally: Tally, now: datetime) -> list[Undone]:
    """The lanes of a backfill that nobody is at, and that has not moved for long."""
    if holder(connection, tally) is not None:
        return []
    return [
        Undone(
            f"{tally.name}, {row.lane}",
            f"{row.items_done:,} of {row.items_total:,} items done",
            row.updated_at,
            f"tally backfill {tally.name}",
        )
        for row in state.backfilled(connection, tally).values()
        if row.finished_at is None and now - row.updated_at > STUCK_AFTER
    ]


def _open_incidents(connection: Connection) -> list[incidents.Incident]:
    """All but those of an inventory: it would never find itself clear."""
    if not state.is_there(connection, incidents.incidents):
        return []
    found = incidents.listed(connection, open_only=True, limit=MOST_INCIDENTS)
    return [incident for incident in found if incident.kind != INVENTORY]


def _next_step(incident: incidents.Incident) -> str:
    to_resolve = incident.details.get("to_resolve")
    return to_resolve if isinstance(to_resolve, str) else "tally incidents --open"


def _table(undone: Sequence[Undone]) -> dg.TableMetadataValue:
    names = ("what", "why", "since", "to_resolve")
    return dg.MetadataValue.table(
        [
            dg.TableRecord(
                {
                    "what": each.what,
                    "why": each.why,
                    "since": f"{each.since:%Y-%m-%d %H:%M:%S} UTC" if each.since else "",
                    "to_resolve": each.to_resolve,
                }
            )
            for each in undone
        ],
        dg.TableSchema([dg.TableColumn(name) for name in names]),
    )

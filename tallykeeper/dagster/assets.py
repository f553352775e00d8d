"""From a system's declarations to its Dagster assets and checks; it knows no particular system.

Source tables become external assets, so that the lineage begins at the raw data; each tally an
asset, with a partition for each window where it has them, and with its lanes where it is built in
batches.
What only one system has (tables that it processes itself, reports, housekeeping) it brings along.
What a materialization does is in `materialization.py` and `lanes.py`, the checks are in
`checks.py`. Building all this touches no database.
"""

# No `from __future__ import annotations` here: Dagster reads the types of an op's context and
# config from the annotations as they stand.

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import dagster as dg
from pydantic import Field
from sqlalchemy import Engine, Table

from tallykeeper import System, Tally, settings
from tallykeeper.dagster import lanes, lineage_events, materialization, places
from tallykeeper.dagster.checks import checks_of
from tallykeeper.dagster.database import Database
from tallykeeper.dagster.metadata import code_references, columns, incident_summary, pictures
from tallykeeper.dagster.metadata.sql_layout import laid_out
from tallykeeper.dagster.partitions import of_windows
from tallykeeper.dagster_names import asset_path, pool
from tallykeeper.declarations.windows import DAYS, Windows
from tallykeeper.discovery import why_left_out
from tallykeeper.operations.partition_windows import Span
from tallykeeper.settings import fresh_seconds

Materialized = Iterator[dg.MaterializeResult[None]]
Extra = Callable[[Engine, pictures.Metadata], Mapping[str, dg.MetadataValue]]
"""Metadata of a tally's own for its materializations, read from the database after the refresh.

The second argument is the metadata of the latest materialization, for `pictures.drawn`.
"""


class LanesConfig(dg.Config):
    """How to build a tally whose partitions are the lanes of its batches."""

    restart: bool = Field(
        default=False,
        description="Begin anew, instead of going on where an interrupted backfill was.",
    )


class WholeConfig(dg.Config):
    """How to materialize a tally without partitions."""

    rebuild: bool = Field(
        default=False,
        description="Compute all of it anew from the sources, instead of taking pending changes.",
    )


@dataclass(frozen=True)
class SystemAssets:
    """One system in Dagster's terms.

    `assets` and `checks` are of the hourly run; `housekeeping` runs once a day, and with it
    `daily_checks` by themselves.
    """

    system: System
    sources: list[dg.AssetSpec]
    assets: list[dg.AssetsDefinition]
    checks: list[dg.AssetChecksDefinition]
    partitions: dg.DailyPartitionsDefinition
    housekeeping: list[dg.AssetsDefinition] = field(default_factory=list)
    daily_checks: list[dg.AssetChecksDefinition] = field(default_factory=list)
    extras: Mapping[Tally, Extra] = field(default_factory=dict)

    def more(
        self, instance: dg.DagsterInstance, engine: Engine, tally: Tally
    ) -> Mapping[str, dg.MetadataValue]:
        """What a materialization of `tally` says of it besides what was done, as it is now."""
        return _more(instance, tally, self.extras.get(tally), engine)

    def checks_of(self, tally: Tally) -> list[dg.AssetChecksDefinition]:
        """The checks of the asset of `tally`, its system's own among them."""
        key = key_of(tally)
        return [c for c in self.checks if any(each.asset_key == key for each in c.check_keys)]


def build_assets(
    system: System,
    partitions: dg.DailyPartitionsDefinition,
    *,
    extras: Mapping[Tally, Extra] | None = None,
    checks: Sequence[dg.AssetChecksDefinition] = (),
    more: Sequence[dg.AssetsDefinition] = (),
    housekeeping: Sequence[dg.AssetsDefinition] = (),
    daily_checks: Sequence[dg.AssetChecksDefinition] = (),
    owners: Sequence[str] = (),
) -> SystemAssets:
    """The assets and checks of `system`; `partitions` are those of tallies by days in UTC.

    `extras` adds metadata of a tally's own, `checks` those that only this system has. `more` are
    assets besides the tallies that the hourly run materializes too, in the order of the lineage:
    tables that the system processes itself (`processed_specs`), reports. `housekeeping` are those
    that run once a day, and not with it; `daily_checks` are those of `checks` that compare more
    when they run alone, once a day too. `owners` are those of the project's settings by default.
    """
    who = owners or settings.owners()
    tallies = [
        _asset(system, tally, partitions, (extras or {}).get(tally), who)
        for tally in system.tallies
    ]
    return SystemAssets(
        system=system,
        partitions=partitions,
        sources=[_source(system, source) for source in system.sources],
        assets=[*more, *tallies],
        checks=[
            *(
                check
                for tally in system.tallies
                for check in checks_of(system, tally, key_of(tally))
            ),
            *checks,
        ],
        housekeeping=list(housekeeping),
        daily_checks=list(daily_checks),
        extras=dict(extras or {}),
    )


def processed_specs(system: System, owners: Sequence[str] = ()) -> list[dg.AssetSpec]:
    """An asset for each table that the system derives from its raw ones by processing them.

    One op materializes them all, for one transaction writes them all.
    """
    raw = [dg.AssetKey(asset_path(system.name, table.name)) for table in system.raw]
    return [
        dg.AssetSpec(
            asset_path(system.name, table.name),
            deps=raw,
            description=table.comment,
            group_name=system.name,
            owners=list(owners or settings.owners()),
            kinds={"postgres", "table"},
            tags={"tallykeeper/role": "derived", "tallykeeper/kept": "processed"},
            metadata=_metadata(table),
        )
        for table in system.processed
    ]


def is_partitioned(tally: Tally) -> bool:
    """Whether its asset has partitions: its windows, or the lanes of its batches."""
    return tally.time_key is not None or lanes_of(tally) is not None


def lanes_of(tally: Tally) -> dg.StaticPartitionsDefinition | None:
    """The lanes of a tally that is built in batches, as partitions; None for any other."""
    if tally.batches is None:
        return None
    return dg.StaticPartitionsDefinition(list(tally.batches.lanes))


def key_of(tally: Tally) -> dg.AssetKey:
    """The asset that keeps `tally`."""
    return dg.AssetKey(asset_path(tally.system, tally.table.name))


def _source(system: System, table: Table) -> dg.AssetSpec:
    return dg.AssetSpec(
        columns.key_of_table(system.tallies, table),
        description=table.comment,
        group_name=system.name,
        kinds={"postgres", "table"},
        tags={"tallykeeper/role": "source"},
        metadata=_metadata(table),
    )


def _asset(
    system: System,
    tally: Tally,
    partitions: dg.DailyPartitionsDefinition,
    extra: Extra | None,
    owners: Sequence[str],
) -> dg.AssetsDefinition:
    windowed = partitions_of(tally, partitions) if tally.time_key is not None else None
    with warnings.catch_warnings():
        # Backfill policies may change between minor versions of Dagster, of which we admit one.
        warnings.simplefilter("ignore", dg.BetaWarning)
        as_asset = dg.asset(
            key=key_of(tally),
            deps=[columns.key_of_table(tally.siblings, source) for source in tally.sources],
            description=_description(tally),
            group_name=tally.system,
            owners=list(owners),
            kinds={"postgres", "table"},
            tags={
                "tallykeeper/role": "derived",
                "tallykeeper/kept": tally.kind,
                **dict.fromkeys(tally.tags, ""),
            },
            metadata={
                **_metadata(tally.table),
                "key": ", ".join(tally.key),
                "live_view": tally.live_name,
                **code_references.of_tally(tally),
            },
            # Of another SELECT everything is computed anew by the next run.
            code_version=tally.declaration_hash(),
            freshness_policy=_freshness(),
            partitions_def=windowed or lanes_of(tally),
            # One run whatever the range: the rebuild is one statement, or one row of batches.
            backfill_policy=(dg.BackfillPolicy.single_run() if is_partitioned(tally) else None),
            # With a limit the steps that wait are seen to wait; without one it limits nothing.
            pool=pool(),
            # One that is left out materializes nothing, and its checks are passed over with it.
            output_required=False,
        )
    if windowed is not None:
        return as_asset(_windowed(system, tally, windowed, extra))
    if tally.batches is not None:
        return as_asset(_batched(system, tally, extra))
    return as_asset(_whole(system, tally, extra))


def _is_left_out(
    context: dg.AssetExecutionContext, engine: Engine, system: System, tally: Tally
) -> bool:
    """Whether there is nothing to do because a table of the tally is missing, which is observed."""
    why = why_left_out(engine, system, tally)
    if why:
        context.log.warning("%s: %s", tally.name, why)
        reason = {"reason": dg.MetadataValue.text(why)}
        observed = dg.AssetObservation(context.asset_key, description=why, metadata=reason)
        context.log_event(observed)
    return bool(why)


def _windowed(
    system: System, tally: Tally, partitions: dg.TimeWindowPartitionsDefinition, extra: Extra | None
) -> Callable[..., Materialized]:
    windows = tally.windows

    def materialize(context: dg.AssetExecutionContext, tally_database: Database) -> Materialized:
        engine = tally_database.engine()
        span = span_of(partitions, windows)
        if (at := places.places_of(engine, system)) is not None:
            if (nothing := places.left_out(system, tally, at)) is not None:
                context.log.warning(str(nothing.description))
                return
            more = _shape(tally)
            yield places.materialize(context, tally, at, span=span, more=more)
            return
        if _is_left_out(context, engine, system, tally):
            return
        # What Materialize means in the UI, on the asset's page as on a job's, follows from the run.
        rebuilds = bool(materialization.own_partitions(context))
        act = materialization.rebuild_windowed if rebuilds else materialization.refresh_windowed
        with lineage_events.reported(context, engine, tally) as written:
            done = act(
                context, engine, tally, span, lambda: _more(context.instance, tally, extra, engine)
            )
            yield _counted(done, written)

    return materialize


def _batched(system: System, tally: Tally, extra: Extra | None) -> Callable[..., Materialized]:
    def materialize(
        context: dg.AssetExecutionContext, config: LanesConfig, tally_database: Database
    ) -> Materialized:
        engine = tally_database.engine()
        if _is_left_out(context, engine, system, tally):
            return

        def more() -> Mapping[str, dg.MetadataValue]:
            return _more(context.instance, tally, extra, engine)

        with lineage_events.reported(context, engine, tally) as written:
            if materialization.own_partitions(context):
                done = lanes.backfill_lanes(context, engine, tally, config.restart, more)
            else:
                done = lanes.refresh_lanes(context, engine, tally, more)
            yield _counted(done, written)

    return materialize


def _whole(system: System, tally: Tally, extra: Extra | None) -> Callable[..., Materialized]:
    def materialize(
        context: dg.AssetExecutionContext, config: WholeConfig, tally_database: Database
    ) -> Materialized:
        engine = tally_database.engine()
        if (at := places.places_of(engine, system)) is not None:
            if (nothing := places.left_out(system, tally, at)) is not None:
                context.log.warning(str(nothing.description))
                return
            more = _shape(tally)
            yield places.materialize(context, tally, at, rebuild=config.rebuild, more=more)
            return
        if _is_left_out(context, engine, system, tally):
            return
        with lineage_events.reported(context, engine, tally) as written:
            done = materialization.keep_whole(
                context,
                engine,
                tally,
                config.rebuild,
                lambda: _more(context.instance, tally, extra, engine),
            )
            yield _counted(done, written)

    return materialize


def _counted(
    done: materialization.Result, written: lineage_events.Written
) -> materialization.Result:
    """The same result, of which the number of rows is noted."""
    rows = (done.metadata or {}).get("dagster/row_count")
    written.rows = rows.value if isinstance(rows, dg.IntMetadataValue) else None
    return done


def partitions_of(
    tally: Tally, daily: dg.TimeWindowPartitionsDefinition
) -> dg.TimeWindowPartitionsDefinition:
    """The partitions of a tally that has windows; `daily` are those of days in UTC."""
    return daily if tally.windows == DAYS else of_windows(tally.windows)


def span_of(partitions: dg.TimeWindowPartitionsDefinition, windows: Windows) -> Span:
    """The partitions that there are now. Raises dagster.Failure where there is none."""
    first, last = partitions.get_first_partition_key(), partitions.get_last_partition_key()
    if first is None or last is None:
        raise dg.Failure(f"{partitions} has no partition: its first day is still to come")
    return Span(first, last, windows)


def _shape(tally: Tally) -> dict[str, dg.MetadataValue]:
    # Dagster reads the lineage of columns from materializations, not from definitions.
    lineage = dg.MetadataValue.column_lineage(columns.lineage(tally))
    # The types of a SELECT's columns are known from the database alone.
    schema = dg.MetadataValue.table_schema(columns.schema_of_table(tally.table))
    found: dict[str, dg.MetadataValue] = {"dagster/column_schema": schema}
    return {
        "dagster/column_lineage": lineage,
        **(found if tally.kind == "select" else {}),
    }


def _more(
    instance: dg.DagsterInstance, tally: Tally, extra: Extra | None, engine: Engine
) -> Mapping[str, dg.MetadataValue]:
    return {
        **_shape(tally),
        **incident_summary.of_tally(engine, tally),
        **(extra(engine, pictures.before(instance, key_of(tally))) if extra else {}),
    }


def _freshness() -> dg.FreshnessPolicy:
    """A run for as long as a change may wait; Dagster takes a minute at least."""
    return dg.FreshnessPolicy.time_window(fail_window=timedelta(seconds=max(60, fresh_seconds())))


def _description(tally: Tally) -> str:
    # The catalogue shows as much of it as one line holds, which has to be prose.
    return (
        f"{tally.description}\n\nEqual to its sources: this table as of its last"
        f" refresh, the view `{tally.live_name}` as of the last commit. It holds\n\n"
        f"```sql\n{laid_out(tally.definition)}\n```\n"
    )


def _metadata(table: Table) -> dict[str, object]:
    return {
        "dagster/table_name": columns.table_name(table),
        "dagster/column_schema": columns.schema_of_table(table),
    }

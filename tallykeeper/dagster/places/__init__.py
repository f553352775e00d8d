"""Assets and checks of tallies whose rows lie at several places: one asset, done place by place.

Invariants: a place that does not answer makes the check of each tally fail that has rows there, and
names itself in the metadata; what other places did is reported all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import dagster as dg
from sqlalchemy import Engine

import tallykeeper
from tallykeeper import Refreshed, Status, System, Tally, Verification
from tallykeeper.dagster.materialization import own_partitions, report
from tallykeeper.dagster.metadata import materializations
from tallykeeper.operations.partition_windows import Span
from tallykeeper.places.finding import is_divided, places_for, tallies_at
from tallykeeper.places.work import Done, Places, everywhere
from tallykeeper.settings import fresh_seconds

PLACES = "places"
"""The metadata that has a line for each place."""

_Judge = Callable[[Any], str]


def places_of(engine: Engine, system: System) -> Places | None:
    """What finds the places of the system; None where all of its rows are in the database."""
    return places_for(engine, system) if is_divided(engine, system) else None


def left_out(system: System, tally: Tally, places: Places) -> dg.AssetCheckResult | None:
    """The outcome of a check of a tally that is not kept at the places; None where it is."""
    if tally in tallies_at(system, places):
        return None
    said = f"Nothing was compared: {tally.name} was left out when the others were distributed."
    return dg.AssetCheckResult(passed=True, description=said)


def materialize(
    context: dg.AssetExecutionContext,
    tally: Tally,
    places: Places,
    *,
    rebuild: bool = False,
    span: Span | None = None,
    more: Mapping[str, dg.MetadataValue] | None = None,
) -> dg.MaterializeResult[None]:
    """Refresh the tally at each place, or rebuild it, or the partitions of the run, there.

    Raises dagster.Failure where no place answered.
    """
    own = own_partitions(context) if span is not None else ()
    windows = span.windows(own) if span is not None and own else []
    works: list[Callable[[Engine, Tally], Refreshed]] = [
        partial(_rebuilt, start=start, end=end) for start, end in windows
    ]
    if not works:
        works.append(tallykeeper.rebuild if rebuild else tallykeeper.refresh)
    done = [each for work in works for each in everywhere([tally], places, work)]
    results = [each.result for each in done if each.result is not None]
    for each in done:
        if each.error is not None:
            context.log.warning("%s at %s: %s", each.tally, each.place, each.error)
    if not results:
        raise dg.Failure(f"{tally.name}: no place answered ({done[0].error if done else 'none'})")
    why = materializations.REQUESTED if rebuild or windows else None
    of_run = materializations.of_run(results, why or materializations.why_refreshed(results[-1]))
    of_run |= _placed(done, _of_refresh)
    of_run["dagster/row_count"] = dg.MetadataValue.int(_rows(done))
    touched: dict[str, Mapping[str, dg.MetadataValue]] = {}
    if span is not None:
        touched = dict(materializations.by_partition(results, span, why))
        reported = context.instance.get_materialized_partitions(context.asset_key)
        if not own:
            new = (each for each in span.partitions() if each not in reported)
            touched = {**dict.fromkeys(new, materializations.UNTOUCHED), **touched}
    return report(context, touched, of_run, lambda: more or {})


def _rebuilt(engine: Engine, tally: Tally, **window: Any) -> Refreshed:
    return tallykeeper.rebuild(engine, tally, **window)


def matches_source(
    tally: Tally, places: Places, compare: Callable[[Engine, Tally], Verification]
) -> dg.AssetCheckResult:
    """Whether the tally equals its sources at each place, where `compare` compares it."""

    def wrong(found: Verification) -> str:
        if found.stale:
            return f"nothing to compare: {'; '.join(found.stale)}"
        return "" if found.ok else f"{found.differing:,} keys differ from the sources"

    return _judged(tally, everywhere([tally], places, compare), wrong, _of_verify)


def capture_intact(tally: Tally, places: Places) -> dg.AssetCheckResult:
    """Whether everything that the tally depends on is as it was installed at each place."""

    def faults(engine: Engine, there: Tally) -> list[str]:
        with engine.connect() as connection:
            return tallykeeper.capture_faults(connection, there)

    return _judged(tally, everywhere([tally], places, faults), "; ".join, lambda _: "intact")


def fresh(tally: Tally, places: Places) -> dg.AssetCheckResult:
    """Whether no change has waited for longer than TALLY_FRESH_SECONDS at any place."""
    limit = fresh_seconds()

    def late(found: Status) -> str:
        if found.oldest_pending is None:
            return ""
        age = (found.as_of - found.oldest_pending).total_seconds()
        return f"a change has waited {timedelta(seconds=int(age))}" if age > limit else ""

    done = everywhere([tally], places, tallykeeper.status)
    return _judged(tally, done, late, _of_status)


def _judged(
    tally: Tally, done: Sequence[Done[Any]], wrong: _Judge, right: Callable[[Any], str]
) -> dg.AssetCheckResult:
    """A check of all places: passed where nothing is wrong with any."""

    def said(result: Any) -> str:
        return wrong(result) or right(result)

    failed = [
        f"{each.place}: {_reason(each.error) if each.error is not None else wrong(each.result)}"
        for each in done
        if each.error is not None or wrong(each.result)
    ]
    metadata = _placed(done, said)
    if not failed:
        return dg.AssetCheckResult(passed=True, metadata=metadata)
    metadata["to_resolve"] = dg.MetadataValue.text(
        f"tally places status {tally.name}, then tally places refresh {tally.name}"
    )
    return dg.AssetCheckResult(
        passed=False,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"At {len(failed)} of {len(done)} places: {'; '.join(failed)}.",
        metadata=metadata,
    )


def _placed(done: Sequence[Done[Any]], said: Callable[[Any], str]) -> dict[str, dg.MetadataValue]:
    """A table with a line for each place."""
    lines = [
        dg.TableRecord(
            {
                "place": each.place,
                "answered": each.error is None,
                "what": _reason(each.error) if each.error is not None else said(each.result),
            }
        )
        for each in done
    ]
    columns = [dg.TableColumn("place"), dg.TableColumn("answered", "bool"), dg.TableColumn("what")]
    return {
        PLACES: dg.MetadataValue.table(lines, dg.TableSchema(columns)),
        "places_missing": dg.MetadataValue.int(sum(each.error is not None for each in done)),
    }


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0]


def _rows(done: Sequence[Done[Refreshed]]) -> int:
    last = {each.place: each.result.rows for each in done if each.result is not None}
    return sum(last.values())


def _of_refresh(result: Refreshed) -> str:
    return f"{result.how}, {result.keys_changed:,} keys changed, {result.rows:,} rows"


def _of_verify(result: Verification) -> str:
    return f"{result.compared:,} keys compared: all equal"


def _of_status(result: Status) -> str:
    return f"{result.pending:,} changes pending"

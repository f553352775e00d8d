"""The three checks of every derived table, as Dagster asset checks.

`matches_source`: derived table and sources agree. `capture_intact`: no change can slip by.
`fresh`: no change waits for long. Each is an op of its own, so that they run with the asset or
alone. A check judges the data only: a database that cannot be asked is an error of the run, never
a failed check.
"""

# No `from __future__ import annotations` here: Dagster judges an op's context by the annotation
# as it stands.

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Literal

import dagster as dg
from sqlalchemy import Engine

import tallykeeper
from tallykeeper import Audited, Difference, Quarantined, System, Tally, Verification
from tallykeeper.dagster import places
from tallykeeper.dagster.database import Database
from tallykeeper.dagster.metadata.audit_progress import audit_metadata
from tallykeeper.discovery import why_left_out
from tallykeeper.faults import incidents
from tallykeeper.maintain.verify import combined
from tallykeeper.operations.differences import (
    MOST_REPAIRED_KEYS,
    SIDES,
    brief,
    measures_of,
    records_of,
    repair_commands,
    repair_of,
    sentence,
)
from tallykeeper.operations.partition_windows import spelled_out
from tallykeeper.settings import fresh_seconds

MATCHES_SOURCE = "matches_source"
CAPTURE_INTACT = "capture_intact"
FRESH = "fresh"
EVERYWHERE = (MATCHES_SOURCE, CAPTURE_INTACT, FRESH)

MOST_SHOWN = 100
MOST_FAULTS = 3


def checks_of(system: System, tally: Tally, key: dg.AssetKey) -> list[dg.AssetChecksDefinition]:
    """The checks of the asset `key`, which keeps `tally`.

    One that is left out for a missing table has nothing to judge, which each of them says.
    """
    return [make(system, tally, key) for make in (_matches_source, _capture_intact, _fresh)]


def passed_over(engine: Engine, system: System, tally: Tally) -> dg.AssetCheckResult | None:
    """The outcome of a check of a tally that is left out; None where it is to be judged."""
    why = why_left_out(engine, system, tally)
    if not why:
        return None
    said = f"Nothing was compared: {tally.name} is {why}."
    reason = {"reason": dg.MetadataValue.text(why)}
    return dg.AssetCheckResult(passed=True, description=said, metadata=reason)


def _matches_source(system: System, tally: Tally, key: dg.AssetKey) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=key,
        name=MATCHES_SOURCE,
        description=(
            "The derived table, with its pending changes, is exactly what the sources say. Run with"
            " the asset it compares the windows that were written since they were last found"
            " right, and the next stretches of all keys: each key at least once in 24 hours. Run"
            " alone (the job audit, or Execute) it compares everything."
        ),
    )
    def matches_source(
        context: dg.AssetCheckExecutionContext, tally_database: Database
    ) -> dg.AssetCheckResult:
        engine = tally_database.engine()
        alone = key not in context.job_def.asset_layer.selected_asset_keys
        if (at := places.places_of(engine, system)) is not None:
            return places.left_out(system, tally, at) or places.matches_source(
                tally, at, compare_all if alone else _found
            )
        if (nothing := passed_over(engine, system, tally)) is not None:
            return nothing
        if alone:
            found, turn = compare_all(engine, tally), None
        else:
            found, turn = compare_and_audit(engine, tally)
        audited = turn is not None and turn.found is not None
        scope = "touched windows, and the audit's stretches" if audited else "touched windows"
        return verdict(tally, found, scope, audit_metadata(engine, tally, turn))

    return matches_source


def _capture_intact(system: System, tally: Tally, key: dg.AssetKey) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=key,
        name=CAPTURE_INTACT,
        description=(
            "Every capture trigger exists, is enabled and is the declared one, on each source"
            " table and each partition of it."
        ),
    )
    def capture_intact(tally_database: Database) -> dg.AssetCheckResult:
        engine = tally_database.engine()
        if (at := places.places_of(engine, system)) is not None:
            return places.left_out(system, tally, at) or places.capture_intact(tally, at)
        if (nothing := passed_over(engine, system, tally)) is not None:
            return nothing
        with engine.connect() as connection:
            faults = tallykeeper.capture_faults(connection, tally)
        metadata: dict[str, dg.MetadataValue] = {"faults": dg.MetadataValue.int(len(faults))}
        if not faults:
            return dg.AssetCheckResult(passed=True, metadata=metadata)
        metadata["what"] = dg.MetadataValue.text("; ".join(faults))
        metadata["to_resolve"] = dg.MetadataValue.text(
            f"tally migrate && tally refresh {tally.name}"
        )
        more = f"; and {len(faults) - MOST_FAULTS} more" if len(faults) > MOST_FAULTS else ""
        return dg.AssetCheckResult(
            passed=False,
            severity=dg.AssetCheckSeverity.ERROR,
            description=(
                f"{'; '.join(faults[:MOST_FAULTS])}{more}. Changes may be missed: `tally migrate`"
                f" repairs the capture, and `tally refresh {tally.name}` then rebuilds the tally."
            ),
            metadata=metadata,
        )

    return capture_intact


def _fresh(system: System, tally: Tally, key: dg.AssetKey) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=key,
        name=FRESH,
        description=(
            "No change has been pending for longer than TALLY_FRESH_SECONDS. Live reads are exact"
            " all the same; they only pay for what is pending."
        ),
    )
    def fresh(tally_database: Database) -> dg.AssetCheckResult:
        engine = tally_database.engine()
        if (at := places.places_of(engine, system)) is not None:
            return places.left_out(system, tally, at) or places.fresh(tally, at)
        if (nothing := passed_over(engine, system, tally)) is not None:
            return nothing
        status = tallykeeper.status(engine, tally)
        limit = fresh_seconds()
        age = 0.0
        if status.oldest_pending is not None:
            age = max(0.0, (status.as_of - status.oldest_pending).total_seconds())
        metadata: dict[str, dg.MetadataValue] = {
            "pending": dg.MetadataValue.int(status.pending),
            "age_seconds": dg.MetadataValue.float(round(age, 1)),
            "limit_seconds": dg.MetadataValue.int(limit),
        }
        if status.oldest_pending is not None:
            metadata["oldest_pending"] = dg.MetadataValue.timestamp(status.oldest_pending)
        if age <= limit:
            return dg.AssetCheckResult(passed=True, metadata=metadata)
        metadata["to_resolve"] = dg.MetadataValue.text(f"tally refresh {tally.name}")
        return dg.AssetCheckResult(
            passed=False,
            severity=dg.AssetCheckSeverity.WARN,
            description=(
                f"The oldest pending change has waited {timedelta(seconds=int(age))}; the limit is"
                f" {timedelta(seconds=limit)}. Does the hourly schedule run?"
            ),
            metadata=metadata,
        )

    return fresh


def compare(engine: Engine, tally: Tally, *, touched_only: bool) -> Verification:
    """Verify the tally, with as many differing keys as a repair can do with."""
    windows: Literal["touched"] | None = "touched" if touched_only else None
    return tallykeeper.verify(engine, tally, windows, _most(tally))


def compare_and_audit(engine: Engine, tally: Tally) -> tuple[Verification, Audited]:
    """Verify what was written, and the stretches of all keys that are due by now."""
    found = compare(engine, tally, touched_only=True)
    turn = tallykeeper.audit(engine, tally, _most(tally))
    if found.stale or turn.found is None:
        return found, turn
    return combined([found, turn.found], _most(tally)), turn


def compare_all(engine: Engine, tally: Tally) -> Verification:
    """Verify all keys."""
    return compare(engine, tally, touched_only=False)


def _found(engine: Engine, tally: Tally) -> Verification:
    return compare_and_audit(engine, tally)[0]


def _most(tally: Tally) -> int:
    return MOST_REPAIRED_KEYS if tally.time_key is None else MOST_SHOWN


def verdict(
    tally: Tally,
    found: Verification,
    scope: str = "touched windows",
    more: Mapping[str, dg.MetadataValue] | None = None,
) -> dg.AssetCheckResult:
    """The outcome of a verify as a check result: what differs, and what repairs it.

    `scope` says what was compared, where that is not everything; `more` is further metadata.
    """
    metadata: dict[str, dg.MetadataValue] = {
        "compared": dg.MetadataValue.int(found.compared),
        "differing": dg.MetadataValue.int(found.differing),
        "scope": dg.MetadataValue.text("everything" if found.whole else scope),
        "seconds": dg.MetadataValue.float(round(found.seconds, 3)),
        "as_of": dg.MetadataValue.timestamp(found.as_of),
        **(more or {}),
    }
    if found.stale:
        why = "; ".join(dict.fromkeys(found.stale))
        metadata["stale"] = dg.MetadataValue.text(why)
        metadata["to_resolve"] = dg.MetadataValue.text(f"tally refresh {tally.name}")
        return dg.AssetCheckResult(
            passed=False,
            severity=dg.AssetCheckSeverity.WARN,
            description=(
                f"Nothing to compare yet: {why}. The next refresh rebuilds it; until then its live"
                " view answers from the sources."
            ),
            metadata=metadata,
        )
    if found.pruned:
        said = "; ".join(f"{tally.name} {each.in_words}" for each in found.pruned)
        metadata["pruned"] = dg.MetadataValue.text(said)
    if found.quarantined:
        metadata["quarantined"] = dg.MetadataValue.int(found.quarantined)
        metadata["quarantine"] = quarantine_table(found.quarantine[:MOST_SHOWN])
    if not found.differing and not found.quarantined:
        return dg.AssetCheckResult(passed=True, description=_all_equal(found), metadata=metadata)
    if not found.differing:
        return dg.AssetCheckResult(
            passed=False,
            severity=dg.AssetCheckSeverity.ERROR,
            description=sentence(tally, found),
            metadata=metadata,
        )
    runs = tally.windows.runs(found.days)
    if runs:
        metadata["windows"] = dg.MetadataValue.text(spelled_out(runs))
    metadata["keys"] = differences_table(tally, found.differences[:MOST_SHOWN])
    commands = " && ".join(repair_commands(tally, found.days))
    metadata["to_resolve"] = dg.MetadataValue.text(commands)
    metadata[incidents.REPAIR] = dg.MetadataValue.json(repair_of(tally, found))
    return dg.AssetCheckResult(
        passed=False,
        severity=dg.AssetCheckSeverity.ERROR,
        description=sentence(tally, found),
        metadata=metadata,
    )


def quarantine_table(quarantined: Sequence[Quarantined]) -> dg.TableMetadataValue:
    """One record per key in quarantine: what there should be for it, and why it cannot be."""
    records = [
        dg.TableRecord(
            {
                "key": brief(each.key),
                "value": brief(each.rows),
                "reason": brief(each.reason),
                "since": f"{each.since:%Y-%m-%d %H:%M:%S %Z}",
            }
        )
        for each in quarantined
    ]
    names = ("key", "value", "reason", "since")
    return dg.MetadataValue.table(records, dg.TableSchema([dg.TableColumn(n) for n in names]))


def _all_equal(found: Verification) -> str:
    if not found.compared and not found.whole:
        return (
            "No key was compared: there is none in what was written since it was last found right."
        )
    if not found.compared:
        return "There is nothing to compare: the table and what it should hold are empty."
    return f"{found.compared:,} {'key' if found.compared == 1 else 'keys'} compared: all equal."


def differences_table(tally: Tally, differences: Sequence[Difference]) -> dg.TableMetadataValue:
    """One record per differing key: the key, and each measure as stored and as expected."""
    columns = [*tally.key, *(f"{m} ({side})" for m in measures_of(tally) for side in SIDES)]
    records = [dg.TableRecord(record) for record in records_of(tally, differences)]
    schema = dg.TableSchema([dg.TableColumn(name) for name in columns])
    return dg.MetadataValue.table(records, schema)

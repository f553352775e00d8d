"""What a comparison found, in words and as plain data, for checks and for the command line.

Which incident follows from it, too: the check `matches_source` and `tally verify` say the same of
one difference, so that an incident that either opened is resolved by either. No Dagster here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from tallykeeper import Difference, Tally, Verification, capture_faults, likely_cause
from tallykeeper.catalog.state import is_there
from tallykeeper.dagster_names import asset_address
from tallykeeper.declarations.windows import FIRST_DAY, LAST_DAY, Windows
from tallykeeper.faults import incidents, manual_writes
from tallykeeper.operations.partition_windows import spelled_out

# With more runs of days than this, one command for everything is easier than one for each.
MOST_COMMANDS = 5
# With more differing keys, or runs of days, than these a repair rebuilds everything.
MOST_REPAIRED_KEYS = 1_000
MOST_REPAIRED_RUNS = 100
# Of a key or a value that is in quarantine.
MOST_CHARACTERS = 200
MOST_KEYS = 10
NO_ROW = "no row"
SIDES = ("stored", "expected")
VERIFY = "tally verify"


def sentence(tally: Tally, found: Verification) -> str:
    """What is wrong, of a comparison that found something: keys that differ, or in quarantine."""
    if not found.differing:
        return _quarantined(found)
    runs = tally.windows.runs(found.days)
    keys = "key differs" if found.differing == 1 else "keys differ"
    where = f", on {spelled_out(runs)}" if runs else ""
    said = f"{found.differing:,} {keys} from the sources{where}."
    return f"{said} {_quarantined(found)}".strip()


def record(connection: Connection, tally: Tally, found: Verification) -> None:
    """Open, count or resolve the incidents of a tally all of which `tally verify` compared.

    As the checks `matches_source` and `capture_intact` would have it, and of writes by hand.
    """
    if not is_there(connection, incidents.incidents):
        return
    manual_writes.look(connection, [tally.name])
    faults = capture_faults(connection, tally)
    if faults:
        what = "; ".join(faults)
        _report(connection, tally, incidents.CAPTURE, what, cause=what, to_resolve="tally migrate")
    else:
        incidents.resolve(connection, tally.name, incidents.CAPTURE, VERIFY)
    if found.stale:
        return
    if not found.differing and not found.quarantined:
        incidents.resolve(connection, tally.name, incidents.DIFFERS, VERIFY)
        return
    details: dict[str, Any] = {}
    if found.differing:
        details["to_resolve"] = " && ".join(repair_commands(tally, found.days))
        details[incidents.REPAIR] = repair_of(tally, found)
        details["keys"] = records_of(tally, found.differences[:MOST_KEYS])
        if found.days:
            details["windows"] = spelled_out(tally.windows.runs(found.days))
    is_new = incidents.open_of(connection, tally.name, incidents.DIFFERS) is None
    _report(
        connection,
        tally,
        incidents.DIFFERS,
        sentence(tally, found),
        cause=likely_cause(connection, tally) if is_new else None,
        differing=found.differing,
        **details,
    )


def _report(
    connection: Connection,
    tally: Tally,
    kind: str,
    what: str,
    *,
    cause: str | None,
    differing: int | None = None,
    **details: Any,
) -> None:
    before = incidents.open_of(connection, tally.name, kind)
    # What a check said of it stays, such as that a repair was asked for.
    known = before.details if before is not None else {"asset": asset_address(tally.name)}
    incidents.report(
        connection,
        tally.name,
        kind,
        what,
        cause=cause,
        differing=differing,
        details={**known, **details},
    )


def repair_of(tally: Tally, found: Verification) -> dict[str, Any]:
    """What a repair has to rebuild, as JSON: the config of the job `repair`, but for the incident.

    `days` are runs of windows, each by its first and its last, by their first days; `keys` the
    differing keys of a tally without. Where they are too many, or not all known, `everything`.
    """
    runs = tally.windows.runs(found.days)
    days = [[first, last] for first, last in runs] if len(runs) <= MOST_REPAIRED_RUNS else None
    keys = None
    if tally.time_key is None and len(found.differences) == found.differing:
        keys = [difference.key for difference in found.differences]
    return {
        "tally": tally.name,
        "days": days or None,
        "keys": keys,
        "everything": not days and not keys,
    }


def records_of(tally: Tally, differences: Sequence[Difference]) -> list[dict[str, str]]:
    """One record per differing key: the key, and each measure as stored and as expected."""
    records = []
    for difference in differences:
        values = {name: _shown(difference.key.get(name)) for name in tally.key}
        for measure in measures_of(tally):
            for side in SIDES:
                values[f"{measure} ({side})"] = _side(getattr(difference, side), measure)
        records.append(values)
    return records


def measures_of(tally: Tally) -> Sequence[str]:
    """The measures; of a table that has none, that a row is there."""
    return tally.measures or ("row",)


def repair_commands(tally: Tally, days: Sequence[str]) -> list[str]:
    """The commands that rebuild the windows of `days`, or the whole tally if they are many."""
    runs = tally.windows.runs(days)
    if not runs or len(runs) > MOST_COMMANDS:
        return [f"tally rebuild {tally.name}"]
    bounds = (_bounds(tally.windows, first, last) for first, last in runs)
    return [f"tally rebuild {tally.name}{each}" for each in bounds]


def _bounds(windows: Windows, first: str, last: str) -> str:
    # What lies beyond Python's dates is reported on the first or the last day there is.
    start = "" if first == FIRST_DAY else f" --from {first}"
    end = "" if last == LAST_DAY else f" --to {windows.next(last)}"
    return start + end


def _quarantined(found: Verification) -> str:
    """In words: what is in quarantine, of which a rebuild changes nothing."""
    if not found.quarantine:
        return ""
    keys = "key is" if found.quarantined == 1 else "keys are"
    first = found.quarantine[0]
    return (
        f"{found.quarantined:,} {keys} in quarantine, which the derived table cannot hold; the"
        f" first is {brief(first.key)}: {brief(first.rows)}, {brief(first.reason)}. It ends by"
        " itself when the value fits: change the sources, or the table."
    )


def brief(value: object) -> str:
    """The value as JSON, cut off where it is long."""
    written = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return written if len(written) <= MOST_CHARACTERS else f"{written[:MOST_CHARACTERS]}..."


def _side(values: dict[str, object] | None, measure: str) -> str:
    if values is None:
        return NO_ROW
    return _shown(values[measure]) if measure in values else "present"


def _shown(value: object) -> str:
    return "null" if value is None else str(value)

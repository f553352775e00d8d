"""What an asset's materializations say of its incidents: how many are open, and the recent ones."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg
from sqlalchemy import Connection, Engine

from tallykeeper import Incident, Tally
from tallykeeper.catalog import state
from tallykeeper.faults import incidents

RECENT = timedelta(days=30)
MOST_LISTED = 50
COLUMNS = ("found", "what", "cause", "differing", "resolved")


def of_tally(engine: Engine, tally: Tally) -> dict[str, dg.MetadataValue]:
    """The number of open incidents of `tally`, and those open or resolved in the last 30 days."""
    with engine.connect() as connection:
        if not state.is_there(connection, incidents.incidents):
            return {}
        found = incidents.listed(connection, subject=tally.name, limit=MOST_LISTED)
    since = datetime.now(UTC) - RECENT
    recent = [i for i in found if i.resolved_at is None or i.resolved_at > since]
    metadata: dict[str, dg.MetadataValue] = {
        "incidents_open": dg.MetadataValue.int(sum(i.is_open for i in recent))
    }
    if recent:
        metadata["incidents"] = _table(recent)
    return metadata


def of_table(connection: Connection) -> dict[str, dg.MetadataValue]:
    """What the asset of the table of incidents says of it: those that are open, and the recent."""
    found = incidents.listed(connection, limit=MOST_LISTED)
    metadata: dict[str, dg.MetadataValue] = {
        "incidents_open": dg.MetadataValue.int(sum(i.is_open for i in found)),
        "latest": dg.MetadataValue.text(_latest(found)),
    }
    if found:
        metadata["incidents"] = _table(found, ("subject", *COLUMNS))
    return metadata


def _latest(found: Sequence[Incident]) -> str:
    if not found:
        return "none was ever found"
    one = max(found, key=lambda i: max(i.last_found_at, i.resolved_at or i.last_found_at))
    return f"{one.subject}: {one.what}" if one.is_open else f"{one.subject} is right again"


def _table(found: Sequence[Incident], columns: Sequence[str] = COLUMNS) -> dg.TableMetadataValue:
    records = [
        dg.TableRecord(
            {
                **({"subject": incident.subject} if "subject" in columns else {}),
                "found": _moment(incident.found_at),
                "what": incident.what,
                "cause": incident.cause or "",
                "differing": "" if incident.differing is None else f"{incident.differing:,}",
                "resolved": _resolved(incident),
            }
        )
        for incident in found
    ]
    return dg.MetadataValue.table(records, dg.TableSchema([dg.TableColumn(c) for c in columns]))


def _resolved(incident: Incident) -> str:
    if incident.resolved_at is None:
        return "not yet"
    return f"{_moment(incident.resolved_at)} ({incident.resolved_by})"


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"

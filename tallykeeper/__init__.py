"""Incremental view maintenance in PostgreSQL: derived tables that equal what their sources say.

The names of this module are the library's interface: what declares tallies (`System`,
`SelectTally`, `RecomputedTally`), installs and removes them (`migrate`, `drop`),
maintains them (`refresh`, `rebuild`, `backfill`), proves them (`verify`, `audit`) and watches them
(`status`, `Incident`). They need no extra; the packages `dagster`, `http` and others beside them
do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tallykeeper.database.connections import open_engine
from tallykeeper.declarations.batches import Batches, Lane
from tallykeeper.declarations.tally import MAY_BE_NULL, Everything, KeyFilter, Tally, TimeKey
from tallykeeper.declarations.windows import Windows
from tallykeeper.errors import (
    BadLane,
    BadWindow,
    CannotPrune,
    DeclarationError,
    DoesNotFit,
    HasDependents,
    NotInstalled,
    NotPermitted,
    TallyBusy,
    TallyError,
)
from tallykeeper.faults.incident_retention import incidents_ever, prune_incidents
from tallykeeper.faults.incidents import Incident
from tallykeeper.faults.quarantine import Quarantined
from tallykeeper.installation.install import install
from tallykeeper.maintain.audit import Audit, Audited, audit
from tallykeeper.maintain.backfill.run import Backfilled, BackfillRunning, Progress, backfill
from tallykeeper.maintain.derived_rows import Refreshed, Written
from tallykeeper.maintain.pruning.prune import Pruned, PruneProgress, prune
from tallykeeper.maintain.refresh import rebuild, rebuild_keys, refresh
from tallykeeper.maintain.status import (
    Status,
    UnfinishedLane,
    capture_faults,
    pending_up_to,
    status,
)
from tallykeeper.maintain.verify import Difference, Verification, verify
from tallykeeper.operations.likely_cause import likely_cause
from tallykeeper.select.tally import SelectTally
from tallykeeper.strategies.recomputed import Capture, RecomputedTally
from tallykeeper.system import System, Waiting

if TYPE_CHECKING:
    from tallykeeper.installation.migrate import migrate
    from tallykeeper.installation.removal.drop import drop

__all__ = [
    "MAY_BE_NULL",
    "Audit",
    "Audited",
    "BackfillRunning",
    "Backfilled",
    "BadLane",
    "BadWindow",
    "Batches",
    "CannotPrune",
    "Capture",
    "DeclarationError",
    "Difference",
    "DoesNotFit",
    "Everything",
    "HasDependents",
    "Incident",
    "KeyFilter",
    "Lane",
    "NotInstalled",
    "NotPermitted",
    "Progress",
    "PruneProgress",
    "Pruned",
    "Quarantined",
    "RecomputedTally",
    "Refreshed",
    "SelectTally",
    "Status",
    "System",
    "Tally",
    "TallyBusy",
    "TallyError",
    "TimeKey",
    "UnfinishedLane",
    "Verification",
    "Waiting",
    "Windows",
    "Written",
    "audit",
    "backfill",
    "capture_faults",
    "drop",
    "incidents_ever",
    "install",
    "likely_cause",
    "migrate",
    "open_engine",
    "pending_up_to",
    "prune",
    "prune_incidents",
    "rebuild",
    "rebuild_keys",
    "refresh",
    "status",
    "verify",
]


def __getattr__(name: str) -> Any:
    # Migrations take a while to import, and what reads or refreshes runs none.
    if name == "migrate":
        from tallykeeper.installation.migrate import migrate

        return migrate
    if name == "drop":
        from tallykeeper.installation.removal.drop import drop

        return drop
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

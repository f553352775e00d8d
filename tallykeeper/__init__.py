"""The engine: keeps derived tables in PostgreSQL exactly equal to their sources.

What a tally is (`tally`, `additive`, `recomputed`, `system`), how changes are captured
(`capture`, `install`), how tables are brought up to date (`refresh`), read (`live`), proven
(`verify`, `audit`) and watched (`status`). It knows SQL; it knows no Dagster and no particular
system.
"""

from tallykeeper.declarations.tally import MAY_BE_NULL, Everything, Scope, Tally, Window
from tallykeeper.errors import (
    BadLane,
    BadWindow,
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
from tallykeeper.strategies.additive import AdditiveTally, Contribution
from tallykeeper.strategies.batches import Batches, Lane
from tallykeeper.strategies.recomputed import Capture, RecomputedTally
from tallykeeper.system import System, Waiting

__all__ = [
    "MAY_BE_NULL",
    "AdditiveTally",
    "Audit",
    "Audited",
    "BackfillRunning",
    "Backfilled",
    "BadLane",
    "BadWindow",
    "Batches",
    "Capture",
    "Contribution",
    "DeclarationError",
    "Difference",
    "DoesNotFit",
    "Everything",
    "HasDependents",
    "Incident",
    "Lane",
    "NotInstalled",
    "NotPermitted",
    "Progress",
    "Quarantined",
    "RecomputedTally",
    "Refreshed",
    "Scope",
    "Status",
    "System",
    "Tally",
    "TallyBusy",
    "TallyError",
    "UnfinishedLane",
    "Verification",
    "Waiting",
    "Window",
    "Written",
    "audit",
    "backfill",
    "capture_faults",
    "incidents_ever",
    "install",
    "likely_cause",
    "pending_up_to",
    "prune_incidents",
    "rebuild",
    "rebuild_keys",
    "refresh",
    "status",
    "verify",
]

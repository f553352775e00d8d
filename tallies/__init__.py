"""The engine: keeps derived tables in PostgreSQL exactly equal to their sources.

What a tally is (`tally`, `additive`, `recomputed`, `system`), how changes are captured
(`capture`, `install`), how tables are brought up to date (`refresh`), read (`live`), proven
(`verify`, `audit`) and watched (`status`). It knows SQL; it knows no Dagster and no particular
system.
"""

from tallies.additive import AdditiveTally, Contribution
from tallies.audit import Audit, Audited, audit
from tallies.backfill import Backfilled, BackfillRunning, Progress, backfill
from tallies.batches import Batches, Lane
from tallies.causes import likely_cause
from tallies.errors import (
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
from tallies.incidents import Incident
from tallies.install import install
from tallies.pruning import incidents_ever, prune_incidents
from tallies.quarantine import Quarantined
from tallies.recomputed import Capture, RecomputedTally
from tallies.refresh import rebuild, rebuild_keys, refresh
from tallies.status import Status, UnfinishedLane, capture_faults, pending_up_to, status
from tallies.system import System, Waiting
from tallies.tally import MAY_BE_NULL, Everything, Scope, Tally, Window
from tallies.verify import Difference, Verification, verify
from tallies.writing import Refreshed, Written

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

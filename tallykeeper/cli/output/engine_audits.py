"""What `tally audit` shows: that an engine's rows are equal, which differ, or why it has none."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console

from tallykeeper.cli.output.tallies import show_verification

if TYPE_CHECKING:
    from tallykeeper.engines.audit import EngineAudit


def show_audit(result: EngineAudit, console: Console) -> None:
    """One line where all is well; else the keys that differ, or why it was refused."""

    def line(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    by = f"{result.engine} {result.version}"
    if result.found is None:
        line(f"{result.tally}: refused for {by}: {result.refused}")
        return
    if not result.found.ok:
        show_verification(result.found, console)
        line(
            f"{result.tally}: {by} differs; `tally verify {result.tally}` says whether PostgreSQL"
            " does too"
        )
        return
    line(f"{result.tally}: {result.found.compared:,} keys equal by {by} in {result.seconds:.2f} s")
    for rule in result.rules:
        line(f"  {rule}")


def audit_fields(result: EngineAudit) -> dict[str, Any]:
    """The object of one tally in JSON."""
    found = None if result.found is None else asdict(result.found) | {"ok": result.found.ok}
    return asdict(result) | {"ok": result.ok, "found": found}

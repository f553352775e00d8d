"""What a change is: who does what, and what must come of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Role = Literal["superuser", "application", "owner", "refresher", "writer", "reader"]
BedName = Literal["sales", "visits", "lines", "media"]
Outcome = Literal["unharmed", "named", "refused", "blocked", "audited"]

OUTCOMES: dict[Outcome, str] = {
    "unharmed": "All figures stay right, and nothing is reported.",
    "named": "`tally status` says what is wrong, with its cause.",
    "refused": "Reading fails with an error that says why.",
    "blocked": "The change itself is refused.",
    "audited": "Not seen by `tally status`; the next comparison with the sources finds it.",
}


@dataclass(frozen=True)
class Change:
    """One thing that a role can do to an installation.

    `does` are statements, each its own transaction; `says` is a part of what the status, the
    error of a read, or the refusal says. `after` is what `tally migrate` and `tally refresh` make
    of it: everything right again, or a refusal or report that contains that text. `writes` are
    the application's own statements after the change, besides the bed's. `undo` is for what
    outlives the database. `because` says why nothing sees it, or why the application's writes fail.
    """

    name: str
    role: Role
    does: str | Sequence[str]
    outcome: Outcome = "unharmed"
    says: str = ""
    after: str = "right"
    bed: BedName = "sales"
    writes: Sequence[str] = ()
    undo: Sequence[str] = ()
    because: str = ""
    breaks_writes: bool = False
    since: int = 15
    until: int = 99
    everywhere: bool = False

    @property
    def is_harmless(self) -> bool:
        """Whether all must stay as it was."""
        return self.outcome == "unharmed" and self.after == "right"

    @property
    def statements(self) -> tuple[str, ...]:
        return (self.does,) if isinstance(self.does, str) else tuple(self.does)

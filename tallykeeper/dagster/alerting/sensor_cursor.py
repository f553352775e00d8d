"""What the sensor `alerts` remembers in Dagster from one look to the next: its cursor, as text.

Nothing that counts: which events were processed, and what was notified, is in the database. Here is
what must be known while that cannot be reached, and since when somebody looks.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import datetime


@dataclass(frozen=True)
class Memory:
    """`event` is the last one processed, for people; `looked_at` when the last look was finished.

    `looking_since` is the first look of an unbroken row of them. `unreachable_since` is when the
    database was first not to be reached, `notified_unreachable` whether people were notified.
    """

    event: int | None = None
    looked_at: datetime | None = None
    looking_since: datetime | None = None
    unreachable_since: datetime | None = None
    notified_unreachable: bool = False

    @classmethod
    def of(cls, cursor: str | None) -> Memory:
        """What `spelled` wrote; nothing is remembered of a cursor that somebody set by hand."""
        try:
            known = json.loads(cursor or "")
            return cls(
                event=known["event"],
                looked_at=_moment(known["looked_at"]),
                looking_since=_moment(known["looking_since"]),
                unreachable_since=_moment(known["unreachable_since"]),
                notified_unreachable=bool(known["notified_unreachable"]),
            )
        except (ValueError, TypeError, KeyError):
            return cls()

    def spelled(self) -> str:
        """The cursor."""
        return json.dumps(
            {k: v.isoformat() if isinstance(v, datetime) else v for k, v in asdict(self).items()}
        )

    def since(self, now: datetime) -> datetime:
        """Since when somebody looks."""
        return self.looking_since or now

    def after_look(self, event: int | None, now: datetime) -> Memory:
        """What is remembered after a look that was begun at `now` and went well."""
        return replace(
            Memory(event=event or self.event, looked_at=now), looking_since=self.since(now)
        )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)

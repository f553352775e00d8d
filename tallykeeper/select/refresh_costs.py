"""What refreshes of a tally took, to tell when computing the whole SELECT would take less.

The planner's estimates are of no use for that. Measured are the seconds of the last computation of
everything, and the seconds that a pending change of each source takes; before anything is measured
a share of the sources' rows is the bound. Where much is pending of several sources at once, what a
refresh took is put down to each in proportion to what was expected of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.postgresql import insert

from tallykeeper.catalog.state import refresh_costs
from tallykeeper.database import sql
from tallykeeper.select.tally import SelectTally

# So many pending changes are always computed by themselves.
FEWEST = 1_000
# Of so many pending changes it can be measured what one takes.
MEASURED = 100
# Before it was measured: where so large a share of the sources' rows is pending, all is less.
SHARE = 0.1


@dataclass(frozen=True)
class Costs:
    """Seconds of everything, None where they are not known, and of a pending change by source.

    `source_rows` is about how many rows the sources have.
    """

    all_seconds: float | None
    row_seconds: Mapping[int, float]
    source_rows: float

    def of_row(self, part: int) -> float | None:
        """About how long a pending change of the source takes."""
        if part in self.row_seconds:
            return self.row_seconds[part]
        if self.all_seconds is None:
            return None
        return self.all_seconds / max(FEWEST, self.source_rows * SHARE)

    def expected(self, pending: Mapping[int, int]) -> float | None:
        """About how long these numbers of pending changes take."""
        seconds = [(self.of_row(part), rows) for part, rows in pending.items()]
        return sum((each or 0.0) * rows for each, rows in seconds)

    def is_less_for_all(self, pending: Mapping[int, int]) -> bool:
        """Whether computing everything is likely to take less than these pending changes."""
        if sum(pending.values()) <= FEWEST or self.all_seconds is None:
            return False
        expected = self.expected(pending)
        return expected is not None and expected > self.all_seconds

    @property
    def most_pending(self) -> int:
        """So many pending changes take about as long as everything, whatever source they are of."""
        slowest = max(self.row_seconds.values(), default=self.of_row(-1) or 0.0)
        if self.all_seconds is None or not slowest:
            return max(FEWEST, int(self.source_rows * SHARE))
        return max(FEWEST, int(self.all_seconds / slowest))


def read(connection: Connection, tally: SelectTally) -> Costs:
    """What is known."""
    columns = refresh_costs.c
    row = connection.execute(
        select(columns.all_seconds, columns.row_seconds).where(columns.tally == tally.name)
    ).one_or_none()
    names = ", ".join(f"{sql.literal(sql.name_of(s))}::regclass" for s in tally.sources)
    rows = sql.execute(
        connection,
        "WITH RECURSIVE tree (oid) AS (SELECT unnest(ARRAY["
        f"{names}]::oid[]) UNION SELECT i.inhrelid FROM pg_inherits AS i JOIN tree ON"
        " i.inhparent = tree.oid) SELECT coalesce(sum(greatest(c.reltuples, 0)) FILTER"
        " (WHERE c.relkind = 'r'), 0) FROM pg_class AS c WHERE c.oid IN (SELECT oid FROM tree)",
    ).scalar_one()
    if row is None:
        return Costs(None, {}, rows)
    by_part = {int(part): float(seconds) for part, seconds in (row.row_seconds or {}).items()}
    return Costs(row.all_seconds, by_part, rows)


def record_all(connection: Connection, tally: SelectTally, seconds: float) -> None:
    """Remember how long computing everything took."""
    known = read(connection, tally)
    _write(connection, tally, Costs(seconds, known.row_seconds, known.source_rows))


def record_changes(
    connection: Connection, tally: SelectTally, pending: Mapping[int, int], seconds: float
) -> None:
    """Remember how long these pending changes took, where they were many enough to tell."""
    many = {part: rows for part, rows in pending.items() if rows >= MEASURED}
    if not many:
        return
    known = read(connection, tally)
    expected = known.expected(many)
    by_part = dict(known.row_seconds)
    for part in many:
        before = known.of_row(part)
        if before and expected:
            # Half way from what was expected to what it took.
            by_part[part] = before * (1 + seconds / expected) / 2
        else:
            by_part[part] = seconds / sum(many.values())
    _write(connection, tally, Costs(known.all_seconds, by_part, known.source_rows))


def _write(connection: Connection, tally: SelectTally, costs: Costs) -> None:
    values: dict[str, Any] = {
        "all_seconds": costs.all_seconds,
        "row_seconds": {str(part): seconds for part, seconds in costs.row_seconds.items()},
        "most_pending": costs.most_pending,
        "measured_at": func.now(),
    }
    statement = insert(refresh_costs).values(tally=tally.name, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["tally"], set_=values))

"""What refreshes of a tally took, to tell when computing the whole SELECT would take less.

The planner's estimates are of no use for that. Measured are the seconds of the last computation of
everything, and the seconds that a pending change of each source takes, beyond what any refresh
takes. Before anything is measured a share of the source's rows is the bound: a row of a small table
that everything hangs on takes as long as many of a large one. Where changes are pending of several
sources at once, what a refresh took is put down to each in proportion to what was expected of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func
from sqlalchemy.dialects.postgresql import insert

from tallykeeper.catalog.state import refresh_costs
from tallykeeper.database import sql
from tallykeeper.select.tally import SelectTally

# So many pending changes are computed by themselves, unless it was measured that they take longer.
FEWEST = 1_000
# Of so many pending changes it can be measured what one takes; of fewer, if they took this long
# compared with everything.
MEASURED, MEASURED_SHARE = 100, 0.5
# Before it was measured: where so large a share of a source's rows is pending, all is less. States
# are built with it, so that computing everything takes several times what the SELECT takes.
SHARE = 1.0
# The same for live views, which read the SELECT alone.
LIVE_SHARE = 0.1
# What a refresh may take however few the changes. It is better too long: the next refresh of many
# changes then measures what they take, instead of computing everything for ever.
REFRESH_SECONDS = 0.1
# Changes may take so long however quickly everything was computed.
LEAST_SECONDS = 1.0
# A change is expected to take so much less each time that it is not tried: it was measured once,
# perhaps while the machine was busy. What takes ten times as long is tried again after 45 times.
BELIEVED = 0.95
# So many changes are measured well enough to forget what was measured before.
MANY = 10_000


@dataclass(frozen=True)
class Costs:
    """Seconds of everything, None where they are not known, and of a pending change by source.

    `source_rows` is about how many rows the sources have, by their number.
    """

    all_seconds: float | None
    row_seconds: Mapping[int, float]
    source_rows: Mapping[int, float]

    def of_row(self, part: int) -> float | None:
        """About how long a pending change of the source takes."""
        if part in self.row_seconds:
            return self.row_seconds[part]
        if self.all_seconds is None:
            return None
        return self.all_seconds / max(1.0, self.source_rows.get(part, 0.0) * SHARE)

    def expected(self, pending: Mapping[int, int]) -> float:
        """About how long these numbers of pending changes take."""
        return sum((self.of_row(part) or 0.0) * rows for part, rows in pending.items())

    def is_less_for_all(self, pending: Mapping[int, int]) -> bool:
        """Whether computing everything is likely to take less than these pending changes."""
        if self.all_seconds is None:
            return False
        if sum(pending.values()) <= FEWEST:
            pending = {part: rows for part, rows in pending.items() if part in self.row_seconds}
        return self.expected(pending) > self.all_seconds

    @property
    def most_seconds(self) -> float | None:
        """How long the computation of changes may take before everything is computed instead."""
        if self.all_seconds is None:
            return None
        return max(LEAST_SECONDS, self.all_seconds)

    @property
    def most_pending(self) -> int:
        """So many pending changes take about as long as everything.

        They are as those of the largest source that was measured: what is pending is mostly that.
        """
        if self.all_seconds is None or not self.row_seconds:
            return max(FEWEST, int(sum(self.source_rows.values()) * LIVE_SHARE))
        largest = max(self.row_seconds, key=lambda part: self.source_rows.get(part, 0.0))
        return max(FEWEST, int(self.all_seconds / max(self.row_seconds[largest], 1e-9)))


def read(connection: Connection, tally: SelectTally) -> Costs:
    """What is known."""
    return known(sql.execute(connection, f"SELECT {columns(tally)}").one())


def columns(tally: SelectTally) -> str:
    """The columns of a SELECT that `known` reads."""
    parts = ", ".join(
        f"({each.part}, {sql.literal(f'{sql.quote(each.schema)}.{sql.quote(each.table)}')}"
        "::regclass::oid)"
        for each in tally.plan.captured
    )
    source_rows = "NULL::jsonb"
    if parts:
        source_rows = (
            f"(WITH RECURSIVE tree (part, oid) AS (VALUES {parts}"
            " UNION SELECT tree.part, i.inhrelid FROM pg_inherits AS i JOIN tree ON"
            " i.inhparent = tree.oid)"
            " SELECT jsonb_object_agg(part, rows) FROM (SELECT part, coalesce(sum(greatest("
            "c.reltuples, 0)) FILTER (WHERE c.relkind = 'r'), 0) AS rows"
            " FROM tree JOIN pg_class AS c ON c.oid = tree.oid GROUP BY part) AS r)"
        )
    return (
        f"(SELECT to_jsonb(c) FROM {sql.name_of(refresh_costs)} AS c"
        f" WHERE c.tally = {sql.literal(tally.name)}) AS costs, {source_rows} AS source_rows"
    )


def known(row: Row[Any]) -> Costs:
    """What is known, from the row of such a SELECT."""
    costs = row.costs or {}
    return Costs(
        costs.get("all_seconds"),
        {int(part): float(seconds) for part, seconds in (costs.get("row_seconds") or {}).items()},
        {int(part): float(rows) for part, rows in (row.source_rows or {}).items()},
    )


def record_all(
    connection: Connection, tally: SelectTally, seconds: float, untried: Collection[int] = ()
) -> None:
    """Remember how long computing everything took.

    `untried` are the sources whose pending changes were not tried because they were expected to
    take longer. That is believed a little less each time, so that it is measured again some day.
    """
    before = read(connection, tally)
    by_part = {
        part: took * BELIEVED if part in untried else took
        for part, took in before.row_seconds.items()
    }
    _write(connection, tally, Costs(seconds, by_part, before.source_rows))


def record_changes(
    connection: Connection,
    tally: SelectTally,
    pending: Mapping[int, int],
    seconds: float,
    known: Costs,
) -> None:
    """Remember how long these pending changes took, if they were many, or took long.

    `known` is what was known before.
    """
    took_long = known.all_seconds is not None and seconds > known.all_seconds * MEASURED_SHARE
    measured = dict(pending)
    if not took_long:
        measured = {part: rows for part, rows in pending.items() if rows >= MEASURED}
    if not measured:
        return
    of_changes = max(seconds - REFRESH_SECONDS, seconds / 10)
    expected = known.expected(measured)
    by_part = dict(known.row_seconds)
    for part in measured:
        before = known.of_row(part)
        took = of_changes / sum(measured.values())
        if before and expected:
            took = before * of_changes / expected
        if sum(measured.values()) < MANY:
            # Half way from what was measured before.
            took = (took + by_part.get(part, took)) / 2
        by_part[part] = took
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

"""The INSERTs by which triggers log what changes add to the keys of a tally of counts and sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Table

from tallykeeper.database import sql
from tallykeeper.declarations.tally import SIDES, Event
from tallykeeper.select.plan import ROW, Summed, SummedSource
from tallykeeper.strategies.counts_and_sums import CountsAndSums

_SIGNS = {"old_rows": -1, "new_rows": 1}


class SummedRows:
    """What capture writes of one tally."""

    def __init__(self, summed: Summed, sums: CountsAndSums) -> None:
        self.summed = summed
        self.sums = sums

    def of(self, source: Table) -> Sequence[SummedSource]:
        """How the rows of a source add to keys."""
        named = (source.schema or "public", source.name)
        return [s for s in self.summed.sources if (s.schema, s.table) == named]

    def one(self, source: Table, event: Event) -> list[str]:
        """For a statement that inserted or deleted one row."""
        side = SIDES[event][0]
        parts = [self.added(each, side, _SIGNS[side]) for each in self.of(source)]
        return [self.sums.insert_into_log("\n  UNION ALL ".join(parts))]

    def update(self, source: Table) -> list[tuple[str, str]]:
        """For a statement that updated one row: when it matters, and what is logged then."""
        return [
            (
                _differs(each),
                self.sums.insert_into_log(
                    "\n  UNION ALL ".join(
                        self.added(each, side, _SIGNS[side]) for side in SIDES["update"]
                    )
                ),
            )
            for each in self.of(source)
        ]

    def many(self, source: Table, event: Event) -> list[str]:
        """For any statement."""
        return [self.sums.insert_summed(self.amounts(source, event))]

    def amounts(self, source: Table, event: Event) -> list[str]:
        """SELECTs of the columns: what the rows of a statement on `source` add and take off."""
        return [
            self.added(each, side, _SIGNS[side], many=True)
            for each in self.of(source)
            for side in SIDES[event]
        ]

    def rows(self, relations: Mapping[tuple[str, str], str]) -> str:
        """A SELECT of the tally's rows, where `relations` are read for sources by schema and table.

        As the SELECT has them, and without any row that the log or the derived table holds.
        """
        parts = []
        for each in self.summed.sources:
            named = (each.schema, each.table)
            own = f"{sql.quote(each.schema)}.{sql.quote(each.table)}"
            parts.append(self.added(each, relations.get(named, own), 1))
        return self.sums.added_up("\n    UNION ALL ".join(parts))

    def added(self, each: SummedSource, relation: str, sign: int, *, many: bool = False) -> str:
        """A SELECT of what the rows of a relation, which are like the source's, add to keys."""
        minus = "-" if sign < 0 else ""
        keys = each.key_of_many if many else each.key
        values = dict(zip(self.summed.key, keys, strict=True))
        for amount, name in zip(each.amounts, self.summed.measures, strict=True):
            # The smallest integer has no negative of its own type.
            wide = sql.type_name(self.sums.delta_type(name))
            values[name] = f"{minus}1" if amount == "1" else f"{minus}coalesce({amount}, 0)::{wide}"
        listed = ", ".join(f"{values[n]} AS {sql.quote(n)}" for n in self.sums.tally.columns)
        where = f" WHERE {each.condition}" if each.condition is not None else ""
        return f"SELECT {listed} FROM {relation} AS {ROW}{where}"


def _differs(each: SummedSource) -> str:
    """Whether the one old row and the one new row add differently."""
    expressions = [*each.key, *(a for a in each.amounts if a != "1")]
    expressions += [each.condition] if each.condition is not None else []
    sides = [[e.replace(f"{ROW}.", f"{side}.") for e in expressions] for side in SIDES["update"]]
    pairs = [f"({a}) IS DISTINCT FROM ({b})" for a, b in zip(*sides, strict=True) if a != b]
    return " OR ".join(pairs) or "false"

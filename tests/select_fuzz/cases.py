"""A case: a schema, its first rows, SELECTs and transactions, all as plain text made of a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.select_fuzz import schemas
from tests.select_fuzz.queries import Queries
from tests.select_fuzz.writes import Transaction, Writes

SELECTS = 8
"""So many SELECTs over one schema."""


@dataclass(frozen=True)
class Case:
    """What is run; after each of the rounds all tallies are refreshed."""

    seed: int
    ddl: tuple[str, ...]
    rows: tuple[str, ...]
    selects: dict[str, str]
    rounds: tuple[tuple[tuple[str, ...], ...], ...] = field(default=())

    def transactions(self) -> Iterator[tuple[str, ...]]:
        """All transactions in order."""
        for each in self.rounds:
            yield from each

    def script(self) -> str:
        """The case as SQL, to be read and replayed."""
        lines = [f"-- seed {self.seed}", *(f"{s};" for s in self.ddl), "", "-- first rows"]
        lines += [f"{s};" for s in self.rows]
        for name, text in self.selects.items():
            lines += ["", f"-- tally {name}", f"{text};"]
        for number, round_ in enumerate(self.rounds, 1):
            lines += ["", f"-- round {number}"]
            for transaction in round_:
                lines += ["BEGIN;", *(f"{s};" for s in transaction), "COMMIT;"]
            lines.append("-- refresh")
        return "\n".join(lines)


def make(
    seed: int, *, selects: int = SELECTS, rounds: int = 4, transactions: int = 4, rare: float = 0.01
) -> Case:
    """The case of a seed, the same each time."""
    rng = random.Random(seed)
    tables = schemas.schema(rng)
    writes = Writes(rng, tables)
    queries = Queries(rng, tables, rare)
    rows = tuple(writes.initial())
    texts = {f"t{n}": queries.select() for n in range(1, selects + 1)}
    made: list[tuple[Transaction, ...]] = []
    for _ in range(rounds):
        number = rng.randint(1, transactions)
        made.append(tuple(writes.transaction() for _ in range(number)))
    frozen = tuple(tuple(tuple(t) for t in round_) for round_ in made)
    return Case(seed, tuple(schemas.ddl(tables)), rows, texts, frozen)


def writer(seed: int) -> Writes:
    """Writes to the tables of a seed's case, other ones than those of the case itself."""
    tables = schemas.schema(random.Random(seed))
    return Writes(random.Random(seed + 10_000_000), tables)

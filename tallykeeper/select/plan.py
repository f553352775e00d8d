"""What the compiler makes of one SELECT: what is captured and stored, and which statements run.

A plan is plain data. `tally migrate` compiles it against the database and stores it there; refresh,
live view and `tally explain` read it and never parse SQL.

Invariants: the statement of `changes` reads the change log, the sources and the states as they are
in one snapshot, before any state is written. It returns the same rows in a refresh and in a live
view.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from tallykeeper.declarations.windows import Unit

Strategy = Literal["delta", "group", "whole"]
Purpose = Literal["changes", "losses", "asked"]

VERSION = 1
# Columns of a change log beside those that are captured.
PART = "tally_part"
SIGN = "tally_sign"
# The number of the log's rows that name keys to be computed anew: no source has it.
MARKED = 0
# What `changes` returns beside the tally's columns: how often the row is there now; 0 is deleted.
TOTAL = "tally_total"
# What expressions over one row of a source call it.
ROW = "tally_row"
# Numbers the equal rows of a tally whose SELECT may return equal rows: 1, 2, ...
COPY = "tally_copy"


@dataclass(frozen=True)
class Piece:
    """A piece of SQL: part of the statement if of each set in `needs` something is pending.

    `purpose`: it is in the statement for that alone. `changes` is what pending changes alter,
    `losses` all that they concern, altered or not, `asked` what they alter of single keys, which
    are given as the parameters $1, $2, ...: an array for each column of the key.
    """

    sql: str
    needs: tuple[frozenset[int], ...] = ()
    purpose: Purpose | None = None

    def is_needed(self, pending: Collection[int], purpose: Purpose = "changes") -> bool:
        """Whether it belongs to the statement while the parts in `pending` are."""
        if not self.is_for(purpose):
            return False
        return not any(parts.isdisjoint(pending) for parts in self.needs)

    def is_for(self, purpose: Purpose) -> bool:
        """Whether a statement of that purpose has it."""
        wanted = (None, "changes", "asked") if purpose == "asked" else (None, purpose)
        return self.purpose in wanted


Text = tuple[Piece, ...]


def render(text: Text, pending: Collection[int], purpose: Purpose = "changes") -> str:
    """The SQL of a text while the sources in `pending`, by number, have pending changes."""
    return "".join(piece.sql for piece in text if piece.is_needed(pending, purpose))


@dataclass(frozen=True)
class Step:
    """A common table expression; left out where nothing of `parts` is pending.

    With `source` it has at most as many rows as there are pending changes of that source. A LIMIT
    tells the planner, which would not know.
    """

    name: str
    text: Text
    parts: frozenset[int]
    source: int | None = None


@dataclass(frozen=True)
class Column:
    """A column with the name of its type as SQL writes it, `numeric(12,2)`."""

    name: str
    type: str
    nullable: bool = True


@dataclass(frozen=True)
class CapturedColumn:
    """A column of a source, and the column of the change log that holds it.

    `as_text`: the type has no equality (json, xml, ...), and the log has its text.
    """

    name: str
    type: str
    log_name: str
    as_text: bool = False


@dataclass(frozen=True)
class CapturedSource:
    """A source table, its number in the change log, and the columns that changes are captured of.

    A statement leaves a row in the log for each old row (sign -1) and each new row (sign 1), but
    none where nothing of the captured columns changed. `condition` is SQL over one row, called ROW,
    that no row makes an error: rows of which it is not true are never captured. It reads captured
    columns alone.
    """

    part: int
    schema: str
    table: str
    columns: tuple[CapturedColumn, ...]
    condition: str | None = None


@dataclass(frozen=True)
class OwnerSource:
    """A source of which changed rows leave marks, and no images, in the log.

    Each of `marks` is SQL over one row, called ROW, for each column of the plan's marks.
    """

    part: int
    marks: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class SummedSource:
    """What one row of a source, called ROW, adds to which key: SQL for each key and measure.

    `key_of_many` is the same as `key`, faster for many rows. `columns` are those that they read.
    """

    part: int
    schema: str
    table: str
    key: tuple[str, ...]
    key_of_many: tuple[str, ...]
    amounts: tuple[str, ...]
    condition: str | None
    columns: tuple[str, ...]
    may_raise: bool


@dataclass(frozen=True)
class Summed:
    """A tally of counts and sums over single rows: its derived table is the state itself.

    The change log has the amounts that changes add to each key. `counter` is the measure that
    counts rows: a key where it is zero is not there.
    """

    key: tuple[str, ...]
    measures: tuple[str, ...]
    counter: str
    sources: tuple[SummedSource, ...]


@dataclass(frozen=True)
class Lookup:
    """Rows of a source that are found by `columns` while changes of other sources are applied.

    `asked_by` are the parts whose changes ask for them; of a source that is read without any
    column, all of its rows are. With `is_held` the column is an array or jsonb
    that holds a known value.
    """

    schema: str
    table: str
    columns: tuple[str, ...]
    asked_by: frozenset[int]
    is_held: bool = False


@dataclass(frozen=True)
class AskedSource:
    """What of a source's pending changes matters where single keys are asked for.

    Where the change log has, in each of `columns`, a value of the column of the key in the same
    place of `places`. Names are quoted as SQL wants them.
    """

    part: int
    columns: tuple[str, ...]
    places: tuple[int, ...]


@dataclass(frozen=True)
class Windowed:
    """The SELECT, to be asked for the rows of some windows of `column` alone.

    A condition on `instant` goes between `before` and `after`. The column is the start of the
    `unit` that it lies in, in whatever time zone.
    """

    column: str
    unit: Unit
    instant: str
    before: str
    after: str


@dataclass(frozen=True)
class Node:
    """A stored intermediate result.

    `state` is the quoted name of its table, with `columns`. Rows are unique by `key`, where nulls
    count as equal, if it is `unique`; then a node without a key has one row. `build` is the SELECT
    of these columns from sources alone. `apply` are data-modifying common table expressions that
    follow the steps of `changes`. `indexes` are what the state is looked up by.
    """

    name: str
    state: str
    strategy: Strategy
    reason: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    build: str
    apply: tuple[Step, ...]
    parts: frozenset[int]
    unique: bool = True
    # The same rows as `build`, from the sources and the states of nodes before this one.
    rebuild: str = ""
    # What stands between the parentheses of CREATE INDEX, for each index.
    indexes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """How one tally is maintained.

    `columns` are the SELECT's, `key` those that make a row unique. Where nothing does (`is_bag`),
    the key is all of them, and the derived table numbers equal rows in the column `COPY`.
    `steps` and `changes` form the statement that returns, for each row that pending changes alter,
    the columns and `TOTAL`. They are empty where the strategy of the whole is `whole`: then any
    pending change has the SELECT run anew; and where `summed` says how single rows add to the
    derived table, which has no other state then. `reasons` says why strategies are what they are,
    `lookups` by which columns the statement finds rows of sources. `from_states` is a SELECT of the
    rows from the states alone, where they are enough. `windowed` is how the SELECT is asked for
    single windows. `losses` returns the keys of all groups that pending changes concern, even where
    they alter nothing; it is empty where a row is not a group each. `asked` are all captured
    sources, with what of them matters to single keys; empty where these cannot be asked for.
    `marks` are columns of the key by which rows of the change log name keys that are to be computed
    anew, whatever became of them, as changed rows of `owners` do; without any, none can.
    """

    columns: tuple[Column, ...]
    key: tuple[str, ...]
    is_bag: bool
    strategy: Strategy
    captured: tuple[CapturedSource, ...]
    nodes: tuple[Node, ...] = ()
    steps: tuple[Step, ...] = ()
    changes: Text = ()
    summed: Summed | None = None
    reasons: tuple[str, ...] = ()
    lookups: tuple[Lookup, ...] = ()
    from_states: str = ""
    windowed: tuple[Windowed, ...] = ()
    losses: Text = ()
    asked: tuple[AskedSource, ...] = ()
    marks: tuple[str, ...] = ()
    owners: tuple[OwnerSource, ...] = ()
    version: int = VERSION


def statement(
    plan: Plan,
    pending: Mapping[int, int] | Collection[int],
    *,
    into: str | None = None,
    apply: bool = False,
) -> str:
    """The statement that returns what pending changes alter.

    `pending` are the sources that have some; better, with the number of them.
    `into`: a table that takes the rows; `apply`: the states are brought up to date with it.
    """
    found = clauses(plan, pending, apply=apply)
    with_ = f"WITH {', '.join(found)}\n" if found else ""
    insert = f"INSERT INTO {into}\n" if into is not None else ""
    return f"{with_}{insert}{render(plan.changes, pending)}"


def lost_groups(plan: Plan, pending: Mapping[int, int]) -> str:
    """The statement that returns the keys of all groups that pending changes concern."""
    steps = [s for s in plan.steps if not s.parts.isdisjoint(pending)]
    found = ", ".join(_cte(s, pending, "losses") for s in steps)
    with_ = f"WITH {found}\n" if found else ""
    return f"{with_}{render(plan.losses, pending, 'losses')}"


def clauses(
    plan: Plan, pending: Mapping[int, int] | Collection[int], *, apply: bool = False
) -> list[str]:
    """The common table expressions of `statement`."""
    steps = [s for s in plan.steps if not s.parts.isdisjoint(pending)]
    written = [step for node in plan.nodes for step in node.apply] if apply else []
    steps += [s for s in written if not s.parts.isdisjoint(pending)]
    return [_cte(s, pending, writes=s in written) for s in steps]


def _cte(
    step: Step,
    pending: Mapping[int, int] | Collection[int],
    purpose: Purpose = "changes",
    *,
    writes: bool = False,
) -> str:
    # Computed once, however often it is read; what writes is so anyway.
    materialized = "" if writes else "MATERIALIZED "
    limit = ""
    if step.source is not None and isinstance(pending, Mapping):
        limit = f" LIMIT {pending[step.source]}"
    return f"{step.name} AS {materialized}(\n{render(step.text, pending, purpose)}{limit}\n)"

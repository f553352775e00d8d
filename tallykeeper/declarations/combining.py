"""How the rows of a tally are put together to fewer: which measures add up over which keys.

Measures that are counts and sums of single rows are known to add up. Of others that has to be
declared: posts of an hour add up to those of a day, distinct authors do not.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Table

from tallykeeper.declarations import validation
from tallykeeper.errors import DeclarationError

How = Literal["sum", "max", "attribute"]
HOWS: tuple[How, ...] = ("sum", "max", "attribute")


@dataclass(frozen=True)
class Combine:
    """How a measure of several rows follows from theirs.

    `attribute`: it does not, but rows that have it in common may be put together. `each` are key
    columns over which it must not be summed, as one source row counts in several of their rows.
    """

    how: How
    each: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Membership:
    """A table that says in which groups what a tally's column `on` names is; both have `on`.

    A row of it is a pair of both. It is read as it is when groups are asked for.
    """

    table: Table
    on: str


SUM, MAX, ATTRIBUTE = Combine("sum"), Combine("max"), Combine("attribute")


def sum_over_all_but(*columns: str) -> Combine:
    """A sum of rows that have these key columns in common, and of no others."""
    return Combine("sum", frozenset(columns))


def checked(
    name: str,
    combine: Mapping[str, Combine],
    measures: Collection[str],
    key: Collection[str],
) -> dict[str, Combine]:
    """The declared combinations. Raises DeclarationError where one names no column."""
    for measure, how in combine.items():
        if measure not in measures:
            raise DeclarationError(
                f"{name}: `combine` names {measure!r}, which is no measure"
                f"{validation.nearest(measure, measures)}"
            )
        for column in how.each - set(key):
            raise DeclarationError(
                f"{name}: `combine` of {measure!r} names {column!r}, which is no column of the key"
                f" ({', '.join(key)}){validation.nearest(column, key)}"
            )
        if how.how not in HOWS:
            raise DeclarationError(
                f"{name}: `combine` of {measure!r} is {how.how!r}; expected one of"
                f" {', '.join(HOWS)}"
            )
    return dict(combine)


def checked_memberships(
    name: str, memberships: Mapping[str, Membership], columns: Collection[str]
) -> dict[str, Membership]:
    """The declared memberships. Raises DeclarationError where one names a column that is not there.

    `columns` are those of the derived table.
    """
    for group, membership in memberships.items():
        table = membership.table
        for column in (group, membership.on):
            if column not in table.c:
                raise DeclarationError(
                    f"{name}: `memberships` names {column!r}, which is no column of {table}"
                    f"{validation.nearest(column, table.c.keys())}"
                )
        if membership.on not in columns:
            raise DeclarationError(
                f"{name}: `memberships` goes by {membership.on!r}, which is no column of the table"
                f"{validation.nearest(membership.on, columns)}"
            )
    return dict(memberships)

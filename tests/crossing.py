"""A system of two sources whose names meet when put together, and whose figures people edit.

Both count rows by kind: one is added up, the other computed anew. Only tests use it: capture has to
tell the sources apart, and live reads have to be exact from the statement on that edits a derived
table by hand.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, Identity, Integer, MetaData, Select, Table, func, select

from tallykeeper import Capture, KeyFilter, RecomputedTally, SelectTally, System
from tests.oracle import Oracle

metadata = MetaData()
SCHEMAS = ("a_b", "a", "counts")


def _source(schema: str, name: str) -> Table:
    return Table(
        name,
        metadata,
        Column("id", BigInteger, Identity(), primary_key=True),
        Column("kind", Integer, nullable=False, index=True),
        schema=schema,
    )


def _derived(name: str) -> Table:
    return Table(
        name,
        metadata,
        Column("kind", Integer, primary_key=True, autoincrement=False),
        Column("rows", BigInteger, nullable=False),
        schema="counts",
    )


first, second = _source("a_b", "c"), _source("a", "b_c")
added, computed = _derived("added"), _derived("computed")


def _computed(scope: KeyFilter) -> Select[Any]:
    return (
        select(second.c.kind, func.count().label("rows"))
        .where(*scope(kind=second.c.kind))
        .group_by(second.c.kind)
    )


system = System(
    "crossing",
    metadata,
    [
        SelectTally(
            "crossing.added",
            select=select(first.c.kind, func.count().label("rows")).group_by(first.c.kind),
            table=added,
        ),
        RecomputedTally(
            system="crossing",
            table=computed,
            key=["kind"],
            measures=["rows"],
            captures=[Capture(second, key=lambda row: {"kind": row.kind})],
            aggregate=_computed,
        ),
    ],
)

ORACLES = tuple(
    Oracle(
        tally=f"crossing.{name}",
        key=("kind",),
        measures=("rows",),
        derived=f"counts.{name}",
        truth=f"SELECT kind, count(*) AS rows FROM {source} GROUP BY 1",
        pending=f"SELECT kind FROM tallykeeper.crossing_{name}_log",
        engine_pending=function,
    )
    for name, source, function in (
        ("added", "a_b.c", None),
        ("computed", "a.b_c", "tallykeeper.crossing_computed_pending_keys"),
    )
)

_SOURCES = tuple(
    statement.format(source)
    for source in ("a_b.c", "a.b_c")
    for statement in (
        "INSERT INTO {} (kind) VALUES ({{n}})",
        "INSERT INTO {} (kind) SELECT i % 7 FROM generate_series({{n}}, {{n}} + {{t}}) AS i",
        "UPDATE {} SET kind = {{t}} WHERE kind = {{n}}",
        "UPDATE {} SET kind = {{n}} WHERE id % 9 = {{p}}",
        "DELETE FROM {} WHERE kind = {{n}}",
        "TRUNCATE {}",
    )
)
EDITS = tuple(
    statement.format(f"counts.{name}")
    for name in ("added", "computed")
    for statement in (
        "UPDATE {} SET rows = rows + 1 WHERE kind = {{n}}",
        "DELETE FROM {} WHERE kind = {{n}}",
        "INSERT INTO {} VALUES ({{n}}, 5) ON CONFLICT (kind) DO UPDATE SET rows = 0",
    )
)
WRITES = (*_SOURCES, *EDITS)

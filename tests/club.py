"""A system whose derived tables refer to what changes its key: cascades of UPDATE and of DELETE.

Visits by member, added up and computed anew. Only tests use it: what foreign keys do to derived
rows has to be exact under concurrent writers.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Select,
    Table,
    func,
    select,
)

from tallykeeper import Capture, KeyFilter, RecomputedTally, SelectTally, System
from tests.oracle import Oracle

metadata = MetaData(schema="club")

members = Table("members", metadata, Column("id", Integer, primary_key=True))


def _member() -> ForeignKey:
    return ForeignKey(members.c.id, onupdate="CASCADE", ondelete="CASCADE")


visits = Table(
    "visits",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("member", Integer, _member(), nullable=False),
    Column("minutes", Integer, nullable=False),
    Index("visits_member", "member"),
)
times = Table(
    "times",
    metadata,
    Column("member", Integer, _member(), primary_key=True),
    Column("visits", BigInteger, nullable=False),
    Column("minutes", BigInteger, nullable=False),
)
longest = Table(
    "longest",
    metadata,
    Column("member", Integer, _member(), primary_key=True),
    Column("minutes", Integer, nullable=False),
)


def _longest(scope: KeyFilter) -> Select[Any]:
    return (
        select(visits.c.member, func.max(visits.c.minutes).label("minutes"))
        .where(*scope(member=visits.c.member))
        .group_by(visits.c.member)
    )


system = System(
    "club",
    metadata,
    [
        SelectTally(
            "club.times",
            select=select(
                visits.c.member,
                func.count().label("visits"),
                func.sum(visits.c.minutes, type_=BigInteger).label("minutes"),
            ).group_by(visits.c.member),
            table=times,
        ),
        RecomputedTally(
            system="club",
            table=longest,
            key=["member"],
            measures=["minutes"],
            captures=[Capture(visits, key=lambda visit: {"member": visit.member})],
            aggregate=_longest,
        ),
    ],
)

_HELD = (
    "SELECT (key ->> 'member')::integer AS member FROM tallykeeper.quarantine"
    " WHERE tally = 'club.{0}'"
)
ORACLES = (
    Oracle(
        tally="club.times",
        key=("member",),
        measures=("visits", "minutes"),
        derived="club.times",
        truth="SELECT member, count(*) AS visits, sum(minutes)::bigint AS minutes"
        " FROM club.visits GROUP BY 1",
        pending=f"SELECT member FROM tallykeeper.club_times_log UNION {_HELD.format('times')}",
    ),
    Oracle(
        tally="club.longest",
        key=("member",),
        measures=("minutes",),
        derived="club.longest",
        truth="SELECT member, max(minutes) AS minutes FROM club.visits GROUP BY 1",
        pending=f"SELECT member FROM tallykeeper.club_longest_log UNION {_HELD.format('longest')}",
        engine_pending="tallykeeper.club_longest_pending_keys",
    ),
)

# Nothing that a concurrent deletion does to a reference is a fault of the key.
AGREES = "SELECT NOT EXISTS (SELECT FROM tallykeeper.quarantine)"

_WRITES = (
    "INSERT INTO club.members SELECT i FROM generate_series({n}, {n} + 9) AS i"
    " ON CONFLICT DO NOTHING",
    "INSERT INTO club.visits (member, minutes) SELECT id, {t} * 10 FROM club.members"
    " WHERE id % 5 = {p} % 5 ORDER BY id",
    "INSERT INTO club.visits (member, minutes) SELECT id, 7 FROM club.members WHERE id = {n}",
    "UPDATE club.visits SET minutes = minutes + {t} WHERE id % 4 = {p} % 4",
    "UPDATE club.visits SET member = (SELECT min(id) FROM club.members)"
    " WHERE id = (SELECT max(id) FROM club.visits)",
    "UPDATE club.members SET id = (SELECT max(id) + 1 FROM club.members)"
    " WHERE id = (SELECT min(id) FROM club.members)",
    "UPDATE club.members SET id = -id WHERE id = {n}"
    " AND NOT EXISTS (SELECT FROM club.members WHERE id = -{n})",
    "DELETE FROM club.members WHERE id = {n}",
    "DELETE FROM club.visits WHERE id % 6 = {p} % 6",
    "TRUNCATE club.visits",
)
# Foreign keys do nothing for a replica, and would leave visits of nobody behind.
WRITES = tuple(f"SET LOCAL session_replication_role = origin; {each}" for each in _WRITES)

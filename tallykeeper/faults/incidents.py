"""What was found wrong: when, why, what was done about it, and when it was right again.

An incident is opened when something is found, counted while it is found again, and resolved when
what found it finds it right. At most one is open for a subject and kind. Nothing here finds or
resolves anything, and nothing sends a message; those who do write it down here, in their own
transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    RowMapping,
    Table,
    Text,
    case,
    func,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB, insert

from tallykeeper.catalog.state import BY_FOREIGN_KEY, is_fault, is_there, metadata, stale_marks
from tallykeeper.catalog.state import EDITED as BY_HAND
from tallykeeper.declarations.tally import Tally

DIFFERS = "differs"
CAPTURE = "capture"
PENDING = "pending"
UNCOMPARED = "uncompared"
STALE = "stale"
EDITED = "edited"
RUN = "run"
SCHEDULE = "schedule"
ARCHIVE = "archive"

# In the details: what has to be rebuilt, as the check that found it says.
REPAIR = "repair"

_when = DateTime(timezone=True)

incidents = Table(
    "incidents",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("subject", Text, nullable=False, comment="a tally, or a job, schedule or check"),
    Column("kind", Text, nullable=False, comment="in which way it is wrong"),
    Column("what", Text, nullable=False, comment="what was found last, a sentence"),
    Column("cause", Text, comment="how it came about; null: not known"),
    Column("differing", BigInteger, comment="how many keys differed when most did"),
    Column("details", JSONB, nullable=False, server_default=text("'{}'")),
    Column("found_at", _when, nullable=False, server_default=func.now()),
    Column("last_found_at", _when, nullable=False, server_default=func.now()),
    Column("times", Integer, nullable=False, server_default="1", comment="how often it was found"),
    Column("repairs", Integer, nullable=False, server_default="0", comment="asked for so far"),
    Column("repair_requested_at", _when, comment="when the last repair was asked for"),
    Column("resolved_at", _when, comment="null while it is open"),
    Column("resolved_by", Text, comment="what showed that it is right again"),
    Index(
        "incidents_open",
        "subject",
        "kind",
        unique=True,
        postgresql_where=text("resolved_at IS NULL"),
    ),
    Index("incidents_found_at", "found_at"),
)

messages = Table(
    "messages",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column(
        "incident",
        BigInteger,
        ForeignKey(incidents.c.id, ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    Column("kind", Text, nullable=False, comment="found, again, not resolved, or resolved"),
    Column("title", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("made_at", _when, nullable=False, server_default=func.now()),
    comment="Messages about incidents, sent or to be sent..",
)

deliveries = Table(
    "deliveries",
    metadata,
    Column(
        "message",
        BigInteger,
        ForeignKey(messages.c.id, ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("target", Text, primary_key=True, comment="kind and digest of an address, no secret"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("due_at", _when, nullable=False, server_default=func.now(), comment="the next attempt"),
    Column("sent_at", _when),
    Column("given_up_at", _when),
    Column("error", Text, comment="why the last attempt failed"),
    Index(
        "deliveries_due",
        "due_at",
        postgresql_where=text("sent_at IS NULL AND given_up_at IS NULL"),
    ),
    comment="A message on its way to one address.",
)

processed_events = Table(
    "processed_events",
    metadata,
    Column("log", Text, primary_key=True, comment="which event log"),
    Column("event", BigInteger, primary_key=True, comment="its place in that log"),
    Column("processed_at", _when, nullable=False, server_default=func.now()),
    comment="Events of the orchestrator's log of which incidents already tell.",
)


@dataclass(frozen=True)
class Incident:
    """One thing that is, or was, wrong.

    `differing` counts the keys that differ, where that is what is wrong. `details` is JSON for
    people and programs: `keys` (the first differing ones, with both values), `windows`,
    `to_resolve` (the command), `run` (where it was found). `times` counts how often it was found.
    """

    id: int
    subject: str
    kind: str
    what: str
    cause: str | None
    differing: int | None
    details: dict[str, Any]
    found_at: datetime
    last_found_at: datetime
    times: int
    repairs: int
    repair_requested_at: datetime | None
    resolved_at: datetime | None
    resolved_by: str | None

    @property
    def is_open(self) -> bool:
        return self.resolved_at is None

    @property
    def is_first(self) -> bool:
        """Whether it was found once only, so far."""
        return self.times == 1


def report(
    connection: Connection,
    subject: str,
    kind: str,
    what: str,
    *,
    cause: str | None = None,
    differing: int | None = None,
    details: Mapping[str, Any] | None = None,
    at: datetime | None = None,
) -> Incident:
    """Open an incident, or count that the open one was found again.

    What is said anew replaces what was said before, but for a cause that is not known any more.
    `at` is when it was found, by default now.
    """
    found_at: Any = func.now() if at is None else at
    statement = insert(incidents).values(
        subject=subject,
        kind=kind,
        what=what,
        cause=cause,
        differing=differing,
        details=dict(details or {}),
        found_at=found_at,
        last_found_at=found_at,
    )
    new = statement.excluded
    statement = statement.on_conflict_do_update(
        index_elements=["subject", "kind"],
        index_where=incidents.c.resolved_at.is_(None),
        set_={
            "what": new.what,
            "cause": func.coalesce(new.cause, incidents.c.cause),
            "differing": func.greatest(new.differing, incidents.c.differing),
            "details": new.details,
            "last_found_at": func.greatest(new.last_found_at, incidents.c.last_found_at),
            "times": incidents.c.times + 1,
        },
    )
    return _incident(connection.execute(statement.returning(incidents)).mappings().one())


def resolve(
    connection: Connection,
    subject: str,
    kind: str,
    resolved_by: str,
    *,
    at: datetime | None = None,
) -> Incident | None:
    """Close the open incident of that subject and kind; None where there is none.

    One that was found later than `at` stays open: an event that is processed late must not end it.
    """
    resolved_at: Any = func.now() if at is None else at
    columns = incidents.c
    row = (
        connection.execute(
            update(incidents)
            .where(columns.subject == subject, columns.kind == kind, columns.resolved_at.is_(None))
            .where(columns.last_found_at <= resolved_at)
            .values(resolved_at=resolved_at, resolved_by=resolved_by)
            .returning(incidents)
        )
        .mappings()
        .one_or_none()
    )
    return None if row is None else _incident(row)


def record_resolved(
    connection: Connection,
    subject: str,
    kind: str,
    what: str,
    resolved_by: str,
    *,
    found_at: datetime,
) -> Incident:
    """Write down what was resolved as soon as it was found."""
    row = (
        connection.execute(
            incidents.insert()
            .values(
                subject=subject,
                kind=kind,
                what=what,
                found_at=found_at,
                last_found_at=found_at,
                resolved_at=func.now(),
                resolved_by=resolved_by,
            )
            .returning(incidents)
        )
        .mappings()
        .one()
    )
    return _incident(row)


def record_stale(connection: Connection, tally: Tally, *, edits_are_known: bool = False) -> None:
    """Write down the faults for which the tally is rebuilt now, if it is for faults.

    Called in the transaction that clears its invalidations. That a tally is new, or a source was
    truncated, is how things go. `edits_are_known`: writes by hand have an incident already.
    """
    if not is_there(connection, incidents):
        return
    invalidations = stale_marks.c
    query = select(invalidations.reason, func.min(invalidations.marked_at).label("at")).where(
        invalidations.tally == tally.name, is_fault(invalidations.reason)
    )
    if edits_are_known:
        query = query.where(
            or_(
                ~invalidations.reason.startswith(BY_HAND),
                invalidations.reason.startswith(BY_FOREIGN_KEY),
            )
        )
    found = connection.execute(query.group_by(invalidations.reason)).all()
    for reason, at in found:
        record_resolved(connection, tally.name, STALE, reason, "rebuilt", found_at=at)


def request_repair(connection: Connection, incident: Incident) -> None:
    """Count a repair that is asked for."""
    connection.execute(
        update(incidents)
        .where(incidents.c.id == incident.id)
        .values(repairs=incidents.c.repairs + 1, repair_requested_at=func.now())
    )


def listed(
    connection: Connection,
    *,
    open_only: bool = False,
    subject: str | None = None,
    limit: int = 100,
) -> list[Incident]:
    """The incidents: open ones first, of each the latest first."""
    columns = incidents.c
    query = select(incidents).limit(limit)
    if open_only:
        query = query.where(columns.resolved_at.is_(None))
    if subject is not None:
        query = query.where(columns.subject == subject)
    open_first = case((columns.resolved_at.is_(None), 0), else_=1)
    query = query.order_by(open_first, columns.found_at.desc(), columns.id.desc())
    return [_incident(row) for row in connection.execute(query).mappings()]


def open_of(connection: Connection, subject: str, kind: str) -> Incident | None:
    """The open incident of that subject and kind; None where there is none."""
    columns = incidents.c
    query = select(incidents).where(
        columns.subject == subject, columns.kind == kind, columns.resolved_at.is_(None)
    )
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else _incident(row)


def open_counts(connection: Connection) -> dict[str, int]:
    """How many incidents are open, by subject; subjects without any are left out."""
    columns = incidents.c
    query = select(columns.subject, func.count()).where(columns.resolved_at.is_(None))
    return {row[0]: row[1] for row in connection.execute(query.group_by(columns.subject))}


def _incident(row: RowMapping) -> Incident:
    return Incident(**row)

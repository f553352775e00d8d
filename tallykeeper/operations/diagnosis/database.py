"""What is examined of the database: server, sessions, rights, capture, row security, clock, logs.

Nothing is changed. An error of one examination is a finding of it, and the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, Engine, select, text
from sqlalchemy.exc import DBAPIError

import tallykeeper
from tallykeeper.catalog import presence, state
from tallykeeper.catalog.privileges import require_privileges, server_version
from tallykeeper.database.connections import NEWEST_VERSION, OLDEST_VERSION
from tallykeeper.database.sessions import is_pooled
from tallykeeper.database.sql import name_of
from tallykeeper.declarations.tally import Tally
from tallykeeper.drift import dependencies, event_triggers
from tallykeeper.errors import NotInstalled, NotPermitted, TallyError
from tallykeeper.faults import incidents
from tallykeeper.operations.diagnosis.findings import Finding, fail, ok, warn

CLOCK_WARNS = timedelta(seconds=5)
CLOCK_FAILS = timedelta(minutes=5)
OLD_TRANSACTION = timedelta(hours=1)
LITTLE_FREE_CONNECTIONS = 5
MIGRATE = "run `tally migrate`"
Examination = Callable[[Connection, Sequence[Tally]], Iterator[Finding]]


def examine(engine: Engine, tallies: Sequence[Tally]) -> Iterator[Finding]:
    """Everything about the database, for these tallies, each examination in a connection's turn.

    Raises DatabaseUnavailable where it cannot be reached.
    """
    examinations: list[tuple[str, Examination]] = [
        ("database", _server),
        ("poolers", _poolers),
        ("clock", _clock),
        ("rights", _rights),
        ("installed", _installed),
        ("row security", _row_security),
        ("capture", _capture),
        ("sessions", _sessions),
        ("incidents", _incidents),
    ]
    for subject, look in examinations:
        with engine.connect() as connection:
            try:
                yield from list(look(connection, tallies))
            except (TallyError, DBAPIError) as error:
                if isinstance(error, DBAPIError) and error.connection_invalidated:
                    raise
                said = str(getattr(error, "orig", error)).splitlines()[0]
                yield fail(subject, said, "resolve this first")


def _server(connection: Connection, _: Sequence[Tally]) -> Iterator[Finding]:
    row = connection.execute(
        text(
            "SELECT current_setting('server_version') AS version, current_database() AS name,"
            " current_user AS role, pg_is_in_recovery() AS standby,"
            " current_setting('server_encoding') AS encoding,"
            " current_setting('transaction_read_only')::boolean AS read_only,"
            " pg_size_pretty(pg_database_size(current_database())) AS size"
        )
    ).one()
    major = server_version(connection) // 10_000
    said = f"PostgreSQL {row.version}, {row.name} as {row.role}, {row.size}, {row.encoding}"
    if major < OLDEST_VERSION:
        yield fail(
            "database", said, f"upgrade the server: {OLDEST_VERSION} is the oldest supported"
        )
    elif row.standby:
        yield fail("database", f"{said}, a standby", "name the primary: a standby takes no writes")
    elif row.read_only:
        todo = "unset default_transaction_read_only for this role or database"
        yield fail("database", f"{said}, read-only", todo)
    elif major > NEWEST_VERSION:
        todo = f"{NEWEST_VERSION} is the newest that is tested; look for a newer tallykeeper"
        yield warn("database", said, todo)
    else:
        yield ok("database", said)


def _poolers(connection: Connection, _: Sequence[Tally]) -> Iterator[Finding]:
    if is_pooled(connection):
        todo = "name the server itself in DAGSTER_PG_URL, and have two connections in the pool"
        yield warn("poolers", "a pooler stands between; transaction pooling works", todo)
    else:
        yield ok("poolers", "none between")


def _clock(connection: Connection, _: Sequence[Tally]) -> Iterator[Finding]:
    before = datetime.now(UTC)
    server: datetime = connection.scalar(text("SELECT clock_timestamp()")) or before
    after = datetime.now(UTC)
    apart = max(before - server, server - after, timedelta(0))
    said = f"{apart.total_seconds():.1f} s apart from the server's"
    if apart > CLOCK_FAILS:
        yield fail("clock", said, "set both by NTP: partitions and ages follow from the time")
    elif apart > CLOCK_WARNS:
        yield warn("clock", said, "set both by NTP: ages are shown wrong by as much")
    else:
        yield ok("clock", said)


def _rights(connection: Connection, tallies: Sequence[Tally]) -> Iterator[Finding]:
    try:
        require_privileges(connection, tallies)
    except NotPermitted as error:
        # Who refreshes needs less: it was installed by a role that may.
        schema = text("SELECT true FROM pg_namespace WHERE nspname = 'tallykeeper'")
        is_there = connection.scalar(schema)
        said = str(error).partition(". Nothing was changed")[0]
        todo = "connect as the owner of these tables to migrate; `tally roles` divides the work"
        yield warn("rights", said, todo) if is_there else fail("rights", said, todo)
        return
    yield ok("rights", "may install everything that is declared")


def _installed(connection: Connection, tallies: Sequence[Tally]) -> Iterator[Finding]:
    lacking = presence.missing(connection, list({s: None for t in tallies for s in t.sources}))
    if lacking:
        yield warn("sources", f"there is no {', '.join(lacking)}", f"create them, then {MIGRATE}")
    missing, changed, stale = [], [], []
    names = _names(connection)
    for tally in tallies:
        found = _state(connection, tally)
        if tally.name not in names:
            missing.append(tally.name)
        elif found is None or found.declaration_hash != tally.declaration_hash():
            changed.append(tally.name)
        elif found.stale:
            stale.append(tally.name)
    if missing:
        yield fail("installed", f"not installed: {', '.join(missing)}", MIGRATE)
    if changed:
        yield warn("installed", f"declared otherwise since: {', '.join(changed)}", MIGRATE)
    if stale:
        yield warn("installed", f"to be built anew: {', '.join(stale)}", "run `tally refresh`")
    if not missing and not changed and not stale:
        yield ok("installed", f"{_counted(len(tallies), 'tally', 'tallies')} as declared")


def _row_security(connection: Connection, tallies: Sequence[Tally]) -> Iterator[Finding]:
    tables = sorted({name_of(source) for tally in tallies for source in tally.sources})
    hidden = connection.scalars(
        text(
            "SELECT c.oid::regclass::text FROM unnest(CAST(:tables AS text[])) AS t(name)"
            " JOIN pg_class AS c ON c.oid = to_regclass(t.name) WHERE row_security_active(c.oid)"
        ),
        {"tables": tables},
    ).all()
    if hidden:
        todo = "exempt the role with BYPASSRLS, or leave out FORCE ROW LEVEL SECURITY"
        yield fail("row security", f"hides rows of {', '.join(sorted(hidden))}", todo)
    else:
        yield ok("row security", "hides no row of a source from this role")


def _capture(connection: Connection, tallies: Sequence[Tally]) -> Iterator[Finding]:
    installed = [tally for tally in tallies if _state(connection, tally) is not None]
    faults = {
        fault for tally in installed for fault in tallykeeper.capture_faults(connection, tally)
    }
    for fault in sorted(faults):
        yield fail("capture", fault, f"{MIGRATE}, then `tally refresh`")
    for fault in event_triggers.faults(connection):
        yield warn("capture", fault, MIGRATE)
    if installed and not faults:
        yield ok("capture", f"intact for {_counted(len(installed), 'tally', 'tallies')}")
    if any(dependencies.is_recorded(connection, tally) for tally in installed):
        return
    if installed:
        yield warn("capture", "what tallies depend on was not recorded", MIGRATE)


def _sessions(connection: Connection, _: Sequence[Tally]) -> Iterator[Finding]:
    row = connection.execute(
        text(
            "SELECT max(statement_timestamp() - a.xact_start) AS oldest, count(*) AS used,"
            " current_setting('max_connections')::integer"
            " - current_setting('superuser_reserved_connections')::integer AS most,"
            " (SELECT count(*) FROM pg_prepared_xacts"
            "  WHERE statement_timestamp() - prepared > :old) AS prepared"
            " FROM pg_stat_activity AS a WHERE a.backend_type = 'client backend'"
        ),
        {"old": OLD_TRANSACTION},
    ).one()
    if row.prepared:
        todo = "COMMIT PREPARED or ROLLBACK PREPARED those of pg_prepared_xacts"
        yield warn("sessions", f"{row.prepared} prepared transactions are older than an hour", todo)
    if row.oldest is not None and row.oldest > OLD_TRANSACTION:
        todo = "end it (pg_stat_activity): what is consumed of change logs cannot be removed"
        yield warn("sessions", f"a transaction is open for {row.oldest}", todo)
    if row.most - row.used < LITTLE_FREE_CONNECTIONS:
        todo = "close some, or raise max_connections"
        yield warn("sessions", f"{row.used} of {row.most} connections are in use", todo)
    else:
        yield ok("sessions", f"{row.used} of {row.most} connections in use")


def _incidents(connection: Connection, _: Sequence[Tally]) -> Iterator[Finding]:
    if not state.is_there(connection, incidents.incidents):
        return
    opened = sum(incidents.open_counts(connection).values())
    if opened:
        yield fail("incidents", f"{opened} open", "see `tally incidents --open`")
    else:
        yield ok("incidents", "none open")


def _names(connection: Connection) -> set[str]:
    """The names of the tallies that are installed, however they were declared."""
    if not state.is_there(connection, state.tally_state):
        return set()
    return set(connection.scalars(select(state.tally_state.c.tally)))


def _state(connection: Connection, tally: Tally) -> state.Installed | None:
    try:
        return state.installed(connection, tally)
    except NotInstalled:
        connection.rollback()
        return None


def _counted(number: int, one: str, more: str) -> str:
    return f"{number:,} {one if number == 1 else more}"

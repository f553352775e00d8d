"""The database of sources and tallies: how it is opened, and what is said when it cannot be.

One place knows addresses: any PostgreSQL address is opened with psycopg 3, and Dagster's own
storage is put beside the tallies, in a schema of its own. Nothing connects before the first use.
Invariants: every failure to connect, in any part and at any time, is a `DatabaseUnavailable`
of one sentence, and no password reaches a message, a repr or a log. What happens inside an open
connection is not this file's.
"""

from __future__ import annotations

import gc
import logging
import re
from typing import Any
from weakref import WeakSet

import psycopg
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import ConnectionPoolEntry

from tallykeeper import settings
from tallykeeper.database.sessions import PATIENCE, WRITTEN, set_local

OLDEST_VERSION = 15
NEWEST_VERSION = 18
APPLICATION_NAME = "tallykeeper"
DAGSTER_SCHEMA = "dagster"
# Dagster's events are stored so many at once: for its DAGSTER_EVENT_BATCH_SIZE, by itself one.
EVENT_BATCH_SIZE = "500"

# A server that the network lost is given up after a minute, instead of after hours.
_DEFAULTS = {
    "application_name": APPLICATION_NAME,
    "connect_timeout": "10",
    "client_encoding": "utf8",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}
# What the driver's connect() takes beside libpq's parameters, and an address must not set.
_OF_THE_DRIVER = ("autocommit", "context", "cursor_factory", "row_factory")
_EXAMPLE = "postgresql://user:password@host:5432/database"
_LOG = logging.getLogger(__name__)

# How servers and libpq put it, and what helps. In another language only the advice is general.
_ADVICE = (
    (
        r"password authentication failed|no password supplied|authentication failed",
        "check user and password",
    ),
    (r"no pg_hba\.conf entry", "have the server's administrator let this user in from this host"),
    (
        r'database ".*" does not exist',
        "name an existing database, or create this one with createdb",
    ),
    (
        r'role ".*" (does not exist|is not permitted to log in)',
        "name a role that exists and may log in",
    ),
    (
        r"refused|No such file|not running|Is the server running",
        "start the server, or correct host and port",
    ),
    (r"resolve host|could not translate host name", "correct the host name"),
    (r"timeout|timed out", "check that host and port can be reached from here"),
    (
        r"too many clients|remaining connection slots",
        "close other connections, or raise max_connections",
    ),
    (
        r"unsupported startup parameter",
        "leave `options` out of the address, or name the server itself instead of its pooler",
    ),
    (r"starting up|shutting down|in recovery mode", "wait until the server is up, then try again"),
)


class DatabaseUnavailable(RuntimeError):
    """The database cannot be used: says what was expected, what came, and what to do."""


def open_engine(url: str | None = None, *, connections: int | None = None) -> Engine:
    """An engine on the database of `url`, else of TALLY_DATABASE_URL, else the embedded one.

    `connections` is how many there are at most, all of which are kept; None: SQLAlchemy's default.

    Nothing connects yet, but the embedded server is started if it is not running (and stopped when
    this process ends, if it started it and nobody else uses it). `check_database` connects.
    Raises DatabaseUnavailable where the address is none of PostgreSQL, SettingError.
    """
    origin = "the address of the database"
    embedded_server = False
    if url is None:
        url = settings.database_url()
        origin = "TALLY_DATABASE_URL"
    if url is None:
        from tallykeeper.embedded import shared_server

        url = shared_server.start_for_this_process(_close_embedded)
        origin = "the address of the embedded server"
        embedded_server = True
    address, apart = _parse(url, origin)
    wait = settings.wait_seconds()
    engine = create_engine(
        address,
        connect_args={k: v for k, v in _DEFAULTS.items() if k not in address.query} | apart,
        # Whatever the role's default is.
        isolation_level="READ COMMITTED",
        execution_options={} if wait is None else {PATIENCE: wait},
        # A server that was restarted between two hourly runs costs no failed run.
        pool_pre_ping=True,
        **({} if connections is None else {"pool_size": connections, "max_overflow": 0}),
    )
    event.listen(engine, "do_connect", _Connecting(address, "prepare_threshold" in apart))
    event.listen(engine, "begin", _begin)
    if embedded_server:
        close_with_embedded(engine)
    return engine


def close_with_embedded(engine: Engine) -> None:
    """Close the engine's connections before this process stops the embedded server.

    Else they would be regarded as somebody else's, and the server would stay running.
    """
    _on_embedded.add(engine)


def check_database(engine: Engine) -> None:
    """Connect once, so that an unusable database is known at once. Raises DatabaseUnavailable."""
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))


def dagster_url(engine_url: str | URL) -> str:
    """The address of Dagster's own storage: the same database, in the schema `dagster`.

    For the driver that Dagster's storage is written for. It contains the password: not for logs.
    Raises DatabaseUnavailable where the address is none of PostgreSQL.
    """
    if isinstance(engine_url, URL):
        engine_url = engine_url.render_as_string(hide_password=False)
    address, apart = _parse(engine_url, "the address of the database")
    secrets = {name: value for name, value in apart.items() if name != "prepare_threshold"}
    # Its storage has columns without time zone that are filled by the server's clock.
    own = f"-csearch_path={DAGSTER_SCHEMA} -ctimezone=UTC"
    options = f"{address.query.get('options', '')} {own}".strip()
    query = {"application_name": "dagster"} | dict(address.query) | secrets | {"options": options}
    address = address.set(drivername="postgresql+psycopg2", query=query)
    return address.render_as_string(hide_password=False)


def dagster_storage_url() -> str:
    """The address of Dagster's storage: DAGSTER_PG_URL, else beside the tallies, with its schema.

    Starts the embedded server where that is in use, until this process ends, unless it runs.
    Raises SettingError, DatabaseUnavailable, or SQLAlchemy's errors.
    """
    named = settings.dagster_pg_url()
    if named is not None:
        return named
    engine = open_engine()
    try:
        prepare_dagster_storage(engine)
        # As it stands in the setting, for the engine's own address lacks some secrets.
        return dagster_url(settings.database_url() or engine.url)
    finally:
        engine.dispose()


def prepare_dagster_storage(engine: Engine) -> None:
    """Create the schema for Dagster's own storage if it is not there.

    Safe when several do it at once; Dagster makes its tables in it itself. Raises
    DatabaseUnavailable, or a database error where the schema is missing and may not be created.
    """
    with engine.connect() as connection:
        if _has_dagster_schema(connection):
            return
        connection.rollback()
        with connection.begin():
            # CREATE SCHEMA IF NOT EXISTS fails when two run at the same moment.
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('dagster schema'))"))
            if not _has_dagster_schema(connection):
                connection.execute(text(f"CREATE SCHEMA {DAGSTER_SCHEMA}"))


_on_embedded: WeakSet[Engine] = WeakSet()


def _close_embedded() -> None:
    for engine in list(_on_embedded):
        engine.dispose()
    # Connections of others in this process (Dagster's storage) that nobody closed before they went
    # out of use are closed when they are collected, which may otherwise never happen.
    gc.collect()


def _has_dagster_schema(connection: Connection) -> bool:
    found = text("SELECT count(*) FROM pg_namespace WHERE nspname = :schema")
    return bool(connection.execute(found, {"schema": DAGSTER_SCHEMA}).scalar_one())


def _parse(url: str, origin: str) -> tuple[URL, dict[str, Any]]:
    """The address for psycopg 3, and apart from it what cannot stand in it.

    That is secrets, which its repr would show, and what the driver takes as another type.
    """
    try:
        address = make_url(url)
    except (ArgumentError, ValueError):
        # Not chained: what the parser stumbled over may be a piece of the password.
        raise DatabaseUnavailable(
            f"{origin}: expected an address like {_EXAMPLE}, but it cannot be read as one;"
            f" correct it, with special characters of the password percent-encoded"
        ) from None
    kind = address.drivername.split("+")[0]
    if kind not in ("postgresql", "postgres"):
        raise DatabaseUnavailable(
            f"{origin}: expected an address like {_EXAMPLE}, but it is one of {kind!r};"
            " name a PostgreSQL database"
        )
    if "@" in (address.host or ""):
        raise DatabaseUnavailable(
            f"{origin}: expected one @, between password and host, but there are more;"
            " write @ in the password as %40"
        )
    query = {name: _single(value) for name, value in address.query.items()}
    address = address.set(drivername="postgresql+psycopg", query={})
    address = address.set(
        username=query.pop("user", address.username),
        password=query.pop("password", address.password),
    )
    apart: dict[str, Any] = {name: query.pop(name) for name in ("sslpassword",) if name in query}
    if "prepare_threshold" in query:
        apart["prepare_threshold"] = _threshold(query.pop("prepare_threshold"), origin)
    for name in _OF_THE_DRIVER:
        if name in query:
            raise DatabaseUnavailable(
                f"{origin}: expected parameters of a connection, but it has {name!r}, which an"
                " address cannot set; leave it out"
            )
    return address.set(query=query), apart


def _threshold(written: str, origin: str) -> int | None:
    """After how many executions the driver prepares a statement; None: never."""
    if written.lower() == "none":
        return None
    if not (written.isascii() and written.isdigit()):
        raise DatabaseUnavailable(
            f"{origin}: expected a whole number or none as prepare_threshold, but it is"
            f" {written!r}; correct it, or leave it out"
        )
    return int(written)


def _single(value: str | tuple[str, ...]) -> str:
    """A parameter given once or more often; libpq takes lists with commas, as for several hosts."""
    return value if isinstance(value, str) else ",".join(value)


def _begin(connection: Connection) -> None:
    """Set how values are written for the transaction that begins; none begins in AUTOCOMMIT."""
    # Not `driver_connection`: one that was taken out of the pool has none.
    driver: Any = connection.connection.dbapi_connection
    if not driver.autocommit:
        connection.exec_driver_sql(set_local(WRITTEN))


class _Connecting:
    """Connects in SQLAlchemy's place, so that every failure is reported in our words."""

    def __init__(self, address: URL, prepares: bool) -> None:
        self._place = _place(address)
        self._prepares = prepares
        self._warned = False

    def __call__(
        self,
        dialect: Any,
        record: ConnectionPoolEntry,
        arguments: tuple[Any, ...],
        options: dict[str, Any],
    ) -> psycopg.Connection[Any]:
        del dialect, record
        try:
            connection = psycopg.connect(*arguments, **options)
        except psycopg.Error as error:
            raise DatabaseUnavailable(_explain(self._place, error)) from error
        self._require_version(connection)
        try:
            self._fit_session(connection)
        except psycopg.Error as error:
            connection.close()
            raise DatabaseUnavailable(_explain(self._place, error)) from error
        return connection

    def _fit_session(self, connection: psycopg.Connection[Any]) -> None:
        """See to what is of the session. Raises DatabaseUnavailable."""
        connection.autocommit = True
        if not (connection.info.parameter_status("DateStyle") or "ISO").startswith("ISO"):
            # The driver reads no other. Poolers know this setting, and keep it with the client.
            connection.execute("SET datestyle = 'ISO, MDY'")
        found = connection.execute(
            "SELECT pg_backend_pid(), current_setting('session_replication_role'), current_user"
        ).fetchone()
        assert found is not None
        pid, replication, role = found
        if replication != "origin":
            connection.close()
            raise DatabaseUnavailable(
                f"expected sessions in which foreign keys are checked at {self._place}, but"
                f" session_replication_role is {replication!r}; have an administrator run"
                f' ALTER ROLE "{role}" RESET session_replication_role'
            )
        if pid != connection.info.backend_pid and not self._prepares:
            # A pooler answers in the server's place: the next transaction may be on another
            # connection of it, which knows of no prepared statements.
            connection.prepare_threshold = None
        connection.autocommit = False

    def _require_version(self, connection: psycopg.Connection[Any]) -> None:
        version = connection.info.server_version // 10_000
        if version < OLDEST_VERSION:
            connection.close()
            raise DatabaseUnavailable(
                f"expected PostgreSQL {OLDEST_VERSION} to {NEWEST_VERSION} at {self._place}, but it"
                f" is {version}; upgrade the server or name another"
            )
        if version > NEWEST_VERSION and not self._warned:
            self._warned = True
            _LOG.warning(
                "the database at %s is PostgreSQL %d; Tallykeeper is tested with %d to %d",
                self._place,
                version,
                OLDEST_VERSION,
                NEWEST_VERSION,
            )


def _place(address: URL) -> str:
    """Which database it is, for people: never with a password."""
    host = str(address.query.get("host") or address.host or "this machine")
    port = str(address.query.get("port") or address.port or "")
    user = f"{address.username}@" if address.username else ""
    return f"{user}{host}{':' if port else ''}{port}/{address.database or ''}"


def _explain(place: str, error: psycopg.Error) -> str:
    said = " ".join(str(error).split())
    # All but the last clause of libpq's message repeats where it connected to.
    reason = re.sub(r"^.*?failed: (?=\S)(?!.*failed: FATAL)|^.*failed: FATAL: +", "", said)
    advice = next((advice for pattern, advice in _ADVICE if re.search(pattern, said)), None)
    advice = advice or "check the address"
    return f"expected a PostgreSQL database at {place}, but connecting failed ({reason}); {advice}"

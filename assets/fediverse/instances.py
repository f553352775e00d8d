"""Mastodon servers: how their address is written, and their row in `instances`.

Invariants: one server has one row, however its address was typed.
"""

from __future__ import annotations

from datetime import datetime
from typing import TypedDict
from urllib.parse import urlsplit

from sqlalchemy import Connection, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from assets.fediverse.tables import instances
from tallykeeper.database import sql
from tallykeeper.reads.live_reads import read

# In which a table that was there before keeps times without a zone.
_IN_UTC = "SET LOCAL timezone = 'UTC'"
_DEFAULT_PORTS = {"https": 443, "http": 80}


class BadInstance(ValueError):
    """Not the address of a server: says what was expected and what came."""


def base_url_of(address: str) -> str:
    """The server's address as it is stored, like https://mastodon.social.

    Scheme and host in lower case, without a trailing slash or the scheme's own port; without a
    scheme it is https. Raises BadInstance where it is no such address, or has more to it.
    """
    address = address.strip()
    try:
        parts = urlsplit(address if "://" in address else f"https://{address}")
        host, port = (parts.hostname or "").encode("idna").decode(), parts.port
    except ValueError:  # also of an invalid host or port
        raise BadInstance(_not_an_instance(address)) from None
    extra = parts.path.strip("/") or parts.query or parts.fragment
    blank = any(c.isspace() or not c.isprintable() for c in host)
    if parts.scheme not in _DEFAULT_PORTS or not host or blank or extra:
        raise BadInstance(_not_an_instance(address))
    if parts.username is not None or parts.password is not None:
        # Not shown: it may hold a password.
        raise BadInstance(
            "expected an instance's address like https://mastodon.social, but there is a name"
            " before the host; leave out what is before the @"
        )
    host = f"[{host}]" if ":" in host else host.lower()
    shown_port = "" if port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{port}"
    return f"{parts.scheme}://{host}{shown_port}"


def instance_id(connection: Connection, base_url: str) -> int:
    """The id of the server's row, which is made if there is none."""
    known = select(instances.c.id).where(instances.c.base_url == base_url)
    found = connection.scalar(known)
    if found is None:
        sql.execute(connection, _IN_UTC)
        values: dict[str, object] = {"base_url": base_url, "created_at": func.now()}
        if not _numbers_itself(connection):
            sql.execute(
                connection, f"LOCK TABLE {sql.name_of(instances)} IN SHARE ROW EXCLUSIVE MODE"
            )
            values["id"] = select(func.coalesce(func.max(instances.c.id), 0) + 1).scalar_subquery()
        row = insert(instances).values(values).on_conflict_do_nothing()
        found = connection.scalar(row.returning(instances.c.id))
    # Nothing returned: another has made it meanwhile, and the next statement sees it.
    return int(found if found is not None else connection.execute(known).scalar_one())


def _numbers_itself(connection: Connection) -> bool:
    """Whether the table makes a row's id: one that was there before may leave that to others."""
    filled = text(
        "SELECT a.atthasdef OR a.attidentity <> '' FROM pg_attribute AS a"
        " WHERE a.attrelid = to_regclass(:name) AND a.attname = 'id'"
    )
    return bool(connection.scalar(filled, {"name": sql.name_of(instances)}))


class KnownInstance(TypedDict):
    """A server, and the id by which reads know it."""

    id: int
    base_url: str


def known_instances(connection: Connection) -> list[KnownInstance]:
    """The servers that events were seen of, by id. Raises NotInstalled where there is no table."""
    query = select(instances.c.id, instances.c.base_url).order_by(instances.c.id)
    rows = read(connection, query, f"the table {sql.name_of(instances)}")
    return [{"id": row.id, "base_url": row.base_url} for row in rows]


def saw(connection: Connection, id_: int, at: datetime, stream_type: str | None = None) -> None:
    """Note that an event was received at that moment, and by which stream if one is listened to."""
    sql.execute(connection, _IN_UTC)
    values = {"last_seen_at": func.greatest(instances.c.last_seen_at, at)}
    if stream_type is not None:
        values["stream_type"] = stream_type  # type: ignore[assignment]
    connection.execute(update(instances).where(instances.c.id == id_).values(values))


def _not_an_instance(address: str) -> str:
    shown = address if len(address) <= 80 else f"{address[:80]}..."
    # A password that was typed before an @ must not stand in a log.
    shown = shown.rpartition("@")[2]
    return (
        f"expected an instance's address like https://mastodon.social, but it is {shown!r};"
        " give scheme and host (and port), nothing else"
    )

"""What each transaction of processing is made of: its session, its lock, and what it writes.

Processing applies a batch of parsed events to the tables; a replay applies all events of some posts
to temporary copies of them. Invariants: one transaction of either at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, func, select, text

from assets.fediverse import tables
from assets.fediverse.processing import parsing, posts, relations, snapshots, versions
from assets.fediverse.processing.functions import PROGRESS
from tallykeeper import NotInstalled
from tallykeeper.database.sessions import begin_work, is_pooled, set_local
from tallykeeper.database.sql import execute, quote

WORK_MEMORY = "64MB"

LOCK_KEY = f"hashtext('{PROGRESS}')"
LOCK = f"SELECT pg_advisory_xact_lock({LOCK_KEY})"


@contextmanager
def session(engine: Engine) -> Iterator[Connection]:
    """A connection of its own, whose temporary tables nobody else will meet.

    Raises NotInstalled where `tally migrate` has not been here.
    """
    with engine.connect() as connection:
        try:
            while not _is_prepared(connection):
                # As memory for temporary tables can be set before the first one only: a session
                # without any. The pool may have several that have had some.
                connection.invalidate()
            yield connection
        finally:
            connection.invalidate()


def _is_prepared(connection: Connection) -> bool:
    """Give the session memory for its temporary tables; whether it could still be given any."""
    with connection.begin():
        _require_installed(connection)
        # Behind a pooler it would reach somebody else, or come too late.
        if is_pooled(connection):
            return True
        if execute(connection, "SELECT pg_my_temp_schema() <> 0").scalar_one():
            return False
        execute(connection, f"SET SESSION temp_buffers = '{WORK_MEMORY}'")
        return True


def _require_installed(connection: Connection) -> None:
    names = [
        PROGRESS,
        *(f"{raw_schema()}.{quote(t.name)}" for t in (*tables.RAW, *tables.PROCESSED)),
    ]
    for name in names:
        if connection.scalar(select(func.to_regclass(name))) is None:
            raise NotInstalled(f"fediverse: there is no {name}; run `tally migrate` first")


def raw_schema() -> str:
    """The quoted schema of the fediverse's tables."""
    return quote(str(tables.metadata.schema))


def id_type(connection: Connection) -> str:
    """The type of ids in temporary tables: text in the collation that those of the posts have.

    In another one the tables' indexes would be of no use.
    """
    found = connection.execute(
        text(
            "SELECT format('text COLLATE %I.%I', n.nspname, c.collname) FROM pg_attribute AS a"
            " JOIN pg_collation AS c ON c.oid = a.attcollation"
            " JOIN pg_namespace AS n ON n.oid = c.collnamespace"
            " WHERE a.attrelid = to_regclass(:posts) AND a.attname = 'id'"
        ),
        {"posts": f"{raw_schema()}.{quote(tables.mastodon_posts.name)}"},
    ).scalar_one()
    return str(found)


def prepare(connection: Connection) -> None:
    """Begin a transaction of processing: alone, and with the temporary tables it needs."""
    begin_work(connection)
    # A batch stays in memory: its temporary tables, and what is sorted of it.
    more = {"work_mem": f"'{WORK_MEMORY}'", "client_min_messages": "warning"}
    execute(connection, set_local(more))
    execute(connection, LOCK)
    for statement in stages(connection):
        execute(connection, statement)


def stages(connection: Connection) -> list[str]:
    """CREATE TEMPORARY TABLE for each of the tables that a batch goes through."""
    ids = id_type(connection)
    return [*parsing.stages(ids), *posts.stages(ids), versions.stage(ids)]


def apply(connection: Connection, schema: str, real: str, *, redact: bool) -> None:
    """Write what follows from the parsed events to the tables in `schema`.

    Hashtags are common to many posts: they are always those in `real`. So are accounts, and they
    and the conversations are left to the caller.
    """
    execute(connection, "ANALYZE pg_temp.seen (instance_id, post_id, event_id)")
    posts.write_deletions(connection, schema)
    posts.make_up(connection, schema, redact=redact)
    execute(connection, "ANALYZE pg_temp.winners (instance_id, post_id)")
    posts.write_posts(connection, schema, redact=redact)
    relations.write_relations(connection, schema, real, redact=redact)
    versions.write_versions(connection, schema, redact=redact)
    snapshots.write_snapshots(connection, schema)

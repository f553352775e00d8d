"""Bring over what another application kept of the fediverse: its posts, accounts and events.

The application's tables stand in a schema of their own, with its names: `mastodon_posts`, and as
far as they are there `mastodon_accounts`, `instances`, `post_versions`, `post_metric_snapshots`,
`post_sentiments` and `stream_events`. They may know instances or not. What a post's row says
becomes events in the raw log, as a server would send them: what it was edited from, its counts when
they were captured, what it is now, its deletion. So all that hangs on posts is derived as always,
with hashtags and mentions from the JSON columns.

What must stay true: nothing is written in that schema; a post that is known here is not touched, so
that all of it can be run again, after a kill as well, and the second run changes nothing. What a
row does not say when it was seen, is seen now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial

from sqlalchemy import Connection, Engine, text

from assets.fediverse import adoption_sql as statements
from assets.fediverse.adoption_sql import Old
from assets.fediverse.instances import BadInstance, base_url_of, instance_id
from assets.fediverse.partitions import ensure_days
from assets.fediverse.processing import process
from assets.fediverse.tables import mastodon_posts
from tallykeeper.catalog.transactions import retried
from tallykeeper.database.sql import name_of, quote
from tallykeeper.errors import TallyError

BATCH_POSTS = 2_000
BATCH_EVENTS = 5_000
TABLES = (
    "instances",
    "mastodon_posts",
    "mastodon_accounts",
    "post_versions",
    "post_metric_snapshots",
    "post_sentiments",
    "stream_events",
)
SHOWN = 5

Progress = Callable[[int, int], None]
"""Called with how many rows were looked at, of how many."""


class AdoptionError(TallyError):
    """Nothing can be brought over: says what was expected, what came, and what to do."""


@dataclass
class Adopted:
    """What was brought over, and what was not.

    `known` posts were there before. `left_out` are those that could not be brought over, a sentence
    each of the first ones, `left_out_rows` how many.
    """

    posts: int = 0
    known: int = 0
    accounts: int = 0
    sentiments: int = 0
    events: int = 0
    left_out_rows: int = 0
    left_out: list[str] = field(default_factory=list)

    def sentences(self) -> list[str]:
        """What is said of it."""
        said = [
            f"brought over {self.posts:,} posts ({self.known:,} were known), {self.accounts:,}"
            f" accounts without posts, {self.sentiments:,} sentiments and {self.events:,} events"
        ]
        if self.left_out_rows:
            said.append(f"left out {self.left_out_rows:,} posts:")
            said += [f"  {sentence}" for sentence in self.left_out]
        return said


@dataclass(frozen=True)
class _Instance:
    """An instance by its id there (None: the only one, which has none) and its id here."""

    there: str | None
    here: int


def adopt(
    engine: Engine, schema: str, instance: str | None = None, progress: Progress | None = None
) -> Adopted:
    """Bring over the tables in `schema`, in batches of one transaction each.

    `instance` is the address of the server that they are of; where they know instances, only what
    is of that one is brought over, or without it of all.

    Raises AdoptionError, NotInstalled, TallyBusy, or SQLAlchemy's errors; what was brought over
    until then stays, and another run goes on.
    """
    with engine.connect() as connection:
        old = _found(connection, schema)
        _require_target(connection)
    instances = _instances(engine, old, instance)
    # What an earlier run wrote into the log, and did not come to process.
    process(engine)
    total, seen, done = _count(engine, old, instances), 0, Adopted()
    for each in instances:
        for ids in _pieces(engine, old, each):
            wanted = _unknown(engine, old, each, ids)
            done.known += _present(engine, each, sorted(set(ids) - set(wanted)))
            if wanted:
                _bring(engine, old, each, wanted)
                process(engine)
            seen += len(ids)
            done.posts += _present(engine, each, wanted)
            if progress is not None:
                progress(seen, total)
        done.accounts += _run(engine, statements.accounts(old, each.there, each.here))
        done.events += _bring_events(engine, old, each)
        process(engine)
        done.sentiments += _run(engine, statements.sentiments(old, each.there, each.here))
        _look(engine, old, each, done)
    return done


def _found(connection: Connection, schema: str) -> Old:
    """The tables that the schema has. Raises AdoptionError where there are no posts in it."""
    if schema == mastodon_posts.schema:
        raise AdoptionError(
            f"{schema} is the schema of the tables to which posts are brought; move the others to a"
            " schema of their own with `tally migrate --move-aside`, and name that"
        )
    rows = connection.execute(
        text(
            "SELECT c.relname AS relation, a.attname AS name,"
            " format_type(a.atttypid, a.atttypmod) AS type"
            " FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
            " JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
            " WHERE n.nspname = :schema AND c.relname = ANY (:tables)"
            " AND c.relkind IN ('r', 'p', 'v', 'm')"
        ),
        {"schema": schema, "tables": list(TABLES)},
    )
    columns: dict[str, dict[str, str]] = {}
    for row in rows:
        columns.setdefault(row.relation, {})[row.name] = row.type
    lacking = [n for n in ("id", "account_id") if n not in columns.get("mastodon_posts", {})]
    if lacking:
        raise AdoptionError(
            f"expected a table mastodon_posts with the columns id and account_id in the schema"
            f" {schema}, but there is no {' and no '.join(lacking)}; name the schema that has the"
            " application's tables"
        )
    return Old(quote(schema), columns)


def _require_target(connection: Connection) -> None:
    name = name_of(mastodon_posts)
    if connection.scalar(text("SELECT to_regclass(:name)"), {"name": name}) is None:
        raise AdoptionError(
            f"there is no table {name} to bring posts to; run"
            " `TALLY_SYSTEMS=fediverse tally migrate --with-sources` first"
        )


def _instances(engine: Engine, old: Old, wanted: str | None) -> list[_Instance]:
    """The instances to bring over. Raises AdoptionError where that is not certain."""
    try:
        url = None if wanted is None else base_url_of(wanted)
    except BadInstance as error:
        raise AdoptionError(f"--instance: {error}") from error
    if not old.knows_instances:
        if url is None:
            raise AdoptionError(
                "the posts do not say of which instance they are; name it, as in"
                " --instance https://mastodon.social"
            )
        with engine.begin() as connection:
            return [_Instance(None, instance_id(connection, url))]
    if "instances" not in old.columns:
        raise AdoptionError(
            f"the posts in {old.schema} name instances, but there is no table instances with their"
            " base_url"
        )
    with engine.begin() as connection:
        found = connection.exec_driver_sql(
            f"SELECT id::text AS id, base_url FROM {old.schema}.instances ORDER BY id"
        ).all()
        try:
            addresses = {row.id: base_url_of(row.base_url) for row in found}
        except BadInstance as error:
            raise AdoptionError(f"{old.schema}.instances: {error}") from error
        if url is not None and url not in addresses.values():
            raise AdoptionError(
                f"there is no instance {url} in {old.schema}; there are"
                f" {', '.join(addresses.values()) or 'none'}"
            )
        return [
            _Instance(there, instance_id(connection, address))
            for there, address in addresses.items()
            if url in (None, address)
        ]


def _count(engine: Engine, old: Old, instances: Sequence[_Instance]) -> int:
    with engine.connect() as connection:
        return sum(
            int(connection.scalar(text(statements.how_many(old, each.there))) or 0)
            for each in instances
        )


def _pieces(engine: Engine, old: Old, instance: _Instance) -> Iterator[list[str]]:
    """The ids of the instance's posts there, in the order of the index over them."""
    last: str | None = None
    while True:
        query = statements.piece(old, instance.there, last is None)
        values = {"last": last, "most": BATCH_POSTS}
        with engine.connect() as connection:
            ids = list(connection.execute(text(query), values).scalars())
        if not ids:
            return
        last = ids[-1]
        yield ids


def _unknown(engine: Engine, old: Old, instance: _Instance, ids: list[str]) -> list[str]:
    """Those of the posts of which nothing was brought over, and that can be."""
    query = text(statements.unknown(old, instance.there))
    with engine.connect() as connection:
        found = connection.execute(query, {"ids": ids, "here": instance.here})
        return list(found.scalars())


def _bring(engine: Engine, old: Old, instance: _Instance, ids: list[str]) -> None:
    """Write events of these posts into the log."""
    with engine.connect() as connection:
        days = text(statements.days(old, instance.there))
        wanted: list[date] = list(connection.execute(days, {"ids": ids}).scalars())
    ensure_days(engine, wanted)
    statement = statements.events_of_posts(old, instance.there)
    values = {"ids": ids, "here": instance.here}
    retried(partial(_written, engine, statement, values), "the adoption", engine)


def _present(engine: Engine, instance: _Instance, ids: list[str]) -> int:
    with engine.connect() as connection:
        values = {"ids": ids, "here": instance.here}
        return int(connection.scalar(text(statements.PRESENT), values) or 0)


def _bring_events(engine: Engine, old: Old, instance: _Instance) -> int:
    """Copy the raw events that are not in the log; how many."""
    wanted = ("id", "received_at", "event_type", "payload")
    if not old.tells_of(instance.there, "stream_events", *wanted):
        return 0
    brought, last = 0, None
    while True:
        query = statements.piece_of_events(old, instance.there, last is None)
        values = {"last": last, "most": BATCH_EVENTS}
        with engine.connect() as connection:
            rows = connection.execute(text(query), values).all()
        if not rows:
            return brought
        last = rows[-1].id
        ensure_days(engine, {row.day for row in rows})
        copy = statements.copy_events(old, instance.there)
        ends = {"first": rows[0].id, "last": last, "here": instance.here}
        brought += retried(partial(_written, engine, copy, ends), "the adoption", engine)


def _run(engine: Engine, statement: str | None) -> int:
    return 0 if statement is None else _written(engine, statement, {})


def _written(engine: Engine, statement: str, values: Mapping[str, object]) -> int:
    """Run a statement in a transaction of its own; how many rows it wrote."""
    with engine.begin() as connection:
        return int(connection.execute(text(statement), dict(values)).rowcount)


def _look(engine: Engine, old: Old, instance: _Instance, done: Adopted) -> None:
    """Compare the posts here with those there, and say why some are missing."""
    with engine.connect() as connection:
        query = text(statements.missing(old, instance.there))
        rows = connection.execute(query, {"here": instance.here}).all()
    done.left_out_rows += len(rows)
    room = SHOWN - len(done.left_out)
    done.left_out += [f"{row.id}: {row.why}" for row in rows[: max(room, 0)]]

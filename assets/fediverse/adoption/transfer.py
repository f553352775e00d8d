"""Bring over what another application kept of the fediverse: its posts, accounts and events.

The application's tables stand in a schema of their own, with its names: `mastodon_posts`, and as
far as they are there `mastodon_accounts`, `instances`, `post_versions`, `post_metric_snapshots`,
`post_sentiments` and `stream_events`. They may know instances or not. What a post's row says
becomes events in the raw log, as a server would send them: what it was edited from, its counts when
they were captured, what it is now, its deletion. So all that hangs on posts is derived as always,
with hashtags and mentions from the JSON columns.

Invariants: nothing is written in that schema, and nothing in it is run; a post that is
known here is not touched, so that all of it can be run again, after a kill as well, and the second
run changes nothing. A row that cannot be brought over costs itself alone, and is counted with the
reason. What a row does not say when it was seen, is seen now.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine, Row, text
from sqlalchemy.exc import DBAPIError

from assets.fediverse.adoption import left_out
from assets.fediverse.adoption import posts_sql as of_posts
from assets.fediverse.adoption import sql as statements
from assets.fediverse.adoption.left_out import AllLeftOut
from assets.fediverse.adoption.tables import AdoptionError, Old, reading
from assets.fediverse.instances import BadInstance, base_url_of, instance_id
from assets.fediverse.processing.batches import process
from assets.fediverse.storage.partitions import ensure_days
from assets.fediverse.tables import mastodon_posts
from tallykeeper.database.sql import name_of
from tallykeeper.faults.quarantine import is_refusal

BATCH_POSTS = 2_000
BATCH_EVENTS = 5_000

Progress = Callable[[int, int], None]
"""Called with how many rows were looked at, of how many."""
Query = Callable[[Old], str]
Values = Mapping[str, object]


@dataclass
class Adopted:
    """What was brought over, and what was not; `known` posts were there before."""

    posts: int = 0
    known: int = 0
    accounts: int = 0
    sentiments: int = 0
    events: int = 0
    left_out: AllLeftOut = field(default_factory=AllLeftOut)
    notes: list[str] = field(default_factory=list)

    @property
    def left_out_rows(self) -> int:
        """How many rows could not be brought over."""
        return sum(each.rows for each in self.left_out.values())

    def sentences(self) -> list[str]:
        """What is said of it."""
        return [
            f"brought over {self.posts:,} posts ({self.known:,} were known), {self.accounts:,}"
            f" accounts without posts, {self.sentiments:,} sentiments and {self.events:,} events",
            *self.notes,
            *self.left_out.sentences(),
        ]


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
    instances = reading(engine, schema, lambda c, old: _instances(c, old, instance))
    done = Adopted()
    # What an earlier run wrote into the log, and did not come to process.
    process(engine)
    _Run(engine, schema, done).bring(instances, progress)
    return done


def _instances(connection: Connection, old: Old, wanted: str | None) -> list[_Instance]:
    """The instances to bring over. Raises AdoptionError where that is not certain."""
    _require_target(connection)
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
        return [_Instance(None, instance_id(connection, url))]
    if old.lacks("instances"):
        raise AdoptionError(
            f"the posts in {old.schema} name instances, but there is no table instances with their"
            " id and base_url"
        )
    addresses = _addresses(connection, old)
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


def _addresses(connection: Connection, old: Old) -> dict[str, str]:
    """The instances' addresses, by their ids there. Raises AdoptionError."""
    found = connection.exec_driver_sql(
        f"SELECT id::text AS id, base_url::text AS base_url FROM {old.schema}.instances"
        " WHERE id IS NOT NULL ORDER BY id"
    )
    try:
        return {row.id: base_url_of(row.base_url or "") for row in found}
    except BadInstance as error:
        raise AdoptionError(f"{old.schema}.instances: {error}") from error


def _require_target(connection: Connection) -> None:
    name = name_of(mastodon_posts)
    if connection.scalar(text("SELECT to_regclass(:name)"), {"name": name}) is None:
        raise AdoptionError(
            f"there is no table {name} to bring posts to; run"
            " `TALLY_SYSTEMS=fediverse tally migrate --with-sources` first"
        )


class _Run:
    """One adoption: what it reads from, and what it has done so far."""

    def __init__(self, engine: Engine, schema: str, done: Adopted) -> None:
        self._engine = engine
        self._schema = schema
        self._done = done
        self._refused: dict[str, str] = {}

    def bring(self, instances: Sequence[_Instance], progress: Progress | None) -> None:
        """Bring over what is of these instances."""
        done, seen = self._done, 0
        total = sum(self._number(statements.how_many, each) for each in instances)
        for each in instances:
            known = self._number(statements.present, each)
            for ids in self._pieces("mastodon_posts", each):
                self._bring_posts(each, ids)
                seen += len(ids)
                if progress is not None:
                    progress(seen, total)
            done.known += known
            done.posts += self._number(statements.present, each) - known
            self._bring_accounts(each)
            self._bring_events(each)
            process(self._engine)
            self._bring_sentiments(each)
            values = {"here": each.here, "refused": json.dumps(self._refused)}
            self._look(partial(left_out.of_instance, there=each.there, here=each.here), values)
            self._refused.clear()
        self._look(left_out.of_no_instance, {})
        if not self._has("mastodon_posts", "visibility"):
            done.notes.append("the posts do not say who may see them: they count as public")

    def _rows(self, query: Query, values: Values) -> Sequence[Row[Any]]:
        """The rows of a SELECT, in a transaction of its own."""
        return reading(
            self._engine, self._schema, lambda c, old: c.execute(text(query(old)), values).all()
        )

    def _written(self, query: Query, values: Values) -> int:
        """How many rows an INSERT has written, in a transaction of its own."""
        return reading(
            self._engine, self._schema, lambda c, old: c.execute(text(query(old)), values).rowcount
        )

    def _has(self, table: str, *columns: str) -> bool:
        """Whether something can be made of the table, and it has these columns besides."""
        return reading(
            self._engine,
            self._schema,
            lambda _, old: old.has(table, *columns) and not old.lacks(table),
        )

    def _number(self, query: Callable[[Old, str | None], str], each: _Instance) -> int:
        found = self._rows(lambda old: query(old, each.there), {"here": each.here})
        return int(found[0][0])

    def _pieces(self, table: str, each: _Instance, column: str = "id") -> Iterator[list[str]]:
        """The ids of the instance's rows there, in the order of the index over them."""
        last: str | None = None
        while ids := self._piece(table, each, last, column):
            last = ids[-1]
            yield ids

    def _piece(self, table: str, each: _Instance, last: str | None, column: str) -> list[str]:
        found = self._rows(
            lambda old: statements.piece(old, table, each.there, last is None, column),
            {"last": last, "most": BATCH_POSTS},
        )
        return [row.id for row in found]

    def _bring_posts(self, each: _Instance, ids: list[str]) -> None:
        """Write events of these posts, and of those that they reblog, and process them."""
        every = self._rows(lambda old: of_posts.closure(old, each.there), {"ids": ids})
        found = self._rows(
            lambda old: of_posts.unknown(old, each.there),
            {"ids": [row.id for row in every], "here": each.here},
        )
        wanted = [row.id for row in found if not row.failed]
        failed = [row.id for row in found if row.failed]
        if failed:
            values = {"ids": failed, "here": each.here}
            again = self._rows(lambda old: of_posts.altered(old, each.there), values)
            wanted = sorted(wanted + [row.id for row in again])
        if wanted:
            _, refused = _in_parts(wanted, partial(self._write_posts, each))
            self._refused.update(refused)
            process(self._engine)

    def _write_posts(self, each: _Instance, ids: list[str]) -> int:
        values = {"ids": ids, "here": each.here}
        days = self._rows(lambda old: of_posts.days(old, each.there), values)
        ensure_days(self._engine, [row.day for row in days])
        return self._written(lambda old: of_posts.events_of_posts(old, each.there), values)

    def _bring_accounts(self, each: _Instance) -> None:
        """Write the accounts that no post has shown."""
        if self._has("mastodon_accounts"):
            write = partial(self._write_accounts, each)
            for ids in self._pieces("mastodon_accounts", each):
                self._done.accounts += self._all_but_refused("mastodon_accounts", ids, write)

    def _write_accounts(self, each: _Instance, ids: list[str]) -> int:
        return self._written(
            lambda old: statements.accounts(old, each.there, each.here), {"ids": ids}
        )

    def _bring_events(self, each: _Instance) -> None:
        """Copy the raw events that are not in the log."""
        if not self._has("stream_events"):
            return
        copy = partial(self._copy_events, each)
        last: str | None = None
        while rows := self._piece_of_events(each, last):
            last = rows[-1].id
            for row in rows:
                if row.why is not None:
                    self._done.left_out.of("stream_events").add(row.id, row.why)
            good = [row for row in rows if row.why is None]
            ensure_days(self._engine, {row.day for row in good})
            ids = [row.id for row in good]
            self._done.events += self._all_but_refused("stream_events", ids, copy)

    def _piece_of_events(self, each: _Instance, last: str | None) -> Sequence[Row[Any]]:
        return self._rows(
            lambda old: statements.piece_of_events(old, each.there, last is None),
            {"last": last, "most": BATCH_EVENTS},
        )

    def _copy_events(self, each: _Instance, ids: list[str]) -> int:
        return self._written(
            lambda old: statements.copy_events(old, each.there), {"ids": ids, "here": each.here}
        )

    def _bring_sentiments(self, each: _Instance) -> None:
        """Write what was said of contents that are known here."""
        if self._has("post_sentiments"):
            write = partial(self._write_sentiments, each)
            for ids in self._pieces("post_sentiments", each, "post_id"):
                self._done.sentiments += self._all_but_refused("post_sentiments", ids, write)

    def _write_sentiments(self, each: _Instance, ids: list[str]) -> int:
        return self._written(
            lambda old: statements.sentiments(old, each.there, each.here), {"ids": ids}
        )

    def _all_but_refused(
        self, table: str, ids: list[str], write: Callable[[list[str]], int]
    ) -> int:
        written, refused = _in_parts(ids, write)
        for which, why in refused.items():
            self._done.left_out.of(table).add(which, why)
        return written

    def _look(self, queries: Callable[[Old], dict[str, str]], values: Values) -> None:
        """Count what was left out, a table at a time."""
        known = reading(self._engine, self._schema, lambda _, old: queries(old))
        for table in known:
            found = self._rows(partial(left_out.counted, queries, table), values)
            self._done.left_out.of(table).add_counted(found)


def _in_parts(ids: list[str], write: Callable[[list[str]], int]) -> tuple[int, dict[str, str]]:
    """Write these rows; how many were, and which the database refuses alone, with its reason."""
    if not ids:
        return 0, {}
    try:
        return write(ids), {}
    except DBAPIError as error:
        if not is_refusal(error):
            raise
        if len(ids) == 1:
            said = str(error.orig).splitlines()[0]
            return 0, {ids[0]: f"the database refuses it: {said}"}
    half = len(ids) // 2
    (one, refused), (other, more) = _in_parts(ids[:half], write), _in_parts(ids[half:], write)
    return one + other, refused | more

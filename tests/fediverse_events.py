"""Streams of events made up at random, as odd as real ones, and what processing makes of them.

Invariants: an event carries the instant of its receipt with it, so that it can arrive in
any order; and two events about one post never have the same, unless they say the same.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg.types.json import Jsonb
from sqlalchemy import Engine

from assets.fediverse.processing.functions import PROGRESS
from assets.fediverse.tables import PROCESSED
from tests.integration.support import execute, rows

INSTANCES = ("https://one.example", "https://two.example")
FIRST_ID = 110_000_000_000_000_000
"""Beyond what a double holds exactly."""
TAGS = (
    "Cats",
    "cats",
    "CATS",
    "\uff23\uff41\uff54\uff53",
    "Straße",
    "STRASSE",
    "日本語",
    "ｶﾞ",
    "news",
    "x" * 40,
)
WORDS = ("<p>one</p>", "<p>two &amp; three</p>", "<p>four<br />five</p>", "<p>six</p>", "")
Status = dict[str, Any]


@dataclass(frozen=True)
class Event:
    """A row of the log as a client of the stream writes it. `instance` counts from 1."""

    instance: int
    received_at: datetime
    event_type: str
    payload: Any


@dataclass
class _Post:
    """What is going on with a post, on its instance."""

    status: Status
    visible_parent: str | None
    versions: list[Status] = field(default_factory=list)
    # It does not say the same each time of when it was created; then it has no history to tell.
    wavers: bool = False

    @property
    def id(self) -> str:
        return str(self.status["id"])


class Stream:
    """Events of some posts over some hours, drawn with `rng`; `first` is when they begin."""

    def __init__(self, rng: random.Random, first: datetime, posts: int = 8) -> None:
        self.rng, self.now, self.most = rng, first, posts
        self.posts: dict[int, list[_Post]] = {1: [], 2: []}
        self.events: list[Event] = []

    def draw(self, events: int) -> list[Event]:
        """The next events, in order of receipt."""
        kinds = (
            (self._publish, 6),
            (self._observe, 6),
            (self._edit, 4),
            (self._history, 2),
            (self._delete, 2),
            (self._reblog, 2),
            (self._again, 2),
            (self._malformed, 1),
            (self._uninteresting, 1),
        )
        run, weights = zip(*kinds, strict=True)
        start = len(self.events)
        while len(self.events) < start + events:
            self._wait()
            self.rng.choices(run, weights)[0](self.rng.choice((1, 1, 2)))
        return self.events[start:]

    def _wait(self) -> None:
        seconds = self.rng.choice((0.001, 0.5, 20, 900, 2_400))
        self.now += timedelta(seconds=seconds * self.rng.uniform(0.5, 1), microseconds=1)

    def _say(self, instance: int, event_type: str, payload: Any) -> None:
        # On the wire a payload is a string with JSON in it.
        if isinstance(payload, dict) and self.rng.random() < 0.3:
            payload = json.dumps(payload)
        self.events.append(Event(instance, self.now, event_type, payload))

    def _any(self, instance: int) -> _Post | None:
        posts = self.posts[instance]
        return self.rng.choice(posts) if posts else None

    def _new(self, instance: int) -> _Post:
        """The ids of both instances are the same few; replies name posts that may never come."""
        number = FIRST_ID + len(self.posts[instance])
        parent = None
        if self.rng.random() < 0.6:
            parent = str(FIRST_ID + self.rng.randrange(self.most + 2))
        status: Status = {
            "id": str(number),
            "created_at": self._written(self.now - timedelta(hours=self.rng.choice((0, 0, 7)))),
            "edited_at": None,
            "visibility": self.rng.choice(("public", "public", "unlisted", "private")),
            "language": self.rng.choice(("en", "de", "", None)),
            "sensitive": self.rng.random() < 0.2,
            "url": f"https://example.org/@a/{number}",
            "uri": f"https://example.org/{number}",
            "in_reply_to_id": parent,
            "in_reply_to_account_id": parent and "3",
            "reblog": None,
        }
        status |= self._account() | self._content() | self._counts()
        post = _Post(status, parent, [dict(status)], self.rng.random() < 0.1)
        self.posts[instance].append(post)
        return post

    def _account(self) -> Status:
        number = self.rng.randrange(4)
        followers = self.rng.randrange(10_000)
        return {
            "account": {
                "id": str(7_000 + number),
                "username": f"a{number}",
                "acct": f"a{number}" + ("@Other.example" if number == 2 else ""),
                "display_name": f"A {followers}",
                "followers_count": followers,
                "statuses_count": 5,
                "created_at": "2020-01-01T00:00:00.000Z",
            }
        }

    def _content(self) -> Status:
        rng = self.rng
        return {
            "content": rng.choice(WORDS),
            "spoiler_text": rng.choice(("", "", "careful")),
            "tags": [{"name": tag} for tag in rng.sample(TAGS, rng.choice((0, 1, 3)))],
            "mentions": [
                {"id": str(7_000 + n), "acct": f"a{n}", "username": f"a{n}", "url": "u"}
                for n in rng.sample(range(4), rng.choice((0, 0, 2)))
            ],
            "media_attachments": [
                {"id": str(n), "type": "image", "url": f"u{n}", "description": rng.choice("ab")}
                for n in rng.sample(range(4), rng.choice((0, 0, 2)))
            ],
        }

    def _counts(self) -> Status:
        return {
            name: self.rng.choice((0, 0, 1, 2, 9))
            for name in ("replies_count", "reblogs_count", "favourites_count")
        }

    def _written(self, at: datetime) -> str:
        if self.rng.random() < 0.2:
            return at.isoformat(timespec="milliseconds")
        return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03}Z"

    def _shown(self, post: _Post) -> Status:
        """The post as it would be shown now, or as a cache shows it that is a version behind."""
        rng = self.rng
        version = rng.choice(post.versions) if rng.random() < 0.2 else post.versions[-1]
        shown = {**post.status, **version, **self._counts()}
        # Mastodon forgets what is answered when that is deleted.
        shown["in_reply_to_id"] = rng.choice((post.visible_parent, post.visible_parent, None))
        if rng.random() < 0.04:
            shown["in_reply_to_id"] = str(FIRST_ID + rng.randrange(self.most))
        if rng.random() < 0.2:
            shown["id"] = int(shown["id"])
        if post.wavers:
            shown["created_at"] = self._written(self.now - timedelta(hours=rng.randrange(3)))
        if shown["edited_at"] is None and rng.random() < 0.2:
            del shown["edited_at"]
        return shown

    def _publish(self, instance: int) -> None:
        if len(self.posts[instance]) < self.most:
            self._say(instance, "update", self._shown(self._new(instance)))

    def _observe(self, instance: int) -> None:
        if post := self._any(instance):
            self._say(instance, "status", self._shown(post))

    def _edit(self, instance: int) -> None:
        """Some edits do not say when they were; some are never shown by the stream."""
        if not (post := self._any(instance)):
            return
        edited = dict(post.versions[-1]) | self._content()
        dated = self.rng.random() < 0.7
        edited["edited_at"] = self._written(self.now) if dated else None
        if dated:
            post.versions.append(edited)
        if self.rng.random() < 0.8:
            self._say(instance, "status.update", {**self._shown(post), **edited})

    def _history(self, instance: int) -> None:
        if (post := self._any(instance)) and not post.wavers:
            listed = [
                {
                    "created_at": version["edited_at"] or version["created_at"],
                    "content": version["content"],
                    "spoiler_text": version["spoiler_text"],
                    "sensitive": version["sensitive"],
                }
                for version in post.versions
            ]
            listed = [] if self.rng.random() < 0.2 else listed
            self._say(instance, "history", {"status_id": post.id, "history": listed})

    def _delete(self, instance: int) -> None:
        """Of any post, also one that comes later or never."""
        number = FIRST_ID + self.rng.randrange(self.most + 2)
        self._say(instance, "delete", self.rng.choice((number, str(number))))

    def _reblog(self, instance: int) -> None:
        """The outer tags are empty, and the outer counts those of the post within."""
        if not (post := self._any(instance)):
            return
        inner = self._shown(post)
        number = FIRST_ID + 1_000 + self.rng.randrange(4)
        outer = {
            **inner,
            **self._account(),
            "id": str(number),
            "created_at": self._written(self.now),
            "edited_at": None,
            "in_reply_to_id": None,
            "tags": [],
            "mentions": [],
            "media_attachments": [],
            "reblog": inner,
        }
        self._say(instance, self.rng.choice(("update", "status")), outer)

    def _again(self, _instance: int) -> None:
        """The same once more: on another stream at the same instant, or later."""
        if self.events:
            event = self.rng.choice(self.events[-5:])
            at = self.rng.choice((event.received_at, self.now))
            if event is not self.events[-1]:
                at = self.now
            self.events.append(Event(event.instance, at, event.event_type, event.payload))

    def _malformed(self, instance: int) -> None:
        post = self._any(instance)
        shown = self._shown(post) if post else {}
        bad: tuple[tuple[str, Any], ...] = (
            ("update", None),
            ("update", {}),
            ("status", "{not JSON"),
            ("status.update", {**shown, "created_at": "yesterday"}),
            ("update", {**shown, "account": None}),
            ("update", {**shown, "id": "5 6"}),
            ("status", {**shown, "favourites_count": "many"}),
            ("status", {**shown, "reblog": {"id": "1"}}),
            ("delete", {"id": 5}),
            ("delete", "some day"),
            ("history", {"history": []}),
            ("history", {"status_id": str(FIRST_ID), "history": {}}),
            ("history", {"status_id": str(FIRST_ID), "history": [{"created_at": "x"}]}),
        )
        event_type, payload = self.rng.choice(bad)
        self.events.append(Event(instance, self.now, event_type, payload))

    def _uninteresting(self, instance: int) -> None:
        event_type = self.rng.choice(("notification", "conversation", "filters_changed", "new"))
        self._say(instance, event_type, self.rng.choice((None, {"id": "1"}, [1])))


def recently() -> datetime:
    """An instant in UTC since which no snapshot is thinned, some days ago."""
    return datetime.now(UTC).replace(microsecond=0) - timedelta(days=4)


def events_of(seed: object, count: int, posts: int = 8, days_ago: float = 0) -> list[Event]:
    """So many events that follow from the seed, but for when they begin."""
    begin = recently() - timedelta(days=days_ago)
    return Stream(random.Random(f"{seed}"), begin, posts).draw(count)


def add_instances(engine: Engine) -> None:
    """The instances 1 and 2."""
    values = ", ".join(f"({n}, '{url}')" for n, url in enumerate(INSTANCES, 1))
    execute(
        engine,
        "INSERT INTO fediverse.instances (id, base_url) OVERRIDING SYSTEM VALUE VALUES " + values,
    )


def append(connection: psycopg.Connection[Any], events: Iterable[Event]) -> None:
    """Write the events to the log, as one statement each; the caller commits."""
    connection.cursor().executemany(
        "INSERT INTO fediverse.stream_events (instance_id, received_at, event_type, payload)"
        " VALUES (%s, %s, %s, %s)",
        [(e.instance, e.received_at, e.event_type, Jsonb(e.payload)) for e in events],
    )


def add_events(engine: Engine, events: Sequence[Event]) -> None:
    """Write the events to the log, in this order, and commit."""
    with engine.begin() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        append(driver, events)


def forget_everything(engine: Engine) -> None:
    """Empty the log and all that was derived, as if nothing had ever been received."""
    names = ", ".join(f"fediverse.{table.name}" for table in PROCESSED)
    execute(
        engine,
        f"TRUNCATE fediverse.stream_events, {names}",
        f"UPDATE {PROGRESS} SET processed_at = NULL, processed_id = NULL",
    )


def derived(engine: Engine) -> dict[str, list[str]]:
    """All that processing derives, each row as JSON; hashtags by their names."""
    found = {}
    for table in PROCESSED:
        if table.name not in ("hashtags", "post_hashtags"):
            found[table.name] = _json(engine, f"SELECT to_jsonb(t) FROM fediverse.{table.name} t")
    found["hashtags"] = _json(engine, "SELECT to_jsonb(h) - 'id' FROM fediverse.hashtags AS h")
    found["post_hashtags"] = _json(
        engine,
        "SELECT jsonb_build_array(p.instance_id, p.post_id, h.name)"
        " FROM fediverse.post_hashtags AS p"
        " JOIN fediverse.hashtags AS h ON h.instance_id = p.instance_id AND h.id = p.hashtag_id",
    )
    found["stream_events"] = _json(
        engine,
        "SELECT to_jsonb(e) - 'id' - 'processed_at' || jsonb_build_object('processed',"
        " processed_at IS NOT NULL) FROM fediverse.stream_events AS e",
    )
    return found


def _json(engine: Engine, query: str) -> list[str]:
    return sorted(json.dumps(row, sort_keys=True) for (row,) in rows(engine, query))


def require_same(found: dict[str, list[str]], expected: dict[str, list[str]], where: str) -> None:
    """Raise AssertionError naming the rows that only one of the two has."""
    for table, wanted in expected.items():
        if found[table] == wanted:
            continue
        only = [row for row in found[table] if row not in wanted]
        lacks = [row for row in wanted if row not in found[table]]
        raise AssertionError(f"{where}: {table} has\n{only[:4]}\ninstead of\n{lacks[:4]}")

"""A stream of the fediverse that a test writes and has processed, and the database it is in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine

from assets.fediverse.processing.batches import process
from assets.fediverse.processing.functions import PROGRESS
from assets.fediverse.tallies import system
from tallykeeper.database.connections import open_engine
from tests.integration.support import create, execute, rows
from tests.servers import VERSIONS, Servers

START = datetime(2026, 11, 20, 12, tzinfo=UTC)


class Log:
    """A stream written to the log, an event a minute, processed at once or on request."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.start = START
        self.minutes = 0
        execute(
            engine,
            "INSERT INTO fediverse.instances (base_url)"
            " VALUES ('https://One.example'), ('https://two.example')",
        )

    def write(self, event: str, payload: Any, *, instance: int = 1, at: int | None = None) -> int:
        """Append an event received `at` minutes after the start, by default the next; its id."""
        self.minutes = self.minutes + 1 if at is None else at
        received = self.start + timedelta(minutes=self.minutes)
        with self.engine.begin() as connection:
            return int(
                connection.exec_driver_sql(
                    "INSERT INTO fediverse.stream_events"
                    " (instance_id, event_type, payload, received_at)"
                    " VALUES (%s, %s, %s::jsonb, %s) RETURNING id",
                    (instance, event, json.dumps(payload), received),
                ).scalar_one()
            )

    def say(self, event: str, payload: Any, *, instance: int = 1) -> None:
        """Append an event and process it. It must be readable."""
        self.write(event, payload, instance=instance)
        assert process(self.engine).failed == 0

    def posts(self, columns: str) -> list[tuple[Any, ...]]:
        return rows(
            self.engine, f"SELECT {columns} FROM fediverse.mastodon_posts ORDER BY instance_id, id"
        )

    def versions(self, columns: str = "version_seq, content_text, valid_from, valid_to") -> Any:
        return rows(
            self.engine,
            f"SELECT {columns} FROM fediverse.post_versions ORDER BY post_id, version_seq",
        )

    def tags(self) -> list[str]:
        return [
            name
            for (name,) in rows(
                self.engine,
                "SELECT name FROM fediverse.post_hashtags AS p JOIN fediverse.hashtags AS h"
                " ON h.id = p.hashtag_id ORDER BY name",
            )
        ]

    def snapshots(self) -> list[tuple[int, int]]:
        """Minute and favourites of each."""
        return [
            (int((at - self.start).total_seconds() // 60), favourites)
            for at, favourites in rows(
                self.engine,
                "SELECT captured_at, favourites_count FROM fediverse.post_metric_snapshots"
                " ORDER BY captured_at",
            )
        ]


def status(number: int | str = 1, **fields: Any) -> dict[str, Any]:
    """A status as the API sends it."""
    return {
        "id": str(number),
        "created_at": "2026-11-20T11:00:00.000Z",
        "edited_at": None,
        "in_reply_to_id": None,
        "in_reply_to_account_id": None,
        "sensitive": False,
        "spoiler_text": "",
        "visibility": "public",
        "language": "en",
        "uri": f"https://one.example/{number}",
        "url": f"https://one.example/@ann/{number}",
        "replies_count": 0,
        "reblogs_count": 0,
        "favourites_count": 0,
        "content": f"<p>post {number}</p>",
        "reblog": None,
        "account": {"id": "7", "username": "ann", "acct": "ann", "display_name": "Ann"},
        "media_attachments": [],
        "mentions": [],
        "tags": [],
        **fields,
    }


def tagged(*names: str) -> list[dict[str, str]]:
    return [{"name": name, "url": f"https://one.example/tags/{name}"} for name in names]


@contextmanager
def created(servers: Servers) -> Iterator[Engine]:
    """A database with the fediverse's tables and capture."""
    with servers.fresh_database(VERSIONS[0]) as url:
        engine = open_engine(url)
        create(engine, system)
        yield engine
        engine.dispose()


def emptied(engine: Engine) -> Log:
    """An empty log, and nothing derived yet."""
    tables = ", ".join(f"fediverse.{t.name}" for t in (*system.raw, *system.processed))
    execute(
        engine,
        f"TRUNCATE {tables} RESTART IDENTITY",
        f"UPDATE {PROGRESS} SET processed_at = NULL, processed_id = NULL, dropped_before = NULL",
    )
    return Log(engine)

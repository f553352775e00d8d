"""What is written to the fediverse: events, by several clients at once, and sentiments.

Tags, authors and hours are few, and events are about posts that others are about just now, so that
they meet. Most are received in the order of their numbers; some are not, or are committed long
after. Streams are not written as fast as the disk allows, or processing would see their beginning
alone.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg.types.json import Jsonb
from sqlalchemy import Engine

from assets.fediverse.processing.batches import process
from assets.fediverse.replay import replay, verify_log
from tests.concurrency.writers import Cursor, Operation
from tests.oracle import OracleViolation

FIRST_ID = 110_000_000_000_000_000
REBLOGS = FIRST_ID + 1_000_000_000
POSTS = 30
POSTS_PER_SECOND = 1
LONGEST_PAUSE = 0.05
TAGS = ("Cats", "cats", "Straße", "STRASSE", "日本語", "news")
CONTENTS = ("<p>one</p>", "<p>two</p>", "<p>three</p>")
MODELS = ("small", "large")
FIRST_RECEIVED = datetime(2024, 2, 29, tzinfo=UTC)
RECEIVED = "'2024-02-29Z'::timestamptz + nextval('fediverse.stream_events_id_seq') * interval '1 s'"
RECEIVED_ANY_TIME = "'2024-02-29Z'::timestamptz + random() * interval '1 hour'"

Event = tuple[int, str, Any]


def _id(number: int) -> str:
    """The id of a post: of all the kinds that servers have, so that none is compared as another."""
    return (str(FIRST_ID + number), f"01HZ{number:010X}", f"A{number}xYz")[number % 3]


def _any_post(rng: random.Random) -> int:
    """Some recent post."""
    return int(time.time() * POSTS_PER_SECOND) % 1_000_000 + rng.randrange(POSTS)


def _status(rng: random.Random, number: int) -> dict[str, Any]:
    author = rng.randrange(4)
    status: dict[str, Any] = {
        "id": _id(number),
        "created_at": f"2024-03-0{1 + number % 3}T2{2 + number % 2}:30:00.000Z",
        "edited_at": rng.choice((None, f"2024-03-05T10:{rng.randrange(10)}0:00Z")),
        "visibility": rng.choice(("public", "public", "unlisted", "private")),
        "language": rng.choice(("en", "de", None)),
        "content": rng.choice(CONTENTS),
        "tags": [{"name": tag} for tag in rng.sample(TAGS, rng.randrange(4))],
        "in_reply_to_id": _id(number - number % 5) if number % 5 else None,
        "account": {
            "id": str(author),
            "acct": f"a{author}" + ("@other.example" if author == 3 else ""),
        },
        "mentions": [],
        "media_attachments": [],
    }
    for name in ("replies_count", "reblogs_count", "favourites_count"):
        status[name] = rng.randrange(6)
    return status


def _event(rng: random.Random) -> Event:
    kind = rng.choices(("update", "status", "status.update", "reblog", "delete", "bad"), _WEIGHTS)
    instance = rng.choice((1, 1, 2))
    if kind == ["delete"]:
        return instance, "delete", _id(_any_post(rng))
    if kind == ["bad"]:
        return instance, "update", {"id": "no ne"}
    status = _status(rng, _any_post(rng))
    if kind == ["reblog"]:
        number = _any_post(rng)
        outer = _status(rng, number) | {"id": str(REBLOGS + number), "tags": []}
        return instance, "update", {**outer, "reblog": status}
    return instance, kind[0], status


_WEIGHTS = (6, 8, 4, 3, 1, 0.5)


def _append(cursor: Cursor, events: Sequence[Event], received: str = RECEIVED) -> None:
    time.sleep(random.uniform(0, LONGEST_PAUSE))
    cursor.execute(
        "INSERT INTO fediverse.stream_events (instance_id, received_at, event_type, payload)"
        f" SELECT i, {received}, t, p FROM unnest(%s::bigint[], %s::text[], %s::jsonb[])"
        " AS e (i, t, p)",
        [
            [event[0] for event in events],
            [event[1] for event in events],
            [Jsonb(event[2]) for event in events],
        ],
    )


def append_event(cursor: Cursor, rng: random.Random) -> None:
    _append(cursor, [_event(rng)])


def append_events(cursor: Cursor, rng: random.Random) -> None:
    _append(cursor, [_event(rng) for _ in range(rng.randint(2, 12))])


def append_late_events(cursor: Cursor, rng: random.Random) -> None:
    """Received before others that were written long ago."""
    _append(cursor, [_event(rng) for _ in range(rng.randint(1, 3))], RECEIVED_ANY_TIME)


def append_twice(cursor: Cursor, rng: random.Random) -> None:
    event = _event(rng)
    _append(cursor, [event, event])


def analyze(cursor: Cursor, rng: random.Random) -> None:
    """What a model says of some posts' contents as they are now."""
    cursor.execute(
        "INSERT INTO fediverse.post_sentiments"
        " (instance_id, post_id, model, prompt_version, input_hash, score)"
        " SELECT instance_id, id, %s, '1', content_hash, (%s + abs(hashtext(id::text) %% 3)) / 10.0"
        " FROM fediverse.mastodon_posts WHERE content_hash IS NOT NULL"
        " AND abs(hashtext(id::text) %% 4) = %s"
        " ON CONFLICT (instance_id, post_id, model, prompt_version, input_hash)"
        " DO UPDATE SET score = excluded.score",
        [rng.choice(MODELS), rng.randrange(-5, 5), rng.randrange(4)],
    )


def analyze_again(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(
        "UPDATE fediverse.post_sentiments SET score = %s"
        " WHERE abs(hashtext(post_id::text) %% 5) = %s AND model = %s",
        [rng.choice((None, -0.5, 0.125, 1)), rng.randrange(5), rng.choice(MODELS)],
    )


def forget_analyses(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(
        "DELETE FROM fediverse.post_sentiments WHERE abs(hashtext(post_id::text) %% 5) = %s",
        [rng.randrange(5)],
    )


def forget_all_analyses(cursor: Cursor, _rng: random.Random) -> None:
    cursor.execute("TRUNCATE fediverse.post_sentiments")


OPERATIONS = tuple(
    Operation(name, weight, run)
    for name, weight, run in (
        ("append an event", 8, append_event),
        ("append events", 8, append_events),
        ("append late events", 1, append_late_events),
        ("append an event twice", 1, append_twice),
        ("analyze", 3, analyze),
        ("analyze again", 2, analyze_again),
        ("forget analyses", 1, forget_analyses),
        ("forget all analyses", 0.3, forget_all_analyses),
    )
)

PROCESSED, REPLAYED, VERIFIED = "processed events", "replayed the log", "verified the log"


def keep_up(engine: Engine, rng: random.Random) -> str:
    """Process some events, or replay some of the log, or verify it; what was done.

    Raises TallyBusy, and OracleViolation where the log says otherwise.
    """
    what = rng.choices((PROCESSED, REPLAYED, VERIFIED), (20, 1, 1))[0]
    if what == PROCESSED:
        process(engine, batch_events=rng.choice((1, 10, 100)), stop_after=rng.choice((1, 3)))
    elif what == REPLAYED:
        written = replay(engine, *_window(rng)).rows
        if written:
            raise OracleViolation(f"a replay wrote {written}", frozenset({"log"}))
    else:
        found = verify_log(engine, *_window(rng))
        if not found.ok:
            raise OracleViolation(f"the log says otherwise: {found}", frozenset({"log"}))
    return what


def _window(rng: random.Random) -> tuple[datetime, datetime]:
    start = FIRST_RECEIVED + timedelta(seconds=rng.randrange(5_000))
    return start, start + timedelta(seconds=rng.choice((20, 200)))

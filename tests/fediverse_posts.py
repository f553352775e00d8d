"""Posts of the fediverse written by hand, as processing would write them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from sqlalchemy import Engine, text

IDS = ("id", "account_id", "in_reply_to_id", "in_reply_to_account_id", "reblog_of_id")
_ids = count(117_024_236_332_527_350)


def add_instance(engine: Engine, url: str = "https://m.social") -> int:
    """A new instance; says its id."""
    with engine.begin() as connection:
        return int(
            connection.execute(
                text("INSERT INTO fediverse.instances (base_url) VALUES (:url) RETURNING id"),
                {"url": url},
            ).scalar_one()
        )


def add_post(
    engine: Engine,
    instance: int,
    created_at: datetime,
    *,
    tags: Iterable[str] = (),
    content: str | None = "Hello",
    **columns: Any,
) -> str:
    """A public post of account 1 with its hashtags, as they are normalised; says its id."""
    row: dict[str, Any] = {
        "id": next(_ids),
        "instance_id": instance,
        "account_id": "1",
        "domain": "m.social",
        "visibility": "public",
        "content": content,
        "content_text": content,
        "created_at": created_at,
        "first_seen_at": created_at + timedelta(seconds=1),
        **columns,
    }
    row |= {n: str(row[n]) for n in IDS if row.get(n) is not None}
    names, values = ", ".join(row), ", ".join(f":{name}" for name in row)
    with engine.begin() as connection:
        connection.execute(
            text(f"INSERT INTO fediverse.mastodon_posts ({names}) VALUES ({values})"), row
        )
        for tag in tags:
            _tag(connection, instance, row["id"], tag)
    return str(row["id"])


def _tag(connection: Any, instance: int, post: str, tag: str) -> None:
    given = {"instance": instance, "post": post, "tag": tag}
    connection.execute(
        text(
            "INSERT INTO fediverse.hashtags (instance_id, name) VALUES (:instance, :tag)"
            " ON CONFLICT DO NOTHING"
        ),
        given,
    )
    connection.execute(
        text(
            "INSERT INTO fediverse.post_hashtags SELECT :instance, :post, id"
            " FROM fediverse.hashtags WHERE instance_id = :instance AND name = :tag"
        ),
        given,
    )

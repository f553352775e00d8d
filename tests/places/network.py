"""Posts of several servers with their tags, kept at places: each has some of the servers.

The tables of a place are called otherwise than they are declared, as the shards of a cluster are.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import psycopg
from sqlalchemy import MetaData

from tallykeeper import SelectTally, System
from tallykeeper.declarations.combining import MAX, SUM
from tallykeeper.places.place import Place

START = datetime(2026, 3, 1, tzinfo=UTC)
TABLES = ("posts", "post_tags", "tags")
COUNTS = """
SELECT server_id, date_trunc('hour', created_at, 'UTC') AS hour, count(*) AS posts,
    sum(likes) AS likes
FROM network.posts WHERE visible GROUP BY 1, 2"""
TAG_HOURS = """
SELECT post_tags.server_id, t.label, count(*) AS posts, count(DISTINCT p.author) AS authors,
    max(p.created_at) AS last_at
FROM network.posts AS p
JOIN network.post_tags ON post_tags.server_id = p.server_id AND network.post_tags.post_id = p.id
JOIN network.tags AS t ON t.id = post_tags.tag_id
WHERE p.visible GROUP BY 1, 2"""
TOP = """
SELECT server_id, author, likes, place FROM (
    SELECT server_id, author, sum(likes) AS likes, row_number()
        OVER (PARTITION BY server_id ORDER BY sum(likes) DESC, author) AS place
    FROM network.posts GROUP BY server_id, author
) AS ranked WHERE place <= 3"""
SELECTS = {"hours": COUNTS, "tag_hours": TAG_HOURS, "top": TOP}
KEYS = {"top": ["server_id", "author"]}

CREATE = """
CREATE SCHEMA IF NOT EXISTS network;
CREATE TABLE {posts} (
    server_id integer, id bigint, author text NOT NULL, created_at timestamptz NOT NULL,
    likes bigint NOT NULL, visible boolean NOT NULL, PRIMARY KEY (server_id, id)
);
CREATE TABLE {post_tags} (
    server_id integer, post_id bigint, tag_id integer, PRIMARY KEY (server_id, post_id, tag_id)
);
CREATE INDEX ON {post_tags} (tag_id);
CREATE TABLE IF NOT EXISTS {tags} (id integer PRIMARY KEY, label text NOT NULL);
"""


def system(*names: str) -> System:
    """The system of these SELECTs, or all of them."""
    tallies = [
        SelectTally(
            f"network.{name}",
            select=SELECTS[name],
            key=KEYS.get(name),
            combine={"posts": SUM, "last_at": MAX} if name == "tag_hours" else None,
        )
        for name in names or SELECTS
    ]
    return System(
        "network",
        MetaData(),
        tallies,
        distribution={
            "network.posts": "server_id",
            "network.post_tags": "server_id",
            "network.tags": None,
        },
    )


def place(name: str, url: str, suffix: str, tallies: Sequence[str] = tuple(SELECTS)) -> Place:
    """A place whose tables, but for that of the labels, end in `_suffix`."""
    own = [*(t for t in TABLES if t != "tags"), *tallies]
    tables = {("network", t): ("network", f"{t}_{suffix}") for t in own}
    return Place(name, url, tables)


def create(place: Place) -> None:
    """Make the tables of the place, and labels."""
    names = {t: ".".join(place.table("network", t)) for t in TABLES}
    with connect(place.url) as connection:
        connection.execute(CREATE.format(**names))
        connection.execute(
            f"INSERT INTO {names['tags']} SELECT i, 'tag ' || i FROM generate_series(1, 8) AS i"
            " ON CONFLICT DO NOTHING"
        )


def connect(url: str) -> psycopg.Connection[tuple[object, ...]]:
    """A connection of the driver's."""
    return psycopg.connect(url.replace("+psycopg", ""))


def change(
    connection: psycopg.Connection[tuple[object, ...]],
    place: Place,
    rng: random.Random,
    server: int,
) -> None:
    """Change rows of one server in a few ways."""
    posts, pairs = (".".join(place.table("network", t)) for t in ("posts", "post_tags"))
    number = rng.randint(1, 40)
    for _ in range(rng.randint(1, 3)):
        # Stable functions of columns are refused by a cluster's coordinator.
        at = START + timedelta(minutes=rng.randint(0, 300))
        match rng.randint(0, 6):
            case 0 | 1:
                connection.execute(
                    f"INSERT INTO {posts} VALUES (%s, %s, %s, %s, %s, %s)"
                    " ON CONFLICT (server_id, id) DO UPDATE"
                    " SET likes = EXCLUDED.likes, visible = EXCLUDED.visible",
                    (
                        server,
                        number,
                        f"author {rng.randint(1, 5)}",
                        at,
                        rng.randint(0, 9),
                        rng.random() < 0.8,
                    ),
                )
            case 2:
                connection.execute(
                    f"UPDATE {posts} SET created_at = %s WHERE server_id = %s AND id %% 7 = %s",
                    (at, server, number % 7),
                )
            case 3:
                connection.execute(
                    f"DELETE FROM {posts} WHERE server_id = %s AND id = %s", (server, number)
                )
            case 4 | 5:
                connection.execute(
                    f"INSERT INTO {pairs} VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
                    (server, number, rng.randint(1, 8)),
                )
            case _:
                connection.execute(
                    f"DELETE FROM {pairs} WHERE server_id = %s AND post_id = %s", (server, number)
                )

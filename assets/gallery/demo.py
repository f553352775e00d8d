"""A made-up gallery: two years of items ending today, of any size.

Generated inside the server, some two million links a statement. Invariants: the same seed
on the same day (UTC) makes the same items (at other moments of today, though), none lies in the
future, making the gallery up again changes nothing, and only what was made up is ever changed.

Made-up users and tags are known by ids that are a hash of their names. A gallery grows as one does
in life: with the number of links grow, more slowly, the tags of an item (10 at 200,000 links, 77 at
90 million), the tags there are (500; 49,000) and the creators (200; 4,200).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from typing import Any

from sqlalchemy import Connection, Engine, Table, text

from assets.gallery.demo_names import tag_names
from assets.gallery.input.numbering import advance, sequences_of
from assets.gallery.tables import AUTO, ITEMS, REGULAR, tags, users

_LINKS_A_STATEMENT = 2_000_000
_LARGEST = 1_000_000_000
_SHARE_OF_REGULAR = 0.6

_USERS = """
INSERT INTO {users} (id, username)
SELECT CAST(md5('tallykeeper demo user ' || name) AS uuid), name
FROM unnest(CAST(:makers AS text[])) AS name
ON CONFLICT DO NOTHING
"""
_TAGS = """
INSERT INTO {tags} (id, name)
SELECT CAST(md5('tallykeeper demo tag ' || name) AS uuid), name
FROM unnest(CAST(:names AS text[])) AS name
ON CONFLICT DO NOTHING
"""
# The most used tags are much alike, the others follow Zipf's law: rank r has 1 / (r + 10). Creators
# go by the cube of chance: one in ten makes nearly half. Items grow denser towards today.
_ITEMS = """
WITH drawn AS MATERIALIZED (
  SELECT n, random() AS maker, random() AS within, random() AS secret,
    -- A sum of three waits: seldom very few, seldom very many.
    -ln((1 - random()) * (1 - random()) * (1 - random())) / 3 AS amount
  FROM generate_series(CAST(:first AS integer), CAST(:last AS integer)) AS n
), dated AS (
  SELECT *, date_trunc('day', now(), 'UTC') + interval '1 day'
    - interval '730 days' * power(1 - (n - within) / :total, 1.25) AS at
  FROM drawn
), filled AS (
  -- Some draws hit a tag that the item has already; hence a few more of them.
  SELECT *, ARRAY(
    SELECT DISTINCT (
      SELECT array_agg(t.id ORDER BY place)
      FROM unnest(CAST(:names AS text[])) WITH ORDINALITY AS k (name, place)
      JOIN {tags} AS t ON t.name = k.name
    )[1 + CAST(floor(10 * (power((:kinds + 10) / 10.0, random()) - 1)) AS integer)]
    FROM generate_series(1, CAST(round(amount * 1.04 * :per_item) AS integer) + 0 * n)
  ) AS named
  FROM dated
)
INSERT INTO {items} (id, title, content_type, creator_id, created_at, is_private, tags)
SELECT n, 'Demo ' || n, (CAST('{{image,image,image,video}}' AS text[]))[1 + n % 4],
  (SELECT array_agg(id ORDER BY username) FROM {users}
   WHERE username = ANY(CAST(:makers AS text[]))
     AND id = CAST(md5('tallykeeper demo user ' || username) AS uuid)
  )[1 + CAST(floor(cardinality(CAST(:makers AS text[])) * power(maker, 3)) AS integer)],
  -- What today would still be to come was made earlier today.
  CASE WHEN at <= now() THEN at
    ELSE date_trunc('day', now(), 'UTC') + within * (now() - date_trunc('day', now(), 'UTC')) END,
  secret < 0.05,
  CASE
    WHEN n % 97 = 0 THEN named || CAST(NULL AS uuid)
    WHEN n % 89 = 0 THEN named || named[1:2]
    WHEN n % 101 = 0 THEN named || CAST(md5('no tag ' || n) AS uuid)
    ELSE named
  END
FROM filled
ORDER BY n
ON CONFLICT (id) DO NOTHING
"""
# What happens to a gallery later: somebody tidies up the tags, new items come, some of them found
# on an old disk, the worst ones go. Only what made-up users made is touched.
_MADE_UP = """
WITH chosen AS MATERIALIZED (
  SELECT i.id, row_number() OVER (ORDER BY i.created_at DESC, i.id DESC) AS place, i.creator_id
  FROM {items} AS i JOIN {users} AS u ON u.id = i.creator_id
  WHERE u.id = CAST(md5('tallykeeper demo user ' || u.username) AS uuid)
  ORDER BY i.created_at DESC, i.id DESC LIMIT 200
)
"""
_ADDED = (
    _MADE_UP
    + """
INSERT INTO {items} (title, content_type, creator_id, created_at, tags)
SELECT 'Demo, added', content_type, i.creator_id,
  CASE WHEN place % 10 = 0 THEN now() - place * interval '3 days' ELSE now() END, i.tags
FROM {items} AS i JOIN chosen USING (id) WHERE place <= 60
"""
)
_RETAGGED = (
    _MADE_UP
    + """
UPDATE {items} AS i SET updated_at = now(), tags = CASE
    WHEN place % 2 = 0 THEN i.tags[2:]
    ELSE i.tags || (SELECT id FROM {tags} ORDER BY md5(name || i.id) LIMIT 1)
  END
FROM chosen WHERE chosen.id = i.id AND place BETWEEN 61 AND 140
"""
)
_DELETED = (
    _MADE_UP
    + "DELETE FROM {items} AS i USING chosen WHERE chosen.id = i.id AND place BETWEEN 141 AND 160"
)
_MOVED = (
    _MADE_UP
    + """
UPDATE {items} AS i SET updated_at = now(), creator_id = other.creator_id
FROM chosen, (SELECT creator_id FROM chosen ORDER BY creator_id LIMIT 1) AS other
WHERE chosen.id = i.id AND place BETWEEN 161 AND 165
"""
)
# One that is neither common nor rare: how plain a name is tells how often it is used.
_FORGOTTEN = """
DELETE FROM {tags} WHERE id = (
  SELECT id FROM {tags} WHERE id = CAST(md5('tallykeeper demo tag ' || name) AS uuid)
    AND name LIKE '% %' ORDER BY name LIMIT 1
)
"""
# Late names were given to those who make little.
_LEAVING = """
SELECT id FROM {users} AS u WHERE id = CAST(md5('tallykeeper demo user ' || username) AS uuid)
  AND (EXISTS (SELECT FROM {regular} AS i WHERE i.creator_id = u.id)
       OR EXISTS (SELECT FROM {auto} AS i WHERE i.creator_id = u.id))
ORDER BY username DESC LIMIT 1
"""
_DELETED_WITH = "DELETE FROM {items} WHERE creator_id = :user"
_DELETED_USER = "DELETE FROM {users} WHERE id = :user"
# An index on the arrays that enters each tag at once takes most of the time: six times what making
# the items takes. Let wait and be entered together, they cost a fraction of it.
_UNHURRIED = """
SELECT format('%I.%I', n.nspname, c.relname) FROM pg_index AS i
JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE i.indrelid = CAST(:items AS regclass) AND c.reloptions @> '{fastupdate=off}'
"""
_THERE = "SELECT count(*) FROM {items} WHERE id BETWEEN :first AND :last"


def create_demo(engine: Engine, links: int = 200_000, seed: float = 0.42) -> int:
    """Make up items with about `links` tags altogether; returns how many rows were inserted.

    Three items of five are regular, the others generated. One in twenty is private; one in thirty
    names a tag twice, a null or an id that no tag has. `seed` is PostgreSQL's, from -1 to 1. Raises
    ValueError where a number makes no sense.
    """
    if not 0 <= links <= _LARGEST or not -1 <= seed <= 1:
        raise ValueError(
            f"Expected 0 to {_LARGEST:,} links and a seed from -1 to 1, "
            f"but it is {links} links, seed {seed}."
        )
    growth = links / 200_000
    per_item = max(1.0, 10 * growth ** (1 / 3))
    items = round(links / per_item)
    names = tag_names(ceil(500 * growth**0.75))
    makers = [f"demo-{n:04}" for n in range(1, ceil(200 * growth**0.5) + 1)]
    with engine.begin() as connection:
        done = _execute(connection, _USERS, makers=makers)
        done += _execute(connection, _TAGS, names=names)
    regular = round(items * _SHARE_OF_REGULAR)
    for source, number in ((REGULAR, regular), (AUTO, items - regular)):
        drawn = {"total": number, "per_item": per_item, "names": names, "kinds": len(names)}
        done += _make_items(engine, source, {**drawn, "makers": makers}, seed)
    return done


def change_demo(engine: Engine) -> int:
    """Change a made-up gallery as time would; returns how many rows of the sources that were.

    Tags are edited, items come (some of them late) and go, one moves to another creator, a tag is
    deleted while items still name it, and a user with all items.
    """
    changed = 0
    with engine.begin() as connection:
        for items in ITEMS.values():
            for statement in (_RETAGGED, _MOVED, _DELETED, _ADDED):
                changed += _execute(connection, statement, items)
        changed += _execute(connection, _FORGOTTEN)
        leaving = connection.scalar(text(_named(connection, _LEAVING)))
        for items in ITEMS.values():
            changed += _execute(connection, _DELETED_WITH, items, user=leaving)
        return changed + _execute(connection, _DELETED_USER, user=leaving)


def _make_items(engine: Engine, source: str, drawn: dict[str, Any], seed: float) -> int:
    """The items of one source, in statements of bounded size, each in a transaction of its own."""
    total, step = drawn["total"], max(1, round(_LINKS_A_STATEMENT / drawn["per_item"]))
    done = 0
    for place, first in enumerate(range(1, total + 1, step)):
        last = min(first + step - 1, total)
        with engine.begin() as connection:
            count = _named(connection, _THERE, ITEMS[source])
            if connection.scalar(text(count), {"first": first, "last": last}) == last - first + 1:
                continue
            connection.execute(text("SET LOCAL TIME ZONE 'UTC'"))
            # Each statement draws numbers of its own, those of one source unlike the other's.
            own = (seed + 0.618 * place + (0.3 if source == AUTO else 0)) % 1
            connection.execute(text("SELECT setseed(:seed)"), {"seed": own})
            with _together(connection, ITEMS[source]):
                done += _execute(connection, _ITEMS, ITEMS[source], first=first, last=last, **drawn)
            advance(connection, sequences_of(connection, ITEMS[source]), last)
    return done


@contextmanager
def _together(connection: Connection, items: Table) -> Iterator[None]:
    """Have what is inserted meanwhile entered into the indexes on arrays in one go at the end."""
    name = connection.dialect.identifier_preparer.format_table(items)
    indexes = connection.scalars(text(_UNHURRIED), {"items": name}).all()
    connection.execute(text("SET LOCAL gin_pending_list_limit = '1GB'"))
    connection.execute(text("SET LOCAL maintenance_work_mem = '256MB'"))
    for index in indexes:
        connection.execute(text(f"ALTER INDEX {index} SET (fastupdate = on)"))
    yield
    for index in indexes:
        clean = text("SELECT gin_clean_pending_list(CAST(:index AS regclass))")
        connection.execute(clean, {"index": index})
        connection.execute(text(f"ALTER INDEX {index} SET (fastupdate = off)"))


def _execute(
    connection: Connection, statement: str, items: Table | None = None, **values: Any
) -> int:
    return connection.execute(text(_named(connection, statement, items)), values).rowcount


def _named(connection: Connection, statement: str, items: Table | None = None) -> str:
    """A statement with the tables' names in it; `items` is the one that it is about."""
    name = connection.dialect.identifier_preparer.format_table
    return statement.format(
        users=name(users),
        tags=name(tags),
        regular=name(ITEMS[REGULAR]),
        auto=name(ITEMS[AUTO]),
        items="" if items is None else name(items),
    )

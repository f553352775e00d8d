"""Conversations: whatever the order in which posts come, the rows are those of the definition."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event

from assets.fediverse.processing import threads
from assets.fediverse.tallies import system
from tests.integration.support import create, rows

SCHEMA = '"fediverse"'
Post = tuple[int, int, int | None]
"""Instance, id, and the post that it answers; text in the tables, where 10 comes before 9."""

# By definition, from the posts alone: the way up of each post, until there is no further, or the
# next was there before. Then the next and all after it are a circle.
DEFINITION = """
WITH RECURSIVE way AS (
  SELECT instance_id, id AS post_id, in_reply_to_id AS next, ARRAY[id] AS ids
  FROM fediverse.mastodon_posts
  UNION ALL
  SELECT w.instance_id, w.post_id, p.in_reply_to_id, w.ids || w.next
  FROM way AS w LEFT JOIN fediverse.mastodon_posts AS p
    ON p.instance_id = w.instance_id AND p.id = w.next
  WHERE w.next <> ALL (w.ids)
), place AS (
  SELECT instance_id, post_id, ids, CASE WHEN next IS NULL THEN ids[cardinality(ids)] ELSE
    (SELECT min(e COLLATE "C") FROM unnest(ids[array_position(ids, next):]) AS e)
    END AS root_post_id
  FROM way WHERE next IS NULL OR next = ANY (ids)
)
SELECT instance_id, post_id::bigint, root_post_id::bigint,
  array_position(ids, root_post_id) - 1 AS depth, (
  SELECT count(*) FROM fediverse.mastodon_posts AS r
  WHERE r.instance_id = place.instance_id AND r.in_reply_to_id = place.post_id
    AND r.deleted_at IS NULL)::integer AS reply_count
FROM place ORDER BY 1, 2"""
STORED = """
SELECT instance_id, post_id::bigint, root_post_id::bigint, depth, reply_count
FROM fediverse.conversation_threads ORDER BY 1, 2"""
ADD = """
INSERT INTO fediverse.mastodon_posts
  (instance_id, id, account_id, domain, visibility, created_at, first_seen_at, in_reply_to_id)
VALUES (%s, %s::bigint, 1, 'example.org', 'public', now(), now(), %s::bigint)
ON CONFLICT (instance_id, id) DO UPDATE SET in_reply_to_id = excluded.in_reply_to_id"""
TOUCHED = """
CREATE TEMP TABLE touched_posts (instance_id bigint, post_id text COLLATE "C",
  PRIMARY KEY (instance_id, post_id)) ON COMMIT DROP"""


@pytest.fixture
def fediverse(engine: Engine) -> Engine:
    create(engine, system)
    return engine


@pytest.fixture
def connection(fediverse: Engine) -> Iterator[Connection]:
    """A connection in a transaction that is rolled back."""
    with fediverse.connect() as connection, connection.begin() as transaction:
        yield connection
        transaction.rollback()


def write(connection: Connection, posts: Sequence[Post], deleted: Iterable[Post] = ()) -> None:
    """What processing does with a batch: posts, some of them deleted, then the conversations."""
    connection.exec_driver_sql(TOUCHED)
    touched = {post[:2] for post in (*posts, *deleted)}
    if posts:
        connection.exec_driver_sql(ADD, list(posts))
    for instance, post, _ in deleted:
        connection.exec_driver_sql(
            "UPDATE fediverse.mastodon_posts SET deleted_at = now()"
            f" WHERE instance_id = {instance} AND id = '{post}'"
        )
    if touched:
        connection.exec_driver_sql(
            "INSERT INTO touched_posts VALUES (%s, %s::bigint)", sorted(touched)
        )
    threads.update(connection, SCHEMA)
    connection.exec_driver_sql("DROP TABLE touched_posts")


def stored(connection: Connection) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in connection.exec_driver_sql(STORED)]


def by_definition(connection: Connection) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in connection.exec_driver_sql(DEFINITION)]


def places(connection: Connection) -> dict[int, tuple[int, int, int]]:
    """Root, depth and replies of each post."""
    return {post: (root, depth, n) for _, post, root, depth, n in stored(connection)}


def forget(connection: Connection) -> None:
    connection.exec_driver_sql("TRUNCATE fediverse.mastodon_posts, fediverse.conversation_threads")


def test_a_post_that_answers_none_is_its_own_root(connection: Connection) -> None:
    write(connection, [(1, 5, None)])
    assert places(connection) == {5: (5, 0, 0)}


def test_the_depth_counts_from_an_ancestor_that_was_never_seen(connection: Connection) -> None:
    write(connection, [(1, 5, 4), (1, 6, 5)])
    assert places(connection) == {5: (4, 1, 1), 6: (4, 2, 0)}


def test_when_a_root_turns_out_to_be_a_reply_its_whole_tree_moves(connection: Connection) -> None:
    write(connection, [(1, 5, 4), (1, 6, 5), (1, 7, 4)])
    write(connection, [(1, 4, 3)])
    assert places(connection) == {4: (3, 1, 2), 5: (3, 2, 1), 6: (3, 3, 0), 7: (3, 2, 0)}
    write(connection, [(1, 3, None)])
    assert places(connection) == {
        3: (3, 0, 1),
        4: (3, 1, 2),
        5: (3, 2, 1),
        6: (3, 3, 0),
        7: (3, 2, 0),
    }


def test_a_post_that_is_found_to_be_a_reply_later_takes_its_tree_along(
    connection: Connection,
) -> None:
    write(connection, [(1, 1, None), (1, 5, None), (1, 6, 5)])
    write(connection, [(1, 5, 1)])
    assert places(connection) == {1: (1, 0, 1), 5: (1, 1, 1), 6: (1, 2, 0)}


def test_a_deleted_reply_does_not_count_but_keeps_its_place(connection: Connection) -> None:
    write(connection, [(1, 1, None), (1, 2, 1), (1, 3, 2), (1, 4, 1)])
    write(connection, [], deleted=[(1, 2, 1)])
    assert places(connection) == {1: (1, 0, 1), 2: (1, 1, 1), 3: (1, 2, 0), 4: (1, 1, 0)}


def test_instances_do_not_see_each_others_posts(connection: Connection) -> None:
    write(connection, [(1, 5, None), (2, 6, 5), (2, 5, 3)])
    assert stored(connection) == [(1, 5, 5, 0, 0), (2, 5, 3, 1, 1), (2, 6, 3, 2, 0)]


@pytest.mark.parametrize("together", [1, 2, 4])
def test_a_circle_is_cut_at_its_smallest_id_in_whatever_order_it_came(
    connection: Connection, together: int
) -> None:
    posts: list[Post] = [(1, 7, 9), (1, 9, 8), (1, 8, 7), (1, 3, 9)]
    for ordered in itertools.permutations(posts):
        forget(connection)
        for start in range(0, len(ordered), together):
            write(connection, ordered[start : start + together])
        assert places(connection) == {7: (7, 0, 1), 8: (7, 1, 1), 9: (7, 2, 2), 3: (7, 3, 0)}


def test_a_long_circle_is_cut_in_one_place(connection: Connection) -> None:
    posts: list[Post] = [(1, 10 + n, 10 + (n + 7) % 19) for n in range(19)]
    write(connection, posts[:3])
    write(connection, posts)
    found = places(connection)
    assert {root for root, _, _ in found.values()} == {10}
    assert sorted(depth for _, depth, _ in found.values()) == list(range(19))


def test_a_post_that_answers_itself_is_a_root(connection: Connection) -> None:
    write(connection, [(1, 6, 5)])
    write(connection, [(1, 5, 5)])
    write(connection, [], deleted=[(1, 5, 5)])
    assert places(connection) == {5: (5, 0, 1), 6: (5, 1, 0)}


def test_only_rows_that_differ_are_written(fediverse: Engine) -> None:
    posts: list[Post] = [(1, 1, None), (1, 2, 1), (1, 3, 2), (1, 4, 4), (1, 5, 4)]
    written = "SELECT post_id::bigint, xmin::text FROM fediverse.conversation_threads ORDER BY 1"
    with fediverse.begin() as connection:
        write(connection, posts)
    before = dict(rows(fediverse, written))
    with fediverse.begin() as connection:
        write(connection, posts)
    assert dict(rows(fediverse, written)) == before
    with fediverse.begin() as connection:
        write(connection, [], deleted=[(1, 3, 2)])
    after = dict(rows(fediverse, written))
    assert {post for post in after if after[post] != before[post]} == {2}


def test_a_copy_in_temporary_tables_is_kept_like_the_real_one(connection: Connection) -> None:
    for table in ("mastodon_posts", "conversation_threads"):
        connection.exec_driver_sql(
            f"CREATE TEMP TABLE {table} (LIKE fediverse.{table} INCLUDING ALL) ON COMMIT DROP"
        )
    connection.exec_driver_sql(ADD.replace("fediverse.", "pg_temp."), [(1, 5, 4), (1, 4, 3)])
    connection.exec_driver_sql(f"{TOUCHED}; INSERT INTO touched_posts VALUES (1, 4), (1, 5)")
    threads.update(connection, '"pg_temp"')
    found = connection.exec_driver_sql(STORED.replace("fediverse.", "pg_temp."))
    assert [tuple(row) for row in found] == [(1, 4, 3, 1, 1), (1, 5, 3, 2, 0)]
    assert stored(connection) == []


def random_posts(rng: random.Random) -> list[Post]:
    """A forest, or what malformed data makes of it; some posts are answered but never come."""
    count = rng.choice((3, 8, 30, 80))
    ids = rng.sample(range(1, 3 * count), count)
    shape = rng.choice(("forest", "chains", "any"))
    posts: list[Post] = []
    for place, post in enumerate(ids):
        if rng.random() < 0.2:
            parent = rng.choice((None, rng.randrange(3 * count)))
        elif shape == "any":
            parent = rng.choice(ids)
        elif place == 0:
            parent = None
        else:
            parent = ids[place - 1] if shape == "chains" else rng.choice(ids[:place])
        posts.append((rng.choice((1, 1, 1, 2)), post, parent))
    return posts


@pytest.mark.parametrize("part", range(4))
def test_any_posts_in_any_order_and_any_batches_give_what_the_definition_says(
    connection: Connection, part: int
) -> None:
    for number in range(15):
        rng = random.Random(f"{part} {number}")
        posts = random_posts(rng)
        ended = [in_some_order(connection, rng, posts) for _ in range(3)]
        assert ended[0] == ended[1] == ended[2], (part, number)


def in_some_order(
    connection: Connection, rng: random.Random, posts: Sequence[Post]
) -> list[tuple[Any, ...]]:
    """Write the posts in batches, look after each, and delete all of them at the end."""
    forget(connection)
    shuffled = rng.sample(posts, len(posts))
    # Of some posts it is known later that they are replies.
    early = [(i, p, None) for i, p, parent in posts if parent and rng.random() < 0.2]
    coming: list[Post] = [*early, *shuffled]
    written: list[Post] = []
    while coming:
        size = rng.choice((1, 2, 7, 40))
        batch = list({post[:2]: post for post in coming[:size]}.values())
        coming = coming[size:]
        written += batch
        gone = rng.sample(written, min(len(written), rng.choice((0, 0, 1, 2))))
        write(connection, batch, gone)
        assert stored(connection) == by_definition(connection)
    write(connection, [], posts)
    return stored(connection)


def test_a_chain_that_comes_in_one_batch_needs_few_rounds(connection: Connection) -> None:
    """Were it climbed post by post, a batch of one long conversation would cost its square."""
    count = 3_000
    order = random.Random(1).sample(range(1, count + 1), count)
    climbed = []
    event.listen(
        connection,
        "before_cursor_execute",
        lambda *args: climbed.append(args[2]) if args[2] == threads._CLIMB else None,
    )
    write(connection, [(1, post, post - 1 if post > 1 else None) for post in order])
    assert 5 < len(climbed) <= count.bit_length() + 1
    seen = places(connection)
    assert len(seen) == count
    assert all(seen[post][:2] == (1, post - 1) for post in seen)

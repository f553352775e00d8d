"""What capture records for a recomputed tally: marks that say what the changed row itself says."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from tallykeeper import refresh, verify
from tests import tag_hours
from tests.integration.support import (
    LOGGED_MARKS,
    Cases,
    check_each,
    create,
    execute,
    judge,
    rows,
    stale_reasons,
)
from tests.oracle import TAG_HOURS

POSTS = """
INSERT INTO forum.posts (id, author_id, created_at) VALUES
  (1, 7, '2024-03-09 22:10Z'), (2, 7, '2024-03-09 22:20Z'), (3, 8, '2024-03-09 23:30Z')"""
TAGS = "INSERT INTO forum.post_tags VALUES (1, 5), (2, 5), (3, 5), (1, 6)"

FORUM_WRITES: Cases = {
    "insert of a post": (
        "INSERT INTO forum.posts (id, author_id, created_at) VALUES (4, 9, '2024-03-09 22:40Z')",
        [(4, None, "22:00")],
    ),
    "insert of tags": (
        "INSERT INTO forum.post_tags VALUES (2, 6), (2, 7)",
        [(2, 6, None), (2, 7, None)],
    ),
    "move of a post": (
        "UPDATE forum.posts SET created_at = '2024-03-10 01:00Z' WHERE id = 1",
        [(1, None, "01:00"), (1, None, "22:00")],
    ),
    "change of what the tally reads beside the key": (
        "UPDATE forum.posts SET author_id = 8 WHERE author_id = 7",
        [(1, None, "22:00"), (2, None, "22:00")],
    ),
    "change that does not count": ("UPDATE forum.posts SET body = 'x'", []),
    "change to what it was": ("UPDATE forum.posts SET deleted_at = deleted_at", []),
    "deletion marked": (
        "UPDATE forum.posts SET deleted_at = now() WHERE id = 3",
        [(3, None, "23:00")],
    ),
    "delete that cascades": (
        "DELETE FROM forum.posts WHERE id = 1",
        [(1, 5, None), (1, 6, None), (1, None, "22:00")],
    ),
    "primary key that cascades": (
        "UPDATE forum.posts SET id = 10 WHERE id = 3",
        [(3, 5, None), (3, None, "23:00"), (10, 5, None), (10, None, "23:00")],
    ),
    "tag handed to another post": (
        "UPDATE forum.post_tags SET post_id = 2 WHERE tag_id = 6",
        [(1, 6, None), (2, 6, None)],
    ),
    "tag renamed": (
        "UPDATE forum.post_tags SET tag_id = 9 WHERE tag_id = 5 AND post_id < 3",
        [(1, 5, None), (1, 9, None), (2, 5, None), (2, 9, None)],
    ),
    "delete of tags": ("DELETE FROM forum.post_tags WHERE tag_id = 6", [(1, 6, None)]),
}


@pytest.fixture
def forum(any_postgres_engine: Engine) -> Engine:
    create(any_postgres_engine, tag_hours.system)
    execute(any_postgres_engine, POSTS, TAGS)
    refresh(any_postgres_engine, tag_hours.tally)
    return any_postgres_engine


def test_marks_say_what_the_changed_row_itself_says(forum: Engine) -> None:
    check_each(forum, FORUM_WRITES, LOGGED_MARKS, [TAG_HOURS])


@pytest.mark.parametrize("name", FORUM_WRITES)
def test_the_recomputed_tally_follows_each_write(name: str, engine: Engine) -> None:
    create(engine, tag_hours.system)
    execute(engine, POSTS, TAGS)
    refresh(engine, tag_hours.tally)
    execute(engine, FORUM_WRITES[name][0])
    judge(engine, [TAG_HOURS])
    refresh(engine, tag_hours.tally)
    judge(engine, [TAG_HOURS])
    assert rows(engine, LOGGED_MARKS) == []
    assert verify(engine, tag_hours.tally).ok


def test_the_recomputed_way_counts_authors_once(forum: Engine) -> None:
    query = (
        "SELECT tag_id, to_char(hour AT TIME ZONE 'UTC', 'HH24:MI'), posts, authors"
        " FROM forum.tag_hours{} ORDER BY 1, 2"
    )
    assert rows(forum, query.format("")) == [
        (5, "22:00", 2, 1),
        (5, "23:00", 1, 1),
        (6, "22:00", 1, 1),
    ]
    execute(forum, "UPDATE forum.posts SET author_id = 9 WHERE id = 2")
    now = [(5, "22:00", 2, 2), (5, "23:00", 1, 1), (6, "22:00", 1, 1)]
    assert rows(forum, query.format("_live")) == now
    done = refresh(forum, tag_hours.tally)
    assert (done.how, done.pending_consumed, done.keys_changed) == ("refresh", 1, 1)
    assert rows(forum, query.format("")) == now


def test_a_truncate_that_cascades_makes_the_recomputed_tally_stale(forum: Engine) -> None:
    execute(forum, "TRUNCATE forum.posts CASCADE")
    assert sorted(stale_reasons(forum, "forum.tag_hours")) == [
        "forum.post_tags was truncated",
        "forum.posts was truncated",
    ]
    judge(forum, [TAG_HOURS])
    refresh(forum, tag_hours.tally)
    assert rows(forum, "SELECT * FROM forum.tag_hours") == []

"""Every way to write posts and their tags, on few posts, tags and hours, so that writers meet."""

from __future__ import annotations

import random

from tests.concurrency.writers import Cursor, Operation

POSTS = 40
TAGS = 5
AUTHORS = 3
# Two days meet here, and the two ends of time.
HOURS = ("2024-03-09 22", "2024-03-09 23", "2024-03-10 00", "2024-03-10 01")
ENDS_OF_TIME = ("infinity", "-infinity")
ODDS_OF_ENDS = 0.02
ANY_POST = "(SELECT id FROM forum.posts ORDER BY random() LIMIT 1)"


def insert_post(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(
        "INSERT INTO forum.posts (id, author_id, created_at) VALUES (%s, %s, %s)"
        " ON CONFLICT DO NOTHING",
        _post(rng),
    )


def insert_post_with_tags(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(
        "WITH p AS (INSERT INTO forum.posts (id, author_id, created_at) VALUES (%s, %s, %s)"
        " ON CONFLICT DO NOTHING RETURNING id)"
        " INSERT INTO forum.post_tags SELECT id, t FROM p, unnest(%s::bigint[]) AS t",
        [*_post(rng), rng.sample(range(TAGS), rng.randint(1, TAGS))],
    )


def upsert_posts(cursor: Cursor, rng: random.Random) -> None:
    posts = {post[0]: post for post in (_post(rng) for _ in range(rng.randint(1, 4)))}
    cursor.execute(
        "INSERT INTO forum.posts (id, author_id, created_at) SELECT * FROM"
        " unnest(%s::bigint[], %s::bigint[], %s::timestamptz[])"
        " ON CONFLICT (id) DO UPDATE SET created_at = excluded.created_at,"
        " author_id = excluded.author_id",
        [list(column) for column in zip(*posts.values(), strict=True)],
    )


def copy_posts(cursor: Cursor, rng: random.Random) -> None:
    with cursor.copy("COPY forum.posts (id, author_id, created_at) FROM STDIN") as copy:
        for _ in range(rng.randint(1, 3)):
            # Beyond the usual ids, or every COPY would collide.
            copy.write_row((POSTS + rng.getrandbits(40), *_post(rng)[1:]))


def merge_posts(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(
        "MERGE INTO forum.posts AS p USING (SELECT %s::bigint AS id, %s::bigint AS author,"
        " %s::timestamptz AS at) AS s ON p.id = s.id"
        f" WHEN MATCHED AND {rng.choice(('true', 'false'))} THEN DELETE"
        " WHEN MATCHED THEN UPDATE SET created_at = s.at, deleted_at = NULL"
        " WHEN NOT MATCHED THEN INSERT (id, author_id, created_at) VALUES (s.id, s.author, s.at)",
        _post(rng),
    )


def move_post(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(f"UPDATE forum.posts SET created_at = %s WHERE id = {ANY_POST}", [_instant(rng)])


def move_posts(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(
        "UPDATE forum.posts SET created_at = created_at + interval '61 minutes'"
        f" WHERE {_some('id', rng)} AND created_at < '2024-03-10 02:00Z'"
    )


def change_author(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(
        f"UPDATE forum.posts SET author_id = %s WHERE {_some('id', rng)}", [rng.randrange(AUTHORS)]
    )


def hide_or_show(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(
        "UPDATE forum.posts SET deleted_at = CASE WHEN deleted_at IS NULL THEN now() END"
        f" WHERE {_some('id', rng)}"
    )


def edit(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(
        f"UPDATE forum.posts SET body = %s WHERE {_some('id', rng)}", [str(rng.random())]
    )


def change_nothing(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(f"UPDATE forum.posts SET created_at = created_at WHERE {_some('id', rng)}")


def change_id(cursor: Cursor, rng: random.Random) -> None:
    """Cascades to the tags."""
    other = rng.choice(("-id", "id + 1000"))
    cursor.execute(f"UPDATE forum.posts SET id = {other} WHERE id = {ANY_POST}")


def delete_posts(cursor: Cursor, rng: random.Random) -> None:
    """Cascades to the tags."""
    cursor.execute(f"DELETE FROM forum.posts WHERE {_some('id', rng)}")


def insert_tag(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(
        f"INSERT INTO forum.post_tags SELECT id, %s FROM forum.posts WHERE id = {ANY_POST}"
        " ON CONFLICT DO NOTHING",
        [rng.randrange(TAGS)],
    )


def insert_tags(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(
        f"INSERT INTO forum.post_tags SELECT id, %s FROM forum.posts WHERE {_some('id', rng)}"
        " ON CONFLICT DO NOTHING",
        [rng.randrange(TAGS)],
    )


def copy_tags(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(f"SELECT id FROM forum.posts WHERE id = {ANY_POST}")
    ids = [row[0] for row in cursor.fetchall()]
    with cursor.copy("COPY forum.post_tags FROM STDIN") as copy:
        for post_id in ids:
            # A tag that it hardly has yet.
            copy.write_row((post_id, rng.randrange(TAGS, 3 * TAGS)))


def merge_tags(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(
        "MERGE INTO forum.post_tags AS t USING ("
        f" SELECT id AS post_id, %s::bigint AS tag_id FROM forum.posts WHERE {_some('id', rng)})"
        " AS s ON t.post_id = s.post_id AND t.tag_id = s.tag_id"
        " WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (s.post_id, s.tag_id)",
        [rng.randrange(TAGS)],
    )


def retag(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(
        f"UPDATE forum.post_tags SET tag_id = %s WHERE post_id = {ANY_POST}"
        " AND tag_id = (SELECT tag_id FROM forum.post_tags ORDER BY random() LIMIT 1)",
        [rng.randrange(TAGS)],
    )


def hand_over_tag(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(
        f"UPDATE forum.post_tags SET post_id = {ANY_POST} WHERE (post_id, tag_id) IN"
        " (SELECT post_id, tag_id FROM forum.post_tags ORDER BY random() LIMIT %s)",
        [rng.randint(1, 2)],
    )


def delete_tags(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(f"DELETE FROM forum.post_tags WHERE {_some('post_id', rng)}")


def truncate(cursor: Cursor, rng: random.Random) -> None:
    """All posts with their tags, or the tags alone."""
    cursor.execute(rng.choice(("TRUNCATE forum.posts CASCADE", "TRUNCATE forum.post_tags")))


OPERATIONS = tuple(
    Operation(run.__name__.replace("_", " "), weight, run)
    for weight, run in (
        (4, insert_post),
        (8, insert_post_with_tags),
        (3, upsert_posts),
        (1, copy_posts),
        (2, merge_posts),
        (6, move_post),
        (2, move_posts),
        (2, change_author),
        (2, hide_or_show),
        (1, edit),
        (1, change_nothing),
        (2, change_id),
        (1.2, delete_posts),
        (6, insert_tag),
        (3, insert_tags),
        (1, copy_tags),
        (2, merge_tags),
        (3, retag),
        (2, hand_over_tag),
        (1, delete_tags),
        (0.25, truncate),
    )
)

# What the joining trigger of `faults.py` keeps right while writers take turns.
HARMLESS_IN_TURN = tuple(
    o
    for o in OPERATIONS
    if o.name in {"insert post", "move post", "insert tag", "insert tags", "delete tags"}
)


def _post(rng: random.Random) -> tuple[int, int, str]:
    return rng.randrange(POSTS), rng.randrange(AUTHORS), _instant(rng)


def _instant(rng: random.Random) -> str:
    if rng.random() < ODDS_OF_ENDS:
        return rng.choice(ENDS_OF_TIME)
    return f"{rng.choice(HOURS)}:{rng.randrange(60):02}:{rng.randrange(60):02}+00"


def _some(column: str, rng: random.Random) -> str:
    """A condition that holds for about a ninth of the posts."""
    return f"mod(abs({column}), 9) = {rng.randrange(9)}"

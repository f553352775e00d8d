"""Where each post stands in its conversation: `conversation_threads`, kept right as posts appear.

The root of a post is its furthest ancestor that is known of; one that was never seen counts too. So
a row changes when a root turns out to be a reply itself: then the whole tree moves, by one UPDATE
over the index of roots. Invariants: the rows follow from `mastodon_posts` alone, in
whatever order its posts came. A reply stays a reply to the same post; where a replay finds
otherwise, its whole conversation is touched. Circles, which only malformed data has, are cut at
their smallest id, in the order of bytes: that post is the root, and its own answer is ignored. The
cost follows the touched posts, the trees that move and the replies of the posts that were answered,
not the table.
"""

from __future__ import annotations

from sqlalchemy import Connection

# Of each post to place, its parent, and whether that is ignored.
_NODES = """
CREATE TEMP TABLE thread_nodes AS
SELECT t.instance_id, t.post_id, p.in_reply_to_id AS parent_id, false AS is_cut
FROM pg_temp.touched_posts AS t
JOIN {schema}.mastodon_posts AS p ON p.instance_id = t.instance_id AND p.id = t.post_id;
ALTER TABLE pg_temp.thread_nodes ADD PRIMARY KEY (instance_id, post_id);
ANALYZE pg_temp.thread_nodes"""

# An ancestor of each, some steps above it: the parent, if it is to be placed too; else the root
# that its row names, which may be one to be placed. Without one, the post is a root.
_STEPS = """
DROP TABLE IF EXISTS pg_temp.thread_steps;
CREATE TEMP TABLE thread_steps AS
SELECT n.instance_id, n.post_id, n.post_id AS smallest,
       CASE WHEN NOT n.is_cut THEN coalesce(t.root_post_id, n.parent_id) END AS ancestor_id,
       coalesce(t.depth, 0)::bigint + 1 AS steps
FROM pg_temp.thread_nodes AS n
LEFT JOIN pg_temp.thread_nodes AS a ON a.instance_id = n.instance_id AND a.post_id = n.parent_id
LEFT JOIN {schema}.conversation_threads AS t
  ON t.instance_id = n.instance_id AND t.post_id = n.parent_id AND a.post_id IS NULL;
ALTER TABLE pg_temp.thread_steps ADD PRIMARY KEY (instance_id, post_id);
ANALYZE pg_temp.thread_steps"""

# Every step at once to twice the height.
_CLIMB = """
UPDATE pg_temp.thread_steps AS s SET ancestor_id = a.ancestor_id, steps = s.steps + a.steps,
  smallest = least(s.smallest COLLATE "C", a.smallest)
FROM pg_temp.thread_steps AS a
WHERE a.instance_id = s.instance_id AND a.post_id = s.ancestor_id AND a.ancestor_id IS NOT NULL"""

# Those below a circle, and all that is stored below them, each with its own parent.
_WHOLE_TREES = """
WITH circling AS (
  SELECT s.instance_id, s.post_id FROM pg_temp.thread_steps AS s
  JOIN pg_temp.thread_steps AS a ON a.instance_id = s.instance_id AND a.post_id = s.ancestor_id
  WHERE a.ancestor_id IS NOT NULL
), roots AS (
  SELECT instance_id, post_id AS root_post_id FROM circling
  UNION SELECT t.instance_id, t.root_post_id FROM circling AS c
  JOIN {schema}.conversation_threads AS t USING (instance_id, post_id)
)
INSERT INTO pg_temp.thread_nodes
SELECT t.instance_id, t.post_id, p.in_reply_to_id, false
FROM roots AS r JOIN {schema}.conversation_threads AS t USING (instance_id, root_post_id)
JOIN {schema}.mastodon_posts AS p ON p.instance_id = t.instance_id AND p.id = t.post_id
ON CONFLICT DO NOTHING"""

# Who has climbed long enough is in the circle, and has seen all of it.
_CUT = """
UPDATE pg_temp.thread_nodes AS n SET is_cut = true
FROM pg_temp.thread_steps AS s JOIN pg_temp.thread_steps AS c
  ON c.instance_id = s.instance_id AND c.post_id = s.ancestor_id AND c.ancestor_id IS NOT NULL
WHERE n.instance_id = c.instance_id AND n.post_id = c.smallest"""

_MOVE = """
UPDATE {schema}.conversation_threads AS t
SET root_post_id = s.ancestor_id, depth = t.depth + s.steps
FROM pg_temp.thread_steps AS s
WHERE t.instance_id = s.instance_id AND t.root_post_id = s.post_id AND s.ancestor_id IS NOT NULL
  AND NOT EXISTS (SELECT FROM pg_temp.thread_nodes AS n
                  WHERE n.instance_id = t.instance_id AND n.post_id = t.post_id)"""

_COUNTED = """LATERAL (
  SELECT count(*)::integer AS reply_count FROM {schema}.mastodon_posts AS p
  WHERE p.instance_id = {of}.instance_id AND p.in_reply_to_id = {of}.post_id
    AND p.deleted_at IS NULL
) AS counted"""

_PLACE = f"""
INSERT INTO {{schema}}.conversation_threads AS t
  (instance_id, post_id, root_post_id, depth, reply_count)
SELECT s.instance_id, s.post_id, coalesce(s.ancestor_id, s.post_id),
       CASE WHEN s.ancestor_id IS NULL THEN 0 ELSE s.steps END, counted.reply_count
FROM pg_temp.thread_steps AS s, {_COUNTED.replace("{of}", "s")}
ON CONFLICT (instance_id, post_id) DO UPDATE SET root_post_id = excluded.root_post_id,
  depth = excluded.depth, reply_count = excluded.reply_count
WHERE (t.root_post_id, t.depth, t.reply_count)
  IS DISTINCT FROM (excluded.root_post_id, excluded.depth, excluded.reply_count)"""

_COUNT = f"""
WITH answered AS (
  SELECT DISTINCT n.instance_id, n.parent_id AS post_id FROM pg_temp.thread_nodes AS n
  WHERE NOT EXISTS (SELECT FROM pg_temp.thread_nodes AS o
                    WHERE o.instance_id = n.instance_id AND o.post_id = n.parent_id)
)
UPDATE {{schema}}.conversation_threads AS t SET reply_count = counted.reply_count
FROM answered AS a, {_COUNTED.replace("{of}", "a")}
WHERE t.instance_id = a.instance_id AND t.post_id = a.post_id
  AND t.reply_count <> counted.reply_count"""


_CHANGING = """
WITH changing AS (
  SELECT p.instance_id, p.id AS post_id FROM pg_temp.scope_posts AS o
  JOIN {schema}.mastodon_posts AS p ON p.instance_id = o.instance_id AND p.id = o.post_id
  LEFT JOIN pg_temp.mastodon_posts AS d ON d.instance_id = p.instance_id AND d.id = p.id
  WHERE p.in_reply_to_id <> d.in_reply_to_id OR d.id IS NULL
     OR (p.in_reply_to_id IS NOT NULL AND d.in_reply_to_id IS NULL)
), roots AS (
  SELECT instance_id, post_id AS root_post_id FROM changing
  UNION SELECT t.instance_id, t.root_post_id FROM changing AS c
  JOIN {schema}.conversation_threads AS t USING (instance_id, post_id)
)
INSERT INTO pg_temp.touched_posts
SELECT t.instance_id, t.post_id
FROM roots AS r JOIN {schema}.conversation_threads AS t USING (instance_id, root_post_id)
ON CONFLICT DO NOTHING"""

_FORGET = """
DELETE FROM {schema}.conversation_threads AS t USING pg_temp.scope_posts AS o
WHERE t.instance_id = o.instance_id AND t.post_id = o.post_id AND NOT EXISTS (
  SELECT FROM pg_temp.mastodon_posts AS d
  WHERE d.instance_id = o.instance_id AND d.id = o.post_id)"""


def touch_changing(connection: Connection, schema: str) -> int:
    """Touch the conversations in which a replay is about to change what a post answers.

    Also those of posts that it is about to take away, whose own rows go now: so many. It has not
    written yet; `pg_temp.mastodon_posts` has the posts of `pg_temp.scope_posts` as they will be.
    """
    connection.exec_driver_sql(_CHANGING.replace("{schema}", schema))
    return connection.exec_driver_sql(_FORGET.replace("{schema}", schema)).rowcount


def update(connection: Connection, schema: str) -> int:
    """Bring the conversations up to date with the posts that were touched; the rows written.

    `pg_temp.touched_posts` (instance_id, post_id) holds those that were just inserted into
    `mastodon_posts`, or whose `in_reply_to_id` or `deleted_at` changed. `schema`, quoted, is where
    `mastodon_posts` and `conversation_threads` are. Only rows that differ are written.
    """

    def execute(statement: str) -> int:
        return connection.exec_driver_sql(statement.replace("{schema}", schema)).rowcount

    execute(_NODES)
    execute(_STEPS)
    if _climb(connection):
        execute(_WHOLE_TREES)
        execute(_STEPS)
        _climb(connection)
        execute(_CUT)
        execute(_STEPS)
        _climb(connection)
    written = execute(_MOVE) + execute(_PLACE) + execute(_COUNT)
    execute("DROP TABLE pg_temp.thread_nodes, pg_temp.thread_steps")
    return written


def _climb(connection: Connection) -> bool:
    """Climb from every post to its root; whether some never arrive, for they are below a circle.

    As long as there are others among those that climb, they become fewer with every round. What
    circles has then made as many steps as the circle has posts, and more.
    """
    before, height = -1, 1
    while climbing := connection.exec_driver_sql(_CLIMB).rowcount:
        height *= 2
        if climbing == before and height >= climbing:
            return True
        before = climbing
    return False

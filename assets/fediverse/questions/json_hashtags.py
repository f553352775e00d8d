"""Hashtags of posts that have them in their JSON column alone, for the reads.

Processing writes `post_hashtags` and the JSON of a post by one statement. Posts that were adopted
from another application, or written by one, may lack the rows: then reads take the names from the
JSON of those posts, and from the rows of the others. The tallies count rows alone.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from assets.fediverse import tables
from assets.fediverse.processing.functions import tag_name
from assets.fediverse.questions import query_args
from assets.fediverse.questions.query_args import written
from tallykeeper.database import sql
from tallykeeper.reads.live_reads import read

LOOKED_AT = 1_000
"""Posts that are looked at from each end of a span: a read has to cost little, however long it is.

Rows came into use at one time, or an application writes none until now: both shows at an end.
"""

COUNTED = "p.deleted_at IS NULL AND p.visibility IN ('public', 'unlisted')"


def rows_are_missing(
    connection: Connection, instance: int, first: datetime, last: datetime
) -> bool:
    """Whether any post of the span has hashtags in its JSON alone.

    Of more than twice `LOOKED_AT` posts those in between are not looked at. Raises NotInstalled
    where the tables are not there.
    """
    ends = " UNION ALL ".join(
        f"""(
  SELECT p.id, p.hashtags::jsonb AS hashtags FROM {_posts} AS p
  WHERE p.instance_id = {query_args.one_of_many(instance)} AND {COUNTED}
    AND p.created_at >= {written(first)} AND p.created_at < {written(last)}
  ORDER BY p.created_at {order} LIMIT {LOOKED_AT})"""
        for order in ("ASC", "DESC")
    )
    query = f"""
SELECT EXISTS (SELECT FROM ({ends}) AS p
WHERE jsonb_typeof(p.hashtags) = 'array' AND p.hashtags <> '[]'
  AND NOT {_has_rows(str(instance))})"""
    ((missing,),) = read(connection, query, f"the table {_posts}")
    return bool(missing)


def names_of(post: str = "p") -> str:
    """SQL for the names of a post's hashtags, each once, in the column `name`; a subquery.

    `post` is the alias of the post's row.
    """
    return f"""(
  SELECT h.name FROM {_uses} AS u JOIN {_hashtags} AS h
    ON h.instance_id = u.instance_id AND h.id = u.hashtag_id
  WHERE u.instance_id = {post}.instance_id AND u.post_id = {post}.id
  UNION
  SELECT n.name FROM jsonb_array_elements(CASE
      WHEN jsonb_typeof({post}.hashtags::jsonb) = 'array' THEN {post}.hashtags::jsonb ELSE '[]' END
    ) AS e (tag)
  CROSS JOIN LATERAL (SELECT {tag_name("e.tag")}) AS n (name)
  WHERE n.name <> '' AND NOT {_has_rows(f"{post}.instance_id", post)})"""


def _has_rows(instance: str, post: str = "p") -> str:
    return (
        f"EXISTS (SELECT FROM {_uses} AS r"
        f" WHERE r.instance_id = {instance} AND r.post_id = {post}.id)"
    )


_posts = sql.name_of(tables.mastodon_posts)
_uses = sql.name_of(tables.post_hashtags)
_hashtags = sql.name_of(tables.hashtags)

"""Posts, accounts and deletions, from the statuses of a batch.

Invariants: a post says what its latest version says (by the time of the edit, then by
receipt) and has the counts that were received last, also lower ones. What it answers, once known,
is never forgotten: Mastodon forgets it when that post is deleted. When it was created is what was
received first: its original version is known by that. A deletion wins whenever it
comes. A reblog has no content, relations or counts of its own: what it shows is the post within.

`winners` is what the batch makes of each post that it saw; `tagged` its hashtags.
`touched_posts` are those whose place in a conversation may have changed.
"""

from __future__ import annotations

from sqlalchemy import Connection

from assets.fediverse.processing.functions import NUMBER, PLAIN_TEXT, TIME, tag_name
from assets.fediverse.processing.parsing import UNCOMPRESSED
from tallykeeper.database.sql import execute

_TABLES = {
    "winners": """
  instance_id bigint NOT NULL, post_id {id} NOT NULL, is_new boolean NOT NULL,
  content_wins boolean NOT NULL, counts_win boolean NOT NULL, is_reblog boolean NOT NULL,
  account_id {id} NOT NULL, domain text NOT NULL, url text, uri text, content text,
  content_text text, spoiler_text text, sensitive boolean, language text,
  visibility text NOT NULL, replies_count bigint NOT NULL, reblogs_count bigint NOT NULL,
  favourites_count bigint NOT NULL, in_reply_to_id {id}, in_reply_to_account_id {id},
  reblog_of_id {id}, hashtags jsonb, mentions jsonb, media jsonb,
  created_at timestamptz NOT NULL, edited_at timestamptz, deleted_at timestamptz,
  first_seen_at timestamptz NOT NULL, place_changes boolean NOT NULL""",
    "tagged": "instance_id bigint NOT NULL, post_id {id} NOT NULL, name text NOT NULL",
    "touched_posts": """
  instance_id bigint NOT NULL, post_id {id} NOT NULL, PRIMARY KEY (instance_id, post_id)""",
}

STAGES = tuple(_TABLES)

# What belongs to the version, and what to the observation.
_CONTENT = (
    "account_id",
    "domain",
    "url",
    "uri",
    "content",
    "content_text",
    "spoiler_text",
    "sensitive",
    "language",
    "visibility",
    "reblog_of_id",
    "hashtags",
    "mentions",
    "edited_at",
)
_REDACTED = {
    **dict.fromkeys(("content", "content_text", "spoiler_text", "url", "uri"), "NULL"),
    **dict.fromkeys(("hashtags", "mentions"), "'[]'"),
}
"""What redaction leaves in the columns that it concerns."""
_CLEARED = ", ".join(f"{name} = {left}" for name, left in _REDACTED.items())
_COUNTS = ("replies_count", "reblogs_count", "favourites_count")
_ALWAYS = (
    "in_reply_to_id",
    "in_reply_to_account_id",
    "created_at",
    "deleted_at",
    "first_seen_at",
)


def stages(ids: str) -> list[str]:
    """CREATE TEMPORARY TABLE for each table that posts are made up in; `ids` is the ids' type."""
    return [
        f"CREATE TEMPORARY TABLE IF NOT EXISTS {name} ({columns.format(id=ids)}) {UNCOMPRESSED}"
        " ON COMMIT DELETE ROWS"
        for name, columns in _TABLES.items()
    ]


def write_accounts(connection: Connection, schema: str, *, again: bool = False) -> None:
    """Bring the accounts to what the batch saw of them last; `again`: also to what it saw then.

    Receipt decides; of two at the same instant the one that says more, whatever their order.
    """
    order = ("observed_at", "statuses_count", "followers_count", "following_count", "acct")
    best = ", ".join(f"{name} DESC NULLS LAST" for name in (*order, "display_name", "url"))

    def rank(alias: str) -> str:
        numbers = ", ".join(f"coalesce({alias}.{n}, -1)" for n in order[1:4])
        return f"({alias}.observed_at, {numbers}, coalesce({alias}.acct, ''))"

    columns = (
        "username",
        "acct",
        "domain",
        "display_name",
        "url",
        "bot",
        "followers_count",
        "following_count",
        "statuses_count",
        "created_at",
        "observed_at",
    )
    execute(
        connection,
        f"""
INSERT INTO {schema}.mastodon_accounts AS a (instance_id, id, {", ".join(columns)})
SELECT DISTINCT ON (instance_id, account_id) instance_id, account_id, {", ".join(columns)} FROM (
  SELECT s.instance_id, s.account_id, r.username, r.acct, s.domain, r.display_name, r.url,
    r.bot = 'true' AS bot, {NUMBER}(r.followers_count) AS followers_count,
    {NUMBER}(r.following_count) AS following_count, {NUMBER}(r.statuses_count) AS statuses_count,
    {TIME}(r.created_at) AS created_at, s.received_at AS observed_at
  FROM (
    SELECT *, max(received_at) OVER (PARTITION BY instance_id, account_id) AS latest
    FROM (SELECT instance_id, account_id, received_at, domain, account FROM pg_temp.seen) AS a
  ) AS s
  CROSS JOIN LATERAL jsonb_to_record(s.account) AS r (username text, acct text,
    display_name text, url text, bot text, followers_count text, following_count text,
    statuses_count text, created_at text)
  WHERE s.received_at = s.latest
) AS observed
ORDER BY instance_id, account_id, {best}
ON CONFLICT (instance_id, id) DO UPDATE SET
  ({", ".join(columns)}) = ROW({", ".join(f"excluded.{n}" for n in columns)})
WHERE {rank("excluded")} {">=" if again else ">"} {rank("a")}""",
    )


def write_deletions(connection: Connection, schema: str) -> None:
    """Note the deletions, each by its first receipt."""
    execute(
        connection,
        f"""
INSERT INTO {schema}.post_deletions AS d (instance_id, post_id, deleted_at)
SELECT instance_id, post_id, min(received_at) FROM pg_temp.deletes GROUP BY 1, 2
ON CONFLICT (instance_id, post_id) DO UPDATE SET deleted_at = excluded.deleted_at
WHERE excluded.deleted_at < d.deleted_at""",
    )


def make_up(connection: Connection, schema: str, *, redact: bool) -> None:
    """Fill `tagged` and `winners` from `seen` and what is stored. Deletions are written before."""
    execute(connection, _winners(schema))
    if redact:
        execute(
            connection,
            f"UPDATE pg_temp.winners SET {_CLEARED} WHERE deleted_at IS NOT NULL",
        )
    execute(
        connection,
        "INSERT INTO pg_temp.tagged SELECT w.instance_id, w.post_id, t.name"
        " FROM pg_temp.winners AS w"
        " CROSS JOIN LATERAL jsonb_array_elements_text(w.hashtags) AS t (name)"
        " WHERE w.content_wins AND w.hashtags <> '[]'",
    )


def write_posts(connection: Connection, schema: str, *, redact: bool) -> None:
    """Write the winners to the posts, and tell the deleted ones so."""
    written = (*_CONTENT, *_COUNTS, *_ALWAYS)
    names = ", ".join(written)
    execute(
        connection,
        f"INSERT INTO {schema}.mastodon_posts (instance_id, id, {names})"
        f" SELECT instance_id, post_id, {names} FROM pg_temp.winners WHERE is_new",
    )
    stored = {n: f"CASE WHEN w.content_wins THEN w.{n} ELSE p.{n} END" for n in _CONTENT}
    if redact:
        content_deleted = "w.content_wins OR w.deleted_at IS NOT NULL"
        stored |= {n: f"CASE WHEN {content_deleted} THEN w.{n} ELSE p.{n} END" for n in _REDACTED}
    stored |= {n: f"CASE WHEN w.counts_win THEN w.{n} ELSE p.{n} END" for n in _COUNTS}
    stored |= {n: f"w.{n}" for n in _ALWAYS}
    values = ", ".join(stored[n] for n in written)
    execute(
        connection,
        f"""
UPDATE {schema}.mastodon_posts AS p SET ({names}) = ROW({values})
FROM pg_temp.winners AS w
WHERE NOT w.is_new AND p.instance_id = w.instance_id AND p.id = w.post_id
  AND ROW({", ".join(f"p.{n}" for n in written)}) IS DISTINCT FROM ROW({values})""",
    )
    cleared = f", {_CLEARED}" if redact else ""
    execute(
        connection,
        f"""
WITH deleted AS (
  UPDATE {schema}.mastodon_posts AS p SET deleted_at = d.deleted_at{cleared}
  FROM {schema}.post_deletions AS d
  WHERE (d.instance_id, d.post_id) IN (SELECT instance_id, post_id FROM pg_temp.deletes)
    AND p.instance_id = d.instance_id AND p.id = d.post_id
    AND p.deleted_at IS DISTINCT FROM d.deleted_at
  RETURNING p.instance_id, p.id
)
INSERT INTO pg_temp.touched_posts
SELECT instance_id, id FROM deleted
UNION SELECT instance_id, post_id FROM pg_temp.winners WHERE place_changes""",
    )


def _winners(schema: str) -> str:
    position = "received_at DESC, event_id DESC"
    content_order = f"coalesce(edited_at, '-infinity') DESC, {position}"
    window = "PARTITION BY instance_id, post_id ORDER BY"
    newer = (
        "p.id IS NULL OR coalesce(c.edited_at, '-infinity') > coalesce(p.edited_at, '-infinity')"
        " OR (NOT c.late AND c.edited_at IS NOT DISTINCT FROM p.edited_at)"
    )
    own = {n: f"CASE WHEN c.reblog_of_id IS NULL THEN o.{n} ELSE 0 END" for n in _COUNTS}
    # Places are found among narrow rows; sorting the contents would cost more than all else.
    return f"""
INSERT INTO pg_temp.winners
WITH ranked AS MATERIALIZED (
  SELECT ctid AS place, instance_id, post_id,
    row_number() OVER ({window} {content_order}) AS content_place,
    row_number() OVER ({window} late, {position}) AS counts_place,
    min(received_at) OVER (PARTITION BY instance_id, post_id) AS first_seen_at,
    first_value(created_at) OVER ({window} received_at, event_id) AS created_at,
    first_value(in_reply_to_id)
      OVER ({window} in_reply_to_id IS NULL, received_at, event_id) AS answered,
    first_value(in_reply_to_account_id)
      OVER ({window} in_reply_to_account_id IS NULL, received_at, event_id) AS answered_account
  FROM pg_temp.seen
), chosen AS MATERIALIZED (
  SELECT c.place AS content_place, o.place AS counts_place, c.first_seen_at, c.created_at,
    c.answered, c.answered_account
  FROM ranked AS c JOIN ranked AS o
    ON o.instance_id = c.instance_id AND o.post_id = c.post_id AND o.counts_place = 1
  WHERE c.content_place = 1
)
SELECT c.instance_id, c.post_id, p.id IS NULL, {newer}, NOT o.late OR p.id IS NULL,
  c.reblog_of_id IS NOT NULL, c.account_id, c.domain, c.url, c.uri,
  CASE WHEN c.reblog_of_id IS NULL THEN c.content END,
  CASE WHEN c.reblog_of_id IS NOT NULL THEN NULL
    WHEN p.content = c.content THEN p.content_text ELSE {PLAIN_TEXT}(c.content) END,
  CASE WHEN c.reblog_of_id IS NULL THEN c.spoiler_text END,
  c.sensitive, c.language, c.visibility, {", ".join(own[n] for n in _COUNTS)},
  coalesce(p.in_reply_to_id, r.answered),
  coalesce(p.in_reply_to_account_id, r.answered_account),
  c.reblog_of_id,
  CASE WHEN c.reblog_of_id IS NULL AND jsonb_typeof(c.tags) = 'array' AND c.tags <> '[]'
    THEN {_names("c.tags")} ELSE '[]' END,
  CASE WHEN c.reblog_of_id IS NULL AND jsonb_typeof(c.mentions) = 'array'
    THEN c.mentions ELSE '[]' END,
  CASE WHEN c.reblog_of_id IS NULL AND jsonb_typeof(c.media) = 'array' THEN c.media ELSE '[]' END,
  coalesce(p.created_at, r.created_at), c.edited_at, d.deleted_at,
  least(r.first_seen_at, p.first_seen_at),
  p.id IS NULL OR (p.in_reply_to_id, p.deleted_at)
    IS DISTINCT FROM (coalesce(p.in_reply_to_id, r.answered), d.deleted_at)
FROM chosen AS r
JOIN pg_temp.seen AS c ON c.ctid = r.content_place
JOIN pg_temp.seen AS o ON o.ctid = r.counts_place
LEFT JOIN {schema}.mastodon_posts AS p ON p.instance_id = c.instance_id AND p.id = c.post_id
LEFT JOIN {schema}.post_deletions AS d
  ON d.instance_id = c.instance_id AND d.post_id = c.post_id"""


def _names(tags: str) -> str:
    """SQL: the names of a status's hashtags as a JSON array, in their order, each once."""
    return f"""(
    SELECT coalesce(jsonb_agg(n.name ORDER BY n.place), '[]') FROM (
      SELECT {tag_name("t.tag")} AS name, min(t.place) AS place
      FROM jsonb_array_elements({tags}) WITH ORDINALITY AS t (tag, place) GROUP BY 1
    ) AS n WHERE n.name <> '')"""

"""The statements by which an application's posts become events of the raw log.

A row is read as JSON, so that a column that is not there is null, and one that has another type is
read by its text like what a server sends.
"""

from __future__ import annotations

from assets.fediverse.adoption.sql import COUNTS, EARLIEST, among, unreadable
from assets.fediverse.adoption.tables import Old
from assets.fediverse.processing.functions import ID, JSON_OF, TIME
from assets.fediverse.tables import (
    mastodon_accounts,
    mastodon_posts,
    media_attachments,
    stream_events,
)
from tallykeeper.database.sql import name_of

_TEXTS = ("url", "uri", "language", "spoiler_text", "in_reply_to_id", "in_reply_to_account_id")
_OF_ACCOUNT = (
    "username",
    "acct",
    "display_name",
    "url",
    "bot",
    "followers_count",
    "following_count",
    "statuses_count",
    "created_at",
)
_MEDIA = (
    "SELECT jsonb_agg(to_jsonb(m) || jsonb_build_object('meta', m.meta_json) ORDER BY m.position)"
    f" FROM {name_of(media_attachments)} AS m WHERE m.instance_id = h.instance_id"
    " AND m.post_id = h.id"
)


def closure(old: Old, there: str | None) -> str:
    """A SELECT of `ids` and of all posts there that these reblog.

    What a reblog shows of a post makes that known here, so all of it has to come with the reblog.
    """
    posts = old.table("mastodon_posts")
    first = f"FROM {posts} AS p WHERE {among(old, 'mastodon_posts', 'p')}"
    first += f" AND {old.of('mastodon_posts', 'p', there)}"
    if not old.has("mastodon_posts", "reblog_of_id"):
        return f"SELECT DISTINCT p.id::text AS id {first} ORDER BY 1"
    inner = old.same(("q", "mastodon_posts", "id"), ("w", "mastodon_posts", "reblog_of_id"))
    return f"""
WITH RECURSIVE wanted AS (
  SELECT p.id, p.reblog_of_id {first}
  UNION
  SELECT q.id, q.reblog_of_id FROM wanted AS w JOIN {posts} AS q
    ON {inner} AND {old.of("mastodon_posts", "q", there)}
)
SELECT DISTINCT id::text AS id FROM wanted ORDER BY 1"""


def _rows(old: Old, there: str | None) -> str:
    """CTEs: the posts of `ids` as JSON, with their author and the post that they reblog.

    Where this database has that post or an author already, its row is used instead of theirs: it is
    newer, and a reblog must not overwrite it.
    """
    posts = old.table("mastodon_posts")
    own, again = old.of("mastodon_posts", "p", there), old.of("mastodon_posts", "q", there)
    inner = "false"
    if old.has("mastodon_posts", "reblog_of_id"):
        inner = old.same(("q", "mastodon_posts", "id"), ("p", "mastodon_posts", "reblog_of_id"))
    a, b, authors = "NULL::jsonb", "NULL::jsonb", ""
    if old.has("mastodon_accounts", "id"):
        a, b = "to_jsonb(a)", "to_jsonb(b)"
        for post, account in (("p", "a"), ("q", "b")):
            author = old.same(
                (account, "mastodon_accounts", "id"), (post, "mastodon_posts", "account_id")
            )
            authors += (
                f"\n  LEFT JOIN {old.table('mastodon_accounts')} AS {account}"
                f" ON {author} AND {old.of('mastodon_accounts', account, there)}"
            )
    accounts = name_of(mastodon_accounts)
    return f"""posts AS MATERIALIZED (
  SELECT p.id::text AS id, to_jsonb(p) AS p,
    CASE WHEN h.id IS NULL THEN to_jsonb(q)
      ELSE to_jsonb(h) || jsonb_build_object('media_attachments', ({_MEDIA})) END AS q,
    coalesce(to_jsonb(c), {a}) AS a, coalesce(to_jsonb(d), {b}) AS b, h.id IS NOT NULL AS known
  FROM {posts} AS p
  LEFT JOIN {posts} AS q ON {inner} AND {again}{authors}
  LEFT JOIN {name_of(mastodon_posts)} AS h ON h.instance_id = :here AND h.id = q.id::text
  LEFT JOIN {accounts} AS c ON c.instance_id = :here AND c.id = p.account_id::text
  LEFT JOIN {accounts} AS d ON d.instance_id = :here
    AND d.id = coalesce(h.account_id, q.account_id::text)
  WHERE {among(old, "mastodon_posts", "p")} AND {own}
)"""


def unknown(old: Old, there: str | None) -> str:
    """A SELECT of those of `ids` that are not here, of which something can be made.

    `failed` are those of which there is an event all the same, that could not be processed.
    """
    posts, reblog = old.table("mastodon_posts"), "true"
    if old.has("mastodon_posts", "reblog_of_id"):
        inner = old.same(("q", "mastodon_posts", "id"), ("p", "mastodon_posts", "reblog_of_id"))
        reblog = (
            f"(p.reblog_of_id IS NULL OR EXISTS (SELECT FROM {posts} AS q"
            f" WHERE {inner} AND {old.of('mastodon_posts', 'q', there)}))"
        )
    return f"""
SELECT p.id::text AS id, bool_or(e.process_error IS NOT NULL) AS failed
FROM {posts} AS p
LEFT JOIN {name_of(stream_events)} AS e ON e.instance_id = :here
  AND e.payload_status_id = p.id::text AND e.event_type = 'status'
WHERE {among(old, "mastodon_posts", "p")} AND {old.of("mastodon_posts", "p", there)}
  AND {reblog} AND {ID}(to_jsonb(p.id::text)) IS NOT NULL AND NOT EXISTS (
    SELECT FROM {name_of(mastodon_posts)} AS h WHERE h.instance_id = :here AND h.id = p.id::text)
GROUP BY p.id HAVING bool_and(e.process_error IS NOT NULL OR e.id IS NULL) ORDER BY 1"""


def altered(old: Old, there: str | None) -> str:
    """A SELECT of those of `ids` that say something else by now than when they failed."""
    payload = f"{JSON_OF}(e.payload::text)"
    return f"""
{_statuses(old, there)}
SELECT DISTINCT s.id FROM statuses AS s WHERE NOT EXISTS (
  SELECT FROM {name_of(stream_events)} AS e WHERE e.instance_id = :here
    AND e.payload_status_id = s.id AND e.event_type = 'status' AND e.process_error IS NOT NULL
    AND ({payload} ? 'redacted' OR {_decisive(payload)} = {_decisive("s.status")})
) ORDER BY 1"""


def _decisive(status: str) -> str:
    """SQL: what decides whether a status can be read; an author's counts change by themselves."""
    paths = ("{account,id}", "{account,acct}", "{reblog,account,id}", "{reblog,account,acct}")
    parts = [
        f"{status} - 'account' - 'reblog'",
        f"({status} -> 'reblog') - 'account'",
        *(f"{status} #> '{path}'" for path in paths),
    ]
    return f"jsonb_build_array({', '.join(parts)})"


def _list(value: str) -> str:
    """SQL: a JSON array, also where it is written in a text; nothing for what is none."""
    unpacked = f"CASE jsonb_typeof({value}) WHEN 'string' THEN {JSON_OF}({value} #>> '{{}}')"
    unpacked += f" ELSE {value} END"
    return f"CASE jsonb_typeof({unpacked}) WHEN 'array' THEN {unpacked} ELSE '[]'::jsonb END"


def _status(old: Old, row: str, account: str, edited: str, reblog: str) -> str:
    """SQL: a post's row as a server would send it."""
    # A row that could say who may see it, and does not, is not made public: nobody can read it.
    seen_by = f"{row} ->> 'visibility'"
    if not old.has("mastodon_posts", "visibility"):
        seen_by = f"coalesce({seen_by}, 'public')"
    texts = ", ".join(f"'{name}', {row} ->> '{name}'" for name in _TEXTS)
    counts = ", ".join(f"'{name}', coalesce({row} ->> '{name}', '0')" for name in COUNTS)
    author = ", ".join(f"'{name}', {account} ->> '{name}'" for name in _OF_ACCOUNT)
    content = ", ".join(f"{row} ->> '{n}'" for n in ("content", "content_html", "content_text"))
    return f"""jsonb_strip_nulls(jsonb_build_object('id', {row} ->> 'id',
    'created_at', {row} ->> 'created_at', 'edited_at', {edited}, 'content', coalesce({content}),
    'visibility', {seen_by}, 'sensitive', {row} -> 'sensitive',
    {texts}, {counts},
    'account', jsonb_build_object('id', {row} ->> 'account_id', {author}),
    'tags', (SELECT jsonb_agg(CASE jsonb_typeof(t) WHEN 'string'
      THEN jsonb_build_object('name', t) ELSE t END)
      FROM jsonb_array_elements({_list(f"{row} -> 'hashtags'")}) AS t),
    'mentions', {_list(f"{row} -> 'mentions'")},
    'media_attachments', {_list(f"{row} -> 'media_attachments'")},
    'reblog', {reblog}))"""


def _received(moment: str) -> str:
    """SQL: when something was received, by the text that the row has for it."""
    read = f"{TIME}({moment})"
    return f"CASE WHEN {read} BETWEEN '{EARLIEST}Z' AND now() THEN {read} ELSE now() END"


def _versions(old: Old, there: str | None) -> str:
    """SQL: what is known of the posts' versions: post, versions as an array, the last edit."""
    if old.lacks("post_versions"):
        return (
            "SELECT NULL::text AS post_id, NULL::jsonb AS versions, NULL::text AS edited"
            " WHERE false"
        )
    content = ", ".join(f"v ->> '{n}'" for n in ("content", "content_html", "content_text"))
    return f"""SELECT post_id,
    jsonb_agg(jsonb_build_object('created_at', v ->> 'valid_from', 'content', coalesce({content}),
      'spoiler_text', v ->> 'spoiler_text', 'sensitive', v -> 'sensitive')
      ORDER BY {TIME}(v ->> 'valid_from')) AS versions,
    CASE WHEN count(*) > 1 THEN (array_agg(v ->> 'valid_from'
      ORDER BY {TIME}(v ->> 'valid_from') DESC))[1] END AS edited
  FROM (SELECT o.post_id::text AS post_id, to_jsonb(o) AS v
    FROM {old.table("post_versions")} AS o WHERE o.post_id::text = ANY (ARRAY(
      SELECT id FROM posts UNION SELECT q ->> 'id' FROM posts))
    AND {old.of("post_versions", "o", there)}) AS each
  WHERE {TIME}(v ->> 'valid_from') IS NOT NULL GROUP BY post_id"""


def _snapshots(old: Old, there: str | None) -> str:
    """SQL: the counts that were captured of each post, and when."""
    if old.lacks("post_metric_snapshots"):
        return "SELECT NULL::text AS post_id, NULL::jsonb AS s WHERE false"
    return (
        "SELECT post_id, s FROM (SELECT o.post_id::text AS post_id, to_jsonb(o) AS s"
        f" FROM {old.table('post_metric_snapshots')} AS o"
        " WHERE o.post_id::text = ANY (CAST(:ids AS text[]))"
        f" AND {old.of('post_metric_snapshots', 'o', there)}) AS each"
        f" WHERE {unreadable('s')} IS NULL"
    )


def _statuses(old: Old, there: str | None) -> str:
    """CTEs that end with `statuses`: what the posts of `ids` say, as a server would send it."""
    within = _status(old, "q", "b", "coalesce(q ->> 'edited_at', w.edited)", "NULL")
    inner = f"CASE WHEN q IS NOT NULL THEN {within} END"
    whole = _status(old, "p", "a", "coalesce(p ->> 'edited_at', v.edited)", inner)
    return f"""
WITH {_rows(old, there)}, versions AS MATERIALIZED (
  {_versions(old, there)}
), statuses AS MATERIALIZED (
  SELECT posts.id, p, q, v.versions, {whole} AS status
  FROM posts LEFT JOIN versions AS v ON v.post_id = posts.id
  LEFT JOIN versions AS w ON w.post_id = q ->> 'id' AND NOT known
)"""


def _events(old: Old, there: str | None) -> str:
    """CTEs that end with `events`: what is to be written of the posts, in order."""
    counts = ", ".join(f"'{n}', coalesce(s ->> '{n}', '0')" for n in COUNTS)
    return f"""{_statuses(old, there)}, snapshots AS (
  {_snapshots(old, there)}
), events AS (
  SELECT id, 1 AS place, now() AS received_at, 'history' AS event_type,
    jsonb_build_object('status_id', id, 'history', versions) AS payload
  FROM statuses WHERE versions IS NOT NULL
  UNION ALL
  SELECT id, 2, {TIME}(s ->> 'captured_at'), 'status', status || jsonb_build_object({counts})
  FROM statuses JOIN snapshots ON post_id = id
  UNION ALL
  SELECT id, 3, now(), 'status', status FROM statuses
  UNION ALL
  SELECT id, 4, {_received("p ->> 'deleted_at'")}, 'delete', to_jsonb(id)
  FROM statuses WHERE p ->> 'deleted_at' IS NOT NULL
)"""


def days(old: Old, there: str | None) -> str:
    """A SELECT of the days on which the events of the posts are received."""
    deleted = ""
    if old.has("mastodon_posts", "deleted_at"):
        moment = _received("to_jsonb(p.deleted_at) #>> '{}'")
        deleted = (
            f" UNION ALL SELECT {moment} FROM {old.table('mastodon_posts')} AS p"
            f" WHERE {among(old, 'mastodon_posts', 'p')} AND {old.of('mastodon_posts', 'p', there)}"
            " AND p.deleted_at IS NOT NULL"
        )
    return (
        "SELECT DISTINCT (received_at AT TIME ZONE 'UTC')::date AS day FROM ("
        f"SELECT now() AS received_at UNION ALL SELECT {TIME}(s ->> 'captured_at')"
        f" FROM ({_snapshots(old, there)}) AS snapshots{deleted}) AS moments"
    )


def events_of_posts(old: Old, there: str | None) -> str:
    """An INSERT of the events of the posts `ids` into the log."""
    return (
        f"{_events(old, there)} INSERT INTO {name_of(stream_events)}"
        " (instance_id, received_at, event_type, payload, payload_status_id)"
        " SELECT :here, received_at, event_type, payload, id FROM events"
        " ORDER BY received_at, id, place"
    )

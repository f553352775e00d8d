"""The statements by which `adoption.py` reads an application's tables and writes the raw log.

A row is read as JSON, so that a column that is not there is null, and one that has another type is
read by its text like what a server sends.
"""

from __future__ import annotations

from assets.fediverse.adoption_tables import Old
from assets.fediverse.functions import ID, JSON_OF, LARGEST_COUNT, NUMBER, TIME
from assets.fediverse.tables import (
    instances,
    mastodon_accounts,
    mastodon_posts,
    post_sentiments,
    post_versions,
    stream_events,
)
from tallykeeper.database.sql import name_of

EARLIEST = "2010-01-01"
"""What was received before, or is still to come, is received now: no day is made for it."""

_COUNTS = ("replies_count", "reblogs_count", "favourites_count")
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
# From -1 to 1, also as a float is written.
_SCORE = r"^-?(0?\.[0-9]+|[01](\.0+)?|0\.[0-9]+|[0-9](\.[0-9]+)?e-[0-9]+)$"


def how_many(old: Old, there: str | None) -> str:
    """A SELECT of the number of posts of the instance."""
    return (
        f"SELECT count(*) FROM {old.table('mastodon_posts')} AS p"
        f" WHERE {old.of('mastodon_posts', 'p', there)}"
    )


def present(old: Old, there: str | None) -> str:
    """A SELECT of the number of those that are here."""
    return (
        f"{how_many(old, there)} AND EXISTS (SELECT FROM {name_of(mastodon_posts)} AS h"
        " WHERE h.instance_id = :here AND h.id = p.id::text)"
    )


def piece(old: Old, table: str, there: str | None, from_start: bool) -> str:
    """A SELECT of the next ids of the table's rows, as text."""
    after = "CAST(:last AS text) IS NULL"
    if not from_start:
        after = f"p.id > CAST(:last AS {old.kind(table)})"
    return (
        f"SELECT p.id::text AS id FROM {old.table(table)} AS p WHERE p.id IS NOT NULL"
        f" AND {old.of(table, 'p', there)} AND {after} ORDER BY p.id LIMIT :most"
    )


def among(old: Old, table: str, alias: str) -> str:
    """SQL: whether the id of a row is among `ids`."""
    return f"{alias}.id = ANY (CAST(:ids AS text[])::{old.kind(table)}[])"


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
    """CTEs: the posts of `ids` as JSON, with their author and the post that they reblog."""
    posts = old.table("mastodon_posts")
    own, again = old.of("mastodon_posts", "p", there), old.of("mastodon_posts", "q", there)
    inner = "false"
    if old.has("mastodon_posts", "reblog_of_id"):
        inner = old.same(("q", "mastodon_posts", "id"), ("p", "mastodon_posts", "reblog_of_id"))
    has_accounts = old.has("mastodon_accounts", "id")
    authors = ""
    for post, account in (("p", "a"), ("q", "b")):
        if has_accounts:
            whose = old.of("mastodon_accounts", account, there)
            author = old.same(
                (account, "mastodon_accounts", "id"), (post, "mastodon_posts", "account_id")
            )
            authors += (
                f"\n  LEFT JOIN {old.table('mastodon_accounts')} AS {account}"
                f" ON {author} AND {whose}"
            )
    a, b = ("to_jsonb(a)", "to_jsonb(b)") if has_accounts else ("NULL::jsonb", "NULL::jsonb")
    return f"""posts AS MATERIALIZED (
  SELECT p.id::text AS id, to_jsonb(p) AS p, to_jsonb(q) AS q, {a} AS a, {b} AS b
  FROM {posts} AS p
  LEFT JOIN {posts} AS q ON {inner} AND {again}{authors}
  WHERE {among(old, "mastodon_posts", "p")} AND {own}
)"""


def unknown(old: Old, there: str | None) -> str:
    """A SELECT of those of `ids` that are not here, and of which something can be made.

    Of a post that could not be processed there is an event all the same: it is written again when
    the post would say something else by now.
    """
    return f"""
{_statuses(old, there)}
SELECT DISTINCT s.id FROM statuses AS s
WHERE NOT EXISTS (
  SELECT FROM {name_of(mastodon_posts)} AS h WHERE h.instance_id = :here AND h.id = s.id
) AND NOT EXISTS (
  SELECT FROM {name_of(stream_events)} AS e WHERE e.instance_id = :here
    AND e.payload_status_id = s.id AND e.event_type = 'status'
    AND CASE WHEN e.process_error IS NULL THEN true
      ELSE {JSON_OF}(e.payload::text) ? 'redacted' OR {JSON_OF}(e.payload::text) = s.status END
) AND (s.p ->> 'reblog_of_id' IS NULL OR s.q IS NOT NULL) AND {ID}(to_jsonb(s.id)) IS NOT NULL
ORDER BY 1"""


def _list(value: str) -> str:
    """SQL: a JSON array, also where it is written in a text; nothing for what is none."""
    unpacked = f"CASE jsonb_typeof({value}) WHEN 'string' THEN {JSON_OF}({value} #>> '{{}}')"
    unpacked += f" ELSE {value} END"
    return f"CASE jsonb_typeof({unpacked}) WHEN 'array' THEN {unpacked} ELSE '[]'::jsonb END"


def _status(old: Old, row: str, account: str, edited: str, reblog: str) -> str:
    """SQL: a post's row as a server would send it."""
    # A row that could say who may see it, and does not, is not made public: nobody can read it.
    seen_by = f"{row} ->> 'visibility'" if old.has("mastodon_posts", "visibility") else "'public'"
    texts = ", ".join(f"'{name}', {row} ->> '{name}'" for name in _TEXTS)
    counts = ", ".join(f"'{name}', coalesce({row} ->> '{name}', '0')" for name in _COUNTS)
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


def unreadable(row: str) -> str:
    """SQL: why nothing can be made of a snapshot, of which `row` is the JSON; null where it can."""
    captured = f"{row} ->> 'captured_at'"
    cases = [wrong_time("captured_at", captured)]
    for name in _COUNTS:
        came = f"{row} ->> '{name}'"
        cases.append(
            f"WHEN {came} IS NOT NULL AND coalesce({NUMBER}({came}), -1)"
            f" NOT BETWEEN 0 AND {LARGEST_COUNT}"
            f" THEN '{name}: expected a whole number, came ' || quote_literal(left({came}, 60))"
        )
    return f"CASE {' '.join(cases)} END"


def wrong_time(name: str, came: str) -> str:
    """SQL: the branch of a CASE for what has no time of receipt."""
    return (
        f"WHEN ({TIME}({came}) BETWEEN '{EARLIEST}Z' AND now()) IS NOT TRUE THEN '{name}:"
        f" expected a time from {EARLIEST} until now, came '"
        f" || coalesce(quote_literal(left({came}, 60)), 'nothing')"
    )


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
  LEFT JOIN versions AS w ON w.post_id = q ->> 'id'
)"""


def _events(old: Old, there: str | None) -> str:
    """CTEs that end with `events`: what is to be written of the posts, in order."""
    counts = ", ".join(f"'{n}', coalesce(s ->> '{n}', '0')" for n in _COUNTS)
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
    return (
        f"{_events(old, there)} SELECT DISTINCT (received_at AT TIME ZONE 'UTC')::date AS day"
        " FROM events"
    )


def events_of_posts(old: Old, there: str | None) -> str:
    """An INSERT of the events of the posts `ids` into the log."""
    return (
        f"{_events(old, there)} INSERT INTO {name_of(stream_events)}"
        " (instance_id, received_at, event_type, payload, payload_status_id)"
        " SELECT :here, received_at, event_type, payload, id FROM events"
        " ORDER BY received_at, id, place"
    )


def accounts(old: Old, there: str | None, here: int) -> str:
    """An INSERT of those accounts of `ids` that no post has shown."""
    numbers = ("followers_count", "following_count", "statuses_count")
    texts = ("username", "acct", "display_name", "url")
    names = ", ".join((*texts, *numbers))
    read = ", ".join(
        [*(f"a ->> '{n}'" for n in texts), *(f"{NUMBER}(a ->> '{n}')" for n in numbers)]
    )
    host = f"(SELECT substring(base_url FROM '://([^/]+)') FROM {name_of(instances)}"
    host += f" WHERE id = {here})"
    return f"""
INSERT INTO {name_of(mastodon_accounts)}
  (instance_id, id, {names}, bot, domain, created_at, observed_at)
SELECT {here}, id, {read}, a ->> 'bot' = 'true',
  lower(coalesce(nullif(split_part(ltrim(a ->> 'acct', '@'), '@', 2), ''), {host})),
  {TIME}(a ->> 'created_at'), now()
FROM (SELECT o.id::text AS id, to_jsonb(o) AS a FROM {old.table("mastodon_accounts")} AS o
  WHERE {among(old, "mastodon_accounts", "o")} AND {old.of("mastodon_accounts", "o", there)}
) AS accounts
WHERE {ID}(to_jsonb(id)) IS NOT NULL
ON CONFLICT DO NOTHING"""


def judged(old: Old, there: str | None, here: int) -> str:
    """SQL: the sentiments there, each with the version here that it was said of, null without.

    That is the version of the analyzed content; else the one that began when theirs did; else the
    only one of a post of which no edit is known. Their numbers are not ours, where one is missing.
    """
    began = "false"
    if not old.lacks("post_versions") and old.has("post_versions", "version_seq"):
        began = (
            f"v.valid_from IN (SELECT {TIME}(to_jsonb(o.valid_from) #>> '{{}}')"
            f" FROM {old.table('post_versions')} AS o WHERE o.post_id::text = s.post_id"
            f" AND {old.of('post_versions', 'o', there)}"
            " AND o.version_seq::text = s.s ->> 'status_version_seq')"
        )
    versions = name_of(post_versions)
    only = (
        "coalesce(s.s ->> 'status_version_seq', '1') = '1' AND v.edited_at IS NULL AND NOT EXISTS ("
        f"SELECT FROM {versions} AS other WHERE other.instance_id = v.instance_id"
        " AND other.post_id = v.post_id AND other.valid_from <> v.valid_from)"
    )
    return f"""(SELECT s.post_id, s.s, v.content_hash, v.version_seq
FROM (SELECT o.post_id::text AS post_id, to_jsonb(o) AS s FROM {old.table("post_sentiments")} AS o
  WHERE {old.of("post_sentiments", "o", there)}) AS s
LEFT JOIN LATERAL (
  SELECT v.content_hash, v.version_seq, CASE WHEN v.content_hash = s.s ->> 'input_hash' THEN 1
    WHEN {began} THEN 2 WHEN {only} THEN 3 END AS place
  FROM {versions} AS v WHERE v.instance_id = {here} AND v.post_id = s.post_id
  ORDER BY place, v.version_seq LIMIT 1
) AS v ON v.place IS NOT NULL) AS judged"""


def sentiments(old: Old, there: str | None, here: int) -> str:
    """An INSERT of what a text model said of contents that are known here, as said last."""
    return f"""
INSERT INTO {name_of(post_sentiments)} (instance_id, post_id, model, prompt_version, input_hash,
  status_version_seq, label, score, analyzed_at)
SELECT {here}, post_id, coalesce(s ->> 'model', 'unknown'),
  coalesce(s ->> 'prompt_version', 'unknown'), content_hash,
  version_seq, coalesce(s ->> 'label', s ->> 'sentiment_label'),
  CASE WHEN s ->> 'score' ~ '{_SCORE}' THEN (s ->> 'score')::numeric END,
  coalesce({TIME}(s ->> 'analyzed_at'), now())
FROM {judged(old, there, here)} WHERE content_hash IS NOT NULL
ORDER BY coalesce({TIME}(s ->> 'analyzed_at'), now()) DESC
ON CONFLICT DO NOTHING"""


# Of the moment alone: a whole row would bring its payload with it.
_RECEIVED = "to_jsonb(o.received_at) #>> '{}'"


def piece_of_events(old: Old, there: str | None, from_start: bool) -> str:
    """A SELECT of the next raw events there: id, the day of receipt, and why it cannot come."""
    kind = old.kind("stream_events")
    after = "CAST(:last AS text) IS NULL" if from_start else f"o.id > CAST(:last AS {kind})"
    return f"""
SELECT o.id::text AS id, ({TIME}({_RECEIVED}) AT TIME ZONE 'UTC')::date AS day, CASE
    {wrong_time("received_at", _RECEIVED)}
    WHEN o.event_type IS NULL THEN 'event_type: expected a name, came nothing'
    WHEN o.payload IS NOT NULL AND {JSON_OF}(o.payload::text) IS NULL
      THEN 'payload: expected JSON, came ' || quote_literal(left(o.payload::text, 60)) END AS why
FROM {old.table("stream_events")} AS o
WHERE o.id IS NOT NULL AND {old.of("stream_events", "o", there)} AND {after}
ORDER BY o.id LIMIT :most"""


def copy_events(old: Old, there: str | None) -> str:
    """An INSERT of those raw events of `ids` that the log does not have."""
    log = name_of(stream_events)
    return f"""
WITH events AS MATERIALIZED (
  SELECT o.id, {TIME}({_RECEIVED}) AS received_at, o.event_type::text AS event_type,
    {JSON_OF}(o.payload::text) AS payload
  FROM {old.table("stream_events")} AS o
  WHERE {among(old, "stream_events", "o")} AND {old.of("stream_events", "o", there)}
)
INSERT INTO {log} (instance_id, received_at, event_type, payload)
SELECT :here, n.received_at, n.event_type, n.payload FROM events AS n
WHERE NOT EXISTS (
  SELECT FROM {log} AS e WHERE e.instance_id = :here AND e.received_at = n.received_at
    AND e.received_at BETWEEN (SELECT min(received_at) FROM events)
      AND (SELECT max(received_at) FROM events)
    -- By its text: the log may keep json, which has no equality.
    AND e.event_type = n.event_type
    AND {JSON_OF}(e.payload::text) IS NOT DISTINCT FROM n.payload)
ORDER BY n.received_at, n.id"""

"""The statements by which `adoption.py` reads an application's tables and writes the raw log.

A row is read as JSON, so that a column that is not there is null, and one that has another type is
read by its text like what a server sends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from assets.fediverse.functions import ID, JSON_OF, TIME
from assets.fediverse.tables import (
    instances,
    mastodon_accounts,
    mastodon_posts,
    post_sentiments,
    post_versions,
    stream_events,
)
from tallykeeper.database.sql import literal, name_of

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
PRESENT = (
    f"SELECT count(*) FROM {name_of(mastodon_posts)} AS h"
    " WHERE h.instance_id = :here AND h.id = ANY (CAST(:ids AS text[]))"
)


@dataclass(frozen=True)
class Old:
    """The application's tables: their quoted schema, and each one's columns with their types."""

    schema: str
    columns: Mapping[str, Mapping[str, str]]

    @property
    def knows_instances(self) -> bool:
        """Whether posts say of which instance they are."""
        return self.has("mastodon_posts", "instance_id")

    def has(self, table: str, *columns: str) -> bool:
        """Whether there is such a table, with these columns."""
        return table in self.columns and all(c in self.columns[table] for c in columns)

    def tells_of(self, there: str | None, table: str, *columns: str) -> bool:
        """The same, and rows of one instance are distinguished from those of others."""
        return self.has(table, *columns) and (there is None or self.has(table, "instance_id"))

    def table(self, name: str) -> str:
        """The table's name in SQL."""
        return f"{self.schema}.{name}"

    def of(self, table: str, alias: str, there: str | None) -> str:
        """A condition: of that instance, as far as the table knows instances."""
        if there is None or not self.has(table, "instance_id"):
            return "true"
        return f"{alias}.instance_id = {literal(there)}::{self.columns[table]['instance_id']}"


def how_many(old: Old, there: str | None) -> str:
    """A SELECT of the number of posts of the instance."""
    return (
        f"SELECT count(*) FROM {old.table('mastodon_posts')} AS p"
        f" WHERE {old.of('mastodon_posts', 'p', there)}"
    )


def piece(old: Old, there: str | None, from_start: bool) -> str:
    """A SELECT of the next ids of posts, as text."""
    kind = old.columns["mastodon_posts"]["id"]
    after = "CAST(:last AS text) IS NULL" if from_start else f"p.id > CAST(:last AS {kind})"
    return (
        f"SELECT p.id::text FROM {old.table('mastodon_posts')} AS p"
        f" WHERE {old.of('mastodon_posts', 'p', there)} AND {after} ORDER BY p.id LIMIT :most"
    )


def _rows(old: Old, there: str | None) -> str:
    """CTEs: the posts of `ids` as JSON, with their author and the post that they reblog."""
    posts = old.table("mastodon_posts")
    own, again = old.of("mastodon_posts", "p", there), old.of("mastodon_posts", "q", there)
    kind = old.columns["mastodon_posts"]["id"]
    reblog = old.has("mastodon_posts", "reblog_of_id")
    inner = "q.id::text = p.reblog_of_id::text" if reblog else "false"
    has_accounts = old.has("mastodon_accounts", "id")
    authors = ""
    for post, account in (("p", "a"), ("q", "b")):
        if has_accounts:
            whose = old.of("mastodon_accounts", account, there)
            typed = f"{post}.account_id::text::{old.columns['mastodon_accounts']['id']}"
            authors += (
                f"\n  LEFT JOIN {old.table('mastodon_accounts')} AS {account}"
                f" ON {account}.id = {typed} AND {whose}"
            )
    a, b = ("to_jsonb(a)", "to_jsonb(b)") if has_accounts else ("NULL::jsonb", "NULL::jsonb")
    return f"""posts AS MATERIALIZED (
  SELECT p.id::text AS id, to_jsonb(p) AS p, to_jsonb(q) AS q, {a} AS a, {b} AS b
  FROM {posts} AS p
  LEFT JOIN {posts} AS q ON {inner} AND {again}{authors}
  WHERE p.id = ANY (CAST(:ids AS text[])::{_plain(kind)}[]) AND {own}
)"""


def _plain(kind: str) -> str:
    return kind.partition("(")[0]


def unknown(old: Old, there: str | None) -> str:
    """A SELECT of those of `ids` that are not here, of which no event is, and that can be read."""
    known = (
        f"SELECT FROM {name_of(mastodon_posts)} AS h"
        " WHERE h.instance_id = :here AND h.id = posts.id"
    )
    # Of one that could not be processed there is an event all the same.
    tried = (
        f"SELECT FROM {name_of(stream_events)} AS e WHERE e.instance_id = :here"
        " AND e.payload_status_id = posts.id AND e.event_type = 'status'"
    )
    return (
        f"WITH {_rows(old, there)} SELECT posts.id FROM posts"
        f" WHERE NOT EXISTS ({known}) AND NOT EXISTS ({tried})"
        " AND (p ->> 'reblog_of_id' IS NULL OR q IS NOT NULL)"
        f" AND {ID}(to_jsonb(posts.id)) IS NOT NULL ORDER BY 1"
    )


def missing(old: Old, there: str | None) -> str:
    """A SELECT of the posts there that are not here, and why."""
    posts, events = old.table("mastodon_posts"), name_of(stream_events)
    return f"""
SELECT p.id::text AS id, coalesce(
  (SELECT max(e.process_error) FROM {events} AS e WHERE e.instance_id = :here
    AND e.payload_status_id = p.id::text AND e.event_type = 'status'),
  CASE WHEN {ID}(to_jsonb(p.id::text)) IS NULL THEN 'no server has such an id' END,
  'it reblogs ' || (to_jsonb(p) ->> 'reblog_of_id') || ', which is not in the table',
  'it came meanwhile; run the command again') AS why
FROM {posts} AS p WHERE {old.of("mastodon_posts", "p", there)} AND NOT EXISTS (
  SELECT FROM {name_of(mastodon_posts)} AS h WHERE h.instance_id = :here AND h.id = p.id::text)
ORDER BY 1"""


def _list(value: str) -> str:
    """SQL: a JSON array, also where it is written in a text; nothing for what is none."""
    unpacked = f"CASE jsonb_typeof({value}) WHEN 'string' THEN {JSON_OF}({value} #>> '{{}}')"
    unpacked += f" ELSE {value} END"
    return f"CASE jsonb_typeof({unpacked}) WHEN 'array' THEN {unpacked} ELSE '[]'::jsonb END"


def _status(row: str, account: str, edited: str, reblog: str) -> str:
    """SQL: a post's row as a server would send it."""
    texts = ", ".join(f"'{name}', {row} ->> '{name}'" for name in _TEXTS)
    counts = ", ".join(f"'{name}', coalesce({row} ->> '{name}', '0')" for name in _COUNTS)
    author = ", ".join(f"'{name}', {account} ->> '{name}'" for name in _OF_ACCOUNT)
    content = ", ".join(f"{row} ->> '{n}'" for n in ("content", "content_html", "content_text"))
    return f"""jsonb_strip_nulls(jsonb_build_object('id', {row} ->> 'id',
    'created_at', {row} ->> 'created_at', 'edited_at', {edited}, 'content', coalesce({content}),
    'visibility', coalesce({row} ->> 'visibility', 'public'), 'sensitive', {row} -> 'sensitive',
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
    """SQL: what is known of each post's versions: post, versions as an array, the last edit."""
    if not old.tells_of(there, "post_versions", "post_id", "valid_from"):
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
    FROM {old.table("post_versions")} AS o WHERE o.post_id::text = ANY (CAST(:ids AS text[]))
    AND {old.of("post_versions", "o", there)}) AS each GROUP BY post_id"""


def _snapshots(old: Old, there: str | None) -> str:
    """SQL: the counts that were captured of each post, and when."""
    if not old.tells_of(there, "post_metric_snapshots", "post_id", "captured_at"):
        return "SELECT NULL::text AS post_id, NULL::jsonb AS s WHERE false"
    return (
        f"SELECT o.post_id::text AS post_id, to_jsonb(o) AS s"
        f" FROM {old.table('post_metric_snapshots')} AS o"
        " WHERE o.post_id::text = ANY (CAST(:ids AS text[]))"
        f" AND {old.of('post_metric_snapshots', 'o', there)}"
    )


def _events(old: Old, there: str | None) -> str:
    """CTEs that end with `events`: what is to be written of the posts, in order."""
    edited = "coalesce(p ->> 'edited_at', v.edited)"
    within = _status("q", "b", "q ->> 'edited_at'", "NULL")
    inner = f"CASE WHEN q IS NOT NULL THEN {within} END"
    counts = ", ".join(f"'{n}', coalesce(s ->> '{n}', '0')" for n in _COUNTS)
    return f"""
WITH {_rows(old, there)}, versions AS MATERIALIZED (
  {_versions(old, there)}
), snapshots AS (
  {_snapshots(old, there)}
), statuses AS MATERIALIZED (
  SELECT posts.id, p, v.versions, {_status("p", "a", edited, inner)} AS status
  FROM posts LEFT JOIN versions AS v ON v.post_id = posts.id
), events AS (
  SELECT id, 1 AS place, now() AS received_at, 'history' AS event_type,
    jsonb_build_object('status_id', id, 'history', versions) AS payload
  FROM statuses WHERE versions IS NOT NULL
  UNION ALL
  SELECT id, 2, {_received("s ->> 'captured_at'")}, 'status',
    status || jsonb_build_object({counts})
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
        f"{_events(old, there)} SELECT DISTINCT (received_at AT TIME ZONE 'UTC')::date FROM events"
    )


def events_of_posts(old: Old, there: str | None) -> str:
    """An INSERT of the events of the posts `ids` into the log."""
    return (
        f"{_events(old, there)} INSERT INTO {name_of(stream_events)}"
        " (instance_id, received_at, event_type, payload, payload_status_id)"
        " SELECT :here, received_at, event_type, payload, id FROM events"
        " ORDER BY received_at, id, place"
    )


def accounts(old: Old, there: str | None, here: int) -> str | None:
    """An INSERT of the accounts that no post has shown."""
    if not old.tells_of(there, "mastodon_accounts", "id"):
        return None
    numbers = ("followers_count", "following_count", "statuses_count")
    texts = ("username", "acct", "display_name", "url")
    names = ", ".join((*texts, *numbers))
    read = ", ".join(
        [
            *(f"a ->> '{n}'" for n in texts),
            *(
                f"CASE WHEN a ->> '{n}' ~ '^[0-9]{{1,18}}$' THEN (a ->> '{n}')::bigint END"
                for n in numbers
            ),
        ]
    )
    host = f"(SELECT substring(base_url FROM '://([^/]+)') FROM {name_of(instances)}"
    host += f" WHERE id = {here})"
    return f"""
INSERT INTO {name_of(mastodon_accounts)}
  (instance_id, id, {names}, bot, domain, created_at, observed_at)
SELECT {here}, id, {read}, a ->> 'bot' = 'true',
  lower(coalesce(nullif(split_part(a ->> 'acct', '@', 2), ''), {host})),
  {TIME}(a ->> 'created_at'), now()
FROM (SELECT o.id::text AS id, to_jsonb(o) AS a FROM {old.table("mastodon_accounts")} AS o
  WHERE {old.of("mastodon_accounts", "o", there)}) AS accounts
WHERE {ID}(to_jsonb(id)) IS NOT NULL
ON CONFLICT DO NOTHING"""


def sentiments(old: Old, there: str | None, here: int) -> str | None:
    """An INSERT of what a text model said of contents that are known here."""
    if not old.tells_of(there, "post_sentiments", "post_id"):
        return None
    return f"""
INSERT INTO {name_of(post_sentiments)} (instance_id, post_id, model, prompt_version, input_hash,
  status_version_seq, label, score, analyzed_at)
SELECT {here}, post_id, coalesce(s ->> 'model', 'unknown'),
  coalesce(s ->> 'prompt_version', 'unknown'), coalesce(v.content_hash, s ->> 'input_hash'),
  v.version_seq, coalesce(s ->> 'label', s ->> 'sentiment_label'),
  CASE WHEN s ->> 'score' ~ '{_SCORE}' THEN (s ->> 'score')::numeric END,
  coalesce({TIME}(s ->> 'analyzed_at'), now())
FROM (SELECT o.post_id::text AS post_id, to_jsonb(o) AS s FROM {old.table("post_sentiments")} AS o
  WHERE {old.of("post_sentiments", "o", there)}) AS sentiments
JOIN {name_of(post_versions)} AS v USING (post_id)
WHERE v.instance_id = {here} AND v.version_seq::text = coalesce(s ->> 'status_version_seq', '1')
ON CONFLICT DO NOTHING"""


# Of the moment alone: a whole row would bring its payload with it.
_RECEIVED = f"{TIME}(to_jsonb(o.received_at) #>> '{{}}')"


def _of_events(old: Old, there: str | None) -> str:
    return f"{old.table('stream_events')} AS o WHERE {old.of('stream_events', 'o', there)}"


def piece_of_events(old: Old, there: str | None, from_start: bool) -> str:
    """A SELECT of the next raw events there: id, and the day on which each was received."""
    kind = old.columns["stream_events"]["id"]
    after = "CAST(:last AS text) IS NULL" if from_start else f"o.id > CAST(:last AS {kind})"
    received = _RECEIVED
    return (
        f"SELECT o.id::text AS id, ({received} AT TIME ZONE 'UTC')::date AS day"
        f" FROM {_of_events(old, there)}"
        f" AND {after} AND {received} BETWEEN '{EARLIEST}Z' AND now() ORDER BY o.id LIMIT :most"
    )


def copy_events(old: Old, there: str | None) -> str:
    """An INSERT of the raw events from `first` to `last` that the log does not have."""
    log = name_of(stream_events)
    kind = old.columns["stream_events"]["id"]
    return f"""
WITH events AS MATERIALIZED (
  SELECT o.id, {_RECEIVED} AS received_at, o.event_type,
    {JSON_OF}(o.payload::text) AS payload
  FROM {_of_events(old, there)} AND o.id BETWEEN CAST(:first AS {kind}) AND CAST(:last AS {kind})
)
INSERT INTO {log} (instance_id, received_at, event_type, payload)
SELECT :here, n.received_at, n.event_type, n.payload FROM events AS n
WHERE n.received_at BETWEEN '{EARLIEST}Z' AND now() AND NOT EXISTS (
  SELECT FROM {log} AS e WHERE e.instance_id = :here AND e.received_at = n.received_at
    AND e.received_at BETWEEN (SELECT min(received_at) FROM events)
      AND (SELECT max(received_at) FROM events)
    AND e.event_type = n.event_type AND e.payload IS NOT DISTINCT FROM n.payload)
ORDER BY n.received_at, n.id"""

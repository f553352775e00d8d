"""The statements by which `transfer.py` reads an application's tables and writes the raw log.

A row is read as JSON, so that a column that is not there is null, and one that has another type is
read by its text like what a server sends.
"""

from __future__ import annotations

from assets.fediverse.adoption.tables import Old
from assets.fediverse.processing.functions import ID, JSON_OF, LARGEST_COUNT, NUMBER, TIME
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

COUNTS = ("replies_count", "reblogs_count", "favourites_count")
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


def piece(old: Old, table: str, there: str | None, from_start: bool, column: str = "id") -> str:
    """A SELECT of the next ids of the table's rows, each once, as text."""
    after = "CAST(:last AS text) IS NULL"
    if not from_start:
        after = f"p.{column} > CAST(:last AS {old.kind(table, column)})"
    return (
        f"SELECT p.{column}::text AS id FROM {old.table(table)} AS p"
        f" WHERE p.{column} IS NOT NULL AND {old.of(table, 'p', there)} AND {after}"
        f" GROUP BY p.{column} ORDER BY p.{column} LIMIT :most"
    )


def among(old: Old, table: str, alias: str, column: str = "id") -> str:
    """SQL: whether the id of a row is among `ids`."""
    return f"{alias}.{column} = ANY (CAST(:ids AS text[])::{old.kind(table, column)}[])"


def unreadable(row: str) -> str:
    """SQL: why nothing can be made of a snapshot, of which `row` is the JSON; null where it can."""
    captured = f"{row} ->> 'captured_at'"
    cases = [wrong_time("captured_at", captured)]
    for name in COUNTS:
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


def judged(old: Old, there: str | None, here: int, which: str = "true") -> str:
    """SQL: `which` of the sentiments there, each with the version here that it was said of.

    The version is null where none is known to be it.
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
  WHERE {which} AND {old.of("post_sentiments", "o", there)}) AS s
LEFT JOIN LATERAL (
  SELECT v.content_hash, v.version_seq, CASE WHEN v.content_hash = s.s ->> 'input_hash' THEN 1
    WHEN {began} THEN 2 WHEN {only} THEN 3 END AS place
  FROM {versions} AS v WHERE v.instance_id = {here} AND v.post_id = s.post_id
  ORDER BY place, v.version_seq LIMIT 1
) AS v ON v.place IS NOT NULL) AS judged"""


def sentiments(old: Old, there: str | None, here: int) -> str:
    """An INSERT of what a text model said of contents of the posts `ids`, as said last."""
    of_posts = among(old, "post_sentiments", "o", "post_id")
    return f"""
INSERT INTO {name_of(post_sentiments)} (instance_id, post_id, model, prompt_version, input_hash,
  status_version_seq, label, score, analyzed_at)
SELECT {here}, post_id, coalesce(s ->> 'model', 'unknown'),
  coalesce(s ->> 'prompt_version', 'unknown'), content_hash,
  version_seq, coalesce(s ->> 'label', s ->> 'sentiment_label'),
  CASE WHEN s ->> 'score' ~ '{_SCORE}' THEN (s ->> 'score')::numeric END,
  coalesce({TIME}(s ->> 'analyzed_at'), now())
FROM {judged(old, there, here, of_posts)} WHERE content_hash IS NOT NULL
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
    # By its text: the log may keep json, which has no equality; and so that it can be hashed.
    return f"""
WITH events AS MATERIALIZED (
  SELECT id, received_at, event_type, payload, coalesce(payload::text, '') AS said FROM (
    SELECT o.id, {TIME}({_RECEIVED}) AS received_at, o.event_type::text AS event_type,
      {JSON_OF}(o.payload::text) AS payload
    FROM {old.table("stream_events")} AS o
    WHERE {among(old, "stream_events", "o")} AND {old.of("stream_events", "o", there)}) AS o
), known AS MATERIALIZED (
  SELECT e.received_at, e.event_type, coalesce({JSON_OF}(e.payload::text)::text, '') AS said
  FROM {log} AS e JOIN (SELECT DISTINCT received_at FROM events) AS m USING (received_at)
  WHERE e.instance_id = :here AND e.received_at BETWEEN (SELECT min(received_at) FROM events)
    AND (SELECT max(received_at) FROM events)
)
INSERT INTO {log} (instance_id, received_at, event_type, payload)
SELECT :here, n.received_at, n.event_type, n.payload FROM events AS n
WHERE NOT EXISTS (
  SELECT FROM known AS k WHERE k.received_at = n.received_at
    AND k.event_type::text = n.event_type AND k.said = n.said)
ORDER BY n.received_at, n.id"""

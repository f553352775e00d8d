"""From raw events to what they say: statuses, versions and deletions, in temporary tables.

Only reading is here; nothing is written but those tables. Invariants: an event that
cannot be read costs itself alone and says why (`faults`), and an event counts whole or not at all,
with the post within it.

The temporary tables belong to a session and are emptied by each commit:
`batch` the events of a batch, `seen` the statuses in them, `listed` the versions that edit
histories list, `deletes` the deletions.
"""

from __future__ import annotations

from sqlalchemy import Connection

from assets.fediverse.processing.functions import (
    ID,
    JSON_OF,
    LARGEST_COUNT,
    LONGEST_DOMAIN,
    LONGEST_ID,
    LONGEST_WORD,
    NUMBER,
    TIME,
    WORD,
    content_digest,
)
from assets.fediverse.processing.notes import STATUS_OF_NOTE, is_note
from tallykeeper.database.sql import execute

# Events whose payload is a status; an edit may come without the time of the edit.
STATUS_EVENTS = ("update", "status.update", "status")
EDIT, HISTORY, DELETE = "status.update", "history", "delete"
FOLLOW, UNFOLLOW = "follow", "unfollow"
DERIVED_FROM = (*STATUS_EVENTS, HISTORY, DELETE, FOLLOW, UNFOLLOW)

AN_ID = f"an id (a whole number, or 1 to {LONGEST_ID} characters without blanks and quotes)"
A_WORD = f"a word of up to {LONGEST_WORD} characters"
SHOWN = 60
"""Characters of a faulty value that its reason repeats."""

_TABLES = {
    "batch": """
  event_id bigint NOT NULL, received_at timestamptz NOT NULL, instance_id bigint NOT NULL,
  event_type text NOT NULL, post_id {id}, reblog_id {id}, fault text""",
    "seen": """
  event_id bigint NOT NULL, received_at timestamptz NOT NULL, instance_id bigint NOT NULL,
  event_type text NOT NULL, late boolean NOT NULL DEFAULT false,
  post_id {id} NOT NULL, account_id {id} NOT NULL, domain text NOT NULL, url text, uri text,
  content text, spoiler_text text, sensitive boolean, language text, visibility text NOT NULL,
  replies_count bigint NOT NULL, reblogs_count bigint NOT NULL, favourites_count bigint NOT NULL,
  in_reply_to_id {id}, in_reply_to_account_id {id}, reblog_of_id {id},
  tags jsonb, mentions jsonb, media jsonb, account jsonb,
  created_at timestamptz NOT NULL, edited_at timestamptz, redacted text""",
    "listed": """
  event_id bigint NOT NULL, received_at timestamptz NOT NULL, instance_id bigint NOT NULL,
  post_id {id} NOT NULL, valid_from timestamptz NOT NULL, first boolean NOT NULL,
  content text, spoiler_text text, sensitive boolean, redacted text""",
    "deletes": """
  event_id bigint NOT NULL, received_at timestamptz NOT NULL, instance_id bigint NOT NULL,
  post_id {id} NOT NULL""",
    "follows": """
  event_id bigint NOT NULL, instance_id bigint NOT NULL, follower_id {id} NOT NULL,
  followee_id {id} NOT NULL, follows boolean NOT NULL, at timestamptz NOT NULL""",
}

STAGES = tuple(_TABLES)
# What is read once and forgotten is not worth compressing.
UNCOMPRESSED = "WITH (toast_tuple_target = 8160)"

_STATUS = """id jsonb, created_at text, edited_at text, in_reply_to_id jsonb,
  in_reply_to_account_id jsonb, sensitive text, spoiler_text text, visibility text, language text,
  uri text, url text, replies_count text, reblogs_count text, favourites_count text, content text,
  reblog jsonb, account jsonb, media_attachments jsonb, mentions jsonb, tags jsonb,
  redacted text"""
_COUNTS = ("replies_count", "reblogs_count", "favourites_count")
_IDS = ("in_reply_to_id", "in_reply_to_account_id")
_TIMES = ("created_at", "edited_at")


def stages(ids: str) -> list[str]:
    """CREATE TEMPORARY TABLE for each table that a batch is parsed into; `ids` is the ids' type."""
    return [
        f"CREATE TEMPORARY TABLE IF NOT EXISTS {name} ({columns.format(id=ids)}) {UNCOMPRESSED}"
        " ON COMMIT DELETE ROWS"
        for name, columns in _TABLES.items()
    ]


def parse(connection: Connection, schema: str, events: str) -> None:
    """Read the events that the SELECT `events` returns: the columns of `stream_events` as they are.

    `schema` is the quoted schema of the raw tables.
    """
    execute(connection, _parse(schema, events))


def _parse(schema: str, events: str) -> str:
    counts = ", ".join(f"coalesce(t.{c}_read, 0)" for c in _COUNTS)
    return f"""
WITH events AS MATERIALIZED (
{events}
), payloads AS MATERIALIZED (
  -- Unpacked here, by the empty path: each look at a compressed payload would unpack it again.
  SELECT id AS event_id, received_at, instance_id, event_type,
    CASE WHEN event_type IN ({_list(DERIVED_FROM)}) THEN
      CASE WHEN jsonb_typeof(payload) = 'string' AND event_type <> '{DELETE}'
        THEN coalesce({JSON_OF}(payload #>> '{{}}'), payload) ELSE payload #> '{{}}' END
    END AS payload
  FROM events
), outer_statuses AS MATERIALIZED (
  SELECT p.event_id, p.received_at, p.instance_id, p.event_type, false AS nested,
    jsonb_typeof(p.payload) AS form, s.*
  FROM payloads AS p
  CROSS JOIN LATERAL jsonb_to_record(
    CASE WHEN jsonb_typeof(p.payload) <> 'object' THEN NULL
      WHEN {is_note("p.payload")} THEN {STATUS_OF_NOTE}(p.payload) ELSE p.payload END
  ) AS s ({_STATUS})
  WHERE p.event_type IN ({_list(STATUS_EVENTS)})
), statuses AS (
  SELECT * FROM outer_statuses
  UNION ALL
  SELECT o.event_id, o.received_at, o.instance_id, o.event_type, true, jsonb_typeof(o.reblog), s.*
  FROM outer_statuses AS o
  CROSS JOIN LATERAL jsonb_to_record(
    CASE WHEN jsonb_typeof(o.reblog) = 'object' THEN o.reblog END) AS s ({_STATUS})
  WHERE o.reblog IS NOT NULL AND jsonb_typeof(o.reblog) <> 'null'
), read AS MATERIALIZED (
  SELECT *, {ID}(id) AS post_id, {ID}(account -> 'id') AS account_id,
    {ID}(reblog -> 'id') AS reblog_of_id, {", ".join(f"{ID}({n}) AS {n}_read" for n in _IDS)},
    {", ".join(f"{NUMBER}({n}) AS {n}_read" for n in _COUNTS)},
    {", ".join(f"{TIME}({n}) AS {n}_read" for n in _TIMES)}
  FROM statuses
), typed AS MATERIALIZED (
  SELECT *, {_fault()} AS fault FROM read
), histories AS MATERIALIZED (
  SELECT p.event_id, p.received_at, p.instance_id, p.payload,
    {ID}(p.payload -> 'status_id') AS post_id
  FROM payloads AS p WHERE p.event_type = '{HISTORY}'
), versions AS MATERIALIZED (
  SELECT h.event_id, h.received_at, h.instance_id, h.post_id, v.place,
    jsonb_typeof(v.version) AS form, v.version ->> 'created_at' AS written_at,
    {TIME}(v.version ->> 'created_at') AS valid_from, v.version ->> 'content' AS content,
    v.version ->> 'spoiler_text' AS spoiler_text,
    (v.version ->> 'sensitive') = 'true' AS sensitive,
    {content_digest("v.version ->> 'content'", "v.version ->> 'redacted'")} AS redacted
  FROM histories AS h
  CROSS JOIN LATERAL jsonb_array_elements(
    CASE WHEN jsonb_typeof(h.payload -> 'history') = 'array' THEN h.payload -> 'history'
      ELSE '[]' END) WITH ORDINALITY AS v (version, place)
), deletions AS MATERIALIZED (
  SELECT p.event_id, p.received_at, p.instance_id, p.payload,
    {ID}(CASE jsonb_typeof(p.payload) WHEN 'number' THEN p.payload
      WHEN 'string' THEN to_jsonb(btrim(p.payload #>> '{{}}', ' "')) END) AS post_id
  FROM payloads AS p WHERE p.event_type = '{DELETE}'
), followed AS MATERIALIZED (
  SELECT p.event_id, p.received_at, p.instance_id, p.payload, p.event_type,
    {ID}(p.payload -> 'follower_account_id') AS follower_id,
    {ID}(p.payload -> 'followee_account_id') AS followee_id,
    p.payload ->> (p.event_type || 'ed_at') AS written_at,
    {TIME}(p.payload ->> (p.event_type || 'ed_at')) AS at
  FROM payloads AS p WHERE p.event_type IN ('{FOLLOW}', '{UNFOLLOW}')
), faults AS MATERIALIZED (
  SELECT event_id, min(fault) AS fault FROM (
    SELECT event_id, CASE WHEN nested THEN 'reblog: ' ELSE '' END || fault AS fault
    FROM typed WHERE fault IS NOT NULL
    UNION ALL
    SELECT event_id, {_expected("status_id", AN_ID, "payload ->> 'status_id'")}
    FROM histories WHERE post_id IS NULL
    UNION ALL
    SELECT event_id, {_expected("history", "a list of versions", "payload ->> 'history'")}
    FROM histories WHERE jsonb_typeof(payload -> 'history') IS DISTINCT FROM 'array'
    UNION ALL
    SELECT event_id, 'history, version ' || place || ': '
      || {_expected("created_at", "an ISO 8601 time", "written_at")}
    FROM versions WHERE valid_from IS NULL
    UNION ALL
    SELECT event_id, {_expected("payload", "the id of a status", "payload #>> '{}'")}
    FROM deletions WHERE post_id IS NULL
    UNION ALL
    SELECT event_id, {_follow_fault()} FROM followed
    WHERE follower_id IS NULL OR followee_id IS NULL OR written_at IS NOT NULL AND at IS NULL
  ) AS found GROUP BY event_id
), taking AS (
  INSERT INTO pg_temp.batch
  SELECT e.event_id, e.received_at, e.instance_id, e.event_type,
    coalesce(t.post_id, h.post_id, g.post_id), t.reblog_of_id, f.fault
  FROM payloads AS e
  LEFT JOIN typed AS t ON t.event_id = e.event_id AND NOT t.nested
  LEFT JOIN histories AS h ON h.event_id = e.event_id
  LEFT JOIN deletions AS g ON g.event_id = e.event_id
  LEFT JOIN faults AS f ON f.event_id = e.event_id
), listing AS (
  INSERT INTO pg_temp.listed
  SELECT v.event_id, v.received_at, v.instance_id, v.post_id, v.valid_from, v.place = 1,
    v.content, v.spoiler_text, v.sensitive, v.redacted
  FROM versions AS v WHERE NOT EXISTS (SELECT FROM faults AS f WHERE f.event_id = v.event_id)
), deleting AS (
  INSERT INTO pg_temp.deletes
  SELECT event_id, received_at, instance_id, post_id FROM deletions WHERE post_id IS NOT NULL
), following AS (
  INSERT INTO pg_temp.follows
  SELECT f.event_id, f.instance_id, f.follower_id, f.followee_id, f.event_type = '{FOLLOW}',
    coalesce(f.at, f.received_at)
  FROM followed AS f WHERE NOT EXISTS (SELECT FROM faults AS x WHERE x.event_id = f.event_id)
)
INSERT INTO pg_temp.seen
SELECT t.event_id, t.received_at, t.instance_id, t.event_type, false,
  t.post_id, t.account_id,
  lower(coalesce(nullif(split_part(ltrim(t.account ->> 'acct', '@'), '@', 2), ''),
    substring(i.base_url FROM '^[a-zA-Z]+://([^/]+)'), i.base_url)),
  t.url, t.uri, t.content, t.spoiler_text, t.sensitive = 'true', nullif({WORD}(t.language), ''),
  t.visibility, {counts}, t.in_reply_to_id_read, t.in_reply_to_account_id_read, t.reblog_of_id,
  t.tags, t.mentions, t.media_attachments, t.account, t.created_at_read, t.edited_at_read,
  {content_digest("t.content", "t.redacted")}
FROM typed AS t JOIN {schema}.instances AS i ON i.id = t.instance_id
WHERE NOT EXISTS (SELECT FROM faults AS f WHERE f.event_id = t.event_id)"""


def _fault() -> str:
    """SQL: the first thing that is wrong with a status; null where nothing is."""
    faults = [
        ("form IS DISTINCT FROM 'object'", _expected("payload", "a status (an object)", "form")),
        ("post_id IS NULL", _expected("id", AN_ID, "id #>> '{}'")),
        ("account_id IS NULL", _expected("account.id", AN_ID, "account ->> 'id'")),
        ("created_at_read IS NULL", _expected("created_at", "an ISO 8601 time", "created_at")),
        (
            "edited_at <> '' AND edited_at_read IS NULL",
            _expected("edited_at", "an ISO 8601 time", "edited_at"),
        ),
        ("visibility IS NULL", "'visibility: expected one of Mastodon''s, it is missing'"),
        (f"{WORD}(visibility) IS NULL", _expected("visibility", A_WORD, "visibility")),
        *(
            (
                f"{n} NOT IN ('null', '\"\"') AND {n}_read IS NULL",
                _expected(n, AN_ID, f"{n} #>> '{{}}'"),
            )
            for n in _IDS
        ),
        *(
            (f"{n} IS NOT NULL AND {n}_read IS NULL", _expected(n, "a whole number", n))
            for n in _COUNTS
        ),
        *(
            (
                f"{n}_read > {LARGEST_COUNT}",
                _expected(n, f"a whole number up to {LARGEST_COUNT:,}", n),
            )
            for n in _COUNTS
        ),
        (
            f"length(split_part(ltrim(account ->> 'acct', '@'), '@', 2)) > {LONGEST_DOMAIN}",
            _expected(
                "account.acct",
                f"a domain of up to {LONGEST_DOMAIN} characters",
                "account ->> 'acct'",
            ),
        ),
        (
            "jsonb_typeof(reblog) <> 'null' AND reblog_of_id IS NULL",
            _expected("reblog.id", AN_ID, "reblog ->> 'id'"),
        ),
    ]
    cases = "\n      ".join(f"WHEN {condition} THEN {reason}" for condition, reason in faults)
    return f"CASE {cases} END"


def _follow_fault() -> str:
    """SQL: the first thing that is wrong with what says who follows whom."""
    cases = " ".join(
        f"WHEN {name.split('_')[0]}_id IS NULL THEN {_expected(name, AN_ID, came)}"
        for name in ("follower_account_id", "followee_account_id")
        for came in [f"payload ->> '{name}'"]
    )
    moments = " ".join(
        f"WHEN event_type = '{event}' THEN"
        f" {_expected(f'{event}ed_at', 'an ISO 8601 time', 'written_at')}"
        for event in (FOLLOW, UNFOLLOW)
    )
    return f"CASE {cases} {moments} END"


def _expected(name: str, what: str, came: str) -> str:
    """SQL for the reason: which field, what was expected, what came."""
    shown = f"coalesce(quote_literal(left({came}, {SHOWN})), 'nothing')"
    return f"'{name}: expected {what}, came ' || {shown}"


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(f"'{name}'" for name in names)

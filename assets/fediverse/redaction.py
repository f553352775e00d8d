"""Redaction of the raw log: what deleted posts said, out of the payloads that showed it.

What the processed tables hold is redacted where they are written (`posts.py`, `relations.py`,
`versions.py`). What must stay true: a post can still be derived from its redacted events, and comes
out as it is stored. So ids, times, counts and the author stay, and each version's hash, by which it
is known.
"""

from __future__ import annotations

from sqlalchemy import Connection

from assets.fediverse.functions import JSON_OF, REDACTED
from assets.fediverse.parsing import HISTORY, STATUS_EVENTS
from tallies.sql import execute

_OBJECT = f"""CASE WHEN jsonb_typeof(e.payload) = 'string'
    THEN {JSON_OF}(e.payload #>> '{{}}') ELSE e.payload END"""


def redact_events(connection: Connection, schema: str, posts: str) -> int:
    """Redact the processed events of `posts`, a query of instances and ids; how many were not yet.

    Of an event that shows such a post within a reblog, the post within alone.
    """
    execute(
        connection,
        f"CREATE TEMPORARY TABLE redacted_posts ON COMMIT DROP AS {posts}",
    )
    statuses = ", ".join(f"'{name}'" for name in STATUS_EVENTS)
    whole = f"""CASE WHEN e.event_type IN ({statuses}) THEN {REDACTED}(o.payload)
    ELSE jsonb_set(o.payload, '{{history}}', (
      SELECT coalesce(jsonb_agg({REDACTED}(v.version) ORDER BY v.place), '[]')
      FROM jsonb_array_elements(CASE WHEN jsonb_typeof(o.payload -> 'history') = 'array'
        THEN o.payload -> 'history' ELSE '[]' END) WITH ORDINALITY AS v (version, place))) END"""
    within = f"jsonb_set(o.payload, '{{reblog}}', {REDACTED}(o.payload -> 'reblog'))"
    changed = 0
    for column, events, redacted in (
        ("payload_status_id", f"{statuses}, '{HISTORY}'", whole),
        ("payload_reblog_id", statuses, within),
    ):
        changed += execute(
            connection,
            f"""
UPDATE {schema}.stream_events AS e SET payload = n.payload
FROM pg_temp.redacted_posts AS p, {schema}.stream_events AS r
CROSS JOIN LATERAL (SELECT {_OBJECT.replace("e.", "r.")} AS payload) AS o
CROSS JOIN LATERAL (SELECT {redacted.replace("e.event_type", "r.event_type")} AS payload) AS n
WHERE r.instance_id = p.instance_id AND r.{column} = p.post_id AND r.event_type IN ({events})
  AND jsonb_typeof(o.payload) = 'object' AND n.payload IS DISTINCT FROM r.payload
  AND e.id = r.id AND e.received_at = r.received_at""",
        ).rowcount
    return changed

"""Redaction of the raw log: what deleted posts said, out of the payloads that showed it.

What the processed tables hold is redacted where they are written (`posts.py`, `relations.py`,
`versions.py`). What must stay true: a post can still be derived from its redacted events, and comes
out as it is stored. So ids, times, counts and the author stay, and each version's hash, by which it
is known. Only events of posts that are deleted are ever redacted.
"""

from __future__ import annotations

from sqlalchemy import Connection

from assets.fediverse.functions import JSON_OF, REDACTED
from assets.fediverse.notes import STATUS_OF_NOTE, is_note
from assets.fediverse.parsing import HISTORY, STATUS_EVENTS
from assets.fediverse.tables import post_deletions, stream_events
from tallykeeper.database.sql import execute, in_engine_schema, name_of

REDACT = in_engine_schema("fediverse_redact")
SIGNATURE = f"{REDACT}(bigint,text)"

_EVENTS, _DELETIONS = name_of(stream_events), name_of(post_deletions)
# The column may be json, where the log is an application's own.
_WRITTEN = f"""CASE WHEN jsonb_typeof(e.payload::jsonb) = 'string'
    THEN {JSON_OF}(e.payload::jsonb #>> '{{}}') ELSE e.payload::jsonb END"""
# A note of Misskey's becomes the status that it is read as.
_OBJECT = f"""CASE WHEN {is_note(f"({_WRITTEN})")} THEN {STATUS_OF_NOTE}({_WRITTEN})
    ELSE {_WRITTEN} END"""
_STATUSES = ", ".join(f"'{name}'" for name in STATUS_EVENTS)
_VERSIONS = f"""(
      SELECT coalesce(jsonb_agg({REDACTED}(v.version) ORDER BY v.place), '[]')
      FROM jsonb_array_elements(({_OBJECT}) -> 'history') WITH ORDINALITY AS v (version, place))"""

# By the column that names the post: which events, and what they become.
_REDACTED: dict[str, tuple[str, str]] = {
    "payload_status_id": (
        f"{_STATUSES}, '{HISTORY}'",
        f"""CASE WHEN e.event_type IN ({_STATUSES}) THEN {REDACTED}({_OBJECT})
    ELSE jsonb_set({_OBJECT}, '{{history}}', {_VERSIONS}) END""",
    ),
    "payload_reblog_id": (
        _STATUSES,
        f"jsonb_set({_OBJECT}, '{{reblog}}', {REDACTED}(({_OBJECT}) -> 'reblog'))",
    ),
}


def note_posts(connection: Connection) -> None:
    """Keep the posts that the batch's events show in `shown_posts`: deriving others parses anew."""
    execute(
        connection,
        "CREATE TEMPORARY TABLE shown_posts ON COMMIT DROP AS"
        " SELECT instance_id, post_id FROM pg_temp.taken WHERE post_id IS NOT NULL"
        " UNION SELECT instance_id, reblog_id FROM pg_temp.taken WHERE reblog_id IS NOT NULL",
    )


def redact_events(connection: Connection, posts: str) -> int:
    """Redact the processed events of `posts`, a query of instances and ids; how many were not yet.

    Of an event that shows such a post within a reblog, the post within alone.
    """
    changed = execute(
        connection,
        f"SELECT coalesce(sum({REDACT}(p.instance_id, p.post_id)), 0) FROM ({posts}) AS p",
    ).scalar_one()
    return int(changed)


def statements() -> dict[str, str]:
    """CREATE FUNCTION by name, with who may not call it.

    It has the rights of its owner: who processes may not change a payload otherwise.
    """
    updates = "\n".join(
        f"""
  UPDATE {_EVENTS} AS e SET payload = {redacted}
  WHERE e.instance_id = instance AND e.{column} = post AND e.event_type IN ({events})
    AND e.processed_at IS NOT NULL AND e.process_error IS NULL
    AND {redacted} IS DISTINCT FROM e.payload::jsonb;
  GET DIAGNOSTICS found = ROW_COUNT;
  changed := changed + found;"""
        for column, (events, redacted) in _REDACTED.items()
    )
    return {
        REDACT: f"""
CREATE OR REPLACE FUNCTION {REDACT}(instance bigint, post text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path TO pg_catalog, pg_temp AS $body$
#variable_conflict use_variable
DECLARE
  changed bigint := 0;
  found bigint;
BEGIN
  IF NOT EXISTS (
    SELECT FROM {_DELETIONS} AS d WHERE d.instance_id = instance AND d.post_id = post
  ) THEN
    RETURN 0;
  END IF;{updates}
  RETURN changed;
END
$body$;
REVOKE EXECUTE ON FUNCTION {SIGNATURE} FROM PUBLIC"""
    }

"""Redaction of the raw log: what deleted posts said, out of the payloads that showed it.

What the processed tables hold is redacted where they are written (`posts.py`, `relations.py`,
`versions.py`). Invariants: a post can still be derived from its redacted events, and comes
out as it is stored. So ids, times, counts and the author stay, and each version's hash, by which it
is known. Only events of posts that are deleted are ever redacted.
"""

from __future__ import annotations

from sqlalchemy import Connection

from assets.fediverse.processing.functions import ID, JSON_OF, REDACTED
from assets.fediverse.processing.notes import STATUS_OF_NOTE, is_note
from assets.fediverse.processing.parsing import HISTORY, STATUS_EVENTS
from assets.fediverse.tables import post_deletions, stream_events
from tallykeeper.database.sql import execute, in_engine_schema, name_of
from tallykeeper.partitions import records

REDACT = in_engine_schema("fediverse_redact")
SOURCE = f"fediverse.{stream_events.name}"
"""What the archive calls the log."""
SIGNATURE = f"{REDACT}(bigint,text)"

_EVENTS, _DELETIONS = name_of(stream_events), name_of(post_deletions)


def _object_of(payload: str) -> str:
    """SQL: the object that an event says, which a note becomes as it is read."""
    written = f"""CASE WHEN jsonb_typeof({payload}) = 'string'
    THEN {JSON_OF}({payload} #>> '{{}}') ELSE {payload} END"""
    return f"""CASE WHEN {is_note(f"({written})")} THEN {STATUS_OF_NOTE}({written})
    ELSE {written} END"""


# The column may be json, where the log is an application's own; and then not even jsonb.
_CAME = f"""(CASE WHEN e.process_error IS NULL THEN e.payload::jsonb
    ELSE {JSON_OF}(e.payload::text) END)"""
_OBJECT = _object_of(_CAME)
_STATUSES = ", ".join(f"'{name}'" for name in STATUS_EVENTS)
# Of a version what it is read for, as of a status.
_OF_VERSION = ("created_at", "sensitive", "spoiler_text", "content", "redacted")
_VERSION = ", ".join(f"'{name}', v.version -> '{name}'" for name in _OF_VERSION)
_VERSIONS = f"""(
      SELECT coalesce(jsonb_agg({REDACTED}(jsonb_build_object({_VERSION})) ORDER BY v.place), '[]')
      FROM jsonb_array_elements(({_OBJECT}) -> 'history') WITH ORDINALITY AS v (version, place))"""

# By the column that names the post: which events, and what they become. Of one that could not be
# read nothing is derived, so that the id alone stays: by it, it cannot be read again either.
_REDACTED: dict[str, tuple[str, str]] = {
    "payload_status_id": (
        f"{_STATUSES}, '{HISTORY}'",
        f"""CASE
    WHEN e.event_type = '{HISTORY}' THEN jsonb_build_object('status_id', e.payload_status_id)
      || CASE WHEN e.process_error IS NULL THEN jsonb_build_object('history', {_VERSIONS})
        ELSE '{{}}' END
    WHEN e.process_error IS NULL THEN {REDACTED}({_OBJECT})
    ELSE jsonb_build_object('id', e.payload_status_id) END""",
    ),
    "payload_reblog_id": (
        _STATUSES,
        f"""jsonb_set({_OBJECT}, '{{reblog}}', CASE
    WHEN e.process_error IS NULL THEN {REDACTED}(({_OBJECT}) -> 'reblog')
    ELSE jsonb_build_object('id', e.payload_reblog_id) END, false)""",
    ),
}
# What came is in the reason, too.
_REASON = "regexp_replace(e.process_error, '(, came |follows from it: ).*', ', redacted')"


def posts_shown(event_type: str, payload: str) -> tuple[str, str]:
    """SQL: the post that an event is about and the one within, of one that was not parsed."""
    said = f"({_object_of(payload)})"
    field = f"CASE {event_type} WHEN '{HISTORY}' THEN 'status_id' ELSE 'id' END"
    posts = f"{ID}({said} -> {field})", f"{ID}({said} #> '{{reblog,id}}')"
    shows = f"{event_type} IN ({_STATUSES}, '{HISTORY}')"
    return f"CASE WHEN {shows} THEN {posts[0]} END", f"CASE WHEN {shows} THEN {posts[1]} END"


def note_posts(connection: Connection) -> None:
    """Keep the posts that the batch's events show in `shown_posts`: deriving others parses anew."""
    execute(
        connection,
        "CREATE TEMPORARY TABLE shown_posts ON COMMIT DROP AS"
        " SELECT instance_id, post_id FROM pg_temp.batch WHERE post_id IS NOT NULL"
        " UNION SELECT instance_id, reblog_id FROM pg_temp.batch WHERE reblog_id IS NOT NULL",
    )


def redact_events(connection: Connection, posts: str) -> int:
    """Redact the processed events of `posts`, a query of instances and ids; how many were not yet.

    Also those of which nothing could be made. Of an event that shows such a post within a reblog,
    the post within alone.
    """
    changed = execute(
        connection,
        f"SELECT coalesce(sum({REDACT}(p.instance_id, p.post_id)), 0) FROM ({posts}) AS p",
    ).scalar_one()
    return int(changed)


def redact_rows(connection: Connection, relation: str) -> None:
    """Redact what events of the log in a relation of its columns show of deleted posts."""
    for column in _REDACTED:
        execute(
            connection,
            f"""{_update(relation, column)} AND EXISTS (SELECT FROM {_DELETIONS} AS d
    WHERE d.instance_id = e.instance_id AND d.post_id = e.{column} COLLATE "C")""",
        )


def _update(relation: str, column: str) -> str:
    """SQL: redact what processed events show of the post that the column names, where they do."""
    events, redacted = _REDACTED[column]
    return f"""
  UPDATE {relation} AS e SET payload = {redacted},
    process_error = {_REASON}
  WHERE e.event_type IN ({events}) AND e.processed_at IS NOT NULL
    AND {redacted} IS DISTINCT FROM {_CAME}"""


def statements() -> dict[str, str]:
    """CREATE FUNCTION by name, with who may not call it.

    It has the rights of its owner: who processes may not change a payload otherwise.
    """
    updates = "\n".join(
        f"""{_update(_EVENTS, column)} AND e.instance_id = instance AND e.{column} = post;
  GET DIAGNOSTICS found = ROW_COUNT;
  changed := changed + found;"""
        for column in _REDACTED
    )
    archived = records.request_redaction(SOURCE, "jsonb_build_array(instance, post)")
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
  END IF;{updates}{archived}
  RETURN changed;
END
$body$;
REVOKE EXECUTE ON FUNCTION {SIGNATURE} FROM PUBLIC"""
    }

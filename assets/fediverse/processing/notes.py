"""Notes as Misskey's own API writes them, read as statuses of Mastodon's.

One function in the database, which looks at its argument alone and never raises: what a note lacks,
the status lacks, and reading the status says so. Invariants: nothing is made up. A note
without words of its own that shows another is a reblog of that; one with words quotes it, and a
quoted post is not observed.
"""

from __future__ import annotations

from tallykeeper.database.sql import in_engine_schema

STATUS_OF_NOTE = in_engine_schema("fediverse_status_of_note")


def is_note(payload: str) -> str:
    """SQL: whether a JSON object is a note and no status."""
    return f"jsonb_exists({payload}, 'createdAt') AND NOT jsonb_exists({payload}, 'created_at')"


def statement() -> str:
    """CREATE FUNCTION for reading notes."""
    return f"""
CREATE OR REPLACE FUNCTION {STATUS_OF_NOTE}(note jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $body$
DECLARE
  author jsonb := note -> 'user';
  own boolean := coalesce(note ->> 'text', note ->> 'cw') IS NOT NULL
    OR {_list("note -> 'files'")} <> '[]'
    OR coalesce(jsonb_typeof(note -> 'poll') = 'object', false);
BEGIN
  RETURN jsonb_build_object(
    'id', note -> 'id', 'created_at', note -> 'createdAt', 'edited_at', note -> 'updatedAt',
    'in_reply_to_id', note -> 'replyId',
    'in_reply_to_account_id', note #> '{{reply,userId}}',
    'visibility', CASE WHEN note -> 'localOnly' = 'true' THEN 'local'
      ELSE CASE note ->> 'visibility' WHEN 'home' THEN 'unlisted' WHEN 'followers' THEN 'private'
        WHEN 'specified' THEN 'direct' ELSE note ->> 'visibility' END END,
    'content', '<p>' || replace(replace(replace(replace(note ->> 'text',
      '&', '&amp;'), '<', '&lt;'), '>', '&gt;'), E'\\n', '<br />') || '</p>',
    'spoiler_text', coalesce(note ->> 'cw', ''), 'sensitive', note ->> 'cw' IS NOT NULL,
    'language', note -> 'lang', 'uri', note -> 'uri', 'url', note -> 'url',
    'replies_count', note -> 'repliesCount', 'reblogs_count', note -> 'renoteCount',
    'favourites_count', (SELECT coalesce(sum(r.number::numeric), 0) FROM jsonb_each_text(
        CASE WHEN jsonb_typeof(note -> 'reactions') = 'object' THEN note -> 'reactions' END
      ) AS r (name, number) WHERE r.number ~ '^[0-9]{{1,18}}$'),
    'tags', note -> 'tags',
    'mentions', (SELECT coalesce(jsonb_agg(jsonb_build_object('id', m.id)), '[]')
      FROM jsonb_array_elements({_list("note -> 'mentions'")}) AS m (id)),
    'media_attachments', (SELECT coalesce(jsonb_agg(jsonb_build_object(
        'id', f.file -> 'id', 'type', split_part(f.file ->> 'type', '/', 1),
        'url', f.file -> 'url', 'preview_url', f.file -> 'thumbnailUrl',
        'description', f.file -> 'comment') ORDER BY f.place), '[]')
      FROM jsonb_array_elements({_list("note -> 'files'")}) WITH ORDINALITY AS f (file, place)),
    'account', jsonb_build_object('id', coalesce(author -> 'id', note -> 'userId'),
      'username', author -> 'username', 'display_name', author -> 'name',
      'acct', concat_ws('@', author ->> 'username', author ->> 'host'),
      'url', author -> 'url', 'bot', author -> 'isBot', 'created_at', author -> 'createdAt',
      'followers_count', author -> 'followersCount', 'following_count', author -> 'followingCount',
      'statuses_count', author -> 'notesCount'),
    'reblog', CASE WHEN NOT own AND jsonb_typeof(note -> 'renote') = 'object'
      THEN {STATUS_OF_NOTE}((note -> 'renote') - 'renote') END);
END
$body$"""


def _list(value: str) -> str:
    return f"CASE WHEN jsonb_typeof({value}) = 'array' THEN {value} ELSE '[]' END"

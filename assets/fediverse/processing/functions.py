"""What processing needs in the database beyond tables of its own: functions, and its progress.

The functions read what an event says, row by row. They look at nothing but their arguments and
never raise: what cannot be read is null, so that one malformed event costs itself alone. All of it
stands in the schema `tallykeeper`.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from functools import cache

from sqlalchemy import Connection, text

from assets.fediverse.processing import notes
from assets.fediverse.tables import hashtag_hourly_stats
from tallykeeper.database.sql import in_engine_schema, literal
from tallykeeper.installation import view_replacement

TIME = in_engine_schema("fediverse_time")
ID = in_engine_schema("fediverse_id")
NUMBER = in_engine_schema("fediverse_number")
JSON_OF = in_engine_schema("fediverse_json")
PLAIN_TEXT = in_engine_schema("fediverse_plain_text")
HASHTAG = in_engine_schema("fediverse_hashtag")
WORD = in_engine_schema("fediverse_word")
REDACTED = in_engine_schema("fediverse_redacted")
LAST_KEPT = in_engine_schema("fediverse_last_kept")
MORE_PENDING_THAN = in_engine_schema("fediverse_more_pending_than")

PROGRESS = in_engine_schema("fediverse_log")
"""How far the log was processed, and before when events were dropped from it: one row.

`lost_before` is before when such were dropped that no archived file has.
"""

_HASHTAG_LOG = in_engine_schema(f"fediverse_{hashtag_hourly_stats.name}_log")

LARGEST_NUMBER = 2**63 - 1
LARGEST_COUNT = 10**12
"""More replies, reblogs or favourites than this nobody has: sums of such counts stay in bounds."""
LONGEST_ID = 255
"""Characters of an id: two of them fit into a row of an index, whatever they are made of."""
LONGEST_HASHTAG = 500
"""Characters of a hashtag's name that are kept: more could not be indexed."""
READ_OF_HASHTAG = 10 * LONGEST_HASHTAG
"""Characters of it that are looked at: of a longer one, its normal form would take seconds."""
LONGEST_DOMAIN = 253
"""Characters of a domain, which DNS allows; it is a key."""
SNAPSHOT_INTERVAL = "interval '1 hour'"

IN_ID = r'[^\x01-\x20\x7f"<>\\{}]'
"""What ids are made of: anything that an address may have, so that no broken JSON is one."""
LONGEST_WORD = 40
"""Characters of a language, a visibility, or a kind of media: what is longer is none of these."""
_OF_ACCOUNT = (
    "id",
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
"""Fields of a post's author that redaction leaves: those that are read."""

_OFFSET = r"(Z|z|[+-]\d\d(:?\d\d)?)$"
_TIME = r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?"


def create_functions(connection: Connection, more: Mapping[str, str] | None = None) -> list[str]:
    """Create the functions, or replace them where they are others; says which.

    `more` are other files' statements, by the functions' names.
    """
    done = []
    if connection.scalar(text("SELECT to_regclass(:name)"), {"name": PROGRESS}) is None:
        connection.exec_driver_sql(
            f"CREATE TABLE {PROGRESS} (only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),"
            " processed_at timestamptz, processed_id bigint, dropped_before timestamptz,"
            " lost_before timestamptz)"
        )
        connection.exec_driver_sql(f"INSERT INTO {PROGRESS} DEFAULT VALUES")
        done.append(f"created {PROGRESS}")
    done += _note_losses(connection)
    for name, statement in {**_statements(), **(more or {})}.items():
        oid = connection.scalar(text("SELECT to_regproc(:name)::oid"), {"name": name})
        comment = f"Tallykeeper {_digest(statement)}"
        if oid is not None and connection.scalar(
            text("SELECT obj_description(:oid, 'pg_proc') = :comment"),
            {"oid": oid, "comment": comment},
        ):
            continue
        view_replacement.replace_function(connection, name, statement, "fediverse")
        oid = connection.scalar(text("SELECT to_regproc(:name)::oid"), {"name": name})
        kind = "AGGREGATE" if name == LAST_KEPT else "FUNCTION"
        signature = connection.scalar(text("SELECT CAST(:oid AS regprocedure)::text"), {"oid": oid})
        connection.exec_driver_sql(f"COMMENT ON {kind} {signature} IS {literal(comment)}")
        done.append(f"created the function {name}")
    return done


def _note_losses(connection: Connection) -> list[str]:
    """Let a log of an earlier release, which archived nothing, say what it has lost."""
    there = connection.scalar(
        text(
            "SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass(:name)"
            " AND attname = 'lost_before' AND NOT attisdropped)"
        ),
        {"name": PROGRESS},
    )
    if there:
        return []
    connection.exec_driver_sql(f"ALTER TABLE {PROGRESS} ADD COLUMN lost_before timestamptz")
    connection.exec_driver_sql(f"UPDATE {PROGRESS} SET lost_before = dropped_before")
    return [f"added to {PROGRESS} before when events are lost"]


def tag_name(tag: str) -> str:
    """SQL: the name of a hashtag in JSON, as an object of the API or by itself, normalised."""
    return (
        f"{HASHTAG}(CASE jsonb_typeof({tag}) WHEN 'object' THEN {tag} ->> 'name'"
        f" WHEN 'string' THEN {tag} #>> '{{}}' END)"
    )


def content_digest(content: str, redacted: str) -> str:
    """SQL: the hash by which redaction left a content; null where it was not redacted.

    A server may send a field of that name: beside a content it says nothing.
    """
    return f"CASE WHEN {content} IS NULL AND {redacted} ~ '^[0-9a-f]{{32}}$' THEN {redacted} END"


def _digest(statement: str) -> str:
    return hashlib.sha256(statement.encode()).hexdigest()[:16]


def _statements() -> dict[str, str]:
    step = f"{LAST_KEPT}_step"
    return {
        TIME: _plpgsql(
            TIME,
            "written text",
            "timestamptz",
            declared="found timestamptz;",
            body=f"""
  -- With its offset, the session's time zone does not matter.
  IF written ~ {literal(_TIME + _OFFSET)} THEN found := written::timestamptz;
  ELSIF written ~ {literal(_TIME + "$")} THEN found := (written || 'Z')::timestamptz;
  END IF;
  -- An offset may lead out of the years that a client can hold.
  IF found >= '0001-01-01Z' AND found < '10000-01-01Z' THEN RETURN found; END IF;
  RETURN NULL;
EXCEPTION WHEN data_exception THEN RETURN NULL;""",
        ),
        # A number is the same id as its text. Other characters no server's ids have.
        ID: f"""
CREATE OR REPLACE FUNCTION {ID}(written jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN CASE
  WHEN length(written #>> '{{}}') > {LONGEST_ID} THEN NULL
  WHEN jsonb_typeof(written) = 'string' AND (written #>> '{{}}') ~ {literal(f"^{IN_ID}+$")}
    OR jsonb_typeof(written) = 'number' AND (written #>> '{{}}') ~ '^-?[0-9]+$'
  THEN written #>> '{{}}'
END""",
        # A counted repetition, {1,18}, would cost twice as much as the whole rest.
        NUMBER: f"""
CREATE OR REPLACE FUNCTION {NUMBER}(written text) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN CASE
  WHEN written ~ '[^0-9]' OR written = '' THEN NULL
  WHEN octet_length(written) < 19 THEN written::bigint
  WHEN octet_length(written) = 19 AND written COLLATE "C" <= '{LARGEST_NUMBER}' THEN written::bigint
END""",
        JSON_OF: _plpgsql(
            JSON_OF,
            "written text",
            "jsonb",
            """
  RETURN written::jsonb;
EXCEPTION WHEN data_exception OR program_limit_exceeded OR statement_too_complex THEN
  RETURN NULL;""",
        ),
        notes.STATUS_OF_NOTE: notes.statement(),
        PLAIN_TEXT: _plpgsql(PLAIN_TEXT, "html text", "text", _TO_TEXT),
        WORD: f"""
CREATE OR REPLACE FUNCTION {WORD}(written text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN CASE
  WHEN length(written) <= {LONGEST_WORD} AND written !~ '[^A-Za-z0-9_./+-]' THEN written
END""",
        REDACTED: _redacted(),
        HASHTAG: _plpgsql(
            HASHTAG,
            "written text",
            "text",
            f"""
  written := left(written, {READ_OF_HASHTAG});
  -- Nearly all are ASCII, where compatibility form and case folding are plain.
  IF written ~ '^[ -~]*$' THEN RETURN left(lower(ltrim(btrim(written), '#')), {LONGEST_HASHTAG});
  END IF;
  RETURN left(normalize((
    SELECT string_agg(coalesce({literal(_case_folding())}::jsonb ->> c.c, c.c), '' ORDER BY c.n)
    FROM string_to_table(ltrim(normalize(btrim(written), NFKC), '#'), NULL)
      WITH ORDINALITY AS c (c, n)
  ), NFKC), {LONGEST_HASHTAG});""",
        ),
        step: f"""
CREATE OR REPLACE FUNCTION {step}(kept timestamptz, at timestamptz, changed boolean)
RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
  CASE WHEN changed OR kept IS NULL OR at >= kept + {SNAPSHOT_INTERVAL} THEN at ELSE kept END""",
        # With the owner's rights, because readers have none to a change log.
        MORE_PENDING_THAN: f"""
CREATE OR REPLACE FUNCTION {MORE_PENDING_THAN}(most bigint) RETURNS boolean
LANGUAGE plpgsql STABLE STRICT SECURITY DEFINER SET search_path TO pg_catalog, pg_temp AS $body$
BEGIN
  RETURN (SELECT count(*) > most FROM (
    SELECT FROM {_HASHTAG_LOG} LIMIT greatest(most, -1) + 1) AS l);
END
$body$""",
        LAST_KEPT: f"""
CREATE OR REPLACE AGGREGATE {LAST_KEPT}(timestamptz, boolean)
(SFUNC = {step}, STYPE = timestamptz, PARALLEL = SAFE)""",
    }


def _redacted() -> str:
    """CREATE FUNCTION: what of a status a post is derived from, and its version's hash.

    Each value as far as it is what its field is for, so that no text is left in it.
    """
    text = "s.value #>> '{}'"
    own_id = f"CASE WHEN {ID}(s.value) IS NOT NULL THEN s.value END"
    time = f"CASE WHEN {TIME}({text}) IS NOT NULL THEN s.value END"
    count = f"CASE WHEN {NUMBER}({text}) IS NOT NULL THEN s.value END"
    word = f"to_jsonb({WORD}({text}))"
    kept = {
        **dict.fromkeys(("id", "in_reply_to_id", "in_reply_to_account_id"), own_id),
        **dict.fromkeys(("created_at", "edited_at"), time),
        **dict.fromkeys(("replies_count", "reblogs_count", "favourites_count"), count),
        **dict.fromkeys(("visibility", "language"), word),
        "sensitive": f"to_jsonb({text} = 'true')",
        "reblog": f"CASE WHEN {ID}(s.value -> 'id') IS NOT NULL THEN s.value END",
        "account": f"""(SELECT jsonb_object_agg(a.key, a.value) FROM jsonb_each(
        CASE jsonb_typeof(s.value) WHEN 'object' THEN s.value END) AS a (key, value)
        WHERE a.key IN ({_listed(_OF_ACCOUNT)}))""",
    }
    values = "\n      ".join(f"WHEN '{name}' THEN {value}" for name, value in kept.items())
    return f"""
CREATE OR REPLACE FUNCTION {REDACTED}(status jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE RETURN CASE
  WHEN jsonb_typeof(status) IS DISTINCT FROM 'object' THEN NULL
  ELSE (
    SELECT coalesce(jsonb_object_agg(s.key, CASE s.key
      {values} END), '{{}}')
    FROM jsonb_each(status) AS s (key, value)
    WHERE s.key IN ({_listed(kept)})
  ) || jsonb_build_object(
    'redacted', coalesce({content_digest("status ->> 'content'", "status ->> 'redacted'")},
      md5(coalesce(status ->> 'spoiler_text', '') || E'\n'
        || coalesce({PLAIN_TEXT}(status ->> 'content'), ''))),
    -- What has no id keeps its place.
    'media_attachments', (
      SELECT coalesce(jsonb_agg(CASE WHEN {ID}(m.media -> 'id') IS NOT NULL
        THEN jsonb_build_object('id', m.media -> 'id', 'type', {WORD}(m.media ->> 'type'))
        END ORDER BY m.place), '[]')
      FROM jsonb_array_elements(CASE WHEN jsonb_typeof(status -> 'media_attachments') = 'array'
        THEN status -> 'media_attachments' ELSE '[]' END) WITH ORDINALITY AS m (media, place)))
END"""


def _listed(names: Iterable[str]) -> str:
    return ", ".join(literal(name) for name in names)


def _plpgsql(name: str, arguments: str, returns: str, body: str, declared: str = "") -> str:
    # PostgreSQL 15 and 16 fail at a block that catches exceptions where a query runs in parallel.
    declaring = f"DECLARE {declared}\n" if declared else ""
    parallel = "UNSAFE" if "EXCEPTION WHEN" in body else "SAFE"
    return (
        f"CREATE OR REPLACE FUNCTION {name}({arguments}) RETURNS {returns}\n"
        f"LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL {parallel} AS $body$\n"
        f"#variable_conflict use_variable\n{declaring}BEGIN{body}\nEND\n$body$"
    )


# Mastodon sanitizes what it serves: few tags and few entities are left.
_TO_TEXT = r"""
  IF html ~ '[<&]' THEN
    html := replace(replace(html, '</p><p>', E'\n\n'), '<br />', E'\n');
    IF strpos(html, '<br') > 0 THEN
      html := regexp_replace(html, '<br[^>]*>', E'\n', 'g');
    END IF;
    html := regexp_replace(html, '<[^>]*>', '', 'g');
    IF strpos(html, '&') > 0 THEN
      IF strpos(html, '&#') > 0 THEN
        html := (
          SELECT string_agg(before || coalesce(
            CASE WHEN code BETWEEN 1 AND 1114111 AND code NOT BETWEEN 55296 AND 57343
              THEN chr(code::integer) END, entity), '' ORDER BY place)
          FROM (
            SELECT part[1] AS before, part[2] AS entity, place, CASE
              WHEN part[2] ~* '^&#x' THEN
                ('x' || lpad(substr(part[2], 4, length(part[2]) - 4), 16, '0'))::bit(64)::bigint
              WHEN part[2] <> '' THEN substr(part[2], 3, length(part[2]) - 3)::bigint END AS code
            FROM regexp_matches(html, '(.*?)(&#(?:[0-9]{1,7}|[xX][0-9a-fA-F]{1,6});|$)', 'g')
              WITH ORDINALITY AS m (part, place)
          ) AS parts
        );
      END IF;
      html := replace(replace(replace(replace(replace(replace(replace(html,
        '&lt;', '<'), '&gt;', '>'), '&quot;', '"'), '&apos;', ''''), '&#39;', ''''),
        '&nbsp;', chr(160)), '&amp;', '&');
    END IF;
  END IF;
  RETURN btrim(html, E' \n\r\t');"""


@cache
def _case_folding() -> str:
    """Unicode's full case folding, of the characters that it changes, as a JSON object.

    PostgreSQL has `casefold` from version 18 on only, and `lower` depends on the database.
    """
    folded = {}
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        if (to := character.casefold()) != character:
            folded[character] = to
    return json.dumps(folded, ensure_ascii=False)

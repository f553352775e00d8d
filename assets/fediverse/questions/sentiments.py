"""Posts for a text model to judge, each content once, and room for what it says.

No model is called here. The program that runs one asks for posts, judges them, records what the
model said and commits: as long as that transaction lasts the posts are claimed, and other workers
get others. Claims are advisory locks and not locks on the posts, which processing would have to
wait for. Invariants: a content that a model has judged under a prompt is never offered to it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Connection, text

from assets.fediverse import tables
from assets.fediverse.questions import query_args
from assets.fediverse.questions.query_args import written
from tallykeeper.database import sql
from tallykeeper.reads.live_reads import commits_by_itself, read

LARGEST_BATCH = 1_000
"""Posts claimed at once: the server has room for some thousand locks in all."""


@dataclass(frozen=True)
class Unanalyzed:
    """A post's present content; `input_hash` and `version_seq` go with what is said of it."""

    instance_id: int
    post_id: str
    content_text: str
    spoiler_text: str | None
    language: str | None
    input_hash: str
    version_seq: int | None
    created_at: datetime


def unanalyzed_posts(
    connection: Connection,
    model: str,
    prompt_version: str,
    instance_id: int | None = None,
    *,
    created_from: datetime | None = None,
    limit: int = 100,
) -> list[Unanalyzed]:
    """Up to `limit` (1 to 1,000) posts that `model` has not judged, newest first, and claim them.

    Not deleted, with text, no reblogs; whose present content has no sentiment of the model and
    prompt version for that post. No other transaction is offered them until the one of this
    connection ends; commit it with what was recorded. With `created_from` older posts are left
    out. Raises ValueError for invalid arguments, and for a connection whose transaction cannot
    hold a claim: one with autocommit, or that keeps its snapshot (REPEATABLE READ) and so does
    not see what others recorded meanwhile. Raises NotInstalled where the tables are not there.
    """
    said = (
        query_args.storable("model", model),
        query_args.storable("prompt_version", prompt_version),
    )
    query_args.whole_number("limit", limit, LARGEST_BATCH)
    which = ""
    if instance_id is not None:
        which += f" AND p.instance_id = {query_args.identifier('instance_id', instance_id)}"
    if created_from is not None:
        which += f" AND p.created_at >= {written(query_args.instant('created_from', created_from))}"
    _require_claims(connection)
    while True:
        claimed = _claim(connection, _open(said, which), said, limit)
        # Another worker may have committed between the look and the claim: look again.
        offered = _unanalyzed(connection, _open(said, _among(claimed))) if claimed else []
        if offered or not claimed:
            return offered


def record_sentiment(
    connection: Connection,
    instance_id: int,
    post_id: str,
    *,
    model: str,
    prompt_version: str,
    input_hash: str,
    version_seq: int | None = None,
    label: str | None = None,
    score: Decimal | float | None = None,
) -> None:
    """Record what a model said of a content of a post, and do not commit.

    `score` is from -1 to 1, kept to three digits; without label and score the content counts as
    judged all the same. What the same model said of it before is replaced. Raises ValueError for
    what cannot be recorded, and for a post that there is not.
    """
    if score is not None and not -1 <= score <= 1:
        raise ValueError(f"Expected `score` from -1 to 1, but it is {score!r}.")
    if version_seq is not None:
        query_args.whole_number("version_seq", version_seq, _LARGEST_VERSION)
    result = connection.execute(
        text(_RECORD),
        {
            "instance_id": query_args.identifier("instance_id", instance_id),
            "post_id": query_args.post_id(post_id),
            "model": query_args.storable("model", model),
            "prompt_version": query_args.storable("prompt_version", prompt_version),
            "input_hash": query_args.storable("input_hash", input_hash),
            "version_seq": version_seq,
            "label": label if label is None else query_args.storable("label", label),
            "score": score,
        },
    )
    if result.rowcount == 0:
        raise ValueError(
            f"Expected a post {post_id} of instance {instance_id}, but there is none; record the"
            " ids as `unanalyzed_posts` gave them."
        )


def _require_claims(connection: Connection) -> None:
    """Check that the connection's transaction can hold a claim. Raises ValueError."""
    if commits_by_itself(connection):
        raise ValueError(
            "Expected a connection whose transaction lasts until it is committed, but it has"
            " autocommit, and a claim would end at once; use one without."
        )
    ((level,),) = read(connection, "SELECT current_setting('transaction_isolation')", "a setting")
    if level not in ("read committed", "read uncommitted"):
        raise ValueError(
            f"Expected the isolation level read committed, but it is {level}, which does not see"
            " what other workers record; leave the level as it is by default."
        )


def _open(said: tuple[str, str], which: str) -> str:
    """The posts that are to be judged, newest first, as SQL."""
    model, prompt_version = (sql.literal(value) for value in said)
    return f"""
SELECT p.instance_id, p.id, p.content_text, p.spoiler_text, p.language, p.content_hash, (
    SELECT max(v.version_seq) FROM {sql.name_of(tables.post_versions)} AS v
    WHERE v.instance_id = p.instance_id AND v.post_id = p.id
  ) AS version_seq, p.created_at
FROM {_posts} AS p
WHERE p.deleted_at IS NULL AND p.reblog_of_id IS NULL AND p.content_hash <> {_NOTHING}{which}
  AND NOT EXISTS (
    SELECT FROM {_sentiments} AS s
    WHERE s.instance_id = p.instance_id AND s.post_id = p.id AND s.model = {model}
      AND s.prompt_version = {prompt_version} AND s.input_hash = p.content_hash
  )
ORDER BY p.created_at DESC, p.instance_id, p.id COLLATE "C\""""


def _claim(
    connection: Connection, open_posts: str, said: tuple[str, str], limit: int
) -> list[tuple[int, str]]:
    """Instance and id of the first `limit` of the open posts that nobody else has claimed."""
    purpose = sql.literal("\n".join(("sentiment", *said, "")))
    # OFFSET 0 keeps the lock out of the inner query, so that only what is given is claimed.
    query = (
        f"SELECT instance_id, id FROM ({open_posts} OFFSET 0) AS o"
        " WHERE pg_try_advisory_xact_lock(hashtextextended("
        f"{purpose} || instance_id || ' ' || id, 0)) LIMIT {limit}"
    )
    return [(row.instance_id, row.id) for row in read(connection, query, f"the table {_posts}")]


def _among(posts: list[tuple[int, str]]) -> str:
    instances = ", ".join(str(instance) for instance, _ in posts)
    ids = ", ".join(sql.literal(id_) for _, id_ in posts)
    return (
        " AND (p.instance_id, p.id) IN (SELECT * FROM unnest("
        f"ARRAY[{instances}]::bigint[], ARRAY[{ids}]::text[]))"
    )


def _unanalyzed(connection: Connection, open_posts: str) -> list[Unanalyzed]:
    return query_args.answers(connection, open_posts, f"the table {_posts}", Unanalyzed)


_LARGEST_VERSION = 2**31 - 1
_posts = sql.name_of(tables.mastodon_posts)
_sentiments = sql.name_of(tables.post_sentiments)
# The hash of a post without any text: a picture alone.
_NOTHING = "md5(E'\\n')"
_RECORD = f"""
INSERT INTO {_sentiments}
  (instance_id, post_id, model, prompt_version, input_hash, status_version_seq, label, score)
SELECT instance_id, id, :model, :prompt_version, :input_hash, CAST(:version_seq AS integer),
  CAST(:label AS text), CAST(:score AS numeric)
FROM {_posts} WHERE instance_id = :instance_id AND id = :post_id
ON CONFLICT (instance_id, post_id, model, prompt_version, input_hash) DO UPDATE
SET status_version_seq = excluded.status_version_seq, label = excluded.label,
  score = excluded.score, analyzed_at = excluded.analyzed_at"""

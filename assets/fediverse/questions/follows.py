"""Who follows whom: from events of the log, and as applications ask for it.

Mastodon's public streams do not contain follows. An application that collects them appends
`follow` and `unfollow` events (`tally load` reads them as lines). Invariant: a row has the latest
of the moments that any event named, in whatever order the events came. So an event that comes
twice, or late, changes nothing that it should not.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from assets.fediverse import tables
from assets.fediverse.questions import query_args
from tallykeeper.database import sql
from tallykeeper.database.sql import execute

MOST_FOLLOWS = 10_000


@dataclass(frozen=True)
class Follow:
    """An account that follows the one asked for, or is followed by it; `acct` where it was seen."""

    account_id: str
    acct: str | None
    followed_at: datetime


def write_follows(connection: Connection, schema: str) -> None:
    """Bring the table to what the batch's events say."""
    execute(
        connection,
        f"""
INSERT INTO {schema}.account_follows AS f (instance_id, follower_account_id, followee_account_id,
  followed_at, unfollowed_at)
SELECT instance_id, follower_id, followee_id, max(at) FILTER (WHERE follows),
  max(at) FILTER (WHERE NOT follows)
FROM pg_temp.follows GROUP BY 1, 2, 3
ON CONFLICT (instance_id, follower_account_id, followee_account_id) DO UPDATE SET
  followed_at = greatest(f.followed_at, excluded.followed_at),
  unfollowed_at = greatest(f.unfollowed_at, excluded.unfollowed_at)
WHERE (excluded.followed_at > f.followed_at OR excluded.unfollowed_at > f.unfollowed_at
  OR f.followed_at IS NULL AND excluded.followed_at IS NOT NULL
  OR f.unfollowed_at IS NULL AND excluded.unfollowed_at IS NOT NULL)""",
    )


def followers(
    connection: Connection, instance_id: int, account_id: str, *, limit: int = 100
) -> list[Follow]:
    """Who follows the account, the latest first, then by id.

    Raises ValueError for invalid arguments, NotInstalled where the table is not there.
    """
    return _follows(connection, instance_id, account_id, limit, "followee", "follower")


def following(
    connection: Connection, instance_id: int, account_id: str, *, limit: int = 100
) -> list[Follow]:
    """Whom the account follows, the latest first, then by id. Raises what `followers` raises."""
    return _follows(connection, instance_id, account_id, limit, "follower", "followee")


def _follows(
    connection: Connection, instance_id: int, account_id: str, limit: int, given: str, wanted: str
) -> list[Follow]:
    instance = query_args.identifier("instance_id", instance_id)
    account = sql.literal(query_args.some_id("account_id", account_id))
    query_args.whole_number("limit", limit, MOST_FOLLOWS)
    query = f"""
SELECT f.{wanted}_account_id, a.acct, f.followed_at
FROM {_follows_table} AS f LEFT JOIN {_accounts} AS a
  ON a.instance_id = f.instance_id AND a.id = f.{wanted}_account_id
WHERE f.instance_id = {instance} AND f.{given}_account_id = {account}
  AND f.followed_at IS NOT NULL
  AND (f.unfollowed_at IS NULL OR f.unfollowed_at < f.followed_at)
ORDER BY f.followed_at DESC, f.{wanted}_account_id LIMIT {limit}"""
    return query_args.answers(connection, query, f"the table {_follows_table}", Follow)


_follows_table = sql.name_of(tables.account_follows)
_accounts = sql.name_of(tables.mastodon_accounts)

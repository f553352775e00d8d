"""Made-up streams of two instances: two weeks of events ending now, of any size.

Generated inside the server, an instance at a time. Invariants: they are events as a client
of the stream writes them, in order of receipt, none in the future; what is trending at the end
truly is; and making them up again changes nothing.

Posts come by day more than by night. Each is first seen when it is published; some are seen again
while their counts rise and now and then fall, are edited, deleted, answered, or shown within a
reblog. Hashtags follow Zipf's law, are written in any case and any script. A few events are broken.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Engine, text

from assets.fediverse.dagster.reports import trending_everywhere
from assets.fediverse.demo_words import hashtag_names
from assets.fediverse.storage.partitions import ensure_days, today_of
from assets.fediverse.tables import instances, stream_events
from tallykeeper.database.sql import name_of

DAYS = 14
_LARGEST = 100_000_000
_BURST_HOURS = 3
_EVENTS_A_POST = 1.93
"""As drawn below: what the log says of a post, again and again, and by whom it is reblogged."""


@dataclass(frozen=True)
class Made:
    """An instance that is made up: its address, its share of the events, and what is trending."""

    url: str
    share: float
    trending: str


INSTANCES = (
    Made("https://demo-one.example", 0.7, "AuroraTonight"),
    Made("https://demo-two.example", 0.3, "夏祭り"),
)

_POSTS = """
CREATE TEMPORARY TABLE demo_posts ON COMMIT DROP AS
WITH drawn AS MATERIALIZED (
  SELECT n, random() AS within, random() AS who, random() AS how_many, random() AS fame,
    random() AS fate, random() AS later, random() AS kind,
    n > CAST(:posts AS integer) - CAST(:burst AS integer) AS bursts
  FROM generate_series(1, CAST(:posts AS integer)) AS n
), even AS (
  SELECT *, now() - :days * interval '24 hours' * (1 - (n - within) / (:posts - :burst)) AS evenly
  FROM drawn
), timed AS (
  -- Pushed to and fro by up to 2.8 hours, so that 16:00 UTC sees five times what 4:00 does. What
  -- is trending is written of by night too.
  SELECT *, CASE WHEN bursts
    THEN now() - :burst_hours * interval '1 hour' * (:posts - n + within) / :burst
    ELSE least(now() - within * interval '90 seconds', evenly + interval '2.8 hours'
      * sin(2 * pi() * (extract(hour FROM evenly AT TIME ZONE 'UTC') + 7
        + extract(minute FROM evenly) / 60) / -24)) END AS at FROM even
), owned AS (
  -- Accounts go by the square of chance: one in ten writes a third of it all.
  SELECT *, 1 + CAST(floor(:accounts * who * who) AS integer) AS account,
    -- Milliseconds since 1970, and a number: as Mastodon makes its ids.
    (CAST(floor(extract(epoch FROM at) * 1000) AS bigint) << 16) + n % 65536 AS id
  FROM timed
), tagged AS (
  SELECT o.*, ARRAY(
    SELECT CASE floor(4 * random()) WHEN 0 THEN lower(t.name) WHEN 1 THEN upper(t.name)
      ELSE t.name END
    FROM (
      SELECT (CAST(:names AS text[]))[1 + CAST(floor(
        8 * (power((:kinds + 8) / 8.0, random()) - 1)) AS integer)] AS name
      FROM generate_series(1, CAST(floor(how_many * how_many * 4) AS integer) + 0 * o.n)
      UNION ALL
      SELECT CAST(:trending AS text) WHERE bursts
    ) AS t
  ) AS tags
  FROM owned AS o
)
SELECT *, CAST(floor(3 * power(1 / (1.0001 - fame), 0.8)) AS integer) AS fame_at_last,
  (SELECT coalesce(jsonb_agg(jsonb_build_object('name', t, 'url', :url || '/tags/' || t)), '[]')
   FROM unnest(tags) AS t) AS tag_list
FROM tagged
"""
_INDEX = "CREATE UNIQUE INDEX ON demo_posts (n)"
_STATUSES = """
CREATE TEMPORARY TABLE demo_statuses ON COMMIT DROP AS
SELECT p.n, p.id, p.at, p.account, p.fame, p.fate, p.later, p.fame_at_last, jsonb_build_object(
    'id', CAST(p.id AS text), 'created_at', to_char(p.at AT TIME ZONE 'UTC', :iso),
    'edited_at', NULL, 'visibility', (CAST('{{public,public,public,public,public,public,public,'
      'unlisted,unlisted,private}}' AS text[]))[1 + p.n % 10],
    'language', (CAST('{{en,en,en,de,ja,fr}}' AS text[]))[1 + p.n % 6],
    'sensitive', p.n % 25 = 0, 'spoiler_text', CASE WHEN p.n % 25 = 0 THEN 'long' ELSE '' END,
    'content', '<p>Demo post ' || p.n || (
      SELECT coalesce(string_agg(' #' || t, '' ORDER BY t), '') FROM unnest(p.tags) AS t)
      || '</p>',
    'uri', :url || '/statuses/' || p.id, 'url', :url || '/@demo' || p.account || '/' || p.id,
    'in_reply_to_id', CAST(parent.id AS text),
    'in_reply_to_account_id', CAST(parent.account AS text),
    'account', jsonb_build_object('id', CAST(p.account AS text), 'username', 'demo' || p.account,
      'acct', 'demo' || p.account || CASE WHEN p.account % 3 = 0
        THEN '@demo-' || p.account % 7 || '.example' ELSE '' END,
      'display_name', 'Demo ' || p.account, 'bot', p.account % 40 = 0,
      'followers_count', 10000 / p.account, 'following_count', 100, 'statuses_count', p.n,
      'url', :url || '/@demo' || p.account, 'created_at', '2022-11-01T00:00:00.000Z'),
    'tags', p.tag_list,
    'mentions', CASE WHEN parent.id IS NULL THEN '[]' ELSE jsonb_build_array(jsonb_build_object(
      'id', CAST(parent.account AS text), 'username', 'demo' || parent.account,
      'acct', 'demo' || parent.account, 'url', :url || '/@demo' || parent.account)) END,
    'media_attachments', CASE WHEN p.n % 5 <> 0 THEN '[]' ELSE jsonb_build_array(
      jsonb_build_object('id', CAST(p.id + 1 AS text), 'type', 'image', 'description', 'A picture',
        'url', :url || '/media/' || p.id || '.jpg')) END,
    'reblog', NULL, 'replies_count', 0, 'reblogs_count', 0, 'favourites_count', 0) AS status
FROM demo_posts AS p
LEFT JOIN demo_posts AS parent
  ON NOT p.bursts AND p.kind < 0.3 AND parent.n = p.n - 1 - CAST(floor(40 * p.later) AS integer)
"""
_EVENTS = """
INSERT INTO {events} (instance_id, received_at, event_type, payload)
WITH seen AS (
  -- The famous are seen again, after hours that grow; counts near their end fall now and then.
  SELECT s.*, s.at + o.hours * interval '1 hour' AS seen_at, CAST(floor(s.fame_at_last
      * (1 - exp(-o.hours / 6.0))) AS integer) - CASE WHEN s.n % 7 = 0 AND o.hours > 20
      THEN 1 ELSE 0 END AS count
  FROM demo_statuses AS s
  JOIN (VALUES (0.4, 0.45), (2, 0.25), (8, 0.12), (30, 0.05)) AS o (hours, share)
    ON s.fame > 1 - o.share
), event AS (
  SELECT at AS received_at, 'update' AS event_type, status AS payload FROM demo_statuses
  UNION ALL
  SELECT seen_at, 'status', status || jsonb_build_object('replies_count', greatest(count / 4, 0),
    'reblogs_count', greatest(count / 2, 0), 'favourites_count', greatest(count, 0)) FROM seen
  UNION ALL
  SELECT edited, 'status.update', status || jsonb_build_object('edited_at',
      to_char(edited AT TIME ZONE 'UTC', :iso),
      'content', replace(status ->> 'content', 'Demo post', 'Demo post, edited,'))
  FROM demo_statuses, LATERAL (SELECT at + (2 + 50 * later) * interval '1 minute' AS edited) AS e
  WHERE fate < 0.05
  UNION ALL
  SELECT at + 600 * later * interval '1 minute', 'delete', to_jsonb(CAST(id AS text))
  FROM demo_statuses WHERE fate > 0.97
  UNION ALL
  SELECT at + 300 * later * interval '1 minute', 'update',
    status || jsonb_build_object('id', CAST(id + 7 AS text), 'reblog', status, 'tags', jsonb '[]',
      'mentions', jsonb '[]', 'media_attachments', jsonb '[]', 'in_reply_to_id', NULL,
      'created_at', to_char(at + 300 * later * interval '1 minute', :iso),
      'account', status -> 'account' || jsonb_build_object('id', CAST(account + 1 AS text),
        'username', 'demo' || account + 1, 'acct', 'demo' || account + 1))
  FROM demo_statuses WHERE fate BETWEEN 0.5 AND 0.57
  UNION ALL
  SELECT at, 'notification', jsonb_build_object('type', 'favourite')
  FROM demo_statuses WHERE n % 200 = 0
)
SELECT :instance, received_at, event_type, payload FROM event
WHERE received_at <= now() ORDER BY received_at, event_type DESC
"""
# Broken as real ones are: cut short, of another kind, or not of this world.
_BROKEN = """
INSERT INTO {events} (instance_id, received_at, event_type, payload) VALUES
  (:instance, now() - interval '9 minutes', 'update', to_jsonb(CAST('{{"id": "1", "co' AS text))),
  (:instance, now() - interval '7 minutes', 'update', '{{"id": "-1", "created_at": "now"}}'),
  (:instance, now() - interval '5 minutes', 'delete', '{{"id": 12}}'),
  (:instance, now() - interval '3 minutes', 'status.update', NULL)
"""
# What comes in the hour after: counts, edits that change hashtags, deletions; and what another
# client had received two days ago and delivers only now.
_LATER = """
WITH chosen AS MATERIALIZED (
  SELECT payload, row_number() OVER (ORDER BY received_at DESC, id DESC) AS place
  FROM (
    SELECT * FROM {events} WHERE instance_id = :instance AND event_type = 'update'
      AND process_error IS NULL AND received_at > now() - interval '2 days'
      AND payload ->> 'reblog' IS NULL
    ORDER BY received_at DESC, id DESC LIMIT 400
  ) AS recent
)
INSERT INTO {events} (instance_id, received_at, event_type, payload)
SELECT :instance, now() - CASE WHEN place % 10 = 0 THEN interval '2 days' ELSE interval '0' END,
  CASE WHEN place % 20 = 1 THEN 'delete' WHEN place % 20 = 2 THEN 'status.update'
    ELSE 'status' END,
  CASE WHEN place % 20 = 1 THEN payload -> 'id'
    WHEN place % 20 = 2 THEN payload || jsonb_build_object(
      'edited_at', to_char(now() AT TIME ZONE 'UTC', :iso), 'content', '<p>Edited #News</p>',
      'tags', jsonb '[{{"name": "News"}}]')
    ELSE payload || jsonb_build_object('favourites_count', place % 90, 'reblogs_count', place % 9)
  END
FROM chosen
"""
_ISO = 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'


def create_demo(engine: Engine, events: int = 20_000, seed: float = 0.42) -> int:
    """Make up about `events` events of two instances; returns how many were inserted.

    An instance that has events already gets no more. Three of five posts have hashtags, one in
    three answers another, one in twenty is edited, one in thirty deleted. `seed` is PostgreSQL's,
    from -1 to 1. Raises ValueError where a number makes no sense.
    """
    if not 0 <= events <= _LARGEST or not -1 <= seed <= 1:
        raise ValueError(
            f"Expected 0 to {_LARGEST:,} events and a seed from -1 to 1, "
            f"but it is {events} events, seed {seed}."
        )
    with engine.connect() as connection:
        today = today_of(connection)
    ensure_days(engine, (today - timedelta(days=n) for n in range(DAYS + 2)))
    done = 0
    for place, made in enumerate(INSTANCES):
        with engine.begin() as connection:
            connection.execute(text("SET LOCAL TIME ZONE 'UTC'"))
            connection.execute(text("SELECT setseed(:seed)"), {"seed": seed * (1 - 0.3 * place)})
            done += _make(connection, made, events)
    return done


def change_demo(engine: Engine) -> int:
    """Let an hour go by on the made-up instances; returns how many events came.

    Counts rise, posts get other hashtags or are deleted, some events come two days late, and some
    are broken.
    """
    done = 0
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL TIME ZONE 'UTC'"))
        for made in INSTANCES:
            number = _number_of(connection, made)
            if number is not None:
                done += _execute(connection, _LATER, instance=number, iso=_ISO)
                done += _execute(connection, _BROKEN, instance=number)
    return done


def summary(engine: Engine) -> list[str]:
    """What is trending on the made-up instances now, a line for each."""
    with engine.connect() as connection:
        now = connection.execute(text("SELECT now() AT TIME ZONE 'UTC'")).scalar_one()
        ours = {made.url for made in INSTANCES}
        found = trending_everywhere(connection, now)
    return [
        f"Trending on {each.instance}: {each.in_words}" for each in found if each.instance in ours
    ]


def _make(connection: Connection, made: Made, events: int) -> int:
    posts = round(events * made.share / _EVENTS_A_POST)
    added = connection.execute(
        text(
            f"INSERT INTO {name_of(instances)} (base_url, stream_type, last_seen_at)"
            " VALUES (:url, 'public', now()) ON CONFLICT (base_url) DO NOTHING"
        ),
        {"url": made.url},
    ).rowcount
    number = _number_of(connection, made)
    there = f"SELECT EXISTS (SELECT FROM {name_of(stream_events)} WHERE instance_id = :number)"
    if not posts or connection.scalar(text(there), {"number": number}):
        return added
    names = hashtag_names(max(50, round(12 * posts**0.5)))
    drawn = {"posts": posts, "days": DAYS, "accounts": max(10, posts // 15), "url": made.url}
    drawn |= {"burst": min(max(12, posts // 250), posts // 4), "burst_hours": _BURST_HOURS}
    tagged = {"names": names, "kinds": len(names), "trending": made.trending}
    _execute(connection, _POSTS, **drawn, **tagged)
    _execute(connection, _INDEX)
    _execute(connection, "ANALYZE demo_posts")
    _execute(connection, _STATUSES, url=made.url, iso=_ISO)
    done = _execute(connection, _EVENTS, instance=number, iso=_ISO)
    done += _execute(connection, _BROKEN, instance=number)
    _execute(connection, "DROP TABLE demo_posts, demo_statuses")
    return added + done


def _number_of(connection: Connection, made: Made) -> int | None:
    found: int | None = connection.scalar(
        text(f"SELECT id FROM {name_of(instances)} WHERE base_url = :url"), {"url": made.url}
    )
    return found


def _execute(connection: Connection, statement: str, **values: Any) -> int:
    return connection.execute(
        text(statement.format(events=name_of(stream_events))), values
    ).rowcount

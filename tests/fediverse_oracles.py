"""What the fediverse's tallies must hold, in SQL by hand, from posts, hashtags and sentiments."""

from __future__ import annotations

from tests.oracle import DAY_OF, HOUR_OF, Oracle

POSTS = f"""(
  SELECT *, 3 * reblogs_count + 2 * favourites_count + replies_count AS engagement,
         {HOUR_OF.format("created_at")} AS hour, {DAY_OF.format("created_at")} AS day
  FROM fediverse.mastodon_posts
  WHERE deleted_at IS NULL AND visibility IN ('public', 'unlisted')
) AS p"""

# As with the forum's: an hour and a tag of one post of the log, each then or now.
HASHTAG_HOURS = Oracle(
    tally="fediverse.hashtag_hourly_stats",
    key=("instance_id", "hashtag_id", "hour_ts"),
    measures=("posts_using_tag", "unique_accounts_using_tag", "total_engagement"),
    derived="fediverse.hashtag_hourly_stats",
    truth=f"""
SELECT t.instance_id, t.hashtag_id, p.hour AS hour_ts, count(*)::integer AS posts_using_tag,
       count(DISTINCT p.account_id)::integer AS unique_accounts_using_tag,
       sum(p.engagement)::bigint AS total_engagement
FROM {POSTS} JOIN fediverse.post_hashtags AS t ON t.instance_id = p.instance_id AND t.post_id = p.id
GROUP BY 1, 2, 3""",
    pending=f"""
SELECT instance_id, hashtag_id, hour_ts FROM (
  SELECT instance_id, post_id, hour_ts FROM tallykeeper.fediverse_hashtag_hourly_stats_log
  WHERE hour_ts IS NOT NULL
  UNION SELECT instance_id, id, {HOUR_OF.format("created_at")} FROM fediverse.mastodon_posts
) AS hours JOIN (
  SELECT instance_id, post_id, hashtag_id FROM tallykeeper.fediverse_hashtag_hourly_stats_log
  WHERE hashtag_id IS NOT NULL
  UNION SELECT instance_id, post_id, hashtag_id FROM fediverse.post_hashtags
) AS tags USING (instance_id, post_id)
WHERE (instance_id, post_id) IN (
  SELECT instance_id, post_id FROM tallykeeper.fediverse_hashtag_hourly_stats_log)""",
    engine_pending="tallykeeper.fediverse_hashtag_hourly_stats_pending_keys",
)

HOURS = Oracle(
    tally="fediverse.hourly_stats",
    key=("instance_id", "hour"),
    measures=("post_count", "reblog_count", "reply_count", "total_engagement", "unique_accounts"),
    derived="fediverse.hourly_stats",
    truth=f"""
SELECT instance_id, hour, sum((reblog_of_id IS NULL)::integer)::integer AS post_count,
       sum((reblog_of_id IS NOT NULL)::integer)::integer AS reblog_count,
       sum((reblog_of_id IS NULL AND in_reply_to_id IS NOT NULL)::integer)::integer AS reply_count,
       sum(CASE WHEN reblog_of_id IS NULL THEN engagement ELSE 0 END)::bigint AS total_engagement,
       count(DISTINCT account_id)::integer AS unique_accounts
FROM {POSTS} GROUP BY 1, 2""",
    pending="SELECT instance_id, hour FROM tallykeeper.fediverse_hourly_stats_log",
    engine_pending="tallykeeper.fediverse_hourly_stats_pending_keys",
)

DOMAIN_HOURS = Oracle(
    tally="fediverse.hourly_domain_stats",
    key=("instance_id", "hour", "domain"),
    measures=("post_count", "total_engagement"),
    derived="fediverse.hourly_domain_stats",
    truth=f"""
SELECT instance_id, hour, domain, count(*)::integer AS post_count,
       sum(engagement)::bigint AS total_engagement
FROM {POSTS} WHERE reblog_of_id IS NULL GROUP BY 1, 2, 3""",
    pending="SELECT instance_id, hour, domain FROM tallykeeper.fediverse_hourly_domain_stats_log",
)

_OF_THE_DAY = f"FROM {POSTS} {{}} WHERE p.reblog_of_id IS NULL AND p.instance_id = d.instance_id"
_OF_THE_DAY += " AND p.day = d.day"


def _top(name: str, source: str = "") -> str:
    """SQL: the ten names that most of the day's posts have."""
    return f"""(
  SELECT coalesce(jsonb_agg(jsonb_build_object('name', name, 'posts', posts)
                            ORDER BY posts DESC, name COLLATE "C"), '[]')
  FROM (SELECT {name} AS name, count(*) AS posts {_OF_THE_DAY.format(source)}
          AND {name} IS NOT NULL
        GROUP BY 1 ORDER BY posts DESC, {name} COLLATE "C" LIMIT 10) AS named)"""


# Anything but an array names no tags.
_TAGS = """CROSS JOIN jsonb_array_elements_text(
  CASE WHEN jsonb_typeof(p.hashtags) = 'array' THEN p.hashtags ELSE '[]' END) AS t (tag)"""

_ANALYSES = _OF_THE_DAY.format(
    "JOIN fediverse.post_sentiments AS s ON s.instance_id = p.instance_id AND s.post_id = p.id"
    " AND s.input_hash = p.content_hash"
)

_DAYS = f"""
SELECT d.*, (SELECT count(s.score)::integer {_ANALYSES}) AS sentiment_count,
  (SELECT coalesce(sum(s.score), 0) {_ANALYSES}) AS sentiment_sum,
  jsonb_build_object(
    'posts', post_count, 'authors', author_count, 'engagement', total_engagement,
    'top_hashtags', {_top("t.tag", _TAGS)},
    'top_languages', {_top("p.language")},
    'sentiment', (
      SELECT coalesce(jsonb_agg(jsonb_build_object('model', model, 'prompt_version',
               prompt_version, 'analyses', analyses, 'score_sum', score)
               ORDER BY model COLLATE "C", prompt_version COLLATE "C"), '[]')
      FROM (SELECT s.model, s.prompt_version, count(s.score) AS analyses,
                   coalesce(sum(s.score), 0) AS score {_ANALYSES} GROUP BY 1, 2) AS models)
  ) AS input_stats_json
FROM (
  SELECT instance_id, day, day + interval '24 hours' AS window_end, count(*)::integer AS post_count,
         count(DISTINCT account_id)::integer AS author_count,
         sum(engagement)::bigint AS total_engagement
  FROM {POSTS} WHERE reblog_of_id IS NULL GROUP BY 1, 2
) AS d"""

DAYS = Oracle(
    tally="fediverse.daily_summaries",
    key=("instance_id", "window_start"),
    measures=(
        "window_end",
        "post_count",
        "author_count",
        "total_engagement",
        "sentiment_count",
        "sentiment_sum",
        "input_stats_json",
        "input_hash",
    ),
    derived="fediverse.daily_summaries",
    truth=f"""
SELECT *, day AS window_start, md5(input_stats_json::text) AS input_hash FROM ({_DAYS}) AS days""",
    pending=f"""
SELECT instance_id, window_start FROM tallykeeper.fediverse_daily_summaries_log
WHERE window_start IS NOT NULL
UNION SELECT instance_id, {DAY_OF.format("created_at")} FROM fediverse.mastodon_posts
WHERE (instance_id, id) IN (
  SELECT instance_id, post_id FROM tallykeeper.fediverse_daily_summaries_log)""",
    engine_pending="tallykeeper.fediverse_daily_summaries_pending_keys",
)

FEDIVERSE = (HASHTAG_HOURS, HOURS, DOMAIN_HOURS, DAYS)

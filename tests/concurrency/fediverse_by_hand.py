"""Every way to write posts, their hashtags and sentiments without processing any event.

Templates, as in `shapes.py`. Posts, tags and hours are few enough that writers meet.
"""

from __future__ import annotations

_POST = (
    "INSERT INTO fediverse.mastodon_posts (instance_id, id, account_id, domain, content_text,"
    " language, visibility, favourites_count, hashtags, created_at, first_seen_at)"
    " SELECT 1 + {t} % 2, 'P' || i, '{p}', 'd{p}', 'x{t}', 'l{t}', 'public', {t},"
    ' \'["t{t}", "u"]\','
    " '2024-03-01 20:30Z'::timestamptz + i * interval '40 minutes', now()"
    " FROM generate_series({n}, {n} + {p}) AS i ON CONFLICT (instance_id, id)"
)
POSTS_BY_HAND = (
    f"{_POST} DO NOTHING",
    f"{_POST} DO UPDATE SET account_id = excluded.account_id, hashtags = excluded.hashtags",
    "MERGE INTO fediverse.mastodon_posts AS p USING (SELECT 'P{n}' AS id) AS s ON p.id = s.id"
    " WHEN MATCHED AND substr(p.id, 2)::integer % 3 = {p} THEN DELETE"
    " WHEN MATCHED THEN UPDATE SET reblogs_count = {n}",
    *(
        f"UPDATE fediverse.mastodon_posts SET {change}"
        for change in (
            "favourites_count = {n} WHERE substr(id, 2)::integer % 3 = {p}",
            "visibility = (ARRAY['public', 'unlisted', 'private'])[1 + {t} % 3]"
            " WHERE substr(id, 2)::integer % 4 = {p}",
            "deleted_at = CASE WHEN deleted_at IS NULL THEN now() END"
            " WHERE substr(id, 2)::integer % 4 = {p}",
            "created_at = created_at + interval '61 minutes' WHERE id = 'P{n}'"
            " AND created_at < '2024-03-05Z'",
            "account_id = '{p}' WHERE substr(id, 2)::integer % 5 = {t}",
            "domain = 'd{t}' WHERE substr(id, 2)::integer % 4 = {p}",
            "reblog_of_id = nullif('{p}', '1') WHERE id = 'P{n}'",
            "in_reply_to_id = nullif('{p}', '1') WHERE substr(id, 2)::integer % 4 = {p}",
            "language = nullif('l{p}', 'l1') WHERE substr(id, 2)::integer % 5 = {t}",
            "hashtags = '[\"t{t}\"]' WHERE substr(id, 2)::integer % 4 = {p}",
            "hashtags = 'null' WHERE id = 'P{n}'",
            "content_text = 'x{t}' WHERE substr(id, 2)::integer % 4 = {p}",
            "id = 'P' || substr(id, 2)::integer + 100 WHERE id = 'P{n}'",
            "instance_id = 3 - instance_id WHERE id = 'P{n}'",
            "url = 'u{t}'",
        )
    ),
    "DELETE FROM fediverse.mastodon_posts WHERE substr(id, 2)::integer % 5 = {t}"
    " OR substr(id, 2)::integer > 150",
    "TRUNCATE fediverse.mastodon_posts",
    *(
        "INSERT INTO fediverse.post_hashtags SELECT instance_id, id, {t}"
        f" FROM fediverse.mastodon_posts WHERE {{n}} % {k} = substr(id, 2)::integer % {k}"
        " ON CONFLICT DO NOTHING"
        for k in (2, 3, 4)
    ),
    "INSERT INTO fediverse.post_hashtags VALUES (1, 'P{n}', {t}), (2, 'P{n}', {p})"
    " ON CONFLICT DO NOTHING",
    "UPDATE fediverse.post_hashtags SET hashtag_id = {t} WHERE post_id = 'P{n}'"
    " AND hashtag_id = {p}",
    "DELETE FROM fediverse.post_hashtags WHERE substr(post_id, 2)::integer % 5 = {t}",
    "DELETE FROM fediverse.post_hashtags WHERE hashtag_id = {t}",
    "TRUNCATE fediverse.post_hashtags",
    "INSERT INTO fediverse.post_sentiments"
    " (instance_id, post_id, model, prompt_version, input_hash, score)"
    " SELECT instance_id, id, 'm{p}', '1', content_hash, {t} / 10.0"
    " FROM fediverse.mastodon_posts WHERE substr(id, 2)::integer % 4 = {p}"
    " AND content_hash IS NOT NULL"
    " ON CONFLICT DO NOTHING",
    "UPDATE fediverse.post_sentiments SET score = nullif({p}, 2) / 8.0"
    " WHERE substr(post_id, 2)::integer % 5 = {t}",
    "DELETE FROM fediverse.post_sentiments WHERE substr(post_id, 2)::integer % 5 = {t}",
)

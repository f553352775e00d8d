-- The tables that the document's application derives from the stream, with composite keys.

CREATE TABLE mastodon_accounts (
  id varchar(64) NOT NULL,
  instance_id integer NOT NULL REFERENCES instances,
  username varchar(255),
  acct varchar(255),
  display_name varchar(255),
  url text,
  bot boolean,
  followers_count integer,
  following_count integer,
  statuses_count integer,
  created_at timestamp,
  PRIMARY KEY (id, instance_id)
);
CREATE TABLE mastodon_posts (
  id varchar(64) NOT NULL,
  instance_id integer NOT NULL REFERENCES instances,
  account_id varchar(64) NOT NULL,
  created_at timestamp NOT NULL,
  edited_at timestamp,
  content text,
  content_text text,
  url text,
  language varchar(10),
  visibility varchar(20),
  sensitive boolean,
  spoiler_text text,
  in_reply_to_id varchar(64),
  reblog_of_id varchar(64),
  replies_count integer DEFAULT 0,
  reblogs_count integer DEFAULT 0,
  favourites_count integer DEFAULT 0,
  engagement_score float,
  hashtags json,
  mentions json,
  deleted_at timestamp,
  PRIMARY KEY (id, instance_id)
);
CREATE INDEX ON mastodon_posts (instance_id, created_at);
CREATE INDEX ON mastodon_posts (engagement_score DESC);
CREATE TABLE post_metric_snapshots (
  id bigserial PRIMARY KEY,
  instance_id integer NOT NULL,
  post_id varchar(64) NOT NULL,
  captured_at timestamp NOT NULL,
  replies_count integer,
  reblogs_count integer,
  favourites_count integer,
  engagement_score float
);
CREATE TABLE post_versions (
  id bigserial PRIMARY KEY,
  instance_id integer NOT NULL,
  post_id varchar(64) NOT NULL,
  version_seq integer NOT NULL,
  valid_from timestamp NOT NULL,
  content_html text,
  content_text text,
  edited_at timestamp
);
CREATE TABLE hashtags (
  id bigserial PRIMARY KEY,
  instance_id integer NOT NULL,
  name varchar(255) NOT NULL,
  first_seen_at timestamp,
  last_seen_at timestamp,
  UNIQUE (instance_id, name)
);
CREATE TABLE post_hashtags (
  id bigserial PRIMARY KEY,
  instance_id integer NOT NULL,
  post_id varchar(64) NOT NULL,
  hashtag_id bigint NOT NULL,
  UNIQUE (instance_id, post_id, hashtag_id)
);
CREATE TABLE hashtag_hourly_stats (
  id bigserial PRIMARY KEY,
  instance_id integer NOT NULL,
  hashtag_id bigint NOT NULL,
  hour_ts timestamp NOT NULL,
  posts_using_tag integer,
  unique_accounts_using_tag integer,
  total_engagement bigint,
  UNIQUE (instance_id, hashtag_id, hour_ts)
);
CREATE TABLE post_sentiments (
  id bigserial PRIMARY KEY,
  instance_id integer NOT NULL,
  post_id varchar(64) NOT NULL,
  sentiment_label varchar(20),
  score float,
  model varchar(100),
  prompt_version varchar(50),
  input_hash varchar(64),
  analyzed_at timestamp,
  status_version_seq integer
);
CREATE TABLE daily_summaries (
  id bigserial PRIMARY KEY,
  instance_id integer NOT NULL,
  summary_text text,
  window_start timestamp,
  window_end timestamp,
  model varchar(100),
  prompt_version varchar(50),
  input_stats_json json,
  input_hash varchar(64)
);
CREATE TABLE post_mentions (
  id bigserial PRIMARY KEY,
  instance_id integer NOT NULL,
  post_id varchar(64) NOT NULL,
  account_id varchar(64) NOT NULL,
  UNIQUE (instance_id, post_id, account_id)
);

INSERT INTO mastodon_accounts (id, instance_id, username, acct, followers_count)
VALUES ('7', 1, 'ann', 'ann', 10), ('AbC9xYz', 1, 'bob', 'bob@b.example', 3);
INSERT INTO mastodon_posts (id, instance_id, account_id, created_at, content, content_text,
  visibility, reblogs_count, favourites_count, replies_count, engagement_score, hashtags, mentions)
SELECT '20' || n, 1, CASE n % 2 WHEN 0 THEN '7' ELSE 'AbC9xYz' END,
  timestamp '2025-11-19 22:30' + n * interval '20 minutes', '<p>post ' || n || '</p>', 'post ' || n,
  'public', n, 60 - n, 0, 3 * n + 2 * (60 - n), json_build_array('Sea', 'sky' || n % 2),
  json_build_array(json_build_object('id', '7', 'acct', 'ann', 'username', 'ann'))
FROM generate_series(0, 5) AS n;
UPDATE mastodon_posts SET deleted_at = '2025-11-20 01:00' WHERE id = '205';
INSERT INTO hashtags (instance_id, name) VALUES (1, 'sea'), (1, 'sky0'), (1, 'sky1');
INSERT INTO post_hashtags (instance_id, post_id, hashtag_id)
SELECT 1, '20' || n, tag FROM generate_series(0, 5) AS n, (VALUES (1), (2), (3)) AS t (tag)
WHERE tag = 1 OR tag = 2 + n % 2;
INSERT INTO post_mentions (instance_id, post_id, account_id)
SELECT 1, '20' || n, '7' FROM generate_series(0, 5) AS n;
INSERT INTO post_versions
  (instance_id, post_id, version_seq, valid_from, content_html, content_text, edited_at)
VALUES (1, '200', 1, '2025-11-19 22:30', '<p>first</p>', 'first', NULL),
  (1, '200', 2, '2025-11-19 23:00', '<p>post 0</p>', 'post 0', '2025-11-19 23:00');
INSERT INTO post_metric_snapshots
  (instance_id, post_id, captured_at, replies_count, reblogs_count, favourites_count)
VALUES (1, '200', '2025-11-19 22:31', 0, 0, 2), (1, '200', '2025-11-19 23:31', 0, 0, 60);
INSERT INTO post_sentiments (instance_id, post_id, sentiment_label, score, model, prompt_version,
  input_hash, analyzed_at, status_version_seq)
VALUES (1, '200', 'negative', -0.5, 'm', '1', 'of the first', '2025-11-19 22:40', 1),
  (1, '200', 'positive', 0.5, 'm', '1', 'of the second', '2025-11-19 23:10', 2);

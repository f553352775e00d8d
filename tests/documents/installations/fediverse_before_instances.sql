-- The same application before it knew instances: posts and accounts, tags and mentions as JSON.

CREATE TABLE mastodon_accounts (
  id varchar(64) PRIMARY KEY,
  username varchar(255),
  acct varchar(255),
  display_name varchar(255),
  url text,
  followers_count integer,
  following_count integer,
  statuses_count integer,
  created_at timestamp
);
CREATE TABLE mastodon_posts (
  id varchar(64) PRIMARY KEY,
  account_id varchar(64) NOT NULL REFERENCES mastodon_accounts,
  created_at timestamp NOT NULL,
  content text,
  url text,
  language varchar(10),
  visibility varchar(20),
  in_reply_to_id varchar(64),
  reblog_of_id varchar(64),
  replies_count integer DEFAULT 0,
  reblogs_count integer DEFAULT 0,
  favourites_count integer DEFAULT 0,
  hashtags json,
  mentions json
);

INSERT INTO mastodon_accounts (id, username, acct, followers_count)
VALUES ('7', 'ann', 'ann', 10), ('AbC9xYz', 'bob', 'bob@b.example', 3);
INSERT INTO mastodon_posts (id, account_id, created_at, content, visibility, favourites_count,
  hashtags, mentions)
SELECT '30' || n, CASE n % 2 WHEN 0 THEN '7' ELSE 'AbC9xYz' END,
  timestamp '2025-11-19 22:30' + n * interval '20 minutes', '<p>post ' || n || '</p>', 'public', n,
  CASE n WHEN 5 THEN NULL ELSE json_build_array('Sea', 'sky' || n % 2) END,
  json_build_array(json_build_object('id', '7', 'acct', 'ann', 'username', 'ann'))
FROM generate_series(0, 5) AS n;

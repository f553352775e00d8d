-- A gallery with the junction of items and tags, half of it built.

CREATE TABLE users (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), username varchar(255));
CREATE TABLE tags (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name varchar(255) NOT NULL UNIQUE
);
CREATE TABLE content_items (
  id serial PRIMARY KEY,
  title varchar(255),
  content_type varchar(50),
  creator_id uuid NOT NULL REFERENCES users,
  tags uuid[] DEFAULT '{}',
  is_private boolean DEFAULT false,
  created_at timestamp DEFAULT timezone('UTC', now()),
  updated_at timestamp
);
CREATE TABLE content_items_auto (LIKE content_items INCLUDING ALL);
CREATE TABLE content_tags (
  content_id integer NOT NULL,
  content_source varchar(10) NOT NULL,
  tag_id uuid NOT NULL REFERENCES tags ON DELETE CASCADE,
  PRIMARY KEY (content_id, content_source, tag_id)
);
CREATE INDEX idx_content_tags_tag_content ON content_tags (tag_id, content_source, content_id);
CREATE INDEX idx_content_tags_content ON content_tags (content_id, content_source);

INSERT INTO users (username) VALUES ('ann'), ('bob');
INSERT INTO tags (name) SELECT 't' || n FROM generate_series(1, 6) AS n;
-- Item n has the tags whose numbers divide n; every fifth has none, or null in place of an array.
INSERT INTO content_items (title, creator_id, tags, created_at)
SELECT 'item ' || n, (SELECT id FROM users WHERE username = 'ann'),
  CASE n % 10 WHEN 5 THEN NULL WHEN 0 THEN '{}' ELSE
    (SELECT array_agg(id) FROM tags WHERE n % substr(name, 2)::integer = 0) END,
  timestamp '2025-10-01' + (n / 2) * interval '1 hour'
FROM generate_series(1, 24) AS n;
INSERT INTO content_items_auto (title, creator_id, tags, created_at)
SELECT title || ' (auto)', (SELECT id FROM users WHERE username = 'bob'), tags, created_at
FROM content_items;

-- The backfill was ended within the second lane, and an item was edited since the first.
INSERT INTO content_tags
SELECT id, 'regular', unnest(tags) FROM content_items ON CONFLICT DO NOTHING;
INSERT INTO content_tags
SELECT id, 'auto', unnest(tags) FROM content_items_auto WHERE id < 9 ON CONFLICT DO NOTHING;
UPDATE content_items SET tags = tags[1:1] WHERE id = 12;

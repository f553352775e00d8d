-- The gallery's statistics with the composite key that leaves no room for everybody's rows.

CREATE TABLE users (id uuid PRIMARY KEY, username varchar(255));
CREATE TABLE tags (id uuid PRIMARY KEY, name varchar(255) NOT NULL UNIQUE);
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

CREATE TABLE gen_source_stats (
  user_id uuid REFERENCES users ON DELETE CASCADE,
  source_type varchar(10) NOT NULL,
  count integer NOT NULL,
  updated_at timestamp NOT NULL,
  PRIMARY KEY (user_id, source_type)
);
CREATE INDEX ON gen_source_stats (user_id);

INSERT INTO users VALUES ('00000000-0000-0000-0000-00000000000a', 'ann');
INSERT INTO content_items (creator_id) SELECT id FROM users;
INSERT INTO content_items_auto (creator_id) SELECT id FROM users, generate_series(1, 2);
INSERT INTO gen_source_stats VALUES
  ('00000000-0000-0000-0000-00000000000a', 'regular', 7, '2025-10-01');

-- The raw stream of a server with instances, in the document's own types.

CREATE TABLE instances (
  id integer PRIMARY KEY,
  base_url varchar(255) UNIQUE NOT NULL,
  stream_type varchar(50),
  created_at timestamp,
  last_seen_at timestamp
);
CREATE TABLE stream_events (
  id bigserial PRIMARY KEY,
  instance_id integer NOT NULL,
  received_at timestamp NOT NULL,
  event_type varchar(50) NOT NULL,
  payload json,
  payload_status_id varchar(64),
  processed_at timestamp,
  process_error text
);

INSERT INTO instances (id, base_url, stream_type, created_at)
VALUES (1, 'https://a.example', 'public', '2025-11-01');
INSERT INTO stream_events (instance_id, received_at, event_type, payload, payload_status_id)
SELECT 1, timestamp '2025-11-20 10:00' + n * interval '10 minutes',
  CASE WHEN n > 4 THEN 'status.update' ELSE 'update' END,
  json_build_object(
    'id', (100 + n % 4)::text, 'created_at', '2025-11-20T09:5' || n % 4 || ':00Z',
    'visibility', 'public', 'content', '<p>post ' || n % 4 || ' of ' || n / 4 || '</p>',
    'edited_at', CASE WHEN n > 4 THEN '2025-11-20T10:' || 10 + n || ':00Z' END,
    'account', json_build_object('id', '7', 'acct', 'ann'),
    'tags', json_build_array(json_build_object('name', 'Sea')),
    'replies_count', 0, 'reblogs_count', n, 'favourites_count', 30 * n),
  (100 + n % 4)::text
FROM generate_series(0, 7) AS n;
INSERT INTO stream_events (instance_id, received_at, event_type, payload, payload_status_id)
VALUES (1, '2025-11-20 12:00', 'delete', '"103"', '103');

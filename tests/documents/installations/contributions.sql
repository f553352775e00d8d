-- A media library as its document makes it: times without zone, and keys as SQLite fills them.

CREATE TABLE media_files (
  id serial PRIMARY KEY,
  path varchar(1000) NOT NULL UNIQUE,
  original_created_at timestamp,
  created_at timestamp,
  updated_at timestamp
);

CREATE TABLE daily_contributions (
  id integer PRIMARY KEY,
  date timestamp NOT NULL UNIQUE,
  count integer NOT NULL DEFAULT 0,
  created_at timestamp,
  updated_at timestamp
);
CREATE INDEX idx_daily_contribution_date ON daily_contributions (date);

-- 18 files of three days, one of them by the day on which the library got it, one without a date.
INSERT INTO media_files (path, original_created_at, created_at)
SELECT 'a' || n, timestamp '2025-11-20 12:00' - (n % 3) * interval '1 day', '2025-11-25 08:00'
FROM generate_series(1, 17) AS n;
INSERT INTO media_files (path, created_at) VALUES ('by ingestion', '2025-11-19 23:59:59.5');
INSERT INTO media_files (path) VALUES ('without a date');

-- What the application's own counters have come to: one day right, one wrong, one of no file.
INSERT INTO daily_contributions (id, date, count, created_at, updated_at) VALUES
  (1, '2025-11-20', 5, '2025-11-20', '2025-11-20'),
  (2, '2025-11-19', 60, '2025-11-20', NULL),
  (3, '2024-01-01', 1, NULL, NULL);

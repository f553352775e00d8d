"""A made-up media library: two years of a photographing household, ending today.

Generated inside the server by one statement, so that any size is quick. Invariants: the
same seed on the same day (UTC) makes the same files (at other moments of today, though), none lies
in the future, and making the library up again changes nothing.
"""

from __future__ import annotations

from sqlalchemy import Engine, text

from assets.media.tables import media_files

# Weights make the picture: a quarter more files each year, twice as many on weekends, days that
# vary, now and then an outing; and within a day few at night, most in the afternoon.
_INSERT = """
WITH days AS MATERIALIZED (
  SELECT day, power(1.25, (day - CAST(:first AS date)) / 365.0)
    * CASE WHEN extract(isodow FROM day) >= 6 THEN 2.0 ELSE 1.0 END
    * (0.2 - ln(1 - random())) * CASE WHEN random() < 0.02 THEN 5 ELSE 1 END AS weight
  FROM (
    SELECT CAST(:first AS date) + n AS day FROM generate_series(0, CAST(:days AS integer) - 1) AS n
  ) AS calendar
  ORDER BY day
), shares AS MATERIALIZED (
  SELECT array_agg(below ORDER BY day) AS bounds FROM (
    SELECT day, (sum(weight) OVER (ORDER BY day) - weight) / sum(weight) OVER () AS below FROM days
  ) AS running
), hours AS MATERIALIZED (
  SELECT array_agg(below ORDER BY hour) AS bounds FROM (
    SELECT hour, (sum(weight) OVER (ORDER BY hour) - weight) / sum(weight) OVER () AS below
    FROM unnest(CAST(:hours AS float8[])) WITH ORDINALITY AS h (weight, hour)
  ) AS running
), drawn AS MATERIALIZED (
  SELECT n, random() AS day, random() AS hour, random() AS within, random() AS delay,
         random() AS kind, random() AS age
  FROM generate_series(1, CAST(:files AS integer)) AS n
), captured AS MATERIALIZED (
  SELECT n, delay, kind, age, within,
    (CAST(:first AS date) + width_bucket(day, shares.bounds) - 1 + interval '0'
     + (width_bucket(hour, hours.bounds) - 1 + within) * interval '1 hour')
    AT TIME ZONE 'UTC' AS at
  FROM drawn, shares, hours
), past AS (
  -- What today would still be to come was taken earlier today.
  SELECT n, kind, age, at AS drawn, CASE WHEN at <= now() THEN at
    ELSE date_trunc('day', now(), 'UTC') + within * (now() - date_trunc('day', now(), 'UTC'))
  END AS at, -ln(1 - delay) * interval '6 hours' AS until_kept
  FROM captured
)
INSERT INTO {table} (path, original_created_at, created_at)
SELECT 'demo/' || to_char(n / 1000, 'FM00000') || '/IMG_' || to_char(n, 'FM0000000')
         || CASE WHEN n % 25 = 0 THEN '.mp4' ELSE '.jpg' END,
  date_trunc('second', CASE
    WHEN kind < 0.07 THEN NULL                                -- says nothing of itself
    WHEN kind < 0.08 THEN drawn - (2 + 23 * age) * interval '1 year'  -- an old print, scanned
    ELSE at
  END),
  CASE WHEN kind < 0.07 THEN at ELSE least(at + until_kept, now()) END
FROM past
ORDER BY n
ON CONFLICT (path) DO NOTHING
"""
# What happens to a library later: a memory card turns up three years late, a camera's clock turns
# out to have been a day slow, the worst pictures are deleted.
_LATER = """
WITH found AS (
  INSERT INTO {table} (path, original_created_at)
  SELECT 'demo/found/' || to_char(now(), 'YYYYMMDD_HH24MISS_US') || '_' || n || '.jpg',
    date_trunc('hour', now()) - interval '3 years' - n * interval '3 hours'
  FROM generate_series(1, 40) AS n
  RETURNING id
), chosen AS MATERIALIZED (
  SELECT id, row_number() OVER (ORDER BY id DESC) AS place FROM {table}
  WHERE path LIKE 'demo/%' AND original_created_at < now() - interval '20 days'
  ORDER BY id DESC LIMIT 60
), moved AS (
  UPDATE {table} AS f SET original_created_at = f.original_created_at + interval '1 day',
    updated_at = now()
  FROM chosen AS c WHERE c.id = f.id AND c.place <= 40 RETURNING f.id
), deleted AS (
  DELETE FROM {table} AS f USING chosen AS c WHERE c.id = f.id AND c.place > 40 RETURNING f.id
)
SELECT (SELECT count(*) FROM found) + (SELECT count(*) FROM moved) + (SELECT count(*) FROM deleted)
"""
# fmt: off
_HOURS = [1, 1, 1, 1, 1, 2, 5, 12, 20, 30, 40, 45, 42, 46, 52, 58, 60, 55, 46, 36, 26, 16, 8, 3]
# fmt: on


def create_demo(engine: Engine, files: int = 200_000, days: int = 730, seed: float = 0.42) -> int:
    """Make up `files` media files over the last `days` days; returns how many were inserted.

    7 % say nothing of their capture date, 1 % are scans of prints 2 to 25 years old. `seed` is
    PostgreSQL's, from -1 to 1. Raises ValueError where a number makes no sense.
    """
    if files < 0 or days < 1 or not -1 <= seed <= 1:
        raise ValueError(
            "Expected at least 0 files, at least 1 day and a seed from -1 to 1, "
            f"but it is {files} files, {days} days, seed {seed}."
        )
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL TIME ZONE 'UTC'"))
        connection.execute(text("SELECT setseed(:seed)"), {"seed": seed})
        first_day = text("SELECT current_date - CAST(:days AS integer) + 1")
        first = connection.scalar(first_day, {"days": days})
        table = connection.dialect.identifier_preparer.format_table(media_files)
        done = connection.execute(
            text(_INSERT.format(table=table)),
            {"first": first, "days": days, "files": files, "hours": _HOURS},
        )
        return done.rowcount


def change_demo(engine: Engine) -> int:
    """Change a made-up library as time would, late files included; returns how many files."""
    with engine.begin() as connection:
        table = connection.dialect.identifier_preparer.format_table(media_files)
        return int(connection.scalar(text(_LATER.format(table=table))) or 0)

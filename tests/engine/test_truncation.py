"""The two ways to find the start of a day or hour must agree on every instant there is.

Triggers use the one for many rows, everything else the plain one; a single instant at which they
differ would be a wrong key.
"""

from __future__ import annotations

import pytest
from sqlalchemy import DateTime, Engine, column

from tallykeeper.database import sql
from tests.integration.support import rows

# Dense around now, sparse to the ends of time, on both sides of whole hours, and the ends.
INSTANTS = """
  SELECT timestamptz '2000-01-01Z' + (random() - 0.5) * interval '40000 days' AS at
  FROM generate_series(1, 20000)
  UNION ALL SELECT timestamptz '40000-01-01Z' + (random() - 0.5) * interval '30000000 days'
  FROM generate_series(1, 20000)
  UNION ALL SELECT date_trunc('hour', timestamptz '1000-01-01Z'
    + (random() - 0.5) * interval '2000000 days', 'UTC') + apart * interval '1 microsecond'
  FROM generate_series(1, 5000), generate_series(-1, 1) AS apart
  UNION ALL SELECT unnest(ARRAY[
    '-infinity', '4714-11-24 00:00:00+00 BC', '4714-11-24 00:00:00.000001+00 BC', '1970-01-01Z',
    '99999-12-31 23:59:59.999999Z', '100000-01-01Z', '294276-12-31 23:59:59.999999+00', 'infinity',
    NULL]::timestamptz[])
"""


@pytest.mark.parametrize("unit", ["day", "hour"])
@pytest.mark.parametrize("zone", ["UTC", "America/St_Johns"])
def test_both_ways_to_truncate_agree_on_every_instant(
    any_postgres_engine: Engine, unit: str, zone: str
) -> None:
    at = column("at", DateTime(timezone=True))
    plain = sql.render(sql.utc_start(unit, at))
    of_many = sql.render(sql.utc_start_of_many(unit, at))
    query = (
        f"SELECT at, {plain}, {of_many} FROM ({INSTANTS}) AS instants"
        f" WHERE set_config('timezone', '{zone}', true) IS NOT NULL"
    )
    differing = f"SELECT count(*) FROM ({query}) AS q (at, a, b) WHERE a IS DISTINCT FROM b"
    assert rows(any_postgres_engine, differing) == [(0,)]

"""Databases of releases, as dumps, and how to get one back. `dump.py` makes them.

The dumps are SQL statements alone, so that loading one takes no program of PostgreSQL's.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import psycopg

FOLDER = Path(__file__).parent
RELEASES = tuple(sorted(dump.name.removesuffix(".sql.gz") for dump in FOLDER.glob("*.sql.gz")))


def restore(release: str, url: str) -> None:
    """Load the release's database into the empty one at `url`."""
    statements = gzip.decompress((FOLDER / f"{release}.sql.gz").read_bytes())
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statements)

"""Whether any catalog row of what a tally depends on was written since it was last compared.

The comparison (`facts.py`) costs a refresh some milliseconds, mostly of planning. Here
only the rows of the catalog are looked up from which its facts are made, each as its number and
the transaction that wrote it (`xmin`). Where their digest is that of a comparison that found
nothing, that one need not be made again. The digest is kept in the record, beside the facts.

Invariant: whatever the comparison would find differs here too; the other way round it need not.
A refresh relies on this; `tally status`, checks, verifies and migrations always compare.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from tallykeeper.catalog.state import dependencies
from tallykeeper.database import sql
from tallykeeper.database.sql_files import sql_file
from tallykeeper.declarations.tally import Tally

KEPT_AS = "rows"
"""The key in `identity` of the record's row about the database."""

_DIGEST = sql_file(__name__, "catalog_rows")


_LOOK = f"""
SELECT d.facts ->> 'format' AS format, d.identity ->> '{KEPT_AS}' AS kept, ({_DIGEST}) AS now
FROM {sql.name_of(dependencies)} AS d WHERE d.tally = %(tally)s AND d.kind = 'database'"""

_KEEP = f"""
UPDATE {sql.name_of(dependencies)} AS d
SET identity = d.identity || jsonb_build_object('{KEPT_AS}', %(digest)s::text)
WHERE d.tally = %(tally)s AND d.kind = 'database'"""


@dataclass(frozen=True)
class Looked:
    """The digest of the last comparison that found nothing, and that of now.

    None: there was none, or a digest would say too little.
    """

    kept: str | None
    now: str | None

    @property
    def is_same(self) -> bool:
        return self.now is not None and self.now == self.kept


def look(connection: Connection, tally: Tally, record_format: int) -> Looked | None:
    """Both digests; None where what the tally depends on is not recorded in this format."""
    row = connection.exec_driver_sql(_LOOK, {"tally": tally.name}).one_or_none()
    if row is None or row.format != str(record_format):
        return None
    return Looked(row.kept, row.now)


def keep(connection: Connection, tally: Tally, digest: str) -> None:
    """Remember that a comparison, in this snapshot, found nothing."""
    connection.exec_driver_sql(_KEEP, {"tally": tally.name, "digest": digest})

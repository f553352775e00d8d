"""What a translation reads, exported in one snapshot to Parquet files, several tables at once.

Invariant: every file is of the snapshot of the transaction that exported it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sqlalchemy import Connection, Engine

from tallykeeper.catalog.transactions import SNAPSHOT
from tallykeeper.database import sessions, sql
from tallykeeper.engines.translation.refusal import Refused
from tallykeeper.engines.translation.scopes import Export
from tallykeeper.engines.transport import crossing
from tallykeeper.parquet import writing
from tallykeeper.parquet.columns import columns_of

AT_ONCE = 4
# The transaction that has the snapshot does nothing while others read, and while an engine works.
WITHOUT_LIMIT = "SET LOCAL idle_in_transaction_session_timeout = 0"


def export(
    engine: Engine, connection: Connection, exports: Sequence[Export], folder: Path
) -> Mapping[str, Path]:
    """Write a file for each export, in the snapshot of `connection`; the files by their names.

    Raises Refused where values have no exact type in an engine, OSError, or SQLAlchemy's errors.
    """
    sql.execute(connection, WITHOUT_LIMIT)
    snapshot = sql.execute(connection, "SELECT pg_export_snapshot()").scalar_one()

    def write(each: Export) -> Path:
        path = folder / f"{each.name}.parquet"
        with engine.connect().execution_options(**SNAPSHOT) as own, own.begin():
            sql.execute(own, f"SET TRANSACTION SNAPSHOT {sql.literal(snapshot)}")
            sessions.begin_computing(own)
            _write(own, each, path)
        return path

    with ThreadPoolExecutor(min(AT_ONCE, max(len(exports), 1))) as pool:
        return dict(zip((e.name for e in exports), pool.map(write, exports), strict=True))


def _write(connection: Connection, export: Export, path: Path) -> None:
    columns = columns_of(connection, export.query, by_value=True)
    lacking = [
        f"{export.columns[column.name].removeprefix('q.')}: {column.lacking}"
        for column in columns
        if column.lacking is not None and column.name in export.natural
    ]
    if lacking:
        raise Refused(f"no exact type for values of {export.relation.quoted} ({lacking[0]})")
    writing.write(connection, export.query, [crossing(each) for each in columns], path)

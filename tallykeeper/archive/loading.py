"""Loading rows of archived files into a table of the database again.

The table has the columns of the source, and `archived_file` beside them: the number of the file
that a row is of. A file may be older than a column of the source, which is null then, or have
columns that the source has lost, which are left out.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DataError, IntegrityError

from tallykeeper.archive.files import batches, cast_to, target_columns
from tallykeeper.archive.store import Store, fetch, scratch
from tallykeeper.database import sql
from tallykeeper.database.sessions import begin_work
from tallykeeper.errors import TallyError
from tallykeeper.parquet import reading
from tallykeeper.partitions.records import ArchivedFile

FILE = "archived_file"
_LOADED = "archived_rows_loaded"


class DoesNotLoad(TallyError):
    """Rows of a file do not fit the table any more; says which file, and what the database said."""


def load(
    engine: Engine,
    store: Store,
    file: ArchivedFile,
    into: str,
    *,
    where: str = "true",
    before: Callable[[Connection], None] = lambda _: None,
    after: Callable[[Connection], None] = lambda _: None,
) -> int:
    """Load the rows of a file for which an SQL condition over `r` holds; how many.

    All in one transaction, together with what `before` and `after` do in it. Raises FileMissing,
    FileDamaged, ArchiveUnavailable, DoesNotLoad, and SQLAlchemy's errors.
    """
    rows = 0
    with scratch() as folder:
        local = folder / "archived.parquet"
        fetch(store, file, local)
        with engine.begin() as connection:
            begin_work(connection)
            before(connection)
            wanted = target_columns(connection, into)
            wanted.pop(FILE)
            columns = reading.columns_of_file(local)
            casts = ", ".join(cast_to(columns, wanted, "r"))
            for batch in batches(local):
                select = reading.load(connection, columns, [batch], _LOADED)
                insert = (
                    f"INSERT INTO {into} ({FILE}, {sql.columns(list(wanted))})"
                    f" SELECT {file.id}, {casts} FROM ({select}) AS r WHERE {where}"
                )
                try:
                    rows += sql.execute(connection, insert).rowcount
                except (DataError, IntegrityError) as error:
                    said = str(error.orig).splitlines()[0]
                    raise DoesNotLoad(
                        f"{file.address}: its rows do not fit {file.source} as it is now ({said});"
                        " they are as they were archived, with the columns that"
                        " tallykeeper.archive_files names"
                    ) from error
                sql.execute(connection, f"DROP TABLE pg_temp.{_LOADED}")
            after(connection)
    return rows

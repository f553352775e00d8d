"""Running a translation in DuckDB, in this process.

Its extensions are neither downloaded nor loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import duckdb

from tallykeeper.engines.translation.refusal import Refused

_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}


def version() -> str:
    """The version of DuckDB."""
    return str(duckdb.__version__)


def run(statement: str, tables: Mapping[str, Path], result: Path) -> list[Path]:
    """Run a statement over Parquet files; the files that it writes into the folder `result`.

    Raises Refused where DuckDB cannot run it, with what it said.
    """
    written = result / "result.parquet"
    settings = {**_SETTINGS, "temp_directory": str(result)}
    try:
        with duckdb.connect(":memory:", config=settings) as connection:
            for name, path in tables.items():
                connection.execute(
                    f"CREATE VIEW {name} AS SELECT * FROM read_parquet({_literal(path)})"
                )
            connection.execute(f"COPY ({statement}) TO {_literal(written)} (FORMAT parquet)")
    except duckdb.Error as error:
        raise Refused(f"DuckDB could not run it: {str(error).splitlines()[0]}") from error
    return [written]


def _literal(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"

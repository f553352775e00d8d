"""Running a translation in Spark: on this machine, or on a cluster by its address.

Values cross as integers, decimals and texts, so that the session's time zone takes no part; it is
UTC all the same. Sums that no decimal holds are errors, and no digit is dropped in silence.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from tallykeeper import settings
from tallykeeper.engines.translation.refusal import Refused
from tallykeeper.extras import require

LOCAL = "local[*]"
# The modules of its errors.
_OF_SPARK = ("pyspark", "py4j", "grpc")
# What can be set in a session of anybody's.
_OF_SESSIONS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.decimalOperations.allowPrecisionLoss": "false",
    "spark.sql.parser.escapedStringLiterals": "true",
    "spark.sql.caseSensitive": "true",
}
_HERE = {
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.sql.shuffle.partitions": "4",
}


def version() -> str:
    """The version of PySpark. Raises MissingExtra."""
    require("spark")
    return version_of("pyspark")


def run(statement: str, tables: Mapping[str, Path], result: Path) -> list[Path]:
    """Run a statement over Parquet files; the files that it writes into the folder `result`.

    Raises Refused where Spark cannot run it, with what it said; MissingExtra.
    """
    written = result / "result"
    with _session() as session:
        try:
            for name, path in tables.items():
                session.read.parquet(path.as_uri()).createOrReplaceTempView(name)
            session.sql(statement).write.parquet(written.as_uri())
        except Exception as error:
            if not type(error).__module__.startswith(_OF_SPARK):
                raise
            raise Refused(f"Spark could not run it: {str(error).splitlines()[0]}") from error
        finally:
            for name in tables:
                session.catalog.dropTempView(name)
    return sorted(written.glob("*.parquet"))


@contextmanager
def _session() -> Iterator[Any]:
    """A session of the cluster that the settings name, else of this process, which is kept."""
    require("spark")
    address = settings.spark_address()
    with warnings.catch_warnings():
        # It warns of versions of pandas, which nothing here uses.
        warnings.simplefilter("ignore")
        from pyspark.sql import SparkSession

        builder: Any = SparkSession.builder
        if address is not None and address.startswith("sc://"):
            session = builder.remote(address).getOrCreate()
        else:
            builder = builder.master(address or LOCAL).appName("tallykeeper")
            builder = builder.config("spark.ui.showConsoleProgress", "false")
            for name, value in ({} if address else _HERE).items():
                builder = builder.config(name, value)
            is_ours = SparkSession.getActiveSession() is None
            try:
                session = builder.getOrCreate()
            except Exception as error:
                if not type(error).__module__.startswith(_OF_SPARK):
                    raise
                raise Refused(
                    f"Spark could not be started ({str(error).splitlines()[0]}); it needs Java 17"
                ) from error
            if is_ours:
                session.sparkContext.setLogLevel("OFF")
            # With settings and views of its own, beside whatever else this process does in Spark.
            session = session.newSession()
        for name, value in _OF_SESSIONS.items():
            session.conf.set(name, value)
        yield session

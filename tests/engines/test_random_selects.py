"""What is translated is equal: random SELECTs over odd values, in both engines."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from importlib.util import find_spec

import pytest
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from tallykeeper.catalog.transactions import SNAPSHOT
from tallykeeper.database import sessions, sql
from tallykeeper.engines.audit import RESULT, compute, engine_of
from tallykeeper.engines.translation.refusal import Refused
from tallykeeper.engines.translation.translate import translate
from tests.concurrency.conftest import new_seed
from tests.engines.random_selects import TABLES, Selects, fill
from tests.integration.support import execute

pytest.importorskip("duckdb")
LONG = bool(os.environ.get("TALLY_TEST_LONG"))
needs_spark = pytest.mark.skipif(
    find_spec("pyspark") is None or shutil.which("java") is None,
    reason="PySpark (`make spark`) or Java is not installed",
)
# Those that nothing of the engine's may follow.
ZONES = ("UTC", "Asia/Kathmandu", "America/St_Johns")
DIFFERENT = "SELECT count(*) FROM (SELECT * FROM {} EXCEPT ALL SELECT * FROM {}) AS d"


def fuzz(engine: Engine, name: str, number: int) -> Counter[str]:
    """So many random SELECTs in one engine, each with other rows; how they ended."""
    seed = new_seed()
    execute(engine, TABLES)
    with engine.begin() as connection:
        zone = ZONES[len(seed) % len(ZONES)]
        database = sql.quote(str(engine.url.database))
        sql.execute(connection, f"ALTER DATABASE {database} SET timezone = '{zone}'")
    engine.dispose()
    selects, ended = Selects(seed), Counter[str]()
    for tried in range(number):
        if tried % 10 == 0:
            rows = (fill(table, f"{seed} {tried}") for table in "ab")
            execute(engine, "TRUNCATE odd.a, odd.b", *rows)
        select = selects.next()
        how = outcome(engine, select, name)
        ended[how.partition(":")[0]] += 1
        assert not how.startswith("different"), f"{select}\n{how}\nseed {seed}"
    return ended


def outcome(engine: Engine, select: str, name: str) -> str:
    """Whether the engine's rows are those of the SELECT: equal, refused, failed or different."""
    try:
        # Left without a commit.
        with engine.connect().execution_options(**SNAPSHOT) as connection:
            sessions.begin_computing(connection)
            sql.execute(connection, f"CREATE VIEW odd.tried AS {select}")
            sql.execute(connection, "CREATE TABLE odd.found AS SELECT * FROM odd.tried")
            return _compared(engine, connection, name)
    except DBAPIError as error:
        return f"failed: {str(error.orig).splitlines()[0]}"


def _compared(engine: Engine, connection: Connection, name: str) -> str:
    try:
        translation = translate(connection, "odd.tried", name)
        compute(engine, connection, "odd.tried", translation, engine_of(name))
    except Refused as refused:
        return f"refused: {refused}"
    for one, other in (("odd.found", RESULT), (RESULT, "odd.found")):
        if sql.execute(connection, DIFFERENT.format(one, other)).scalar_one():
            return f"different: {translation.statement}"
    return "equal"


@pytest.mark.slow
def test_random_selects_are_equal_in_duckdb_or_refused(engine: Engine) -> None:
    number = 1_500 if LONG else 60
    ended = fuzz(engine, "duckdb", number)
    assert ended["equal"] > number // 3, ended


@pytest.mark.slow
@needs_spark
def test_random_selects_are_equal_in_spark_or_refused(engine: Engine) -> None:
    number = 150 if LONG else 10
    ended = fuzz(engine, "spark", number)
    assert ended["equal"] > number // 4, ended

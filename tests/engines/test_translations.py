"""The SELECTs of the four systems and of TPC-H in other engines: as the page says, and equal."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from tallykeeper import refresh
from tallykeeper.catalog.transactions import SNAPSHOT
from tallykeeper.database import sessions, sql
from tallykeeper.discovery import all_systems
from tallykeeper.engines.audit import RESULT, compute, engine_of
from tallykeeper.engines.translation.refusal import Refused
from tallykeeper.engines.translation.translate import translate
from tallykeeper.settings import project_root
from tests.engines.test_random_selects import DIFFERENT, LONG, needs_spark
from tests.engines.translations import PAGE, make_tables, page, selects, view_of

pytest.importorskip("duckdb")
ROWS = {"media": 3_000, "gallery": 5_000, "fediverse": 3_000, "classroom": 3_000}


def test_the_page_is_what_the_translation_does(engine: Engine) -> None:
    make_tables(engine)
    written = (project_root() / PAGE).read_text(encoding="utf-8")
    assert page(engine) == written, "run `python -m tests.engines.translations`"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not LONG, reason="takes minutes: `make test-slow` runs it")
@pytest.mark.parametrize("name", ["duckdb", pytest.param("spark", marks=needs_spark)])
def test_what_is_translated_is_equal(engine: Engine, name: str) -> None:
    make_tables(engine)
    for system in all_systems():
        system.part("demo").create_demo(engine, ROWS[system.name])  # type: ignore[union-attr]
        if system.process is not None:
            system.process(engine)
        for tally in system.tallies:
            refresh(engine, tally)
    ended = {tally: compared(engine, text, name) for tally, text in selects().items()}
    assert not [tally for tally, how in ended.items() if how == "different"]
    assert sum(how == "equal" for how in ended.values()) > 30, ended


def compared(engine: Engine, text: str, name: str) -> str:
    """Whether the rows that an engine computes are equal; or why there are none."""
    with engine.connect().execution_options(**SNAPSHOT) as connection:
        sessions.begin_computing(connection)
        view = view_of(connection, text)
        try:
            translation = translate(connection, view, name)
            compute(engine, connection, view, translation, engine_of(name))
        except Refused as refused:
            return str(refused)
        for one, other in ((view, RESULT), (RESULT, view)):
            if sql.execute(connection, DIFFERENT.format(one, other)).scalar_one():
                return "different"
    return "equal"

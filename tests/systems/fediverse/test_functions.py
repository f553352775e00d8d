"""The functions that read what an event says, wherever PostgreSQL chooses to run them."""

from __future__ import annotations

import json
import random

import pytest
from sqlalchemy import Engine, text

from assets.fediverse.processing.functions import HASHTAG, ID, JSON_OF, NUMBER, PLAIN_TEXT, TIME
from assets.fediverse.processing.notes import STATUS_OF_NOTE
from assets.fediverse.streaming.lines import IS_ID
from assets.fediverse.tallies import system
from tests.integration.support import create, execute, rows

FORCED = ("debug_parallel_query", "force_parallel_mode")


# With what each is called; by itself it is a text.
CALLED = dict.fromkeys((HASHTAG, JSON_OF, NUMBER, PLAIN_TEXT, TIME), "words")
CALLED |= {ID: "to_jsonb(words)", STATUS_OF_NOTE: "jsonb_build_object('text', words)"}


@pytest.mark.parametrize("function", CALLED)
def test_a_query_that_may_run_in_parallel_can_call_each(
    any_postgres_engine: Engine, function: str
) -> None:
    engine = any_postgres_engine
    create(engine, system)
    execute(engine, "CREATE TABLE written AS SELECT '<b>&amp;1' AS words")
    ((forced,),) = rows(
        engine, f"SELECT name FROM pg_settings WHERE name IN {FORCED} ORDER BY name LIMIT 1"
    )
    with engine.begin() as connection:
        connection.exec_driver_sql(f"SET LOCAL {forced} = on")
        # What it returns is tested elsewhere; here, that it returns anything and does not fail.
        assert connection.exec_driver_sql(
            f"SELECT {function}({CALLED[function]}) FROM written"
        ).all()


def test_an_id_is_one_for_the_loader_and_for_processing_alike(engine: Engine) -> None:
    create(engine, system)
    rng = random.Random("ids")
    every = [chr(code) for code in (*range(1, 0x180), 0x3000, 0xFEFF, 0x1F418)]
    texts = ["", *every, *("a" * n for n in (254, 255, 256)), "\U0001f418" * 255, "a\n", "\na"]
    texts += ["".join(rng.choices(every, k=rng.choice((2, 30)))) for _ in range(300)]
    values = [json.dumps(t) for t in texts] + ["1", "-99", "0", "1.5", "1e2", "true", "null", "[1]"]
    with engine.connect() as connection:
        read = text(
            f"SELECT {ID}(v::jsonb) FROM unnest(CAST(:values AS text[]))"
            " WITH ORDINALITY AS u (v, n) ORDER BY n"
        )
        found = connection.scalars(read, {"values": values}).all()
    assert list(found) == [
        *(t if IS_ID.fullmatch(t) else None for t in texts),
        *("1", "-99", "0", None, "100", None, None, None),
    ]

"""Recomputing keys of many windows: the right rows, found through the index and not by a scan.

Windows near each other are read in one run, others in runs of their own, up to a number of runs;
which it is must not show in any row.
"""

from __future__ import annotations

import pytest
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    Table,
    event,
)

import tallykeeper.strategies.key_ranges
from tallykeeper import (
    Capture,
    DeclarationError,
    RecomputedTally,
    install,
    rebuild,
    refresh,
    verify,
)
from tests import tag_hours
from tests.integration.support import create, create_anew, execute, judge, rows, scalar
from tests.oracle import TAG_HOURS

# Hours next to each other, a few apart, days apart, and at the ends of time.
INSTANTS = (
    "2024-03-01 10:15Z",
    "2024-03-01 10:59:59.999999Z",
    "2024-03-01 11:00Z",
    "2024-03-01 14:00Z",
    "2024-03-01 19:30Z",
    "2024-03-09 01:00Z",
    "2021-12-31 23:59Z",
    "1904-01-01 00:30Z",
    "4714-11-24 00:10:00+00 BC",
    "294276-12-31 23:30:00+00",
    "infinity",
    "-infinity",
)
TAGGED = "INSERT INTO forum.post_tags SELECT id, tag FROM forum.posts, generate_series(1, 3) AS tag"


def written(instants: tuple[str, ...]) -> str:
    values = ", ".join(f"({number % 3}, '{at}')" for number, at in enumerate(instants))
    return f"INSERT INTO forum.posts (author_id, created_at) VALUES {values}"


@pytest.mark.parametrize("most_runs", [1, 2, 500])
def test_any_number_of_runs_makes_the_same_rows(
    any_postgres_engine: Engine, monkeypatch: pytest.MonkeyPatch, most_runs: int
) -> None:
    monkeypatch.setattr(tallykeeper.strategies.key_ranges, "MOST_RUNS", most_runs)
    # Anew, for a template of it would hand the number of runs on to the tests that follow.
    create_anew(any_postgres_engine, tag_hours.system)
    rebuild(any_postgres_engine, tag_hours.tally)
    execute(any_postgres_engine, written(INSTANTS * 2), TAGGED)
    judge(any_postgres_engine, [TAG_HOURS])
    assert refresh(any_postgres_engine, tag_hours.tally).inserted == 11 * 3
    assert verify(any_postgres_engine, tag_hours.tally).ok
    execute(
        any_postgres_engine,
        "UPDATE forum.posts SET created_at = created_at - interval '5 hours'"
        " WHERE id % 5 = 0 AND created_at > '1900-01-01Z'",
        "DELETE FROM forum.post_tags WHERE (post_id + tag_id) % 4 = 0",
    )
    refresh(any_postgres_engine, tag_hours.tally)
    found = verify(any_postgres_engine, tag_hours.tally)
    assert found.ok
    assert found.compared == scalar(any_postgres_engine, "SELECT count(*) FROM forum.tag_hours")


def test_a_refresh_of_two_hours_far_apart_scans_no_source(engine: Engine) -> None:
    create(engine, tag_hours.system)
    execute(
        engine,
        "INSERT INTO forum.posts (author_id, created_at)"
        " SELECT i % 9, timestamptz '2020-01-01Z' + i * interval '1 hour'"
        " FROM generate_series(1, 20000) AS i",
        TAGGED,
    )
    rebuild(engine, tag_hours.tally)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM (ANALYZE)")
    execute(engine, "INSERT INTO forum.post_tags VALUES (5, 77), (19990, 77)")
    # The counts are those of a session, which may keep them over several transactions.
    engine.dispose()
    scans: list[int] = []

    @event.listens_for(engine, "commit")
    def count(connection: Connection) -> None:
        query = "SELECT coalesce(sum(seq_scan), 0) FROM pg_stat_xact_user_tables WHERE relname"
        found = connection.exec_driver_sql(f"{query} IN ('posts', 'post_tags')")
        scans.append(int(found.scalar_one()))

    assert refresh(engine, tag_hours.tally).inserted == 2
    event.remove(engine, "commit", count)
    assert scans == [0]
    assert verify(engine, tag_hours.tally).ok


def test_another_type_of_key_replaces_the_function_that_took_the_old_one(engine: Engine) -> None:
    create(engine, tag_hours.system)
    name = "forum_tag_hours_rows_of_keys"
    execute(
        engine,
        f"CREATE FUNCTION tallykeeper.{name}(integer[], timestamptz[]) RETURNS TABLE (tag_id text)"
        " LANGUAGE sql AS 'SELECT NULL::text WHERE false'",
        "DROP VIEW forum.tag_hours_live",
        "DROP FUNCTION tallykeeper.forum_tag_hours_pending_rows()",
        "CREATE FUNCTION tallykeeper.forum_tag_hours_pending_rows() RETURNS TABLE (tag_id text)"
        " LANGUAGE sql AS 'SELECT NULL::text WHERE false'",
    )
    with engine.begin() as connection:
        install(connection, tag_hours.system.tallies)
    arguments = "SELECT pg_get_function_identity_arguments(oid) FROM pg_proc WHERE proname"
    assert rows(engine, f"{arguments} = '{name}'") == [("bigint[], timestamp with time zone[]",)]


def test_an_array_in_the_group_of_a_recomputed_tally_is_refused() -> None:
    metadata = MetaData(schema="shelf")
    items = Table(
        "items",
        metadata,
        Column("id", BigInteger, primary_key=True),
        Column("tags", ARRAY(Integer), nullable=False),
    )
    derived = Table("by_tags", metadata, Column("tags", ARRAY(Integer), primary_key=True))
    with pytest.raises(DeclarationError, match="tags is an array"):
        RecomputedTally(
            system="shelf",
            table=derived,
            key=["tags"],
            measures=[],
            captures=[
                Capture(items, entity=lambda i: {"id": i.id}, key=lambda i: {"tags": i.tags})
            ],
            aggregate=lambda scope: items.select(),
        )

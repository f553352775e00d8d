"""Sessions whose role or database sets what an engine would not expect: right, or one sentence."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from tallykeeper import DoesNotFit, capture_faults, rebuild, refresh, status, verify
from tallykeeper.catalog.transactions import comparing
from tallykeeper.database.connections import DatabaseUnavailable, open_engine
from tallykeeper.installation.migrate import migrate
from tests.integration.support import create, execute, rows, scalar
from tests.library import system as media

ADD = "INSERT INTO media.media_files (path, created_at) VALUES"
LIVE = "SELECT date::text, count FROM media.daily_contributions_live ORDER BY 1"

# What goes together is set together.
SETTINGS = {
    "dates of Britain": ("datestyle = 'SQL, DMY'", "intervalstyle = 'iso_8601'"),
    "dates of Germany": ("datestyle = 'German'", "intervalstyle = 'sql_standard'"),
    "writing": (
        "timezone = 'America/St_Johns'",
        "extra_float_digits = -3",
        "bytea_output = 'escape'",
        "client_encoding = 'LATIN1'",
        "lc_messages = 'C'",
    ),
    "quoting": (
        "quote_all_identifiers = on",
        "standard_conforming_strings = off",
        "escape_string_warning = on",
        "client_encoding = 'SQL_ASCII'",
    ),
    "names": ("search_path = ''", "temp_tablespaces = ''", "row_security = off"),
    "transactions": (
        "default_transaction_isolation = 'serializable'",
        "default_transaction_deferrable = on",
        "statement_timeout = '1h'",
        "idle_in_transaction_session_timeout = '10min'",
    ),
    "planning": (
        "plan_cache_mode = 'force_generic_plan'",
        "enable_seqscan = off",
        "enable_hashjoin = off",
        "jit_above_cost = 0",
        "default_statistics_target = 1",
        "gin_fuzzy_search_limit = 1",
    ),
    "nulls": ("array_nulls = off", "transform_null_equals = on"),
}


@pytest.fixture
def odd(engine: Engine, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An engine on the test's database, which sets something odd for its sessions."""
    name = engine.url.database
    execute(engine, *(f'ALTER DATABASE "{name}" SET {each}' for each in request.param))
    engine.dispose()
    opened = open_engine(engine.url.render_as_string(hide_password=False))
    yield opened
    opened.dispose()


@pytest.mark.parametrize("odd", SETTINGS.values(), ids=SETTINGS, indirect=True)
def test_figures_are_right_whatever_the_database_sets_for_its_sessions(odd: Engine) -> None:
    migrate(odd, [media], with_sources=True)
    execute(odd, f"{ADD} ('Ä', '2024-03-01 23:30:00+00'), ('b', '2024-03-02 10:00:00+00')")
    for tally in media.tallies:
        assert refresh(odd, tally).how == "rebuild"
    execute(odd, f"{ADD} ('c', '2024-03-02 11:00:00+00')")
    for tally in media.tallies:
        assert refresh(odd, tally).how == "refresh"
        assert verify(odd, tally).ok
        assert status(odd, tally).refreshed_at is not None
        with odd.connect() as connection:
            assert capture_faults(connection, tally) == []
    assert [count for _, count in rows(odd, LIVE)] == [1, 2]
    assert migrate(odd, [media]).done == []


@pytest.mark.parametrize("odd", [("default_transaction_read_only = on",)], indirect=True)
def test_a_database_that_is_read_only_by_default_is_left_so(engine: Engine, odd: Engine) -> None:
    del engine
    with pytest.raises(DBAPIError, match="read-only transaction"):
        migrate(odd, [media], with_sources=True)


@pytest.mark.parametrize("odd", [("statement_timeout = '150ms'",)], indirect=True)
def test_a_limit_for_statements_does_not_end_a_rebuild(odd: Engine) -> None:
    create(odd, media)
    execute(odd, f"{ADD} ('a', '2024-03-01Z')")
    slow = (
        "CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END$$"
    )
    trigger = (
        "CREATE TRIGGER slow AFTER INSERT ON media.daily_contributions"
        " FOR EACH STATEMENT EXECUTE FUNCTION public.slow()"
    )
    execute(odd, slow, trigger)
    assert rebuild(odd, media.tallies[0]).rows == 1


@pytest.mark.parametrize("odd", [("session_replication_role = 'replica'",)], indirect=True)
def test_a_session_without_foreign_keys_is_refused_in_a_sentence(
    engine: Engine, odd: Engine
) -> None:
    del engine
    with pytest.raises(DatabaseUnavailable, match="RESET session_replication_role"):
        scalar(odd, "SELECT 1")


@pytest.fixture
def owned(engine: Engine) -> Iterator[Engine]:
    """The media system in the hands of a role that is no superuser, with files of two owners."""
    execute(engine, "DROP ROLE IF EXISTS tally_owner", "CREATE ROLE tally_owner LOGIN")
    execute(engine, f'GRANT CREATE ON DATABASE "{engine.url.database}" TO tally_owner')
    url = engine.url.set(username="tally_owner").render_as_string(hide_password=False)
    opened = open_engine(url)
    migrate(opened, [media], with_sources=True)
    execute(opened, f"{ADD} ('mine/a', '2024-03-01Z'), ('yours/b', '2024-03-01Z')")
    for tally in media.tallies:
        refresh(opened, tally)
    yield opened
    opened.dispose()
    execute(engine, "DROP OWNED BY tally_owner", "DROP ROLE tally_owner")


HIDE = (
    "ALTER TABLE media.media_files ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE media.media_files FORCE ROW LEVEL SECURITY",
    "CREATE POLICY own ON media.media_files USING (path LIKE 'mine/%')",
)


@pytest.mark.parametrize("work", [verify, rebuild, refresh])
def test_a_source_of_which_rows_are_hidden_is_refused_by_name(owned: Engine, work: object) -> None:
    execute(owned, *HIDE)
    said = r"media\.media_files: row security hides rows of it from the role tally_owner"
    with pytest.raises(DoesNotFit, match=said):
        work(owned, media.tallies[0])  # type: ignore[operator]
    assert scalar(owned, "SELECT sum(count)::int FROM media.daily_contributions") == 2


def test_rows_that_are_hidden_from_now_on_are_an_error_and_no_smaller_figure(owned: Engine) -> None:
    execute(owned, *HIDE)
    files = "SELECT count(*) FROM media.media_files"
    refused = pytest.raises(DBAPIError, match='row-level security policy for table "media_files"')
    with comparing(owned, media.tallies[0]) as connection, refused:
        connection.exec_driver_sql(files)
    assert scalar(owned, files) == 1


def test_a_live_view_never_counts_the_visible_rows_alone(owned: Engine) -> None:
    execute(owned, *HIDE)
    assert rows(owned, LIVE)[0][1] == 2
    execute(
        owned,
        "INSERT INTO tallykeeper.stale_marks (tally, reason)"
        f" VALUES ('{media.tallies[0].name}', 'a test')",
    )
    with pytest.raises(DBAPIError, match='row-level security policy for table "media_files"'):
        rows(owned, LIVE)

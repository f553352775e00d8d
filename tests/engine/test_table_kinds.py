"""Tables that take triggers and yet cannot be kept exactly are refused, in one sentence each."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from tallykeeper import NotInstalled
from tallykeeper.installation.migrate import migrate
from tests.integration.support import execute, scalar
from tests.library import system as media

OF_CITUS = "CREATE TABLE public.pg_dist_partition (logicalrelid regclass)"
OF_TIMESCALE = (
    "CREATE SCHEMA _timescaledb_catalog",
    "CREATE TABLE _timescaledb_catalog.hypertable (schema_name name, table_name name)",
)
FILES = (
    "CREATE SCHEMA media",
    "CREATE {} TABLE media.media_files (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
    " path text NOT NULL UNIQUE, original_created_at timestamptz,"
    " created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now())"
    " {}",
)


def make(engine: Engine, before: str = "", after: str = "") -> None:
    execute(engine, *(statement.format(before, after) for statement in FILES))


def require_refused(engine: Engine, said: str) -> None:
    with pytest.raises(NotInstalled, match=rf"media\.media_files {said}.*Nothing was changed"):
        migrate(engine, [media])
    assert scalar(engine, "SELECT to_regnamespace('tallykeeper') IS NULL")


def test_a_table_that_citus_distributes_is_refused(engine: Engine) -> None:
    make(engine)
    execute(engine, OF_CITUS, "INSERT INTO pg_dist_partition VALUES ('media.media_files')")
    require_refused(engine, "is distributed by Citus")


def test_a_hypertable_is_refused(engine: Engine) -> None:
    make(engine)
    added = "INSERT INTO _timescaledb_catalog.hypertable VALUES ('media', 'media_files')"
    execute(engine, *OF_TIMESCALE, added)
    require_refused(engine, "is a hypertable of TimescaleDB")


def test_a_table_of_another_access_method_is_refused(any_postgres_engine: Engine) -> None:
    method = "CREATE ACCESS METHOD columns TYPE TABLE HANDLER heap_tableam_handler"
    execute(any_postgres_engine, method)
    make(any_postgres_engine, after="USING columns")
    require_refused(any_postgres_engine, "is stored by the access method 'columns'")


def test_plain_tables_beside_those_of_extensions_are_kept(engine: Engine) -> None:
    make(engine)
    execute(engine, OF_CITUS, *OF_TIMESCALE, "CREATE TABLE public.other (id int)")
    execute(engine, "INSERT INTO pg_dist_partition VALUES ('public.other')")
    execute(engine, "INSERT INTO _timescaledb_catalog.hypertable VALUES ('public', 'other')")
    assert migrate(engine, [media]).systems == [media]

"""Nobody runs code as the owner: the functions of the engine's schema, all that there are."""

from __future__ import annotations

import re
from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import Connection, Engine

from assets.media.tallies import daily_contributions
from assets.media.tallies import system as media
from tallykeeper import refresh, verify
from tallykeeper.catalog import function_rights
from tallykeeper.database.connections import open_engine
from tallykeeper.database.sql import quote
from tallykeeper.discovery import all_systems
from tallykeeper.installation.migrate import migrate
from tests.integration.support import execute, rows, scalar
from tests.role_world import (
    APPLICATION,
    NO_PRIVILEGE,
    World,
    divide,
    keep_up,
    require_exact,
    sqlstate_of,
    world_of,
    write,
)
from tests.servers import Servers

TRIGGERS = "p.prorettype = 'trigger'::regtype"
ALL = f"SELECT {function_rights.SIGNATURE} FROM {function_rights.OF_ENGINE}"
OPEN = f"{ALL} WHERE {function_rights.OPEN} ORDER BY 1"
# What an attacker writes: a function that runs as its caller.
TRAP = (
    "CREATE FUNCTION pg_temp.trap() RETURNS text LANGUAGE plpgsql AS"
    " $$BEGIN RAISE EXCEPTION 'trapped'; END$$"
)


@pytest.fixture(scope="module")
def divided(postgres_servers: Servers) -> Iterator[World]:
    """All systems with three roles, and something in each source."""
    with postgres_servers.fresh_database(18) as url:
        admin = open_engine(url)
        with world_of(admin) as world:
            divide(world)
            for system in all_systems():
                write(world, system)
                keep_up(world, system)
            yield world
        admin.dispose()


def functions(engine: Engine, condition: str = "true") -> list[str]:
    return [name for (name,) in rows(engine, f"{ALL} WHERE {condition} ORDER BY 1")]


def test_public_may_execute_none(divided: World) -> None:
    assert len(functions(divided.admin)) > 100
    assert rows(divided.admin, OPEN) == []


@pytest.mark.parametrize("role", ["web", "look", "runs"])
def test_no_role_can_hang_a_trigger_function_on_a_table_of_its_own(
    divided: World, role: str
) -> None:
    engine = divided.as_role(role)
    found = functions(divided.admin, TRIGGERS)
    assert len(found) > 40
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TEMP TABLE mine (i integer)")
        for function in found:
            for event, transitions in (
                ("INSERT", "REFERENCING NEW TABLE AS new_rows"),
                ("DELETE", "REFERENCING OLD TABLE AS old_rows"),
                ("TRUNCATE", ""),
            ):
                state = refused(
                    connection,
                    f"CREATE TRIGGER x AFTER {event} ON mine {transitions}"
                    f" FOR EACH STATEMENT EXECUTE FUNCTION {function}",
                )
                assert state == NO_PRIVILEGE, f"{role}: {function}"


def test_the_application_executes_none(divided: World) -> None:
    for role in ("web", APPLICATION):
        allowed = f"{ALL} WHERE has_function_privilege(p.oid, 'EXECUTE')"
        assert rows(divided.as_role(role), allowed) == []


def test_only_what_was_made_for_it_runs_as_the_owner_for_a_role(divided: World) -> None:
    definer = "p.prosecdef AND has_function_privilege(p.oid, 'EXECUTE')"
    for login in ("look", "runs"):
        mine = [f for (f,) in rows(divided.as_role(login), f"{ALL} WHERE {definer} ORDER BY 1")]
        assert mine
        assert not [f for f in mine if "capture_" in f or "_hand" in f or "cascade" in f]
        changing = [
            name
            for (name,) in rows(
                divided.as_role(login), f"{ALL} WHERE {definer} AND p.provolatile = 'v' ORDER BY 1"
            )
        ]
        # The reader's change nothing; the refresher's hold rows, make and drop days of events, and
        # take from raw events what was redacted.
        expected = (
            r"(hold_|fediverse_(make|drop)_partition|fediverse_stray_days|fediverse_redact\()"
        )
        assert not (login == "look" and changing)
        assert [f for f in changing if not re.search(expected, f)] == []


@pytest.mark.parametrize("role", ["look", "runs", "web"])
def test_no_name_in_a_function_can_be_shadowed(divided: World, role: str) -> None:
    """Every word of every body that could be a relation's name is a trap of the session's."""
    bodies = rows(
        divided.admin,
        f"SELECT {function_rights.SIGNATURE}, p.prosrc, p.pronargs FROM {function_rights.OF_ENGINE}"
        f" WHERE p.prosecdef AND NOT ({TRIGGERS}) ORDER BY 1",
    )
    assert len(bodies) > 30
    called = 0
    engine = open_engine(divided.as_role(role).url.render_as_string(hide_password=False))
    with engine.connect() as connection:
        connection.exec_driver_sql(TRAP)
        words = {w for _, body, _ in bodies for w in re.findall(r"[a-z_]\w*", body)}
        catalog = {n for (n,) in rows(divided.admin, "SELECT typname FROM pg_type")}
        for word in sorted(words - catalog):
            connection.exec_driver_sql(
                f'CREATE TEMP VIEW "{word}" AS SELECT pg_temp.trap() AS trap'
            )
            connection.exec_driver_sql(f'GRANT SELECT ON pg_temp."{word}" TO PUBLIC')
        for signature, _, count in bodies:
            nulls = ", ".join(["NULL"] * count)
            error = refused(connection, f"SELECT * FROM {signature.split('(')[0]}({nulls})")
            called += error != NO_PRIVILEGE
            assert error != "P0001", f"{signature} reads what {role} put before it"
    engine.dispose()
    assert called > 10 or role == "web"


def test_the_application_cannot_shadow_the_rows_that_its_own_statement_changed(
    divided: World,
) -> None:
    before = rows(divided.look, "SELECT date, count FROM media.daily_contributions_live")
    with divided.web.begin() as connection:
        connection.exec_driver_sql(TRAP)
        for name in ("new_rows", "old_rows"):
            connection.exec_driver_sql(
                f"CREATE TEMP VIEW {name} AS SELECT f.*, pg_temp.trap() AS trap"
                " FROM media.media_files AS f"
            )
            connection.exec_driver_sql(f"GRANT SELECT ON pg_temp.{name} TO PUBLIC")
        connection.exec_driver_sql(
            "INSERT INTO media.media_files (path, created_at, updated_at)"
            " VALUES ('/shadow', '1999-01-01Z', '1999-01-01Z')"
        )
        connection.exec_driver_sql(
            "UPDATE media.media_files SET original_created_at = '1999-01-02Z'"
            " WHERE path = '/shadow'"
        )
    require_exact(divided, daily_contributions)
    after = rows(divided.look, "SELECT date, count FROM media.daily_contributions_live")
    assert len(after) == len(before) + 1
    execute(divided.admin, "DELETE FROM media.media_files WHERE path = '/shadow'")
    refresh(divided.runs, daily_contributions)


def test_migrate_closes_an_installation_that_was_open(divided: World) -> None:
    migrate(divided.deploy)
    for (signature,) in rows(divided.admin, ALL):
        execute(divided.admin, f"GRANT EXECUTE ON ROUTINE {signature} TO PUBLIC")
    assert rows(divided.admin, OPEN)
    assert migrate(divided.deploy).done == []
    assert rows(divided.admin, OPEN) == []
    # And again there is nothing to do.
    assert migrate(divided.deploy).done == []
    for tally in media.tallies:
        require_exact(divided, tally)
        assert verify(divided.runs, tally).ok


def test_readers_made_by_hand_may_call_what_their_views_call(divided: World) -> None:
    """Of the live view itself, of a view on it, and by a column alone."""
    model = quote("model")
    execute(
        divided.admin,
        "CREATE SCHEMA reports",
        f"GRANT USAGE ON SCHEMA reports, media TO {model}",
        f"GRANT SELECT (count) ON media.hourly_contributions_live TO {model}",
        f"CREATE VIEW reports.days AS SELECT * FROM {daily_contributions.live_name}",
        f"GRANT SELECT ON reports.days TO {model}",
    )
    as_model = divided.as_role("model")
    assert sqlstate_of(as_model, "SELECT * FROM reports.days") == NO_PRIVILEGE
    migrate(divided.deploy)
    assert scalar(as_model, "SELECT sum(count) FROM reports.days") > 0
    assert scalar(as_model, "SELECT sum(count) FROM media.hourly_contributions_live") > 0
    execute(
        divided.admin,
        "GRANT SELECT ON reports.days TO PUBLIC",
    )
    (said,) = migrate(divided.deploy).done
    assert said.startswith("reports.days is granted to PUBLIC, but its functions are not")
    execute(divided.admin, "DROP SCHEMA reports CASCADE")
    assert migrate(divided.deploy).done == []


def test_the_owner_of_a_partitioned_source_adds_partitions(
    postgres_servers: Servers,
) -> None:
    with postgres_servers.fresh_database(18) as url:
        admin = open_engine(url)
        execute(
            admin,
            "CREATE SCHEMA media",
            "CREATE ROLE partitioner",
            "CREATE TABLE media.media_files (id bigint GENERATED ALWAYS AS IDENTITY,"
            " path text NOT NULL, original_created_at timestamptz,"
            " created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz,"
            " PRIMARY KEY (id, created_at), UNIQUE (path, created_at))"
            " PARTITION BY RANGE (created_at)",
            "ALTER TABLE media.media_files OWNER TO partitioner",
            "GRANT USAGE, CREATE ON SCHEMA media TO partitioner",
        )
        migrate(admin, [media])
        execute(
            admin,
            "SET LOCAL ROLE partitioner",
            "CREATE TABLE media.early PARTITION OF media.media_files"
            " FOR VALUES FROM (MINVALUE) TO ('2024-03-03Z')",
            "INSERT INTO media.media_files (path, created_at) VALUES ('a', '2024-01-01Z')",
        )
        allowed = f"{ALL} WHERE has_function_privilege('partitioner', p.oid, 'EXECUTE')"
        assert rows(admin, allowed) == [("tallykeeper.guard_merge()",)]
        assert scalar(admin, "SELECT sum(count) FROM media.daily_contributions_live") == 1
        execute(admin, "DROP OWNED BY partitioner CASCADE", "DROP ROLE partitioner")
        admin.dispose()


def refused(connection: Connection, statement: str) -> str:
    """The SQLSTATE with which the statement fails; it leaves nothing behind."""
    savepoint = connection.begin_nested()
    try:
        connection.exec_driver_sql(statement.replace("%", "%%"))
    except Exception as error:  # noqa: BLE001 -- whatever the server says
        savepoint.rollback()
        original = getattr(error, "orig", error)
        assert isinstance(original, psycopg.Error)
        return str(original.sqlstate)
    savepoint.rollback()
    return "none"

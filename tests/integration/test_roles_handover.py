"""How an installation is divided among roles: handed over, run twice, granted what comes later."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError, ProgrammingError

from assets.gallery.tallies import content_tags, gen_source_stats
from assets.gallery.tallies import system as gallery
from assets.media.tallies import daily_contributions
from assets.media.tallies import system as media
from tallykeeper import NotInstalled, NotPermitted, Progress, backfill, refresh, status
from tallykeeper.catalog.privileges import MAINTAIN_SINCE, may_maintain, server_version
from tallykeeper.catalog.transactions import lock_referenced
from tallykeeper.database.sql import quote
from tallykeeper.installation.migrate import migrate
from tallykeeper.installation.roles_script import Wanted, roles_sql
from tallykeeper.maintain.derived_rows import VACUUM_AFTER_ROWS
from tests.integration.support import execute, rows
from tests.role_world import (
    APPLICATION,
    NO_PRIVILEGE,
    WANTED,
    World,
    change,
    divide,
    keep_up,
    require_exact,
    sqlstate_of,
    world_of,
    write,
)


@pytest.fixture
def world(any_postgres_engine: Engine) -> Iterator[World]:
    """The sources of media and the gallery, on every version; nothing is installed."""
    with world_of(any_postgres_engine, [media, gallery]) as world:
        yield world


@pytest.fixture
def divided(engine: Engine) -> Iterator[World]:
    """The same on one version, divided and installed."""
    with world_of(engine, [media, gallery]) as world:
        divide(world, [media, gallery])
        yield world


def install_as_application(world: World) -> None:
    """As it was before: the application's role owns all of it."""
    with world.admin.begin() as connection:
        name = connection.exec_driver_sql("SELECT current_database()").scalar()
        connection.exec_driver_sql(f"GRANT CREATE ON DATABASE {name} TO {quote(APPLICATION)}")
    migrate(world.as_role(APPLICATION), [media, gallery])
    for system in (media, gallery):
        write(world, system)
        for tally in system.tallies:
            refresh(world.as_role(APPLICATION), tally)
        change(world, system)


def test_an_installation_is_handed_over_with_its_changes_pending(world: World) -> None:
    install_as_application(world)
    divide(world, [media, gallery])
    assert migrate(world.deploy, [media, gallery]).done == []
    owned = "SELECT DISTINCT pg_get_userbyid({}) FROM {} WHERE {} = 'tallykeeper'::regnamespace"
    assert rows(world.admin, owned.format("relowner", "pg_class", "relnamespace")) == [
        (WANTED.owner,)
    ]
    assert rows(world.admin, owned.format("proowner", "pg_proc", "pronamespace")) == [
        (WANTED.owner,)
    ]
    for system in (media, gallery):
        assert sum(status(world.look, tally).pending for tally in system.tallies)
        for tally in system.tallies:
            require_exact(world, tally)
        keep_up(world, system)
        change(world, system)
        keep_up(world, system)
    # Who owned the derived tables goes on reading them, and may write them no more.
    application = world.as_role(APPLICATION)
    assert rows(application, "SELECT count(*) FROM media.daily_contributions_live")
    assert sqlstate_of(application, "DELETE FROM media.daily_contributions") == NO_PRIVILEGE
    with pytest.raises(ProgrammingError, match="permission denied"):
        refresh(application, daily_contributions)


def test_what_the_next_migration_makes_is_granted_too(divided: World) -> None:
    execute(
        divided.admin,
        "DROP TABLE media.daily_contributions CASCADE",
        "DROP TABLE tallykeeper.gallery_content_tags_log CASCADE",
    )
    said = migrate(divided.deploy, [media, gallery]).done
    assert f"granted {WANTED.reader} what it lacked" in said
    assert migrate(divided.deploy, [media, gallery]).done == []
    for system in (media, gallery):
        write(divided, system)
        keep_up(divided, system)
        for tally in system.tallies:
            require_exact(divided, tally)


def test_a_role_that_is_not_on_this_server_is_reported_and_stops_nothing(divided: World) -> None:
    execute(divided.admin, "UPDATE tallykeeper.roles SET role = 'gone' WHERE part = 'reader'")
    assert migrate(divided.deploy, [media, gallery]).done == [
        "granted nothing to gone, which tallykeeper.roles names: there is no such role on this"
        " server; see `tally roles`"
    ]


def test_a_declaration_that_changed_is_for_the_owner_to_install(divided: World) -> None:
    execute(divided.admin, "UPDATE tallykeeper.tally_state SET declaration_hash = 'another'")
    for tally in (content_tags, daily_contributions):
        with pytest.raises(NotInstalled, match=r"its declaration changed; run `tally migrate`"):
            refresh(divided.runs, tally)
    migrate(divided.deploy, [media, gallery])
    refresh(divided.runs, content_tags)
    assert refresh(divided.runs, daily_contributions).reason == (
        "never built; its declaration changed"
    )
    owner = "SELECT DISTINCT pg_get_userbyid(proowner) FROM pg_proc WHERE proname LIKE 'capture_%'"
    assert rows(divided.admin, owner) == [(WANTED.owner,)]


def test_the_refresher_cannot_go_on_where_the_owner_began_to_load(divided: World) -> None:
    write(divided, gallery)

    class Killed(Exception):
        pass

    def kill(_: Progress) -> None:
        raise Killed

    with pytest.raises(Killed):
        backfill(divided.deploy, content_tags, on_progress=kill)
    with pytest.raises(NotPermitted, match=r"half loaded.*`tally backfill gallery.content_tags`"):
        backfill(divided.runs, content_tags)
    require_exact(divided, content_tags)
    backfill(divided.deploy, content_tags)
    keep_up(divided, gallery)


@pytest.mark.parametrize("some", [False, True], ids=["all", "some"])
def test_the_refresher_holds_what_it_refers_to_without_a_right_to_change_it(
    divided: World, some: bool
) -> None:
    write(divided, gallery)
    live = f"SELECT DISTINCT ON (user_id) d.* FROM {gen_source_stats.live_name} AS d"
    few = f"({live} WHERE user_id IS NOT NULL LIMIT 2)"
    locked = "SELECT count(*) FROM (SELECT FROM gallery.users FOR UPDATE SKIP LOCKED) AS free"
    users = rows(divided.web, locked)[0][0]
    with divided.runs.begin() as connection:
        lock_referenced(connection, gen_source_stats, few if some else None)
        assert rows(divided.web, locked) == [(users - 2 if some else 0,)]
        assert sqlstate_of(divided.web, "DELETE FROM gallery.tags WHERE false") == "none"
    with divided.web.begin() as deleting:
        deleting.exec_driver_sql("SELECT FROM gallery.users FOR UPDATE")
        refused = pytest.raises(OperationalError, match=r"rows of gallery\.users .* are locked")
        with refused, divided.runs.begin() as connection:
            lock_referenced(connection, gen_source_stats)
    holding = "SELECT tallykeeper.hold_gallery_gen_source_stats_user_id(NULL)"
    assert sqlstate_of(divided.look, holding) == NO_PRIVILEGE


def test_the_script_may_be_run_twice_and_changes_nothing_then(divided: World) -> None:
    state_of = (
        "SELECT 'r', oid::regclass::text, relowner::regrole::text, relacl::text FROM pg_class"
        " WHERE relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname !~ '^(pg_|info)')"
        " UNION ALL SELECT 'm', roleid::regrole::text, member::regrole::text, NULL"
        " FROM pg_auth_members WHERE roleid > 16383 ORDER BY 1, 2, 3"
    )
    before = rows(divided.admin, state_of)
    divided.run_script([media, gallery])
    divided.run_script([media, gallery])
    assert rows(divided.admin, state_of) == before


def test_no_role_gets_a_superusers_rights(world: World) -> None:
    execute(world.admin, "ALTER TABLE gallery.tags OWNER TO postgres")
    with pytest.raises(NotPermitted, match=r"gallery.tags belongs to 'postgres', a superuser"):
        roles_sql(world.admin, [media, gallery], WANTED)


@pytest.mark.parametrize(
    "wanted",
    [Wanted("a", "a", "b"), Wanted("", "a", "b"), Wanted("x" * 64, "a", "b")],
    ids=["twice", "empty", "long"],
)
def test_roles_have_names_of_their_own(engine: Engine, wanted: Wanted) -> None:
    with pytest.raises(NotPermitted, match="expected three roles with names of their own"):
        roles_sql(engine, [media], wanted)


def test_a_log_is_cleared_where_the_server_lets_one_who_does_not_own_it(world: World) -> None:
    divide(world, [media])
    with world.runs.connect() as connection:
        granted = server_version(connection) >= MAINTAIN_SINCE
        assert may_maintain(connection, daily_contributions.log_name) == granted
    with world.deploy.connect() as connection:
        assert may_maintain(connection, daily_contributions.log_name)
    execute(
        world.web,
        "INSERT INTO media.media_files (path, original_created_at)"
        " SELECT n, '2020-01-01'::timestamptz + n * interval '1 day'"
        " FROM generate_series(1, 3000) AS n",
    )
    refresh(world.runs, daily_contributions)
    execute(world.web, "DELETE FROM media.media_files WHERE id % 2 = 0")
    assert refresh(world.runs, daily_contributions).pending_consumed > VACUUM_AFTER_ROWS
    with world.admin.connect() as connection:
        counted = connection.exec_driver_sql(
            "SELECT vacuum_count FROM pg_stat_all_tables WHERE relid ="
            f" '{daily_contributions.log_name}'::regclass"
        )
        assert (counted.scalar_one() > 0) == granted

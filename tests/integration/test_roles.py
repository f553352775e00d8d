"""Who may do what once the work is divided among roles: one's own work, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from assets.fediverse.reads import record_sentiment, unanalyzed_posts, write_summary_text
from assets.fediverse.storage import partitions
from assets.fediverse.storage.archive import EVENTS
from assets.fediverse.storage.log import process_log
from assets.fediverse.storage.thinning import thin_snapshots
from assets.fediverse.tallies import system as fediverse
from assets.gallery.tallies import content_tags, gen_source_stats
from assets.gallery.tallies import system as gallery
from assets.media.tallies import daily_contributions
from assets.media.tallies import system as media
from tallykeeper import System, backfill, capture_faults, rebuild, refresh, status, verify
from tallykeeper.archive.runs import archive
from tallykeeper.archive.store import open_store
from tallykeeper.archive.verification import verify as verify_files
from tallykeeper.catalog import state
from tallykeeper.database.connections import open_engine
from tallykeeper.database.sql import quote
from tallykeeper.discovery import all_systems
from tallykeeper.http.app import create_app
from tallykeeper.installation import roles
from tallykeeper.select.tally import SelectTally
from tallykeeper.settings import project_root
from tests.integration.serving_client import Client
from tests.integration.support import execute, rows, scalar
from tests.role_world import (
    APPLICATION,
    MODEL,
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
from tests.servers import Servers


@pytest.fixture(scope="module")
def divided(postgres_servers: Servers) -> Iterator[World]:
    """All systems, built by the refresher from what the application wrote, with changes pending."""
    with postgres_servers.fresh_database(18) as url:
        admin = open_engine(url)
        with world_of(admin) as world:
            divide(world)
            for system in all_systems():
                write(world, system)
                keep_up(world, system)
                change(world, system)
            yield world
        admin.dispose()


ASKED = {
    "name": "x",
    "domain": "x",
    "id": "1",
    "ids": "1,2",
    "instance": "1",
    "day": "2025-11-20",
    "unit": "week",
    "system": "gallery",
    "table": "gen_source_stats",
}


def test_the_service_answers_the_same_as_the_reader(divided: World) -> None:
    asked = 0
    as_reader = Client(create_app(divided.look))
    as_administrator = Client(create_app(divided.admin))
    for path, operations in create_app().openapi()["paths"].items():
        given = operations.get("get", {}).get("parameters", [])
        wanted = {p["name"]: ASKED[p["name"]] for p in given if p.get("required")}
        if "get" in operations:
            url = path.format(**wanted)
            wanted = {name: v for name, v in wanted.items() if f"{{{name}}}" not in path}
            found = as_reader.get(url, params=wanted)
            assert found.status_code == as_administrator.get(url, params=wanted).status_code, url
            # The demo's events are old, so it is not ready for anybody.
            assert found.status_code in (200, 404) or url == "/ready", found.text
            asked += 1
    assert asked > 20
    listed = [c.get("/api/tallies").json()["tallies"] for c in (as_reader, as_administrator)]
    assert listed[0] == listed[1]
    assert len(listed[0]) == sum(len(system.tallies) for system in all_systems())
    for each in listed[0]:
        bodies = [c.get(each["address"]).json()["rows"] for c in (as_reader, as_administrator)]
        assert bodies[0] == bodies[1], each["address"]
    groups = "/api/tallies/classroom.submission_counts/groups?group_by="
    for by in ("course_id", "assignment_group_id"):
        bodies = [c.get(groups + by).json()["groups"] for c in (as_reader, as_administrator)]
        assert bodies[0] == bodies[1]


def test_the_refresher_redacts_what_it_may_not_change(
    divided: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLY_FEDIVERSE_REDACT", "1")
    process_log(divided.runs)
    said = (
        "FROM fediverse.stream_events AS e JOIN fediverse.mastodon_posts AS p"
        " ON p.instance_id = e.instance_id AND p.id = e.payload_status_id"
        " WHERE jsonb_exists(e.payload, 'content')"
    )
    post = scalar(divided.admin, f"SELECT p.id {said} AND p.deleted_at IS NULL LIMIT 1")
    execute(
        divided.admin,
        "INSERT INTO fediverse.stream_events (instance_id, event_type, payload)"
        f" SELECT instance_id, 'delete', to_jsonb(id) FROM fediverse.mastodon_posts"
        f" WHERE id = '{post}'",
    )
    process_log(divided.runs)
    assert scalar(divided.admin, f"SELECT count(*) {said} AND p.id = '{post}'") == 0


@pytest.mark.parametrize("system", all_systems(), ids=lambda s: s.name)
def test_the_reader_reads_exact_figures_while_changes_are_pending(
    divided: World, system: System
) -> None:
    if system.process is not None:
        system.process(divided.runs)
    pending = [status(divided.look, tally).pending for tally in system.tallies]
    assert sum(pending) > 0
    for tally in system.tallies:
        require_exact(divided, tally)


def test_the_reader_reads_exact_figures_of_stale_tallies(divided: World) -> None:
    execute(
        divided.admin,
        *(
            f"INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES ('{name}', 'a test')"
            for name in ("media.daily_contributions", "gallery.gen_source_stats")
        ),
    )
    for tally in (daily_contributions, gen_source_stats):
        assert status(divided.look, tally).stale == ("a test",)
        require_exact(divided, tally)
        assert refresh(divided.runs, tally).reason == "a test"
        require_exact(divided, tally)


def test_the_refresher_rebuilds_backfills_and_keeps_house(
    divided: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for tally in media.tallies:
        rebuild(divided.runs, tally)
    assert backfill(divided.runs, content_tags, restart=True).rows
    assert verify(divided.runs, content_tags, windows="touched").ok
    with divided.runs.connect() as connection:
        for tally in (tally for system in all_systems() for tally in system.tallies):
            assert capture_faults(connection, tally) == []
    thin_snapshots(divided.runs)
    with divided.runs.begin() as connection:
        today = partitions.today_of(connection)
        assert partitions.why_left_alone(connection) is None
        assert partitions.ensure_around(connection, today, 9)
    monkeypatch.setenv("TALLY_ARCHIVE", str(tmp_path))
    due = today - timedelta(days=1)
    assert archive(divided.runs, EVENTS, open_store(), before=due).written
    assert verify_files(divided.runs, EVENTS, open_store()).ok
    done = partitions.dropped(divided.runs, 1)
    assert done.left_alone is None
    assert done.dropped
    assert done.freed_bytes
    fediverse_exact(divided)


def fediverse_exact(world: World) -> None:
    for tally in fediverse.tallies:
        refresh(world.runs, tally)
        assert verify(world.runs, tally).ok


FORBIDDEN = {
    "runs": [
        "INSERT INTO media.media_files (path) VALUES ('x')",
        "UPDATE media.media_files SET path = path",
        "DELETE FROM media.media_files",
        "TRUNCATE media.media_files",
        "INSERT INTO fediverse.stream_events (instance_id, event_type) VALUES (1, 'x')",
        "UPDATE fediverse.stream_events SET payload = NULL",
        "DELETE FROM fediverse.stream_events",
        "INSERT INTO fediverse.post_sentiments DEFAULT VALUES",
        "SELECT FROM gallery.users FOR KEY SHARE",
        "TRUNCATE media.daily_contributions",
        "DROP TABLE media.daily_contributions",
        "ALTER TABLE media.daily_contributions ADD extra integer",
        "DROP VIEW media.daily_contributions_live",
        "DROP FUNCTION tallykeeper.require_unbroken",
        "CREATE INDEX ON media.daily_contributions (count)",
        "ALTER TABLE media.media_files DISABLE TRIGGER tallykeeper_insert",
        "ALTER TABLE media.daily_contributions DISABLE TRIGGER USER",
        "SET session_replication_role = replica",
        "INSERT INTO tallykeeper.media_daily_contributions_log (count) VALUES (1)",
        "UPDATE tallykeeper.media_daily_contributions_log SET count = 1",
        "INSERT INTO tallykeeper.unbuilt VALUES ('gallery.content_tags', 0, 'index', 'x', 'y')",
        "UPDATE tallykeeper.roles SET role = 'tally_stranger'",
        "CREATE TABLE media.mine (x integer)",
        "CREATE TABLE tallykeeper.mine (x integer)",
        "CREATE SCHEMA mine",
        'SET ROLE "tally Owner"',
        "CREATE ROLE mine",
    ],
    "look": [
        "SELECT count(*) FROM media.media_files",
        "SELECT path FROM media.media_files",
        "SELECT * FROM tallykeeper.media_daily_contributions_log",
        "SELECT * FROM tallykeeper.gallery_content_tags_log",
        "SELECT payload FROM fediverse.stream_events",
        "SELECT * FROM classroom.submission_log",
        "SELECT * FROM gallery.users",
        "INSERT INTO media.daily_contributions (date, count) VALUES (now(), 1)",
        "UPDATE media.daily_contributions SET count = 1",
        "DELETE FROM media.daily_contributions",
        "TRUNCATE media.daily_contributions",
        "UPDATE gallery.tags SET name = name",
        "DELETE FROM fediverse.mastodon_posts",
        "INSERT INTO tallykeeper.stale_marks VALUES ('media.daily_contributions', 'x')",
        "DELETE FROM tallykeeper.incidents",
        "SELECT tallykeeper.fediverse_make_partition('2020-01-01')",
        "SELECT * FROM tallykeeper.fediverse_drop_partition('fediverse.x', true)",
        "SELECT * FROM dagster.anything",
        "CREATE TABLE media.mine (x integer)",
        'SET ROLE "tally Owner"',
        'SET ROLE "tally ""refresher"""',
    ],
    "web": [
        "SELECT * FROM media.daily_contributions",
        "UPDATE media.daily_contributions SET count = 1",
        "DELETE FROM gallery.content_tags",
        "SELECT * FROM tallykeeper.tally_state",
        "INSERT INTO tallykeeper.media_daily_contributions_log (count) VALUES (1)",
        "ALTER TABLE media.media_files DISABLE TRIGGER tallykeeper_insert",
        'SET ROLE "tally Owner"',
    ],
    APPLICATION: [
        "SELECT * FROM media.daily_contributions",
        "UPDATE media.daily_contributions SET count = 1",
        "DELETE FROM tallykeeper.media_daily_contributions_log",
        'SET ROLE "tally Owner"',
    ],
}


@pytest.mark.parametrize(
    ("login", "statement"),
    [(login, statement) for login, statements in FORBIDDEN.items() for statement in statements],
)
def test_nobody_may_do_anothers_work(divided: World, login: str, statement: str) -> None:
    assert sqlstate_of(divided.as_role(login), statement) == NO_PRIVILEGE
    assert sqlstate_of(divided.admin, statement) != NO_PRIVILEGE


WRITABLE = """
SELECT quote_ident(n.nspname) || '.' || c.relname FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v') AND NOT pg_has_role('{role}', c.relowner, 'USAGE')
AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND ({may}) ORDER BY 1
"""


def may(world: World, login: str, *privileges: str) -> set[str]:
    """The tables on which this login has one of the privileges, though it does not own them."""
    asked = " OR ".join(f"has_table_privilege('{login}', c.oid, '{p}')" for p in privileges)
    return {name for (name,) in rows(world.admin, WRITABLE.format(role=login, may=asked))}


def test_the_refresher_writes_derived_tables_and_the_engines_and_no_others(divided: World) -> None:
    derived = {table.fullname for system in all_systems() for table in system.derived}
    written = may(divided, "runs", "INSERT", "UPDATE")
    assert {name for name in written if not name.startswith("tallykeeper.")} == derived
    kept = {f"tallykeeper.{name}" for name, allowed in roles.KEPT.items() if "UPDATE" in allowed}
    states = {
        node.state
        for system in all_systems()
        for tally in system.tallies
        if isinstance(tally, SelectTally)
        for node in tally.plan.nodes
    }
    assert states
    assert may(divided, "runs", "UPDATE") - derived == {
        *kept,
        *states,
        "tallykeeper.fediverse_archived_events",
        "tallykeeper.fediverse_log",
    }
    # What a replay loads is emptied at its end.
    assert may(divided, "runs", "TRUNCATE") == {"tallykeeper.fediverse_archived_events"}
    assert may(divided, "runs", "TRIGGER", "REFERENCES") == set()


def test_the_reader_writes_nothing(divided: World) -> None:
    assert may(divided, "look", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "TRIGGER") == set()


def test_each_table_of_the_engine_is_either_kept_by_the_refresher_or_known_to_be_the_owners() -> (
    None
):
    assert {table.name for table in state.metadata.tables.values()} == set(roles.KEPT)


def test_the_application_writes_as_before(divided: World) -> None:
    execute(
        divided.web,
        "INSERT INTO media.media_files (path, original_created_at)"
        " SELECT 'w' || n, '2025-11-20' FROM generate_series(1, 9) AS n",
        "UPDATE media.media_files SET original_created_at = '2025-11-21' WHERE path = 'w1'",
        "DELETE FROM media.media_files WHERE path = 'w2'",
    )
    require_exact(divided, daily_contributions)
    execute(divided.web, "TRUNCATE media.media_files")
    require_exact(divided, daily_contributions)
    keep_up(divided, media)


def test_a_deleted_user_takes_the_counts_along_whatever_role_deletes(divided: World) -> None:
    execute(
        divided.web,
        "DELETE FROM gallery.content_items",
        "DELETE FROM gallery.content_items_auto",
        "DELETE FROM gallery.users",
    )
    for tally in gallery.tallies:
        require_exact(divided, tally)
    keep_up(divided, gallery)


def test_a_text_model_writes_what_it_says_by_the_grants_of_the_guide(divided: World) -> None:
    guide = (project_root() / "docs/how-to/roles.md").read_text()
    statements = re.findall(r"^GRANT [^;]* TO model;", guide, re.MULTILINE)
    assert len(statements) == 3
    reader = quote(WANTED.reader)
    execute(divided.admin, *(s.replace("tallykeeper_reader", reader) for s in statements))
    model = divided.as_role(MODEL)
    with model.begin() as connection:
        (post,) = unanalyzed_posts(connection, model="m", prompt_version="1", limit=1)
        record_sentiment(
            connection,
            post.instance_id,
            post.post_id,
            model="m",
            prompt_version="1",
            input_hash=post.input_hash,
            score=0.5,
        )
    keep_up(divided, fediverse)
    ((instance, day),) = rows(
        model, "SELECT instance_id, window_start FROM fediverse.daily_summaries LIMIT 1"
    )
    with model.begin() as connection:
        write_summary_text(
            connection,
            instance,
            day,
            model="m",
            prompt_version="1",
            summary_text="quiet",
            input_hash="x",
        )
    change_of_a_figure = "UPDATE fediverse.daily_summaries SET post_count = 0"
    assert sqlstate_of(model, change_of_a_figure) == NO_PRIVILEGE

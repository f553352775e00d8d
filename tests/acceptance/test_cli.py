"""What people do with `tally`, from an empty database to one that was found wrong and resolved."""

from __future__ import annotations

import json
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from assets.media.load import load_media
from assets.media.tallies import system
from tallykeeper import refresh
from tallykeeper.database.sql import CLAIM_WRITING
from tests.acceptance.command import Command, without_progress
from tests.templates import migrated

COMMANDS = [
    "init",
    "new",
    "explain",
    "migrate",
    "status",
    "refresh",
    "rebuild",
    "backfill",
    "verify",
    "check",
    "suspend",
    "resume",
    "load",
    "listen",
    "env",
    "stop",
    "metrics",
    "up",
    "demo",
]

LISTING = """path,original_created_at,created_at
a.jpg,2025-11-20T08:00:00Z,2025-11-21T00:00:00Z
b.jpg,2025-11-20T09:00:00Z,2025-11-21T00:00:00Z
c.jpg,2025-11-20T23:30:00-05:00,2025-11-21T00:00:00Z
d.jpg,yesterday,2025-11-21T00:00:00Z
"""


@pytest.fixture
def listing(tmp_path: Path) -> Path:
    path = tmp_path / "files.csv"
    path.write_text(LISTING)
    return path


@pytest.fixture
def built(tally: Command, engine: Engine, listing: Path) -> Command:
    """A database with the listing loaded and everything refreshed."""
    migrated(engine, system)
    load_media(engine, listing)
    for each in system.tallies:
        refresh(engine, each)
    return tally


def test_without_arguments_it_says_what_it_can_do(tally: Command) -> None:
    result = tally.installed()
    assert result == tally.run(), "a fork is as good as the program"
    assert result.code == 2
    assert [c for c in COMMANDS if f"\n  {c} " in result.err] == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(tally: Command, command: str) -> None:
    result = tally.ok(command, "--help")
    assert f"Usage: tally {command}" in result.out
    assert f"Example:\n      {'eval' if command == 'env' else f'tally {command}'}" in result.out
    assert max(map(len, result.out.splitlines())) <= 80


def test_help_needs_no_system_that_can_be_loaded(tally: Command) -> None:
    every = tally.ok("--help").out
    assert "\n  listen " in every
    tally.environment["TALLY_SCHEMA_FEDIVERSE"] = "tallykeeper"
    said = tally.ok("--help").out
    assert [c for c in COMMANDS if f"\n  {c} " in said] == [c for c in COMMANDS if c != "listen"]
    end = " ".join(said.split("\n\n")[-1].split())
    assert end.startswith(
        "Commands that systems bring along are not listed: TALLY_SCHEMA_FEDIVERSE: expected"
    )
    assert tally.ok("migrate", "--help").out.startswith("Usage: tally migrate")


COMPILED = [f"compiled media.{each}_contributions: delta" for each in ("daily", "hourly")]


def test_from_nothing_to_a_verified_tally(tally: Command, listing: Path) -> None:
    tally.environment["TALLY_SYSTEMS"] = "media"
    migrated = tally.ok("migrate", "--with-sources")
    assert migrated.out.splitlines() == [
        "created the schema media",
        "created the source table media.media_files",
        "created the derived table media.daily_contributions",
        "created the derived table media.hourly_contributions",
        *COMPILED,
        "installed media.daily_contributions (never built)",
        "installed media.hourly_contributions (never built)",
    ]
    assert tally.ok("migrate").out == "nothing to do\n"

    loaded = tally.ok("load", "media", str(listing))
    assert "4 files read" in loaded.out
    assert "3 inserted, 0 changed, 0 unchanged, 1 rejected" in loaded.out
    assert f"{listing}.rejects.csv" in loaded.out
    assert "d.jpg" in Path(f"{listing}.rejects.csv").read_text()

    before = tally.ok("status").out
    assert "media.daily_contributions: the next refresh rebuilds it (never built)" in before

    daily, hourly = tally.ok("refresh").out.splitlines()
    assert daily.startswith("media.daily_contributions: rebuilt in")
    assert daily.endswith("(never built); 2 pending changes consumed, 2 keys changed, 2 rows")
    assert hourly.endswith("3 keys changed, 3 rows")

    again = tally.ok("refresh", "daily_contributions").out
    assert again.startswith("media.daily_contributions: refreshed in")
    assert again.endswith("; 0 pending changes consumed, 0 keys changed, 2 rows\n")

    assert [line.split(" in ")[0] for line in tally.ok("verify").out.splitlines()] == [
        "media.daily_contributions: ok, 2 keys compared",
        "media.hourly_contributions: ok, 3 keys compared",
    ]


def test_status_tells_of_each_tally_within_80_columns(built: Command, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE media.media_files SET original_created_at = '1999-01-01'"))
        connection.execute(text("UPDATE tallykeeper.tally_state SET rows = 23712345"))
    built.ok("verify", "hourly_contributions")
    lines = built.ok("status").out.splitlines()
    assert max(map(len, lines)) <= 80
    assert " ".join(lines[0].split()) == "tally rows size refreshed pending oldest verified"
    assert lines[1].strip() == "media"
    daily, hourly = lines[2].split(), lines[3].split()
    assert daily[:2] == ["daily_contributions", "23,712,345"]
    assert daily[3] == "kB"
    assert daily[5] == daily[8] == "s"
    assert daily[6] == "3", "one row for each day left, and one for the day entered"
    assert daily[-1] == "-"
    assert hourly[-3] == "ok"


def test_status_in_json_has_all_of_it(built: Command, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM media.media_files WHERE path = 'a.jpg'"))
    daily, hourly = json.loads(built.ok("status", "--json").out)["tallies"]
    assert (daily["tally"], hourly["tally"]) == (
        "media.daily_contributions",
        "media.hourly_contributions",
    )
    assert daily["installed"] is True
    assert (daily["rows"], daily["pending"], daily["stale"]) == (2, 1, [])
    assert daily["table_bytes"] > daily["log_bytes"] >= 8_192
    refreshed = datetime.fromisoformat(daily["refreshed_at"])
    assert timedelta() < datetime.now(UTC) - refreshed < timedelta(minutes=5)
    assert 0 <= daily["pending_seconds"] < 300
    assert daily["verified_at"] is None


def test_status_says_what_is_not_installed(tally: Command, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA media")
        connection.exec_driver_sql("CREATE TABLE media.media_files ()")
    assert "media.daily_contributions: not installed; run `tally migrate`" in tally.ok("status").out
    entries = json.loads(tally.ok("status", "--json").out)["tallies"]
    assert [entry["installed"] for entry in entries] == [False, False]


def test_capture_that_is_not_intact_is_named_by_every_command_until_it_is_repaired(
    built: Command, engine: Engine
) -> None:
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE media.media_files DISABLE TRIGGER tallykeeper_insert"))
    name = "media.daily_contributions"
    said = (
        f"{name}: NOT INTACT: media.media_files: the insert trigger is disabled, or not enabled"
        " always"
    )
    advice = "changes may be missed until `tally migrate` and then `tally refresh"
    for command in (["status"], ["refresh", name], ["verify", name]):
        result = built.run(*command)
        assert result.code == 1, command
        assert said in result.out.splitlines()
        assert advice in result.out
    assert json.loads(built.run("status", "--json").out)["tallies"][0]["faults"] == [
        said.partition("INTACT: ")[2]
    ]
    built.ok("migrate")
    built.ok("refresh")
    built.ok("verify")
    assert "INTACT" not in built.ok("status").out


def test_verify_names_what_differs_and_rebuild_repairs_it(built: Command, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text(CLAIM_WRITING))
        connection.execute(
            text("UPDATE media.daily_contributions SET count = 70 WHERE date = '2025-11-20Z'")
        )
        connection.execute(
            text("INSERT INTO media.daily_contributions (date, count) VALUES ('1999-01-01Z', 4)")
        )
    found = built.run("verify")
    assert found.code == 1
    lines = found.out.splitlines()
    assert lines[0].startswith("media.daily_contributions: 2 keys WRONG, 3 keys compared in")
    assert lines[0].endswith(
        ", on 2 windows from 1999-01-01 to 2025-11-20;"
        " `tally rebuild media.daily_contributions` repairs it"
    )
    assert lines[1].split() == ["key", "stored", "expected"]
    assert " ".join(lines[2].split()) == "date 1999-01-01T00:00:00+00:00 count 4 no such row"
    assert " ".join(lines[3].split()) == "date 2025-11-20T00:00:00+00:00 count 70 count 2"
    assert lines[4].startswith("media.hourly_contributions: ok")

    report = built.run("verify", "media/daily_contributions", "--json")
    assert report.code == 1
    verification = json.loads(report.out)
    assert verification["ok"] is False
    (daily,) = verification["tallies"]
    assert (daily["ok"], daily["differing"]) == (False, 2)
    assert daily["differences"][1] == {
        "day": "2025-11-20",
        "key": {"date": "2025-11-20T00:00:00+00:00"},
        "stored": {"count": 70},
        "expected": {"count": 2},
    }
    assert "2 WRONG" in built.ok("status").out
    opened = built.run("incidents", "--open", "--json")
    assert opened.code == 1
    (incident,) = json.loads(opened.out)["incidents"]
    assert (incident["subject"], incident["kind"]) == ("media.daily_contributions", "differs")
    assert (incident["differing"], incident["times"]) == (2, 2)

    part = built.ok("rebuild", "daily_contributions", "--from", "2025-11-19", "--to", "2025-11-20")
    assert part.out.endswith("0 keys changed, 2 rows\n"), "the end is not included"
    part = built.ok("rebuild", "daily_contributions", "--from", "2025-11-20", "--to", "2025-11-21")
    assert part.out.endswith("1 key changed, 2 rows\n")
    assert built.ok("rebuild", "daily_contributions", "--to", "2000-01-01").out.endswith(
        "1 key changed, 1 row\n"
    )
    assert built.ok("verify").code == 0
    built.ok("incidents", "--open")
    with engine.begin() as connection:
        connection.execute(text(CLAIM_WRITING))
        connection.execute(text("UPDATE media.daily_contributions SET count = 70"))
    single = built.ok("rebuild", "daily_contributions", "--key", "2025-11-20Z")
    assert "1 key changed, " in single.out
    refused = built.run("rebuild", "daily_contributions", "--key", "day=2025-11-20Z")
    assert (refused.code, "there is no 'day'" in refused.err) == (2, True), refused
    both = built.run(
        *("rebuild", "daily_contributions", "--key", "2025-11-20Z", "--from", "2025-11-20")
    )
    assert (both.code, "days and keys were both named" in both.err) == (2, True), both
    built.ok("rebuild", "daily_contributions")
    assert "(tally verify)" in built.ok("incidents").out


def test_a_key_that_does_not_fit_is_named_with_value_and_reason_until_it_does(
    built: Command, engine: Engine
) -> None:
    full = "ALTER TABLE media.daily_contributions {} CONSTRAINT few{}"
    add = "INSERT INTO media.media_files (path, original_created_at) VALUES ('{}', '2025-11-20Z')"
    with engine.begin() as connection:
        connection.exec_driver_sql(full.format("ADD", " CHECK (count < 3)"))
        connection.exec_driver_sql(add.format("x.jpg"))
    line = "media.daily_contributions: 1 key in quarantine, which its table cannot hold;"
    assert line in built.ok("refresh").out
    assert line in built.ok("status").out
    assert json.loads(built.ok("status", "--json").out)["tallies"][0]["quarantined"] == 1
    found = built.run("verify")
    assert found.code == 1
    assert (
        "media.daily_contributions: 1 key in QUARANTINE, which its table cannot hold" in found.out
    )
    assert "date 2025-11-20T00:00:00+00:00: count 3 (23514: " in found.out
    entry = json.loads(built.run("verify", "--json").out)["tallies"][0]
    assert entry["quarantine"][0]["rows"] == [{"count": 3}]
    with engine.begin() as connection:
        connection.exec_driver_sql(full.format("DROP", ""))
    assert "quarantine" not in built.ok("refresh").out
    assert "quarantine" not in built.ok("verify").out


def test_a_refresh_that_fails_is_named_and_the_others_go_on(built: Command, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION media.full() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE 'the disk is full' USING ERRCODE = '53100'; END $$"
        )
        connection.exec_driver_sql(
            "CREATE TRIGGER disk BEFORE INSERT OR UPDATE ON media.daily_contributions"
            " FOR EACH ROW EXECUTE FUNCTION media.full()"
        )
        connection.exec_driver_sql("INSERT INTO media.media_files (path) VALUES ('x.jpg')")
    result = built.run("refresh")
    assert result.code == 1
    assert "media.daily_contributions: the database refused: the disk is full" in result.err
    assert "media.hourly_contributions: refreshed" in result.out


def test_verify_fails_where_a_tally_was_never_built(tally: Command) -> None:
    tally.ok("migrate", "--with-sources")
    result = tally.run("verify", "daily_contributions")
    assert result.code == 1
    assert result.out == (
        "media.daily_contributions: nothing to compare (never built);"
        " run `tally refresh media.daily_contributions`\n"
    )
    assert json.loads(tally.run("verify", "--json").out)["ok"] is False
    assert json.loads(tally.ok("status", "--json").out)["tallies"][0]["verified_at"] is None


def test_an_application_that_is_there_already_is_adopted(tally: Command, engine: Engine) -> None:
    """Naive times, in `public`, in a database whose sessions live far from UTC."""
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE public.media_files (id serial PRIMARY KEY, path varchar(255) NOT NULL,"
            " original_created_at timestamp, created_at timestamp(6) NOT NULL, owner_id integer)"
        )
        connection.exec_driver_sql(
            "CREATE TABLE public.daily_contributions (id serial PRIMARY KEY,"
            " date timestamp NOT NULL, count integer NOT NULL DEFAULT 0,"
            " created_at timestamp(6) NOT NULL DEFAULT now(), updated_at timestamp(6) NOT NULL,"
            " note text)"
        )
        connection.exec_driver_sql(
            "CREATE UNIQUE INDEX app_days ON public.daily_contributions (date)"
        )
        connection.exec_driver_sql(
            "INSERT INTO public.daily_contributions (date, count, updated_at)"
            " VALUES ('2025-11-20', 40, now())"
        )
        connection.exec_driver_sql(
            "INSERT INTO public.media_files (path, original_created_at, created_at) VALUES"
            " ('a', '2025-11-20 00:10', '2025-11-25'), ('b', '2025-11-20 23:50', '2025-11-25'),"
            " ('c', NULL, '2025-11-21 00:00')"
        )
        database = connection.scalar(text("SELECT quote_ident(current_database())"))
        connection.exec_driver_sql(f"ALTER DATABASE {database} SET timezone = 'Pacific/Kiritimati'")
    engine.dispose()
    tally.environment["TALLY_SCHEMA_MEDIA"] = "public"

    skipped = (
        "skipped gallery: there is no gallery.content_items_auto, gallery.content_items,"
        " gallery.tags, gallery.users"
    )
    said = tally.ok("migrate").out.splitlines()
    assert said[:8] == [
        "altered the derived table public.daily_contributions: wrote comments",
        "created the derived table public.hourly_contributions",
        *COMPILED,
        "adopted the derived table public.daily_contributions",
        "installed media.daily_contributions (never built)",
        "installed media.hourly_contributions (never built)",
        skipped,
    ]
    assert all(line.startswith("skipped ") for line in said[8:]), "the other systems"
    live = (
        "SELECT to_char(date AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'), count"
        " FROM public.daily_contributions_live ORDER BY 1"
    )
    stored = "SELECT to_char(date, 'YYYY-MM-DD HH24:MI'), count FROM public.daily_contributions"
    expected = [("2025-11-20 00:00", 2), ("2025-11-21 00:00", 1)]
    changed = [("2025-11-20 00:00", 1), ("2025-11-21 00:00", 1), ("2025-11-22 00:00", 1)]

    def read(query: str, zone: str) -> list[tuple[object, ...]]:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"SET LOCAL timezone = '{zone}'")
            return sorted(tuple(row) for row in connection.execute(text(query)))

    zones = ["Pacific/Kiritimati", "America/St_Johns", "UTC"]
    assert [read(live, zone) for zone in zones] == [expected] * 3
    tally.ok("refresh")
    assert read(stored, "UTC") == expected
    with engine.begin() as connection:
        connection.exec_driver_sql("SET LOCAL timezone = 'America/St_Johns'")
        connection.exec_driver_sql(
            "UPDATE public.media_files SET original_created_at = '2025-11-22 23:59'"
            " WHERE path = 'b'"
        )
    assert [read(live, zone) for zone in zones] == [changed] * 3
    tally.environment["PGTZ"] = "America/St_Johns"
    tally.ok("verify")
    tally.ok("refresh")
    assert read(stored, "UTC") == changed
    assert [read(live, zone) for zone in zones] == [changed] * 3
    tally.ok("verify")
    again = tally.ok("migrate").out.splitlines()
    assert again == [skipped, *said[8:], "nothing to do"]
    with engine.connect() as connection:
        columns = connection.exec_driver_sql(
            "SELECT string_agg(column_name || ' ' || udt_name, ', ' ORDER BY ordinal_position)"
            " FROM information_schema.columns WHERE table_name = 'media_files'"
        ).scalar_one()
    assert columns == (
        "id int4, path varchar, original_created_at timestamp, created_at timestamp, owner_id int4"
    )


def test_ctrl_c_ends_it_with_a_word_and_nothing_done(built: Command, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE media.media_files SET original_created_at = '1999-01-01'"))
    with engine.begin() as holder:
        holder.execute(text("LOCK TABLE media.daily_contributions IN ACCESS EXCLUSIVE MODE"))
        process = built.start("refresh", "daily_contributions")
        wait_for_the_lock(engine)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert without_progress(err).strip() == "tally: interrupted; what was under way was undone"
    assert json.loads(built.ok("status", "--json").out)["tallies"][0]["pending"] == 3


def test_a_server_that_goes_away_is_reported_in_one_sentence(
    built: Command, engine: Engine
) -> None:
    with engine.begin() as holder:
        holder.execute(text("LOCK TABLE media.daily_contributions IN ACCESS EXCLUSIVE MODE"))
        process = built.start("refresh", "daily_contributions")
        waiting = wait_for_the_lock(engine)
        holder.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": waiting})
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.count("\n") == 1
    assert err.startswith("tally: the database went away (")
    assert err.endswith("start the server and run the command again\n")


def wait_for_the_lock(engine: Engine) -> int:
    """The process id of the session that waits for the derived table."""
    for _ in range(600):
        with engine.connect() as connection:
            pid = connection.scalar(
                text(
                    "SELECT pid FROM pg_locks WHERE NOT granted"
                    " AND relation = 'media.daily_contributions'::regclass"
                )
            )
        if pid is not None:
            return int(pid)
        time.sleep(0.05)
    raise AssertionError("the command never came to wait for the lock")


def test_a_reader_that_has_had_enough_is_no_error_message(built: Command) -> None:
    process = built.start("status")
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=60)
    assert err == ""
    assert process.returncode == 1


def test_what_is_heavy_is_not_imported_for_what_is_light(built: Command) -> None:
    script = (
        "import sys\n"
        "from tallykeeper.cli.main import main\n"
        "sys.argv = ['tally', 'status']\n"
        "try:\n    main()\n"
        "finally:\n"
        "    heavy = {'dagster', 'pandas', 'matplotlib', 'numpy', 'PIL'}\n"
        "    print('HEAVY', sorted(heavy & set(sys.modules)))\n"
    )
    assert "HEAVY []" in built.python(script).out

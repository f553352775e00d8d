"""Bad input gets one clear sentence and an exit code, and changes nothing."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine, make_url, text

from assets.media.tallies import daily_contributions
from tallykeeper import refresh
from tallykeeper.discovery import all_systems
from tallykeeper.embedded.postmaster import Server
from tests.acceptance.command import Command, Result
from tests.servers import in_memory
from tests.templates import fill, migrated

SECRET = "s3cret"
TALLIES = [tally.name for system in all_systems() for tally in system.tallies]


def complaint(result: Result, code: int = 1) -> str:
    """The one sentence that the command ended with."""
    assert result.code == code, result
    assert result.out == ""
    assert result.err.count("\n") == 1, result.err
    assert SECRET not in result.err
    assert result.err.startswith("tally: ")
    return result.err.removeprefix("tally: ").rstrip("\n")


def contents(engine: Engine) -> list[tuple[object, ...]]:
    """All relations, columns, triggers, and the rows of the media tables that there are."""
    with engine.connect() as connection:
        found = [
            tuple(row)
            for row in connection.execute(
                text(
                    "SELECT attrelid::regclass::text, attname, atttypid, attnotnull"
                    " FROM pg_attribute JOIN pg_class AS c ON c.oid = attrelid"
                    " WHERE relnamespace::regnamespace::text !~ '^(pg_|information_schema)'"
                    " UNION ALL SELECT tgrelid::regclass::text, tgname, 0, false FROM pg_trigger"
                    " UNION ALL SELECT nspname, 'schema', 0, false FROM pg_namespace"
                    "  WHERE nspname !~ '^pg_'"
                    " ORDER BY 1, 2"
                )
            )
        ]
        for table in ("media.media_files", "media.daily_contributions"):
            if connection.scalar(text("SELECT to_regclass(:name)"), {"name": table}):
                rows = connection.exec_driver_sql(f"SELECT * FROM {table} ORDER BY 1")
                found += [tuple(row) for row in rows]
    return found


@pytest.fixture
def made(tally: Command, engine: Engine) -> Command:
    """A database with tables and one file."""
    fill(engine, "with_one_file", _with_one_file)
    return tally


def _with_one_file(engine: Engine) -> None:
    migrated(engine, *all_systems())
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO media.media_files (path) VALUES ('a')")
    refresh(engine, daily_contributions)


@pytest.mark.parametrize("command", ["migrate", "env"])
@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        (
            f"postgresql://ann:{SECRET}@localhost:door/db",
            "TALLY_DATABASE_URL: expected an address like",
        ),
        (f"mysql://ann:{SECRET}@localhost/db", "is one of 'mysql'; name a PostgreSQL database"),
        (
            f"postgresql://ann:{SECRET}@127.0.0.1:1/db",
            "expected a PostgreSQL database at ann@127.0.0.1:1/db, but connecting failed",
        ),
    ],
)
def test_a_database_that_cannot_be_reached(
    tally: Command, url: str, sentence: str, command: str
) -> None:
    tally.url = url
    assert sentence in complaint(tally.run(command))


@pytest.mark.parametrize("command", ["status", "refresh", "verify"])
def test_a_server_that_is_down(tally: Command, command: str) -> None:
    tally.url = f"postgresql://ann:{SECRET}@/db?host=/nowhere"
    said = complaint(tally.run(command))
    assert said.startswith("expected a PostgreSQL database at ann@/nowhere/db, but connecting")
    assert said.endswith("start the server, or correct host and port")


def test_a_database_that_there_is_not(tally: Command) -> None:
    tally.url = make_url(tally.url).set(database="nowhere").render_as_string(False)
    said = complaint(tally.run("status"))
    assert 'database "nowhere" does not exist' in said
    assert said.endswith("name an existing database, or create this one with createdb")


def test_a_role_that_there_is_not(tally: Command) -> None:
    tally.url = make_url(tally.url).set(username="nobody").render_as_string(False)
    said = complaint(tally.run("status"))
    assert 'role "nobody" does not exist' in said


@pytest.fixture(scope="module")
def strict_server() -> Iterator[Server]:
    """A server that asks everybody but its superuser for a password."""
    folder = Path(tempfile.mkdtemp(prefix="tally-", dir=in_memory()))
    rules = folder / "rules.conf"
    rules.write_text("local all postgres trust\nlocal all all scram-sha-256\n")
    folder.chmod(0o755)
    server = Server(folder / "data", extra={"hba_file": f"'{rules}'"})
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


def test_a_wrong_password(tally: Command, strict_server: Server) -> None:
    with psycopg.connect(strict_server.url(), autocommit=True) as connection:
        connection.execute("CREATE ROLE ann LOGIN PASSWORD 'right'")
    address = make_url(strict_server.url())
    tally.url = address.set(username="ann", password=SECRET).render_as_string(False)
    said = complaint(tally.run("status"))
    assert "password authentication failed" in said
    assert said.endswith("check user and password")


@pytest.fixture
def reader(made: Command, engine: Engine) -> Iterator[Command]:
    """The command for a role that may read everything and change nothing."""
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE ROLE tally_reader LOGIN IN ROLE pg_read_all_data")
    owner, made.url = (
        made.url,
        make_url(made.url).set(username="tally_reader").render_as_string(False),
    )
    yield made
    made.url = owner
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP ROLE tally_reader")


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (("migrate",), "the role 'tally_reader' may not install tallies here: "),
        (("migrate", "--with-sources"), "it does not own media.media_files, which belongs to "),
        (("refresh",), "the role that connects may not do this (permission denied for table"),
        (("rebuild", "daily_contributions"), "may not do this (permission denied for table"),
        (("load", "media", "a.csv"), "may not do this (permission denied for table"),
    ],
)
def test_a_role_that_may_only_read(
    reader: Command, engine: Engine, command: tuple[str, ...], sentence: str
) -> None:
    (reader.folder / "a.csv").write_text("path,created_at\na.jpg,2025-11-20\n")
    before = contents(engine)
    if command == ("refresh",):
        # It goes on with the others, and names each.
        result = reader.run(*command)
        said = [line for line in result.err.splitlines() if sentence in line]
        assert result.code == 1
        assert len(said) >= len(TALLIES)
        assert all(f"tally: {name}: " in result.err for name in TALLIES)
    else:
        assert sentence in complaint(reader.run(*command))
    assert contents(engine) == before
    reader.ok("status")


def test_a_database_that_takes_no_writes(made: Command, engine: Engine) -> None:
    made.environment["PGOPTIONS"] = "-c default_transaction_read_only=on"
    before = contents(engine)
    said = complaint(made.run("refresh", "daily_contributions"))
    assert said.startswith("media.daily_contributions: the database takes no writes (")
    assert contents(engine) == before


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            "ALTER TABLE media.daily_contributions ALTER count DROP DEFAULT, ALTER count TYPE text",
            "the derived table media.daily_contributions: count is text, expected integer",
        ),
        (
            "ALTER TABLE media.media_files ALTER created_at DROP DEFAULT,"
            " ALTER created_at TYPE date",
            "the source table media.media_files: created_at is date,"
            " expected timestamp with time zone",
        ),
    ],
)
def test_tables_that_do_not_fit(tally: Command, engine: Engine, change: str, sentence: str) -> None:
    migrated(engine, *all_systems())
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA tallykeeper CASCADE")
        connection.exec_driver_sql("DROP INDEX media.media_files_taken_at")
        connection.exec_driver_sql(
            "DROP VIEW IF EXISTS media.daily_contributions_live, media.hourly_contributions_live"
        )
        connection.exec_driver_sql(change)
    before = contents(engine)
    said = complaint(tally.run("migrate"))
    assert said.startswith("existing tables do not fit what their tallies declare: ")
    assert sentence in said
    assert "Nothing was changed; of a " in said
    # What can be done about a source, and about a table that is ours.
    assert ("SET NOT NULL" in said) == ("source table" in said)
    assert ("--move-aside" in said) == ("derived table" in said)
    assert contents(engine) == before


def test_a_migration_with_nothing_to_work_on(tally: Command, engine: Engine) -> None:
    before = contents(engine)
    result = tally.run("migrate")
    assert (result.code, result.out.splitlines()) == (
        1,
        [
            "skipped media: there is no media.media_files",
            "skipped gallery: there is no gallery.content_items_auto, gallery.content_items,"
            " gallery.tags, gallery.users",
            "skipped fediverse: there is no fediverse.instances, fediverse.stream_events,"
            " fediverse.post_sentiments",
            "skipped classroom: there is no classroom.submissions, classroom.submission_log,"
            " classroom.assignments, classroom.assignment_groups,"
            " classroom.assignment_group_memberships, classroom.courses, classroom.roles,"
            " classroom.users, classroom.reports, classroom.login_events",
        ],
    )
    assert result.err.startswith("tally: no system has its source tables here, so nothing was")
    assert contents(engine) == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("refresh", "weekly"),
            f"no tally is called 'weekly'; there are {', '.join(TALLIES)};"
            " see `tally refresh --help`",
        ),
        (("verify", "media.media_files"), "no tally is called 'media.media_files'; there are"),
        (("rebuild", "gallery/daily_contributions"), "no tally is called 'gallery/daily"),
        (("rebuild",), "Missing argument 'NAME'; see `tally rebuild --help`"),
        (("rebuild", "daily_contributions", "--from", "soon"), "'soon' does not match"),
        (("rebuild", "daily_contributions", "--to", "2025-02-30"), "'2025-02-30' does not match"),
        (("load", "media", "nowhere"), "Path 'nowhere' does not exist"),
        (("load", "media"), "Missing argument 'PATH'"),
        (("stats",), "No such command 'stats'"),
        (("up", "--port", "0"), "Invalid value for '--port'"),
        (("env", "HOME"), "there is no variable 'HOME' to export"),
    ],
)
def test_a_command_that_is_called_wrongly(
    made: Command, engine: Engine, arguments: tuple[str, ...], sentence: str
) -> None:
    before = contents(engine)
    assert sentence in complaint(made.run(*arguments), code=2)
    assert contents(engine) == before


@pytest.mark.parametrize(
    ("arguments", "sentence", "code"),
    [
        (
            ("rebuild", "daily_contributions", "--from", "2025-02-01", "--to", "2025-01-01"),
            "the window ends (2025-01-01) at or before it starts (2025-02-01)",
            2,
        ),
        (
            ("rebuild", "daily_contributions", "--from", "2025-02-01", "--to", "2025-02-01"),
            "the end is exclusive and must be later",
            2,
        ),
        (
            ("load", "music", "."),
            "input can be loaded into media, gallery, fediverse, classroom, not into 'music'",
            2,
        ),
        (("load", "media", "notes.txt"), "is neither a folder nor a CSV", 1),
    ],
)
def test_a_command_that_makes_no_sense(
    made: Command, engine: Engine, arguments: tuple[str, ...], sentence: str, code: int
) -> None:
    (made.folder / "notes.txt").write_text("no list of files")
    before = contents(engine)
    assert sentence in complaint(made.run(*arguments), code)
    assert contents(engine) == before


@pytest.mark.parametrize("command", ["status", "refresh", "verify"])
def test_a_database_without_any_system(tally: Command, engine: Engine, command: str) -> None:
    before = contents(engine)
    said = complaint(tally.run(command))
    assert said.startswith(
        "this database has the source tables of no system (media, gallery, fediverse, classroom);"
        " make them"
    )
    assert contents(engine) == before


@pytest.mark.parametrize("command", ["refresh", "verify", "rebuild"])
def test_a_tally_that_is_not_installed(tally: Command, command: str) -> None:
    said = complaint(tally.run(command, "daily_contributions"))
    assert "`tally migrate`" in said


@pytest.mark.parametrize("command", ["status", "refresh"])
def test_a_database_that_an_earlier_version_installed(
    tally: Command, engine: Engine, command: str
) -> None:
    migrated(engine, *all_systems())
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE tallykeeper.cascaded"))
    result = tally.run(command)
    assert result.code == 1
    assert "this database was installed by an earlier version" in result.err
    assert "run `tally migrate`" in result.err
    tally.ok("migrate")
    tally.ok(command)


def test_input_of_which_nothing_can_be_read(made: Command, tmp_path: Path) -> None:
    path = tmp_path / "files.csv"
    path.write_text("path,original_created_at\na.jpg,yesterday\nb.jpg,tomorrow\n")
    result = made.run("load", "media", str(path))
    assert result.code == 1
    assert "2 files read" in result.out
    assert "2 rejected" in result.out
    assert result.err == f"tally: nothing of {path} could be read; see the reasons in the list\n"
    # One row that can be read is a load.
    path.write_text("path,original_created_at\na.jpg,yesterday\nb.jpg,2020-01-01\n")
    assert made.run("load", "media", str(path)).code == 0


def test_input_for_ones_own_database_without_the_tables(tally: Command, engine: Engine) -> None:
    before = contents(engine)
    assert complaint(tally.run("load", "media", ".")) == (
        "there is no media.media_files in the database that TALLY_DATABASE_URL names;"
        " make it with `TALLY_SYSTEMS=media tally migrate --with-sources`"
    )
    assert contents(engine) == before


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        (
            "TALLY_START_DATE",
            "2015-13-01",
            "expected a date like 2015-01-01, but it is '2015-13-01'",
        ),
        ("TALLY_START_DATE", "3015-01-01", "expected a day not after today (UTC)"),
        (
            "TALLY_SYSTEMS",
            "media,medea",
            "expected systems that there are (media, gallery, fediverse, classroom)",
        ),
        ("TALLY_SYSTEMS", "media;gallery", "expected names of systems with commas between them"),
        ("TALLY_SCHEMA_MEDIA", "tallykeeper", "expected the name of a schema"),
    ],
)
@pytest.mark.parametrize("command", ["migrate", "up"])
def test_a_setting_that_is_malformed(
    made: Command, engine: Engine, command: str, variable: str, value: str, sentence: str
) -> None:
    made.environment[variable] = value
    before = contents(engine)
    said = complaint(made.run(command))
    assert said.startswith(f"{variable}: ")
    assert sentence in said
    assert contents(engine) == before


@pytest.mark.parametrize("command", ["status", "refresh", "verify", "demo", "env"])
def test_a_first_day_that_is_no_day(tally: Command, command: str) -> None:
    tally.environment["TALLY_START_DATE"] = "yesterday"
    assert complaint(tally.run(command)).startswith(
        "TALLY_START_DATE: expected a date like 2015-01-01, but it is 'yesterday'"
    )


def test_a_home_that_is_a_file(tally: Command) -> None:
    home = Path(tally.folder / "home")
    home.write_text("")
    assert complaint(tally.run("env")).startswith("TALLY_HOME: expected a folder, but it is")


def test_a_home_in_which_dagster_gets_no_folder(tally: Command) -> None:
    home = Path(tally.folder / "home")
    home.mkdir()
    (home / "dagster").write_text("")
    said = complaint(tally.run("env"))
    assert said.startswith("TALLY_HOME: expected a folder that can be written (File exists)")

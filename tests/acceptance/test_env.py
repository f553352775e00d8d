"""After `eval "$(tally env)"` a plain shell finds the same database, and no password was shown."""

from __future__ import annotations

import subprocess
from pathlib import Path

from sqlalchemy import Engine, make_url, text

from tallykeeper.settings import project_root
from tests.acceptance.command import PROGRAM, Command

PASSWORD = "s3 cr'et/@%"


def in_a_shell(tally: Command, script: str) -> list[str]:
    """The lines that a shell prints after it took the exports."""
    result = tally.program("bash", "-euc", f'eval "$({PROGRAM} env)"\n{script}')
    assert (result.code, result.err) == (0, "")
    return result.out.splitlines()


def test_psql_and_dagster_find_the_database(tally: Command, engine: Engine) -> None:
    script = (
        "psql -AtXc 'SELECT current_database()'\n"
        'echo "$DAGSTER_PG_URL"; echo "$DAGSTER_HOME"; echo "$DAGSTER_EVENT_BATCH_SIZE"\n'
        'echo "$TALLY_HOME"; command -v dagster\n'
    )
    found, storage, dagster_home, batch, home, dagster = in_a_shell(tally, script)
    assert found == engine.url.database
    url = make_url(storage)
    assert url.drivername == "postgresql+psycopg2"
    assert (url.database, url.query["options"]) == (found, "-csearch_path=dagster -ctimezone=UTC")
    assert batch == "500"
    assert home == str(tally.folder / "home")
    assert dagster_home == f"{home}/dagster"
    assert (Path(dagster_home) / "dagster.yaml").resolve() == project_root() / "dagster.yaml"
    assert dagster == str(PROGRAM.with_name("dagster"))
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT to_regnamespace('dagster') IS NOT NULL"))


def test_no_password_is_printed_but_the_shell_gets_it(tally: Command) -> None:
    address = make_url(tally.url).set(password=PASSWORD)
    tally.url = address.render_as_string(hide_password=False)
    printed = tally.ok("env").out
    assert not any(spelt in printed for spelt in ("s3 cr", "s3%20cr", "s3+cr"))
    assert 'export PGPASSWORD="$(' in printed
    password, storage = in_a_shell(tally, 'echo "$PGPASSWORD"; echo "$DAGSTER_PG_URL"')
    assert password == PASSWORD
    assert make_url(storage).password == PASSWORD
    assert tally.ok("env", "PGPASSWORD").out == f"{PASSWORD}\n"


def test_a_storage_of_ones_own_stays(tally: Command) -> None:
    own = "postgresql+psycopg2://ann:s3cret@elsewhere/dagster"
    tally.environment["DAGSTER_PG_URL"] = own
    assert "s3cret" not in tally.ok("env").out
    assert in_a_shell(tally, 'echo "$DAGSTER_PG_URL"') == [own]


def test_a_shell_without_psql_gets_ours(tally: Command) -> None:
    tally.environment["PATH"] = "/nowhere"
    path = next(line for line in tally.ok("env").out.splitlines() if line.startswith("export PATH"))
    assert path.startswith(f'export PATH={PROGRAM.parent}:"$PATH":')
    programs = Path(path.rpartition(":")[2])
    version = subprocess.run(
        [programs / "psql", "--version"], check=True, capture_output=True, text=True
    )
    assert version.stdout.startswith("psql (PostgreSQL) 1")


def test_the_embedded_server_is_left_running_until_it_is_stopped(embedded: Command) -> None:
    printed = embedded.ok("env").out
    assert f"export PGHOST={embedded.folder / 'home' / 'postgres'}\n" in printed
    assert in_a_shell(embedded, "psql -AtXc 'SELECT current_database()'") == ["tallykeeper"]
    assert embedded.ok("stop").out == "stopped\n"
    assert embedded.ok("stop").out == "nothing was running\n"


def test_input_can_be_loaded_where_nothing_was_ever_made(embedded: Command) -> None:
    """No database, no migration: the embedded one gets what it needs."""
    listing = embedded.folder / "files.csv"
    listing.write_text("path,created_at\na.jpg,2025-11-20\n")
    first = embedded.ok("load", "media", str(listing)).out.splitlines()
    assert first[:2] == ["created the schema media", "created the source table media.media_files"]
    assert "1 inserted" in first[-1]
    again = embedded.ok("load", "media", str(listing)).out.splitlines()
    assert len(again) == 1
    assert "0 inserted, 0 changed, 1 unchanged" in again[0]
    assert "1 row\n" in embedded.ok("refresh", "daily_contributions").out

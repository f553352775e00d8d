"""What commands print for programs: one object each, with a version and documented fields alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from tallykeeper.settings import project_root
from tests.acceptance.command import Command
from tests.acceptance.test_select_commands import REVENUE, SOURCES, write
from tests.integration.support import execute

PAGE = (project_root() / "docs/reference/json.md").read_text(encoding="utf-8")


def printed(tally: Command, *arguments: str, code: int = 0) -> dict[str, Any]:
    """The object that a command prints, without what all have."""
    done = tally.run(*arguments, "--json")
    assert done.code == code, done.err
    found: dict[str, Any] = json.loads(done.out)
    assert found.pop("version") == 1
    named = found.pop("command")
    assert " ".join(arguments).startswith(named)
    (row,) = re.findall(rf"^\| [^|]*`{named}`[^|]*\|(.*)\|$", PAGE, re.MULTILINE)
    assert [field for field in found if f"`{field}`" not in row] == [], "it is documented"
    return found


def test_a_project_is_made_and_taken_apart_by_programs(tally: Command, engine: Engine) -> None:
    execute(engine, *SOURCES)
    made = printed(tally, "init")
    assert made["patterns"] == ["tallies/**/*.sql"]
    for path in (tally.folder / "tallies").rglob("*.sql"):
        path.unlink()
    select = "SELECT count(*) AS n FROM shop.orders"
    new = printed(tally, "new", "shop.counted", "--sql", select)
    assert new == {"tally": "shop.counted", "file": "tallies/shop/counted.sql"}
    write(tally, "shop/revenue", REVENUE)
    assert printed(tally, "migrate")["systems"] == ["shop"]
    printed(tally, "refresh")
    assert printed(tally, "export", "revenue", "--to", "csv")["rows"] == 3
    asked = tally.run("drop", "shop.counted", "--json")
    assert (asked.code, asked.out) == (2, "")
    assert "add --yes, or --dry-run" in asked.err
    found = printed(tally, "drop", "shop.counted", "--dry-run")
    assert found["dry_run"] is True
    dropped = printed(tally, "drop", "shop.counted", "--yes")
    assert (dropped["dry_run"], dropped["tallies"]) == (False, ["shop.counted"])
    assert dropped["removed"] == found["removed"]


def test_old_rows_are_pruned_by_programs(tally: Command, engine: Engine) -> None:
    execute(
        engine,
        "CREATE SCHEMA shop",
        "CREATE TABLE shop.orders (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
        " at timestamptz NOT NULL)",
        "INSERT INTO shop.orders (at) SELECT '2020-01-01Z'::timestamptz + n * interval '1 day'"
        " FROM generate_series(1, 20) AS n",
    )
    printed(tally, "init")
    for path in (tally.folder / "tallies").rglob("*.sql"):
        path.unlink()
    day = "(at AT TIME ZONE 'UTC')::date AS day"
    write(tally, "shop/daily", f"SELECT {day}, count(*) AS n FROM shop.orders GROUP BY 1")
    tally.ok("migrate")
    tally.ok("refresh")
    (pruned,) = printed(tally, "prune", "shop.orders", "--before", "2020-01-11")["sources"]
    assert (pruned["rows"], pruned["tallies"]) == (9, ["shop.daily"])
    assert printed(tally, "prune", "--forget", "shop.daily") == {
        "tally": "shop.daily",
        "forgotten": 9,
    }


def test_what_prepares_and_ends_is_known_to_programs(tally: Command) -> None:
    tally.environment["TALLY_SYSTEMS"] = "media"
    listed = tally.folder / "files.csv"
    listed.write_text("path,original_created_at\na.jpg,2024-03-01T10:00:00Z\nb.jpg,never\n")
    tally.ok("migrate", "--with-sources")
    loaded = printed(tally, "load", "media", str(listed))
    assert (loaded["unit"], loaded["inserted"], loaded["rejected"]) == ("files", 1, 1)
    assert Path(loaded["reject_file"]).is_file()
    variables = printed(tally, "env")["variables"]
    assert set(variables) >= {"DAGSTER_HOME", "DAGSTER_PG_URL", "PGHOST", "PGDATABASE"}
    assert printed(tally, "env", "PGDATABASE")["variables"] == {
        "PGDATABASE": variables["PGDATABASE"]
    }
    assert printed(tally, "stop") == {"up_ended": False, "database_stopped": False}
    tally.environment["TALLY_ALERT_URLS"] = "json://127.0.0.1:1/x"
    (target,) = printed(tally, "test-alert", code=1)["targets"]
    assert target["sent"] is False


def test_a_password_is_not_printed(tally: Command) -> None:
    tally.environment["TALLY_SYSTEMS"] = "media"
    with_password = Command(tally.url.replace("postgres@", "postgres:s3cret@"), tally.folder)
    with_password.environment.update(tally.environment)
    done = with_password.ok("env", "--json")
    assert "s3cret" not in done.out
    assert json.loads(done.out)["variables"]["DAGSTER_PG_URL"] is None

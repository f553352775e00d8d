"""How long rows of sources are kept: what a project may say, and what is pruned for it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine

from tallykeeper import discovery, migrate, refresh
from tallykeeper.cli.retention.commands import prune
from tallykeeper.maintain.pruning.retention import Retention, retentions
from tallykeeper.settings import SettingError
from tests.integration.support import execute, rows, scalar

TABLE = "[tool.tallykeeper]\ntallies = ['*.sql']\n[tool.tallykeeper.prune]\n"
KEPT = f'{TABLE}"shop.orders" = {{ keep_days = 30, by = "at" }}\n'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that names what is kept."""
    file = tmp_path / "pyproject.toml"
    file.write_text(KEPT)
    (tmp_path / "shop.by_day.sql").write_text(
        "-- Orders by day.\n-- tally: shop.by_day\n"
        "SELECT date_trunc('day', at, 'UTC') AS day, count(*) AS n FROM shop.orders GROUP BY 1"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TALLY_HOME", str(tmp_path / ".tally"))
    return file


def test_a_project_says_how_long_rows_are_kept(project: Path) -> None:
    (found,) = retentions()
    assert found == Retention("shop.orders", 30, "at")
    noon = datetime(2026, 3, 31, 12, tzinfo=UTC)
    assert found.before(noon) == datetime(2026, 3, 1, tzinfo=UTC)
    project.write_text("[tool.tallykeeper]\n")
    assert retentions() == []


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ('[tool.tallykeeper]\nprune = ["shop.orders"]', "a table of sources"),
        (f'{TABLE}"shop.orders" = 30', "keep_days, and by"),
        (f'{TABLE}"shop.orders" = {{ by = "at" }}', "keep_days, and by"),
        (f'{TABLE}"shop.orders" = {{ keep_days = 3, days = 1 }}', "keep_days, and by"),
        (f'{TABLE}"shop.orders" = {{ keep_days = 0 }}', "a whole number of days, at least 1"),
        (f'{TABLE}"shop.orders" = {{ keep_days = true }}', "a whole number of days, at least 1"),
        (f'{TABLE}"shop.orders" = {{ keep_days = 9, by = 1 }}', "the name of a column"),
        (f'{TABLE}"shop.orders" = {{ keep_days = 9, freeze = 1 }}', "freeze as true or false"),
    ],
)
def test_what_is_malformed_is_refused(project: Path, written: str, said: str) -> None:
    project.write_text(written)
    with pytest.raises(SettingError, match=said):
        retentions()


@pytest.mark.usefixtures("project")
def test_what_is_due_goes_and_stays_counted(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLY_DATABASE_URL", engine.url.render_as_string(hide_password=False))
    execute(
        engine,
        "CREATE SCHEMA shop",
        "CREATE TABLE shop.orders (at timestamptz NOT NULL, paid date)",
        "INSERT INTO shop.orders SELECT now() - n * interval '1 day'"
        " FROM generate_series(1, 100) AS n",
    )
    (shop,) = discovery.all_systems()
    migrate(engine, [shop])
    (by_day,) = shop.tallies
    refresh(engine, by_day)
    was = rows(engine, "SELECT * FROM shop.by_day_live ORDER BY 1")

    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(prune, arguments, standalone_mode=False)
        if done.exception is not None:
            return 2, str(done.exception)
        return done.return_value, done.output

    day = f"{datetime.now(UTC) - timedelta(days=30):%Y-%m-%d}"
    code, said = run("--due", "--dry-run")
    assert (code, said) == (
        0,
        f"shop.orders: 70 rows with at before {day} would be deleted; they would stay counted in"
        " shop.by_day\n",
    )
    assert scalar(engine, "SELECT count(*) FROM shop.orders") == 100
    code, said = run("--due")
    assert code == 0
    assert f"shop.orders: 70 rows with at before {day} deleted; they stay counted in" in said
    assert scalar(engine, "SELECT count(*) FROM shop.orders") == 30
    assert rows(engine, "SELECT * FROM shop.by_day_live ORDER BY 1") == was
    for wrongly in (
        (),
        ("--due", "--forget", "by_day"),
        ("shop.orders",),
        ("shop.orders", "--due"),
    ):
        assert "a source and a day are needed" in run(*wrongly)[1]
    later = f"{datetime.now(UTC):%Y-%m-%d}"
    assert "name the one that says how old" in run("shop.orders", "--before", later)[1]
    assert run("shop.orders", "--before", later, "--by", "at")[0] == 0
    assert rows(engine, "SELECT * FROM shop.by_day_live ORDER BY 1") == was
    code, said = run("--forget", "by_day")
    assert "shop.by_day counts 100 pruned rows no more" in said or "99 pruned" in said
    refresh(engine, by_day)
    assert len(rows(engine, "SELECT * FROM shop.by_day_live")) < 2


def test_groups_are_frozen_where_the_project_allows_it(
    engine: Engine, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLY_DATABASE_URL", engine.url.render_as_string(hide_password=False))
    (project.parent / "shop.last_of.sql").write_text(
        "-- The last order by day.\n-- tally: shop.last_of\n"
        "SELECT date_trunc('day', at, 'UTC') AS day, max(at) AS at FROM shop.orders GROUP BY 1"
    )
    execute(
        engine,
        "CREATE SCHEMA shop",
        "CREATE TABLE shop.orders (at timestamptz NOT NULL)",
        "INSERT INTO shop.orders SELECT now() - n * interval '1 day'"
        " FROM generate_series(1, 100) AS n",
    )
    (shop,) = discovery.all_systems()
    migrate(engine, [shop])
    for tally in shop.tallies:
        refresh(engine, tally)
    was = rows(engine, "SELECT * FROM shop.last_of_live ORDER BY 1")
    refused = CliRunner().invoke(prune, ["--due"], standalone_mode=False)
    assert "could only be frozen" in str(refused.exception)
    project.write_text(KEPT.replace("}", ", freeze = true }"))
    for arguments, said in (
        (["--due", "--dry-run"], "70 groups of shop.last_of would be frozen\n"),
        (
            ["--due"],
            "they stay counted in shop.by_day, shop.last_of; 70 groups of shop.last_of were",
        ),
    ):
        done = CliRunner().invoke(prune, arguments, standalone_mode=False)
        assert done.exception is None
        assert said in done.output
    assert scalar(engine, "SELECT count(*) FROM shop.orders") == 30
    assert rows(engine, "SELECT * FROM shop.last_of_live ORDER BY 1") == was

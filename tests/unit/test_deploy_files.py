"""The files of a deployment hold together: image, compose file, systemd units, example settings.

What the units start, `tests/dagster/test_processes.py` starts; here the compose file is held to
start the same. Containers themselves are not built here.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest
import yaml  # type: ignore[import-untyped]
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tallykeeper.settings import project_root
from tests.environment import environment as clean

ROOT = project_root()
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("tally-*.service"))
WRAPPER = "/opt/tallykeeper/deploy/with-environment"
EVERYWHERE = "0.0.0.0"  # noqa: S104 -- within the network of the containers
ONCE = {"migrate", "migrate-dagster"}
# Not read by Tallykeeper itself, but by the files here; docs/how-to/deploy.md says what they are.
OF_THE_FILES = {"TALLY_CODE_HOST", "TALLY_CODE_PORT", "TALLY_PASSWORD_FILE"}
# Python's, matplotlib's, and PostgreSQL's image's.
OF_OTHERS = {
    "MPLCONFIGDIR",
    "PATH",
    "PIP_DISABLE_PIP_VERSION_CHECK",
    "PIP_NO_CACHE_DIR",
    "POSTGRES_DB",
    "POSTGRES_PASSWORD_FILE",
    "POSTGRES_USER",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONUNBUFFERED",
}


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return loaded


def ours() -> dict[str, dict[str, Any]]:
    """The services that are Tallykeeper's own."""
    return {name: s for name, s in compose()["services"].items() if s["image"] == "tallykeeper"}


def settings_of(unit: Path, name: str) -> list[str]:
    """All values of a unit's setting."""
    lines = unit.read_text().splitlines()
    return [line.partition("=")[2] for line in lines if line.startswith(f"{name}=")]


def command_of(unit: Path) -> list[str]:
    (command,) = settings_of(unit, "ExecStart")
    wrapper, *words = shlex.split(command)
    assert wrapper == WRAPPER
    return words


def dockerfile() -> str:
    return (DEPLOY / "Dockerfile").read_text()


def runtime_lock() -> ModuleType:
    spec = importlib.util.spec_from_file_location("runtime_lock", DEPLOY / "runtime_lock.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def deployed_packages() -> dict[str, str]:
    """What an image installs: the lock's entry of each package."""
    texts = [(ROOT / name).read_text() for name in ("pyproject.toml", "requirements.lock")]
    entries = re.split(r"\n(?=\w)", runtime_lock().runtime_lock(*texts))
    return {canonicalize_name(re.split(r"[=\[]", entry)[0]): entry for entry in entries}


def test_containers_and_units_start_the_same_but_for_where_they_listen() -> None:
    started = {name: s["command"] for name, s in ours().items() if name not in ONCE}
    units = {unit.stem.removeprefix("tally-"): command_of(unit) for unit in UNITS}
    assert units.keys() == started.keys()
    for name, command in started.items():
        here = [word.replace(EVERYWHERE, "127.0.0.1") for word in command]
        assert here == units[name], name


def test_nothing_is_reachable_from_another_machine() -> None:
    for unit in UNITS:
        hosts = [w for w in command_of(unit) if re.match(r"--(host|address)=", w)]
        assert [w for w in hosts if "=127.0.0.1" not in w] == [], unit.name
    for name, service in compose()["services"].items():
        published = service.get("ports", [])
        assert all(port.startswith("127.0.0.1:") for port in published), name
        assert "network_mode" not in service, name


def test_every_variable_is_known() -> None:
    rows = (ROOT / "docs/reference/settings.md").read_text()
    known = set(re.findall(r"^\| `(\w+)", rows, re.MULTILINE)) | OF_THE_FILES | OF_OTHERS
    found = {
        variable for s in compose()["services"].values() for variable in s.get("environment", {})
    }
    for unit in UNITS:
        for value in settings_of(unit, "Environment"):
            found |= {word.partition("=")[0] for word in shlex.split(value)}
    example = (DEPLOY / "env.example").read_text()
    found |= set(re.findall(r"^#?([A-Z_]+)=", example, re.MULTILINE))
    found |= set(re.findall(r"^(?:ENV|   ) +([A-Z_]+)=", dockerfile(), re.MULTILINE))
    found |= set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text()))
    assert {v for v in found - known if not v.startswith("TALLY_SCHEMA_")} == set()
    for variable in OF_THE_FILES:
        assert f"`{variable}`" in (ROOT / "docs/how-to/deploy.md").read_text()


def test_there_is_no_password_and_no_default_for_one() -> None:
    (secret,) = compose()["secrets"].values()
    assert secret["file"].startswith("${TALLY_PASSWORD_FILE:?")
    for path in DEPLOY.rglob("*"):
        if path.is_file():
            assert re.findall(r"://\w+:[^@/\s]+@", path.read_text()) == [], path.name
    example = (DEPLOY / "env.example").read_text()
    assert re.findall(r"^(\w+)=(.*)$", example, re.MULTILINE) == [("TALLY_PASSWORD_FILE", "")]
    assert all("database_password" in service["secrets"] for service in ours().values())


def test_processes_come_back_and_wait_for_what_they_need() -> None:
    services = compose()["services"]
    for name, service in services.items():
        assert (service.get("restart") == "always") is (name not in ONCE), name
        for needed, condition in service.get("depends_on", {}).items():
            once = needed in ONCE
            wanted = "service_completed_successfully" if once else "service_healthy"
            assert condition == {"condition": wanted}, name
            assert once or "healthcheck" in services[needed], needed
    for unit in UNITS:
        assert settings_of(unit, "Restart") == ["always"]


def test_a_code_server_that_is_asked_to_stop_may_wait_for_its_runs() -> None:
    (unit,) = [unit for unit in UNITS if unit.stem == "tally-code"]
    assert settings_of(unit, "KillMode") == ["mixed"], "the runs are not asked to stop"
    assert settings_of(unit, "TimeoutStopSec") == ["5min"]
    assert compose()["services"]["code"]["stop_grace_period"] == "5m"


def test_containers_run_with_few_rights() -> None:
    assert re.findall(r"^USER (.*)$", dockerfile(), re.MULTILINE) == ["tallykeeper"]
    for name, service in ours().items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_the_image_is_made_of_what_the_lock_names_and_of_the_code_alone() -> None:
    assert "--require-hashes" in dockerfile()
    assert "http" not in dockerfile()
    assert 'ENTRYPOINT ["/opt/tallykeeper/deploy/with-environment"]' in dockerfile()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    taken = [line[1:] for line in ignored if line.startswith("!")]
    assert [name for name in taken if not (ROOT / name).exists()] == []
    assert {p.parent.name for p in ROOT.glob("*/__init__.py")} - set(taken) == {
        "benchmarks",
        "tests",
    }
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", dockerfile(), re.MULTILINE)
    named = {word for line in copied for word in line.split()} - {"."}
    assert named <= set(taken)


def test_the_image_has_all_that_the_project_needs_and_none_of_what_develops_it() -> None:
    deployed = deployed_packages()
    assert all("--hash=sha256:" in entry for entry in deployed.values())
    here = cast("dict[str, str]", default_environment())
    needed, waiting = set[str](), [("tallykeeper", frozenset({"all"}))]
    while waiting:
        name, extras = waiting.pop()
        for text in metadata.requires(name) or []:
            requirement = Requirement(text)
            environments = [here | {"extra": extra} for extra in extras or {""}]
            marker = requirement.marker
            package = canonicalize_name(requirement.name)
            if marker is None or any(marker.evaluate(e) for e in environments):
                if package not in needed:
                    waiting.append((package, frozenset(requirement.extras)))
                needed.add(package)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    reference = project["dependency-groups"]["reference"]
    needed |= {canonicalize_name(Requirement(text).name) for text in reference}
    assert needed - deployed.keys() == {"tallykeeper"}, "which the extra `all` names"
    assert {"setuptools", "wheel"} <= deployed.keys(), "the project itself is built with them"
    assert deployed.keys() & {"pytest", "mypy", "ruff", "playwright", "hypothesis", "uv"} == set()


def test_a_package_that_the_lock_lacks_is_named() -> None:
    project = (
        '[build-system]\nrequires = []\n[project]\nname = "one"\ndependencies = ["six"]\n'
        '[project.optional-dependencies]\npad = ["Left_Pad>=1"]\nall = ["one[pad]"]\n'
        "[dependency-groups]\nreference = []\n"
    )
    lock = "# made\nsix==1 \\\n    --hash=sha256:00\n    # via tallykeeper (pyproject.toml)\n"
    with pytest.raises(ValueError, match="expected left-pad in the lock, but it has none"):
        runtime_lock().runtime_lock(project, lock)


@pytest.mark.parametrize("content", [None, ""], ids=["missing", "empty"])
def test_a_password_file_that_is_none_is_reported(tmp_path: Path, content: str | None) -> None:
    secret = tmp_path / "password"
    if content is not None:
        secret.write_text(content)
    environment = clean(TALLY_PASSWORD_FILE=str(secret), TALLY_HOME=str(tmp_path))
    command = [str(DEPLOY / "with-environment"), "true"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"expected a password in {secret}, but it is not there, empty" in done.stderr
    assert not (tmp_path / "pgpass").exists()


@pytest.mark.parametrize("unit", UNITS, ids=[unit.stem for unit in UNITS])
def test_systemd_understands_the_units(unit: Path, tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("there is no systemd-analyze here")
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/opt/tallykeeper", str(ROOT)))
    done = subprocess.run(
        [program, "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_values_for_kubernetes_say_what_dagster_yaml_says() -> None:
    page = (project_root() / "docs/how-to/kubernetes.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    values, job = (yaml.safe_load(block) for block in blocks)
    ours = yaml.safe_load((project_root() / "dagster.yaml").read_text(encoding="utf-8"))
    daemon = values["dagsterDaemon"]
    queue = daemon["runCoordinator"]["config"]["queuedRunCoordinator"]
    runs = ours["concurrency"]["runs"]
    assert queue["maxConcurrentRuns"] == runs["max_concurrent_runs"]
    assert queue["tagConcurrencyLimits"] == runs["tag_concurrency_limits"]
    monitored, retried = daemon["runMonitoring"], daemon["runRetries"]
    assert monitored["maxRuntimeSeconds"] == ours["run_monitoring"]["max_runtime_seconds"]
    slots = ours["run_monitoring"]["free_slots_after_run_end_seconds"]
    assert monitored["freeSlotsAfterRunEndSeconds"] == slots
    assert list(retried.values()) == list(ours["run_retries"].values())
    (location,) = values["dagster-user-deployments"]["deployments"]
    module = tomllib.loads((project_root() / "pyproject.toml").read_text())["tool"]["dagster"]
    assert location["dagsterApiGrpcArgs"] == ["--module-name", module["module_name"]]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["tally", "migrate"]
    assert container["image"] == f"{location['image']['repository']}:{location['image']['tag']}"

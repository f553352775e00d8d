"""Where a project's code location and the settings of its Dagster instance are found.

The files `workspace.yaml` and `dagster.yaml` in the project's folder, else those of this package.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from tallykeeper.settings import project_root

PACKAGED = Path(__file__).parent / "instance"
OWN_MODULE, OWN_NAME = "tallykeeper.dagster.project", "tallykeeper"


def workspace_file() -> Path:
    """The workspace file: which code locations there are. Raises SettingError."""
    return _own_or_packaged("workspace.yaml")


def instance_file() -> Path:
    """The settings of the Dagster instance. Raises SettingError."""
    return _own_or_packaged("dagster.yaml")


def code_location() -> tuple[str, str]:
    """Module and name of the project's code location, as `dg` reads them too. Raises SettingError.

    They are those of [tool.dagster] in the project's pyproject.toml, else of this package.
    """
    path = project_root() / "pyproject.toml"
    table = tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    named = table.get("tool", {}).get("dagster", {})
    module = named.get("module_name", OWN_MODULE)
    return module, named.get("code_location_name", OWN_NAME)


def _own_or_packaged(name: str) -> Path:
    own = project_root() / name
    return own if own.is_file() else PACKAGED / name

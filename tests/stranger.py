"""A machine of somebody else: the wheel in an environment that has only what its extras bring.

Nothing is downloaded. What a package index would bring is linked from the environment that the
tests run in: the distributions that the wheel's own metadata ask for, with what these ask for, and
no other. So a package that is needed and not declared is missing there, as at a stranger's.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from zipfile import ZipFile

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tallykeeper.settings import project_root
from tests.environment import environment as clean

SITE = Path(sysconfig.get_path("purelib"))
_SOURCES = ("pyproject.toml", "README.md", "LICENSE", "tallykeeper")


def build_wheel(folder: Path) -> Path:
    """The wheel of the project, built in a copy of what it is made of."""
    copy = folder / "source"
    copy.mkdir()
    for name in _SOURCES:
        source = project_root() / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, copy / name, ignore=ignored)
        else:
            shutil.copyfile(source, copy / name)
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "wheel"]
    options = ["--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    done = subprocess.run(
        [*command, *options, str(copy)], env=clean(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(wheel: Path, folder: Path, extras: Sequence[str], also: Sequence[str] = ()) -> Path:
    """A new environment with the wheel and these extras of it; returns the folder of its programs.

    `also` are distributions that the stranger has besides.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    programs = folder / "bin"
    (site,) = folder.glob("lib/python*/site-packages")
    with ZipFile(wheel) as content:
        content.extractall(site)
    (own,) = metadata.distributions(name="tallykeeper", path=[str(site)])
    _write_programs(own, programs)
    for name in sorted(_needed(own.requires or [], extras, also)):
        distribution = metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(SITE / top)
        _write_programs(distribution, programs)
    return programs


def _needed(requires: Sequence[str], extras: Sequence[str], also: Sequence[str]) -> set[str]:
    """Every distribution that is asked for, by its name, with those that it asks for itself."""
    needed: set[str] = {canonicalize_name(name) for name in also}
    seen: set[tuple[str, str]] = set()
    waiting: list[tuple[Sequence[str], str]] = [(requires, extra) for extra in ("", *extras)]
    waiting += [(metadata.requires(name) or [], "") for name in also]
    while waiting:
        texts, extra = waiting.pop()
        for requirement in _that_apply(texts, extra):
            name = canonicalize_name(requirement.name)
            needed.add(name)
            for each in ("", *requirement.extras):
                if (name, each) not in seen:
                    seen.add((name, each))
                    found = requires if name == "tallykeeper" else metadata.requires(name)
                    waiting.append((found or [], each))
    return needed - {"tallykeeper"}


def _that_apply(texts: Sequence[str], extra: str) -> Iterator[Requirement]:
    for requirement in map(Requirement, texts):
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            yield requirement


def _write_programs(distribution: metadata.Distribution, programs: Path) -> None:
    for point in distribution.entry_points:
        if point.group == "console_scripts":
            program = programs / point.name
            program.write_text(
                f"#!{programs / 'python'}\nimport sys\nfrom {point.module} import {point.attr}\n"
                f"sys.exit({point.attr}())\n"
            )
            program.chmod(0o755)


# Names that a stranger's project has of its own; were one of them imported, everything would fail.
OWN_FOLDERS = ("assets", "pipelines", "resources", "migrations")
_PAGE = (project_root() / "docs/how-to/own-project.md").read_text(encoding="utf-8")


def _block(language: str) -> str:
    """The first block of the page in that language."""
    return _PAGE.split(f"```{language}\n", 1)[1].split("```", 1)[0]


PROJECT, DECLARED = _block("toml"), _block("python")


def make_project(folder: Path) -> Path:
    """A project with one tally, and with folders of its own that are called as ours are."""
    for name in OWN_FOLDERS:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / "shop_tallies.py").write_text(DECLARED)
    return folder

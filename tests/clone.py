"""A fresh clone of the project, as somebody has it who has just set it up."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tallykeeper.embedded import shared_server
from tallykeeper.settings import project_root

PROGRAMS = ("dg", "dagster", "dagster-webserver", "dagster-daemon", "tally")
SITE = Path(sysconfig.get_path("purelib"))
QUIET = SITE / "tallykeeper_dg.pth"


@dataclass(frozen=True)
class Clone:
    """A copy of the project, a virtual environment in it, and the home of a user without files."""

    root: Path
    home: Path

    def command(self, *arguments: str) -> list[str]:
        """A program of the clone's own environment."""
        return [str(self.root / ".venv" / "bin" / arguments[0]), *arguments[1:]]

    @property
    def environment(self) -> dict[str, str]:
        """As little as a shell has."""
        return {"HOME": str(self.home), "PATH": "/usr/bin:/bin"}

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """What a command says that ends by itself."""
        return subprocess.run(
            arguments,
            cwd=self.root,
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def dg(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The same of `dg`."""
        return self.run(*self.command("dg", *arguments))


@contextmanager
def cloned() -> Iterator[Clone]:
    """Make a clone, and remove it with the database that it started."""
    # Not pytest's own folder, which is closed to the account of the embedded server.
    with tempfile.TemporaryDirectory(prefix="tally-") as folder:
        root, home = Path(folder, "clone"), Path(folder, "home")
        home.mkdir()
        names = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        files = subprocess.run(names, cwd=project_root(), capture_output=True, check=True).stdout
        for name in files.decode().split("\0"):
            source = project_root() / name
            if name and source.is_file():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, root / name)
        _make_environment(root)
        yield Clone(root, home)
        shared_server.stop(root / ".tally")


def _make_environment(root: Path) -> None:
    """The packages of this one, and the project as it is in the copy: what `make setup` makes."""
    made = root / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(made)], check=True)
    site = made / SITE.relative_to(sys.prefix)
    (site / "all.pth").write_text(f"{SITE}\n{root}\n")
    assert QUIET.is_file(), "`make setup` was run before it had this file; run it again"
    shutil.copyfile(QUIET, site / QUIET.name)
    for name in PROGRAMS:
        program = (Path(sys.executable).with_name(name)).read_text().splitlines(keepends=True)
        program[0] = f"#!{made / 'bin' / 'python'}\n"
        (made / "bin" / name).write_text("".join(program))
        (made / "bin" / name).chmod(0o755)
    (made / ".ready").touch()

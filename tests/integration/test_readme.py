"""The example of the README does what stands below it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tallykeeper.settings import project_root

LINES = 15


def blocks(language: str) -> list[str]:
    readme = (project_root() / "README.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)


def test_the_example_prints_what_the_readme_shows(database_url: str, tmp_path: Path) -> None:
    (example,), (printed,) = blocks("python"), blocks("text")
    assert len([line for line in example.splitlines() if line.strip()]) <= LINES
    done = subprocess.run(
        [sys.executable, "-c", example],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,  # outside of the project, as its reader is
        env={**os.environ, "TALLY_DATABASE_URL": database_url},
    )
    assert (done.returncode, done.stdout) == (0, printed), done.stderr

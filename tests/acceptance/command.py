"""Runs `tally` in a process of its own, against one database.

A command that ends by itself is a fork (`forking.py`); what is started to be watched, or to get a
signal, is the installed program, and so is what shells and other programs call.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.acceptance import forking
from tests.environment import environment as clean

PROGRAM = forking.PROGRAM
SECONDS = 120
# Variables of the one who runs the tests must not reach the command.


# On a busy machine any command may take so long that it says how far it is.
_PROGRESS = re.compile(r"^.*: \d+:\d\d:\d\d so far.*\n", re.MULTILINE)


def without_progress(err: str) -> str:
    """What a command wrote to standard error, but for how far it was."""
    return _PROGRESS.sub("", err)


@dataclass(frozen=True)
class Result:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str


@dataclass
class Command:
    """`tally` with an environment of its own."""

    url: str
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def ok(self, *arguments: str) -> Result:
        """Run it; it has to succeed without a complaint."""
        result = self.run(*arguments)
        assert result.code == 0, result
        assert result.err == "", result.err
        return result

    def run(self, *arguments: str) -> Result:
        """Run it to its end."""
        code, out, err = forking.run(arguments, self.folder, self._environment(), SECONDS)
        return Result(code, out, without_progress(err))

    def installed(self, *arguments: str) -> Result:
        """Run the installed program to its end, as a shell does."""
        return self._run([str(PROGRAM), *arguments])

    def program(self, *command: str) -> Result:
        """Run any program in the same environment."""
        return self._run(command)

    def python(self, script: str) -> Result:
        """Run a piece of Python in the same environment."""
        return self._run([sys.executable, "-c", script])

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start it, and leave its end to the caller.

        As from a terminal: a shell's background job, which tests may be, ignores Ctrl-C, and so
        would what it starts.
        """
        return subprocess.Popen(
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
            args=[str(PROGRAM), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment(),
            cwd=self.folder,
        )

    def _run(self, command: Sequence[str]) -> Result:
        process = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=self._environment(),
            cwd=self.folder,
            timeout=SECONDS,
            check=False,
        )
        return Result(process.returncode, process.stdout, without_progress(process.stderr))

    def _environment(self) -> dict[str, str]:
        home = {"TALLY_HOME": str(self.folder / "home"), "TALLY_DATABASE_URL": self.url}
        # The size of the terminal that the tests are run in is none of theirs.
        kept = {n: v for n, v in clean(**home).items() if n not in ("COLUMNS", "LINES")}
        return kept | self.environment

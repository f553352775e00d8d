"""What a page would have one type, and a reader who types it: as it is printed, in one shell.

What stands for something of the reader's, as an address, is replaced by what this reader has; each
is listed by who makes the reader. Commands of `tally` are forks (`forking.py`), for to start one is
most of what it takes.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tallykeeper.settings import project_root
from tests.acceptance import forking

SECONDS = 300
_BLOCK = re.compile(r"^ *```(console|bash|sh)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_FORKING = """\
#!{python} -SEs
import json, os, socket, sys
channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
channel.connect({address!r})
asked = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(channel, [asked], [1, 2, 0])
channel.recv(2**20)
sys.exit(int(channel.recv(2**20)))
"""


def commands(page: str) -> list[str]:
    """The commands that the blocks of a page print, without prompts and without what they say."""
    found = []
    text = (project_root() / page).read_text(encoding="utf-8")
    for language, block in _BLOCK.findall(text):
        lines = block.replace("\\\n", " ").splitlines()
        # A block of `console` has prompts before what is typed; in others all of it is.
        typed = [line for line in lines if re.match(r"\s*[$#] ", line)]
        if language != "console":
            typed = lines
        found += [re.sub(r"^\s*[$#] ", "", line) for line in typed if line.strip()]
    return found


@dataclass
class Reader:
    """Somebody at a shell in `folder`, with an environment, and replacements of what is printed."""

    folder: Path
    environment: dict[str, str]
    replaced: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        programs = self.folder / ".venv" / "bin"
        programs.mkdir(parents=True)
        tally = programs / "tally"
        tally.write_text(_FORKING.format(python=sys.executable, address=forking.address()))
        tally.chmod(0o755)
        (programs / "dagster").symlink_to(Path(sys.executable).with_name("dagster"))
        path = (str(programs), str(Path(sys.executable).parent), self.environment["PATH"])
        self.environment = self.environment | {"PATH": os.pathsep.join(path)}

    def types(self, lines: Sequence[str]) -> list[tuple[str, int, str]]:
        """Each line as it is on the page, with its exit code and what it printed.

        What a command asks is answered by yes.
        """
        script = ["set -o pipefail"]
        for line in lines:
            typed = line
            for theirs, ours in self.replaced.items():
                typed = typed.replace(theirs, ours)
            # In this very shell, for what it exports is of the next lines, too.
            script += [f"echo '{_MARK}'", f"{{ {typed}\n}} <<<y", f"echo '{_MARK}'$?"]
        done = subprocess.run(
            ["bash", "-c", "\n".join(script)],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=SECONDS,
        )
        found = re.findall(rf"{_MARK}\n(.*?){_MARK}(\d+)\n", done.stdout, re.DOTALL)
        assert len(found) == len(lines), done.stdout
        return [(line, int(code), said) for line, (said, code) in zip(lines, found, strict=True)]


_MARK = "--- a command ---"

# ruff: noqa: INP001 -- a script, run before there is anything to import
"""Of requirements.lock, what a deployment needs: nothing of what only develops and tests.

Takes pyproject.toml and requirements.lock, and writes the part of the lock that the library with
all of its extras but those of APART, the reference project and the build system lead to, hashes
included. What leads to what is read from the lock's own `# via` comments, so that nothing is looked
up and nothing else can get in. Runs with a bare Python, before anything is installed.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

# Half a gigabyte, with a lock of its own.
APART = ("spark",)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def runtime_lock(pyproject: str, lock: str) -> str:
    """The part of the lock that a deployment installs.

    Raises ValueError where the project needs a package that the lock does not have.
    """
    project = tomllib.loads(pyproject)
    library = project["project"]
    needed = [
        *library["dependencies"],
        *(
            each
            for extra, requirements in library["optional-dependencies"].items()
            if extra not in APART
            for each in requirements
        ),
        *project["dependency-groups"]["reference"],
        *project["build-system"]["requires"],
    ]
    # The extra `all` names the library itself.
    wanted = {_name_of(requirement) for requirement in needed} - {_name_of(library["name"])}
    entries = _entries(lock)
    missing = wanted - set(entries)
    if missing:
        raise ValueError(
            f"expected {', '.join(sorted(missing))} in the lock, but it has none; run `make lock`"
        )
    parents = {name: _via(entry) for name, entry in entries.items()}
    while more := {name for name in parents if name not in wanted and parents[name] & wanted}:
        wanted |= more
    return "\n".join(entry for name, entry in entries.items() if name in wanted) + "\n"


def _entries(lock: str) -> dict[str, str]:
    """The lock's entries by package: requirement, hashes and comments of each."""
    parts = re.split(r"\n(?=[A-Za-z0-9])", lock)
    return {_name_of(part): part.rstrip() for part in parts if not part.startswith("#")}


def _via(entry: str) -> set[str]:
    """The packages that need this one, by the comments under it."""
    comments = [line.strip().removeprefix("#") for line in entry.splitlines()[1:] if "#" in line]
    listed = " ".join(comments).removeprefix(" via").split()
    return {_name_of(word) for word in listed if _NAME.match(word)}


def _name_of(requirement: str) -> str:
    """A requirement's package, spelt as locks spell it."""
    found = _NAME.match(requirement)
    if found is None:
        raise ValueError(f"expected a requirement, but it is {requirement!r}; correct it")
    return re.sub(r"[-_.]+", "-", found.group()).lower()


if __name__ == "__main__":
    texts = [Path(name).read_text(encoding="utf-8") for name in sys.argv[1:]]
    sys.stdout.write(runtime_lock(*texts))

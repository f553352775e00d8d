"""Every command that a page prints is one that its program takes, with these options and values.

They are parsed here, not run. Those of README and tutorials are run, word for word, in
tests/browser/test_ui.py and tests/acceptance/test_ten_tallies.py, those of the other pages that can
be in tests/acceptance/test_pages.py.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from dagster._cli import create_dagster_cli
from dagster_dg_cli.cli import create_dg_cli

from tallykeeper.cli.main import tally
from tallykeeper.settings import project_root

ROOT = project_root()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS = ("tally", "dg", "dagster", "make")
# What stands for something of the reader's: `tally refresh NAME`, `tally show ...`.
_PLACEHOLDER = re.compile(r"[A-Z]{2,}|\.\.\.|<.*>")
_ASSIGNED = re.compile(r"[A-Za-z_]\w*=")


def printed(page: Path) -> Iterator[list[str]]:
    """The words of each such command in the page's blocks, without what it is set or piped to."""
    text = page.read_text(encoding="utf-8")
    for block in re.findall(
        r"^ *```(?:console|bash|sh)\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL
    ):
        is_session = "$ " in block or "# " in block
        for line in block.replace("\\\n", " ").splitlines():
            if is_session and not re.match(r"\s*[$#] ", line):
                continue  # What a command prints.
            words = shlex.split(re.sub(r"^\s*[$#] ", "", line), comments=True)
            yield from _commands(words)


def _commands(words: list[str]) -> Iterator[list[str]]:
    command: list[str] = []
    for word in [*words, ";"]:
        if word not in ("|", "||", "&&", ";", ">", ">>", "<"):
            command.append(word)
            continue
        while command and _ASSIGNED.match(command[0]):
            del command[0]
        if command and Path(command[0]).name in PROGRAMS:
            yield [Path(command[0]).name, *command[1:]]
        command = []


def wrong(words: list[str]) -> str | None:
    """Why its program does not take the command; None where it does."""
    program, *arguments = words
    if program == "make":
        targets = [word for word in arguments if not _ASSIGNED.match(word) and word[0] != "-"]
        if "-C" in arguments:
            targets.remove(arguments[arguments.index("-C") + 1])
        makefile = (ROOT / "Makefile").read_text()
        missing = [name for name in targets if f"\n{name}:" not in makefile]
        return f"no target {missing}" if missing else None
    makers = {"tally": lambda: tally, "dg": create_dg_cli, "dagster": create_dagster_cli}
    command: click.Command = makers[program]()
    try:
        context = command.make_context(program, list(arguments))
        while isinstance(command, click.Group):
            name, below, rest = command.resolve_command(
                context, [*context._protected_args, *context.args]
            )
            assert below is not None
            command, context = below, below.make_context(name, rest, parent=context)
    except click.exceptions.NoArgsIsHelpError:
        return None
    except click.exceptions.Exit:
        return None  # It prints its help or its version.
    except click.ClickException as error:
        said = error.format_message()
        of_reader = "does not exist" in said or any(map(_PLACEHOLDER.fullmatch, arguments))
        return None if of_reader else said
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_programs_take_what_the_page_prints(page: Path) -> None:
    found = {" ".join(words): wrong(words) for words in printed(page)}
    assert {line: why for line, why in found.items() if why} == {}


def test_very_many_commands_are_looked_at() -> None:
    assert sum(1 for page in PAGES for _ in printed(page)) > 100


@pytest.mark.parametrize(
    "line",
    [
        "tally refesh",
        "tally verify --no-such-option",
        "tally rebuild a.b --from yesterday",
        "dagster instance concurrency put pool 2",
        "make demos",
    ],
)
def test_what_a_program_does_not_take_is_seen(line: str) -> None:
    assert wrong(line.split())

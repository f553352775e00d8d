"""What all commands have in common: quiet and verbose, JSON with a documented shape, examples."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest

from tallykeeper.cli.main import tally
from tallykeeper.settings import project_root

# They run until they are ended, and have no result.
WITHOUT_JSON = {"up", "serve", "metrics"}
PAGE = (project_root() / "docs/reference/json.md").read_text(encoding="utf-8")


def every(
    command: click.Command, context: click.Context, *path: str
) -> Iterator[tuple[str, click.Command]]:
    """Each command that can be called, by what one types after `tally`."""
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from every(
                below, click.Context(below, parent=context, info_name=name), *path, name
            )
    if path and (not isinstance(command, click.Group) or command.invoke_without_command):
        yield " ".join(path), command


COMMANDS = dict(every(tally, click.Context(tally, info_name="tally")))


def options(command: click.Command) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts}


def documented() -> set[str]:
    """The commands whose shape the page says."""
    rows = re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def test_subcommands_and_those_of_systems_are_among_them() -> None:
    assert {"refresh", "places refresh", "load media", "archive list", "replay"} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_can_be_quiet_and_verbose(name: str) -> None:
    assert {"-q", "--quiet", "-v", "--verbose"} <= options(COMMANDS[name])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_that_ends_prints_json_of_a_documented_shape(name: str) -> None:
    assert ("--json" in options(COMMANDS[name])) == (name not in WITHOUT_JSON)
    assert name in documented() or f"`{name}`" in PAGE


def test_the_page_names_no_command_that_is_not_there() -> None:
    fields = {"version", "command"}
    assert documented() - fields - set(COMMANDS) == set()

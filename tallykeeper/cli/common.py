"""What commands have in common: arguments, the database they work on, how they complain."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from rich.console import Console
    from sqlalchemy import Engine

    from tallykeeper import Tally

FAILED, INTERRUPTED = 1, 130
LONGEST_SHOWN = 160


def _complete(_ctx: click.Context, _param: click.Parameter, begun: str) -> list[CompletionItem]:
    """The names of tallies, and their tags, that begin so; none where these are not known."""
    from tallykeeper.discovery import all_systems

    try:
        tallies = [tally for system in all_systems() for tally in system.tallies]
    except Exception:  # noqa: BLE001 -- what is wrong is said when a command runs
        return []
    tags = {f"tag:{tag}" for tally in tallies for tag in tally.tags}
    return [
        CompletionItem(name)
        for name in (*(tally.name for tally in tallies), *sorted(tags))
        if name.startswith(begun) or name.partition(".")[2].startswith(begun)
    ]


name_given = click.argument("name", shell_complete=_complete)
names_given = click.argument("names", nargs=-1, metavar="[NAME ...]", shell_complete=_complete)
some_names_given = click.argument(
    "names", nargs=-1, required=True, metavar="NAME ...", shell_complete=_complete
)
changed_given = click.option(
    "--changed", is_flag=True, help="Only those whose declaration is not the one installed."
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
QUIET, _VERBOSE = "tallykeeper.quiet", "tallykeeper.verbose"


def say(sentence: str) -> None:
    """Print a line for people; nothing where the command prints JSON."""
    if not click.get_current_context().params.get("as_json"):
        click.echo(sentence)


def telling() -> Callable[[str], object] | None:
    """What says lines of progress, on standard error, from any thread; None with -q and --json."""
    context = click.get_current_context()
    silent = context.meta.get(QUIET) or context.params.get("as_json")
    return None if silent else partial(click.echo, err=True)


def tell(sentence: str) -> None:
    """Say a line of progress, on standard error; nothing with -q and --json."""
    said = telling()
    if said is not None:
        said(sentence)


@contextmanager
def _nothing_printed() -> Iterator[None]:
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        yield


def _be_quiet(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted:
        ctx.with_resource(_nothing_printed())
        ctx.meta[QUIET] = True


def _be_verbose(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted:
        ctx.meta[_VERBOSE] = True


def with_verbosity(command: click.Command) -> click.Command:
    """The command with the options -q and -v, which all have, once."""
    if any(parameter.name == "quiet" for parameter in command.params):
        return command
    quiet = click.Option(
        ["-q", "--quiet"],
        is_flag=True,
        expose_value=False,
        callback=_be_quiet,
        help="Print nothing but errors; the exit code says the rest.",
    )
    verbose = click.Option(
        ["-v", "--verbose"],
        is_flag=True,
        expose_value=False,
        callback=_be_verbose,
        help="Show each SQL statement with its time, on standard error.",
    )
    command.params += [quiet, verbose]
    return command


def _show_statements(engine: Engine) -> None:
    """Print each statement's first line and time; never its values."""
    from sqlalchemy import event

    def before(*arguments: Any) -> None:
        arguments[4].begun_at = time.monotonic()

    def after(*arguments: Any) -> None:
        statement, context = arguments[2], arguments[4]
        took = (time.monotonic() - context.begun_at) * 1000
        first = " ".join(statement.split())[:LONGEST_SHOWN]
        click.echo(f"{took:8.1f} ms  {first}", err=True)

    event.listen(engine, "before_cursor_execute", before)
    event.listen(engine, "after_cursor_execute", after)


def example(*lines: str) -> str:
    """The epilog of a command's help."""
    # Click would fill the lines up; the backspace is its sign for text to be left as it is.
    return "\b\n" + "\n".join(["Example:", *(f"    {line}" for line in lines)])


def open_database() -> Engine:
    """The database that the settings name. Raises DatabaseUnavailable, SettingError."""
    from tallykeeper.database.connections import open_engine

    check_settings()
    engine = open_engine()
    if click.get_current_context().meta.get(_VERBOSE):
        _show_statements(engine)
    return engine


def check_settings(*, needs_tallies: bool = True) -> None:
    """Tell of a malformed setting before anything is done, also where it is not needed yet."""
    from tallykeeper.discovery import all_systems, chosen_systems
    from tallykeeper.settings import (
        alert_repeat_hours,
        alert_urls,
        metrics_address,
        start_date,
        ui_url,
    )

    start_date()
    metrics_address()
    alert_urls()
    alert_repeat_hours()
    ui_url()
    if needs_tallies or all_systems():
        chosen_systems()


def named(engine: Engine, names: Sequence[str], *, changed: bool = False) -> list[Tally]:
    """The tallies that are named, or all that the database keeps; if `changed`, of these alone.

    Raises UsageError.
    """
    from tallykeeper import NotInstalled
    from tallykeeper.cli.selection import UnknownTally, changed_among, named_tallies

    try:
        found = named_tallies(engine, names)
    except UnknownTally as error:
        raise click.UsageError(str(error), ctx=click.get_current_context()) from error
    if changed:
        found = changed_among(engine, found)
        if not found:
            say("no declaration has changed")
    with engine.connect() as connection:
        for tally in found:
            # What works on one that is not installed says so itself.
            with suppress(NotInstalled):
                tally.bind(connection)
    return found


def console() -> Console:
    """Where tables are printed: as wide as the terminal, elsewhere 80 columns."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 80)


def complain(sentence: str) -> None:
    """Say on standard error what went wrong."""
    click.echo(f"tally: {sentence}", err=True)

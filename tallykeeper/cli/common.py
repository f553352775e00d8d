"""What commands have in common: arguments, the database they work on, how they complain."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console
    from sqlalchemy import Engine

    from tallykeeper import Tally

FAILED, INTERRUPTED = 1, 130

names_given = click.argument("names", nargs=-1, metavar="[NAME ...]")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def example(*lines: str) -> str:
    """The epilog of a command's help."""
    # Click would fill the lines up; the backspace is its sign for text to be left as it is.
    return "\b\n" + "\n".join(["Example:", *(f"    {line}" for line in lines)])


def open_database() -> Engine:
    """The database that the settings name. Raises DatabaseUnavailable, SettingError."""
    from tallykeeper.database.connections import open_engine

    check_settings()
    return open_engine()


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


def named(engine: Engine, names: Sequence[str]) -> list[Tally]:
    """The tallies that are named, or all that the database keeps. Raises UsageError."""
    from tallykeeper import NotInstalled
    from tallykeeper.cli.selection import UnknownTally, named_tallies

    try:
        found = named_tallies(engine, names)
    except UnknownTally as error:
        raise click.UsageError(str(error), ctx=click.get_current_context()) from error
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

"""The `tally` command line: what each command takes and says, and nothing of how it is done.

One place turns errors into sentences and exit codes (`main`): 0 done, 1 failed or found something
wrong, 2 called wrongly, 130 interrupted. What is heavy (Dagster, pandas, matplotlib) is
imported by the commands that need it, so that the others start at once.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from tallykeeper import extras
from tallykeeper.cli.common import FAILED, INTERRUPTED, QUIET, complain, with_verbosity
from tallykeeper.cli.engines.commands import audit
from tallykeeper.cli.export import export
from tallykeeper.cli.keep import (
    backfill,
    drop,
    incidents,
    migrate,
    rebuild,
    refresh,
    status,
    verify,
)
from tallykeeper.cli.load import load
from tallykeeper.cli.overview.commands import doctor, list_, show
from tallykeeper.cli.places.commands import places
from tallykeeper.cli.project.commands import init, new
from tallykeeper.cli.retention.archive import archive
from tallykeeper.cli.retention.commands import prune
from tallykeeper.cli.run import demo, env, metrics, roles, serve, stop, test_alert, up
from tallykeeper.cli.select.commands import check, explain, resume, suspend
from tallykeeper.settings import SettingError


def main() -> None:
    """Run the command line, and end the process with its exit code."""
    try:
        code = tally.main(prog_name="tally", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "tally"
        complain(f"{error.format_message().rstrip('.')}; see `{command} --help`")
        sys.exit(error.exit_code)
    except click.ClickException as error:
        complain(error.format_message())
        sys.exit(error.exit_code)
    except click.Abort:
        complain("interrupted; what was under way was undone")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has closed it; nor may the interpreter flush it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except Exception as error:
        from tallykeeper.cli.failures import explain

        sentence = explain(error)
        if sentence is None:
            raise
        complain(sentence)
        sys.exit(FAILED)
    sys.exit(code if isinstance(code, int) else 0)


class _InOrder(click.Group):
    """Lists its commands as they stand here, not by the alphabet; then those of the systems.

    Where these are not known, the others are listed, and why is said at the end.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        try:
            return [*self.commands, *_of_systems()]
        except SettingError:
            return [*self.commands]

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        try:
            _of_systems()
        except SettingError as error:
            formatter.write_paragraph()
            formatter.write_text(f"Commands that systems bring along are not listed: {error}")

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return self.commands.get(cmd_name) or _of_systems().get(cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            code = super().invoke(ctx)
        except ModuleNotFoundError as error:
            extra = extras.extra_of(error)
            if extra is None:
                raise
            command = f"`{ctx.command_path} {ctx.invoked_subcommand}`"
            raise click.ClickException(extras.needed_by(command, extra, error.name)) from error
        if code == FAILED and ctx.meta.get(QUIET):
            command = f"{ctx.command_path} {ctx.invoked_subcommand}"
            complain(f"found something wrong; without --quiet `{command}` says what")
        return code


def _of_systems() -> dict[str, click.Command]:
    """The commands that systems bring along, in their packages' modules `commands`.

    Raises SettingError.
    """
    from tallykeeper.discovery import all_systems

    parts = [system.part("commands") for system in all_systems()]
    found = [command for part in parts if part for command in part.COMMANDS]
    return {str(command.name): with_verbosity(command) for command in found}


@click.group(cls=_InOrder, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tallykeeper", prog_name="tally")
def tally() -> None:
    """Keep derived tables in PostgreSQL exactly equal to what their source tables say.

    The database is the one that TALLY_DATABASE_URL names; without it an embedded PostgreSQL is
    started. NAME is a tally: daily_contributions, media.daily_contributions or
    media/daily_contributions; several are media.* or tag:TAG.
    """


_FIRST = (init, new, list_, show, explain, migrate, status, doctor)
_KEEPING = (refresh, rebuild, backfill, verify, audit, check)
for command in (
    *_FIRST,
    *_KEEPING,
    prune,
    archive,
    incidents,
    suspend,
    resume,
    drop,
    places,
    load,
    export,
    roles,
    test_alert,
    env,
    stop,
    metrics,
    up,
    serve,
    demo,
):
    tally.add_command(with_verbosity(command))

"""`tally load`: the input of any system that has a loader."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tallykeeper.cli.common import as_json, example, open_database, say, with_verbosity

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from tallykeeper.input.loader import Loader
    from tallykeeper.system import System

LOADER = "LOADER"


class _Loaders(click.Group):
    """A command for each system whose package has a module `load` with a LOADER."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_loadable())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        loadable = _loadable()
        if cmd_name not in loadable:
            there = ", ".join(loadable) or "none: a module `load` in its package declares how"
            raise click.UsageError(
                f"input can be loaded into {there}, not into {cmd_name!r}", ctx=ctx
            )
        system, loader = loadable[cmd_name]

        def run(path: Path, as_json: bool, **options: object) -> None:
            _load(system, loader, path, options, as_json)

        where = click.Argument(["path"], type=click.Path(exists=True, path_type=Path))
        parameters = [where, *loader.options]
        command = click.Command(cmd_name, params=parameters, callback=run, help=loader.help)
        return with_verbosity(as_json(command))


@click.command(
    cls=_Loaders,
    epilog=example(
        "tally load media ~/Pictures",
        "tally load gallery items.jsonl.gz",
        "tally load fediverse events.jsonl.gz --instance https://mastodon.social",
    ),
    subcommand_metavar="SYSTEM PATH [OPTIONS]",
)
def load() -> None:
    """Load real input into a system's source tables.

    What cannot be read is listed in a reject file beside the input. In the embedded database the
    tables are made first. Where nothing could be read, the command exits with 1. `tally load SYSTEM
    --help` says which files a system takes.
    """


def prepare(engine: Engine, system: System) -> list[str]:
    """See to it that the system's source tables are there, and return what was done for that.

    In the embedded database they are made; in one's own they have to be there.

    Raises LoadError, SettingError where its tables go by names of their own, and what a migration
    raises.
    """
    from tallykeeper.discovery import missing_sources
    from tallykeeper.input.loading import LoadError
    from tallykeeper.settings import database_url
    from tallykeeper.table_names import refuse_renamed

    refuse_renamed(system.name, "by which `tally load` writes")
    if database_url() is None:
        from tallykeeper.installation.migrate import migrate

        return migrate(engine, [system], with_sources=True).done
    with engine.connect() as connection:
        missing = missing_sources(connection, system)
    if missing:
        raise LoadError(
            f"there is no {', '.join(missing)} in the database that TALLY_DATABASE_URL names;"
            f" make it with `TALLY_SYSTEMS={system.name} tally migrate --with-sources`"
        )
    return []


def _load(
    system: System, loader: Loader, path: Path, options: dict[str, object], as_json: bool
) -> None:
    from tallykeeper.cli.output.documents import emit
    from tallykeeper.cli.output.progress import loading, working

    engine = open_database()
    made = prepare(engine, system)
    for sentence in made:
        say(sentence)
    with working(f"{path.name or path}") as work:
        progress = loading(work, loader.unit)
        loaded = loader.load(engine, path, progress=progress, **options)
    say(loaded.summary(loader.unit))
    if as_json:
        emit(system=system.name, unit=loader.unit, made=made, **asdict(loaded))
    if loaded.read and loaded.read == loaded.rejected + loaded.unreadable:
        raise click.ClickException(f"nothing of {path} could be read; see the reasons in the list")


def _loadable() -> dict[str, tuple[System, Loader]]:
    from tallykeeper.discovery import all_systems

    found = {}
    for system in all_systems():
        loader = getattr(system.part("load"), LOADER, None)
        if loader is not None:
            found[system.name] = system, loader
    return found

"""Commands that start and end what runs, and prepare for it."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

import click

from tallykeeper import extras
from tallykeeper.cli.common import FAILED, as_json, check_settings, example, open_database, say
from tallykeeper.cli.output.documents import emit

# Its parts are given half a minute, then killed; the database has to write what it holds.
_UP_ENDS_WITHIN_SECONDS = 90


@click.command(epilog=example("tally roles | psql -d app", "tally roles --reader reporting"))
@click.option("--owner", default="tallykeeper_owner", show_default=True, metavar="ROLE")
@click.option("--refresher", default="tallykeeper_refresher", show_default=True, metavar="ROLE")
@click.option("--reader", default="tallykeeper_reader", show_default=True, metavar="ROLE")
@as_json
def roles(owner: str, refresher: str, reader: str, as_json: bool) -> None:
    """Print SQL that divides the work among roles: who owns, who refreshes, who reads.

    For an administrator, to pipe into psql; nothing is changed here. It makes the roles, hands over
    what is installed, and may be run again. `tally migrate` keeps granting by it.
    """
    from tallykeeper.discovery import chosen_systems
    from tallykeeper.installation.roles_script import Wanted, roles_sql

    script = roles_sql(open_database(), chosen_systems(), Wanted(owner, refresher, reader))
    if as_json:
        emit(owner=owner, refresher=refresher, reader=reader, sql=script)
    else:
        click.echo(script, nl=False)


@click.command("test-alert", epilog=example("TALLY_ALERT_URLS=mailto://... tally test-alert"))
@as_json
def test_alert(as_json: bool) -> int:
    """Send a test message to each address of TALLY_ALERT_URLS.

    Says of each whether it was accepted, by its kind and a digest. Exits with 1 where one was not.
    """
    from tallykeeper.operations.alert_targets import NotSent, targets

    check_settings()
    found = targets()
    if not found:
        raise click.ClickException(
            "there is nobody to tell; name at least one address in TALLY_ALERT_URLS"
        )
    targets_told = []
    for target in found:
        try:
            target.send(
                "Tallykeeper: a test message",
                "Sent by `tally test-alert`. What is found to be wrong will arrive here.",
            )
        except NotSent as error:
            say(f"{target.name}: not sent: {error}")
            targets_told.append({"target": target.name, "sent": False, "why": str(error)})
        else:
            say(f"{target.name}: sent")
            targets_told.append({"target": target.name, "sent": True, "why": None})
    ok = all(each["sent"] for each in targets_told)
    if as_json:
        emit(ok=ok, targets=targets_told)
    return 0 if ok else FAILED


@click.command(epilog=example('eval "$(tally env)"', "psql"))
@click.argument("name", required=False)
@as_json
def env(name: str | None, as_json: bool) -> None:
    """Print shell exports for `dg dev`, `psql` and friends.

    Starts the embedded server where that is in use, and leaves it running (`tally stop`).
    Passwords are not printed: their exports ask for them with `tally env NAME`, which prints the
    value of one variable.
    """
    from tallykeeper.cli.environment import exports, shown_values

    check_settings(needs_tallies=False)
    if as_json:
        emit(variables=shown_values() if name is None else {name: _value(name)})
        return
    if name is None:
        for line in exports():
            click.echo(line)
        return
    click.echo(_value(name))


def _value(name: str) -> str:
    from tallykeeper.cli.environment import value_of

    try:
        return value_of(name)
    except KeyError as error:
        raise click.UsageError(f"there is no variable {name!r} to export") from error


@click.command(epilog=example("tally stop"))
@as_json
def stop(as_json: bool) -> None:
    """End `tally up`, and stop the embedded database; one's own is left alone.

    Both are those of TALLY_HOME. Other processes that use the embedded database lose it.
    """
    from tallykeeper import settings
    from tallykeeper.cli.instance_lock import end
    from tallykeeper.embedded import shared_server

    ended = end(settings.home(), _UP_ENDS_WITHIN_SECONDS)
    stopped = shared_server.stop()
    say("stopped" if ended or stopped else "nothing was running")
    if as_json:
        emit(up_ended=bool(ended), database_stopped=bool(stopped))


@click.command(
    epilog=example("tally metrics --address 9464", "curl -s http://127.0.0.1:9464/metrics")
)
@click.option(
    "--address",
    metavar="HOST:PORT",
    help="Where to listen; a port alone is of this machine only  [default: TALLY_METRICS_ADDRESS]",
)
def metrics(address: str | None) -> None:
    """Serve figures about the tallies for Prometheus.

    Pending changes, refreshes, verifies, incidents and sizes, read from the database at each
    scrape. Ctrl-C, or SIGTERM, ends it. `tally up` serves them too where TALLY_METRICS_ADDRESS is
    set.
    """
    from tallykeeper.cli.up import stop_signals
    from tallykeeper.operations.metrics_server import run_exporter
    from tallykeeper.settings import SettingError, listening_address, metrics_address

    check_settings()
    try:
        listening = listening_address("--address", address) if address else metrics_address()
    except SettingError as error:
        if error.variable != "--address":
            raise
        raise click.UsageError(str(error), ctx=click.get_current_context()) from error
    if listening is None:
        raise click.UsageError(
            "no address to listen at; name one, as in `tally metrics --address 127.0.0.1:9464`, or"
            " set TALLY_METRICS_ADDRESS",
            ctx=click.get_current_context(),
        )
    with stop_signals() as stopping:
        run_exporter(listening, stopping)


@click.command(epilog=example("tally up --port 3001"))
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True)
def up(port: int) -> None:
    """Run the Dagster UI and daemon, hourly schedules on.

    The UI is at http://localhost:PORT; Ctrl-C ends both. Where TALLY_METRICS_ADDRESS is set,
    figures for Prometheus are served there.
    """
    extras.require("dagster")
    from tallykeeper.cli.up import run_up
    from tallykeeper.operations.alert_targets import targets

    check_settings()
    targets()
    run_up(port)


@click.command(
    epilog=example("tally serve --port 8001 --workers 2", "tally serve --folder ~/Pictures")
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Processes that answer, each with connections of its own.",
)
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Without a database: count the pictures and videos of this folder.",
)
def serve(host: str, port: int, workers: int, folder: Path | None) -> None:
    """Serve the reads over HTTP, read-only.

    The page is at http://localhost:PORT, the addresses are in /openapi.json. Ctrl-C, or SIGTERM,
    ends it when what is under way is answered. TALLY_SERVE_DATABASE_URL names a role that may
    read alone. With --folder no database is needed, and the media reads alone are answered.
    """
    extras.require("http")
    from tallykeeper.http.server import CannotListen, run_server

    check_settings()
    folder_app = None
    if folder is not None:
        # By the environment, which is all that worker processes have.
        os.environ["TALLY_SERVE_FOLDER"] = str(folder.resolve())
        folder_app = _folder_app()
    try:
        run_server(host, port, workers, say=click.echo, folder_app=folder_app)
    except CannotListen as error:
        raise click.ClickException(str(error)) from error


@click.command(epilog=example("tally demo", "TALLY_SYSTEMS=gallery tally demo --size 20000000"))
@click.option(
    "--size",
    type=click.IntRange(1, 1_000_000_000),
    help="How much to make up of each system (media: files; gallery: links of items and tags;"
    " fediverse, classroom: events)  [default: 200000, of events 20000 and 100000]",
)
@as_json
def demo(size: int | None, as_json: bool) -> None:
    """Run everything on generated data: build, check, summarize.

    Every tally is built through Dagster and checked; a summary says where to look next. It ends by
    itself, and says of each step which it is of how many.
    """
    extras.require("dagster")
    from tallykeeper.cli.demo_run import run_demo

    check_settings()
    run_demo(size, as_json=as_json)


def _folder_app() -> ModuleType:
    """What answers from a folder: of the first system that has such a thing. Raises UsageError."""
    from tallykeeper.discovery import all_systems

    for system in all_systems():
        part = system.part("folder_service")
        if part is not None:
            return part
    raise click.UsageError("no system of this project can be read from a folder; leave it out")

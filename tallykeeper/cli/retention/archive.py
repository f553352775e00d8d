"""The commands that archive partitions of sources, and show and verify what is archived."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING

import click

from tallykeeper.cli.common import (
    FAILED,
    as_json,
    example,
    open_database,
    say,
    tell,
    with_verbosity,
)
from tallykeeper.cli.output.documents import document

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from tallykeeper.partitions.records import ArchivedFile
    from tallykeeper.partitions.sources import ArchivedSource

_sources = click.argument("names", nargs=-1, metavar="[SOURCE ...]")
_before = click.option(
    "--before",
    type=click.DateTime(formats=["%Y-%m-%d"]),
    metavar="D",
    help="What ends before this day, UTC, in place of what is due.",
)


@click.group(
    invoke_without_command=True,
    epilog=example(
        "TALLY_ARCHIVE=/srv/archive tally archive run",
        "tally archive run fediverse.stream_events --before 2026-01-01",
        "tally archive list",
        "tally archive verify",
        "tally archive drop",
    ),
)
@as_json
@click.pass_context
def archive(ctx: click.Context, as_json: bool) -> int | None:
    """Keep old partitions of sources as Parquet files, in TALLY_ARCHIVE.

    Without a command of its own it does what `tally archive run` does: it archives what is due.
    SOURCE is a table that a system declares as archived, with the system: fediverse.stream_events.
    """
    if ctx.invoked_subcommand is None:
        return _run((), None, as_json)
    return None


@archive.command(epilog=example("tally archive run --before 2026-01-01"))
@_sources
@_before
@as_json
def run(names: tuple[str, ...], before: datetime | None, as_json: bool) -> int:
    """Write partitions that are due to files, and redact files of what was deleted since.

    Each file is read back and compared with its partition, row for row, before it counts.
    Interrupted, it goes on from there the next time.
    """
    return _run(names, before and before.date(), as_json)


@archive.command("list")
@_sources
@as_json
def list_(names: tuple[str, ...], as_json: bool) -> None:
    """List what is archived, and what is due but is not."""
    from tallykeeper.archive import verification
    from tallykeeper.partitions import records

    engine = open_database()
    found = []
    for source in _chosen(engine, names):
        how = verification.status(engine, source)
        with engine.begin() as connection:
            known = records.files(connection, source)
        found.append({"status": how, "files": known})
        for each in known:
            say(_line(each))
        say(
            f"{source.name}: {how.files:,} files with {how.rows:,} rows in {how.bytes:,} bytes,"
            f" {how.dropped:,} of them of partitions that are dropped"
        )
        for name in how.due:
            say(f"{source.name}: {name} is due, but is not archived")
        if how.unfinished:
            say(f"{source.name}: {how.unfinished:,} files are to be deleted by the next run")
        if how.redactions:
            say(f"{source.name}: {how.redactions:,} redactions are to be carried out in files")
        if how.left_alone:
            say(f"{source.name}: {how.left_alone}")
    if as_json:
        click.echo(document("archive list", sources=found))


@archive.command()
@_sources
@as_json
def verify(names: tuple[str, ...], as_json: bool) -> int:
    """Read every archived file, and compare it with what was recorded of it.

    Exit code 1 where one is missing or damaged, which is an incident until it is right again.
    """
    from tallykeeper.archive import verification
    from tallykeeper.archive.store import open_store
    from tallykeeper.cli.output.progress import working

    engine = open_database()
    store = open_store()
    results = []
    for source in _chosen(engine, names):
        with working(f"{source.name}: verify") as work:
            found = verification.verify(engine, source, store, say=say, on_progress=work)
        results.append(found)
        wrong = f"{len(found.faults):,} of them missing or damaged" if found.faults else "all right"
        say(f"{source.name}: {found.files:,} files, {found.bytes:,} bytes read: {wrong}")
    if as_json:
        click.echo(document("archive verify", sources=results))
    return 0 if all(each.ok for each in results) else FAILED


@archive.command()
@_sources
@_before
@as_json
def drop(names: tuple[str, ...], before: datetime | None, as_json: bool) -> int:
    """Drop partitions that are due, if they are archived as they are now.

    The file is read once more, and the rows are compared once more by the drop, under its lock.
    TALLY_ARCHIVE=none declares that rows of which there is no file may be lost. Exit code 1 where
    something that is due was kept.
    """
    from tallykeeper.archive import runs
    from tallykeeper.archive.store import open_store
    from tallykeeper.cli.output.progress import working
    from tallykeeper.settings import archive_address, loses_unarchived

    engine = open_database()
    store = None if archive_address() is None else open_store()
    results = {}
    for source in _chosen(engine, names):
        lost = loses_unarchived()
        with working(f"{source.name}: drop") as work:
            done = runs.drop_due(
                engine,
                source,
                store,
                before=before and before.date(),
                lost=lost,
                on_progress=work,
            )
        results[source.name] = done
        for name in done.dropped:
            say(f"{source.name}: dropped {name}")
        for name, why in done.kept.items():
            say(f"{source.name}: kept {name}: {why}")
        say(f"{source.name}: {len(done.dropped):,} dropped, {done.freed_bytes:,} bytes free now")
    if as_json:
        click.echo(document("archive drop", sources=results))
    return FAILED if any(each.kept for each in results.values()) else 0


def _run(names: Sequence[str], before: date | None, as_json: bool) -> int:
    from tallykeeper.archive import runs
    from tallykeeper.archive.store import open_store
    from tallykeeper.cli.output.progress import working

    engine = open_database()
    store = open_store()
    results = []
    for source in _chosen(engine, names):
        with working(f"{source.name}: archive") as work:
            done = runs.archive(engine, source, store, before=before, say=tell, on_progress=work)
        results.append(done)
        for name, why in done.kept.items():
            say(f"{source.name}: {name} is not archived: {why}")
        if done.left_alone:
            say(f"{source.name}: {done.left_alone}")
        say(
            f"{source.name}: {len(done.written):,} files written with {done.rows:,} rows in"
            f" {done.bytes:,} bytes; {done.redacted:,} redacted, {done.removed:,} deleted"
        )
    if as_json:
        click.echo(document("archive", sources=results))
    return FAILED if any(each.kept for each in results) else 0


def _chosen(engine: Engine, names: Sequence[str]) -> list[ArchivedSource]:
    """The sources that are named, or all of systems that the database keeps. Raises UsageError."""
    from tallykeeper.discovery import chosen_systems, is_kept

    with engine.connect() as connection:
        kept = [system for system in chosen_systems() if is_kept(connection, system)]
    known = {source.name: source for system in kept for source in system.archived}
    unknown = [name for name in names if name not in known]
    if unknown:
        there = ", ".join(known) or "there is none"
        raise click.UsageError(
            f"{unknown[0]} is no archived source; expected one of: {there}",
            ctx=click.get_current_context(),
        )
    return [known[name] for name in names] or list(known.values())


def _line(file: ArchivedFile) -> str:
    if file.rows is None or file.bytes is None:
        return f"{file.partition}  {file.state}  {file.address}"
    where = "dropped" if file.dropped_at is not None else "there"
    return (
        f"{file.partition}  {file.state}  {file.rows:,} rows  {file.bytes:,} bytes  partition"
        f" {where}  {file.address}"
    )


for _command in archive.commands.values():
    with_verbosity(_command)

"""`tally list`, `tally show`, `tally doctor`: nothing is changed by them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from tallykeeper.cli.common import (
    FAILED,
    as_json,
    changed_given,
    check_settings,
    console,
    example,
    name_given,
    named,
    names_given,
    open_database,
)

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from tallykeeper import Tally
    from tallykeeper.operations.diagnosis.findings import Finding

ROWS = 5


@click.command("list", epilog=example("tally list", "tally list 'shop.*' --changed"))
@names_given
@changed_given
@as_json
def list_(names: Sequence[str], changed: bool, as_json: bool) -> None:
    """List the tallies that are declared.

    With the tables that each reads, with their schema where it is another one's; its key and its
    tags. Needs no database, but for --changed.
    """
    from tallykeeper.cli.output.documents import emit
    from tallykeeper.cli.selection import UnknownTally, matching
    from tallykeeper.discovery import chosen_systems

    if changed:
        found = named(open_database(), names, changed=True)
    else:
        try:
            found = [tally for name in names for tally in matching(name)]
        except UnknownTally as error:
            raise click.UsageError(str(error), ctx=click.get_current_context()) from error
        found = found or [tally for system in chosen_systems() for tally in system.tallies]
    found = list(dict.fromkeys(found))
    if as_json:
        emit(tallies=[_declared(tally) for tally in found])
        return
    from rich.table import Table

    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    for heading in ("tally", "from", "key", "tags"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "tally")
    for tally in found:
        known = _declared(tally)
        own = f"{tally.table.schema}."
        known["sources"] = [name.removeprefix(own) for name in known["sources"]]
        # One a line: 80 columns are too few for them side by side.
        cells = ("\n".join(known[column]) for column in ("sources", "key", "tags"))
        table.add_row(tally.name, *cells)
    if found:
        console().print(table)


@click.command(epilog=example("tally show shop.revenue_daily"))
@name_given
@click.option("--rows", type=click.IntRange(min=0), default=ROWS, show_default=True)
@as_json
def show(name: str, rows: int, as_json: bool) -> None:
    """Show a tally: what it must hold, where it is declared, how it is, and its first rows.

    Rows are those of the live view, exact as of now.
    """
    from tallykeeper import NotInstalled
    from tallykeeper import status as status_of
    from tallykeeper.cli.output.documents import emit
    from tallykeeper.dagster_names import asset_address

    engine = open_database()
    (tally,) = named(engine, [name])
    known = _declared(tally) | {
        "select": tally.definition,
        "live_view": tally.live_name,
        "asset": asset_address(tally.name),
        "status": None,
        "rows": [],
    }
    try:
        known["status"] = status_of(engine, tally)
        known["rows"] = _rows(engine, tally, rows)
    except NotInstalled:
        pass
    if as_json:
        emit(**known)
        return
    for line in _shown(tally, known):
        click.echo(line)


@click.command(epilog=example("tally doctor", "tally doctor --json | jq '.findings[]'"))
@as_json
def doctor(as_json: bool) -> int:
    """Examine everything that tallies need, and say what to do about what is wrong.

    The project, versions, the database, poolers, clocks, rights, what is installed, row security,
    capture, sessions, incidents, the disk. Each line is ok, warn or fail. Changes nothing. Exits
    with 1 where anything failed.
    """
    from tallykeeper.cli.output.documents import emit

    findings: list[Finding] = []
    for finding in _examined():
        findings.append(finding)
        if not as_json:
            click.echo(f"{finding.level:<5} {finding.subject}: {finding.found}")
            if finding.todo:
                click.echo(f"      {finding.todo}")
    failed = any(finding.level == "fail" for finding in findings)
    if as_json:
        emit(ok=not failed, findings=findings)
    return FAILED if failed else 0


def _examined() -> Iterator[Finding]:
    from tallykeeper.database.connections import DatabaseUnavailable
    from tallykeeper.discovery import active_systems, all_systems, left_out
    from tallykeeper.errors import TallyError
    from tallykeeper.operations.diagnosis import database, findings, machine
    from tallykeeper.settings import SettingError, database_url, home, project_root

    yield from machine.examine_versions()
    try:
        yield from machine.examine_disk(home(), "what Tallykeeper stores itself")
        systems = all_systems()
        check_settings()
    except (SettingError, TallyError) as error:
        yield findings.fail("project", str(error), "correct it first: the rest needs it")
        return
    counted = sum(len(system.tallies) for system in systems)
    names = ", ".join(system.name for system in systems)
    yield findings.ok("project", f"{project_root()}: {counted} tallies ({names})")
    if database_url() is None:
        todo = "name your own in TALLY_DATABASE_URL, unless that is what you want"
        yield findings.warn("database", "the embedded one, for trying things out", todo)
    try:
        engine = open_database()
        kept = []
        for system in active_systems(engine):
            with engine.connect() as connection:
                without = left_out(connection, system)
            kept += [tally for tally in system.tallies if tally not in without]
        yield from database.examine(engine, kept)
    except DatabaseUnavailable as error:
        yield findings.fail("database", str(error), "the rest needs it")


def _declared(tally: Tally) -> dict[str, Any]:
    """What a tally's declaration says, for people and programs."""
    place = getattr(tally, "place", None)
    return {
        "tally": tally.name,
        "description": tally.description,
        "kind": tally.kind,
        "declared_at": place(1).rpartition(":")[0] if place else None,
        "key": list(tally.key),
        "columns": list(tally.columns),
        "sources": sorted(f"{s.schema or 'public'}.{s.name}" for s in tally.sources),
        "window": tally.time_key.column if tally.time_key else None,
        "tags": list(tally.tags),
    }


def _rows(engine: Engine, tally: Tally, most: int) -> list[dict[str, Any]]:
    """The first rows of the live view by its key, as text."""
    from sqlalchemy import text

    from tallykeeper.database import sql

    columns = ", ".join(f"{sql.quote(name)}::text" for name in tally.columns)
    order = ", ".join(map(sql.quote, tally.key)) or "1"
    query = f"SELECT {columns} FROM {tally.live_name} ORDER BY {order} LIMIT :most"
    with engine.connect() as connection:
        found = connection.execute(text(query), {"most": most})
        return [dict(zip(tally.columns, row, strict=True)) for row in found]


def _shown(tally: Tally, known: dict[str, Any]) -> Iterator[str]:
    from tallykeeper.cli.output.tallies import age

    yield f"{tally.name}: {tally.description.splitlines()[0] if tally.description else 'a tally'}"
    if tally.time_key is not None:
        windows = tally.time_key.windows
        known = known | {"window": f"{known['window']}, each {windows.unit} in {windows.zone}"}
    for label in ("declared_at", "sources", "key", "window", "tags", "live_view", "asset"):
        value = known[label]
        if value:
            said = ", ".join(value) if isinstance(value, list) else value
            yield f"  {label.replace('_', ' ')}: {said}"
    status = known["status"]
    if status is None:
        yield "  not installed; run `tally migrate`"
    else:
        at = f"refreshed {age(status.refreshed_at, status.as_of)} ago"
        refreshed = at if status.refreshed_at else "never refreshed"
        yield f"  {status.rows or 0:,} rows, {refreshed}, {status.pending:,} pending"
    yield textwrap.indent(known["select"].strip(), "    ")
    for row in known["rows"]:
        yield f"  {', '.join(f'{name} {value}' for name, value in row.items())}"

"""The command that writes a tally's rows to a file."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from tallykeeper import extras
from tallykeeper.cli.common import as_json, example, name_given, named, open_database

FORMS = ("parquet", "csv", "xlsx")


@click.command(
    epilog=example(
        "tally export daily_contributions --to parquet",
        "tally export user_counts --to xlsx --output counts.xlsx",
    )
)
@name_given
@click.option("--to", "form", type=click.Choice(FORMS), required=True, help="The kind of file.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file, which is replaced if it is there  [default: the table's name, in this folder]",
)
@as_json
def export(name: str, form: str, output: Path | None, as_json: bool) -> None:
    """Write the rows of a tally to a Parquet, CSV or Excel file.

    They are those of its live view, in one snapshot: exact as of that moment, whatever is pending.
    Times are UTC. Excel files need the extra `xlsx`.
    """
    extras.require("xlsx" if form == "xlsx" else "frames")
    from tallykeeper.cli.output.progress import working
    from tallykeeper.maintain.durations import rows_of
    from tallykeeper.reads.exports import ExportError
    from tallykeeper.reads.exports import export as write

    engine = open_database()
    (tally,) = named(engine, [name])
    path = output or Path(f"{tally.table.name}.{form}")
    try:
        with working(f"{tally.name}: export") as work:
            total = rows_of(engine, tally)

            def show(rows: int) -> None:
                work(rows, total, f"{rows:,} rows")

            done = write(engine, tally, form, path, show)
    except ExportError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        from tallykeeper.cli.output.documents import emit

        emit(tally=tally.name, file=str(path), **asdict(done))
        return
    click.echo(f"{path}: {done.rows:,} rows of {tally.name}, exact as of {done.as_of.isoformat()}")
    if done.outside:
        click.echo(f"  times outside the years 1 to 9999, left empty: {done.outside:,}")

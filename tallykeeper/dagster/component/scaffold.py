"""What `dg scaffold defs tallykeeper.dagster.Tallies NAME` writes.

A `defs.yaml` with an example, and its name in the project's pyproject.toml, by which the command
line finds the same tallies.
"""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from tallykeeper import project_file
from tallykeeper.select.files.header import wrong_name

PREFIX = "tally"
_EXAMPLE = """\
type: {type}

attributes:
  selects:
    # One SELECT over tables of yours is a tally: a table that is kept equal to it.
    {schema}.orders_daily: |
      -- Orders by day.
      SELECT date_trunc('day', o.placed_at, 'UTC') AS day, count(*) AS orders
      FROM {schema}.orders AS o
      GROUP BY 1
  # files: ["*.sql"]                   # or files beside this one, with a SELECT each
  # database_env: TALLY_DATABASE_URL   # the variable that has the address of the database
  # owners: ["team:sales"]
  # first_partition: "2026-01-01"
  # schedule: "0 * * * *"
  # alerts: true
"""


class TalliesScaffolder(dg.Scaffolder):
    """Writes an example, and names it in pyproject.toml."""

    def scaffold(self, request: dg.ScaffoldRequest) -> None:
        """Write the files. What pyproject.toml does not take is said, to be written by hand."""
        if request.scaffold_format == "python":
            dg.scaffold_component(request, {})
            return
        path = request.target_path if request.append else request.target_path / "defs.yaml"
        name = path.parent.name
        schema = name if not wrong_name(f"{name}.orders_daily") else "shop"
        text = _EXAMPLE.format(type=request.type_name, schema=schema)
        with path.open("a" if request.append else "w", encoding="utf-8") as file:
            file.write(f"---\n{text}" if request.append else text)
        if request.project_root is not None:
            _name_it(request.project_root, path)


def _name_it(root: Path, path: Path) -> None:
    pattern, file = path.relative_to(root).as_posix(), root / "pyproject.toml"
    try:
        text = project_file.addition(file, pattern, dagster_prefix=PREFIX)
        if text is not None:
            project_file.write(file, text)
    except (project_file.CannotEdit, OSError) as error:
        print(f"{file} was not changed: {error}")  # noqa: T201 -- it is what `dg` shows
        return
    print(f"Named {pattern} in {file}, for `tally migrate`.")  # noqa: T201 -- as above

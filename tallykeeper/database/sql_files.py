"""SQL that needs no generated names: it stands in a `.sql` file beside the module that sends it.

Parameters are written as the driver has them, `%(name)s`, or as SQLAlchemy has them, `:name`.
"""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def sql_file(module: str, name: str) -> str:
    """Return the SQL in the file `name`.sql beside a module, without the comment at its head.

    `module` is the module's `__name__`. Raises FileNotFoundError.
    """
    folder = resources.files(module.rpartition(".")[0])
    lines = folder.joinpath(f"{name}.sql").read_text(encoding="utf-8").splitlines()
    while lines[0].startswith("--"):
        del lines[0]
    return "\n".join(lines)

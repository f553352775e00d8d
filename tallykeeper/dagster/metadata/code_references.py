"""Where a tally is declared, for the link from its asset to the file and the line."""

from __future__ import annotations

import dagster as dg

from tallykeeper import SelectTally, Tally
from tallykeeper.settings import project_root

CODE_REFERENCES = "dagster/code_references"


def of_tally(tally: Tally) -> dict[str, dg.CodeReferencesMetadataValue]:
    """File and line of the SELECT, as metadata; empty where no file of the project declares it.

    A component refers to its own `defs.yaml` by itself.
    """
    if not isinstance(tally, SelectTally) or tally.place is None:
        return {}
    path, line, _ = tally.place(1).rsplit(":", 2)
    file = project_root() / path
    if not file.is_file():
        return {}
    reference = dg.LocalFileCodeReference(file_path=str(file), line_number=int(line), label=path)
    return {CODE_REFERENCES: dg.CodeReferencesMetadataValue(code_references=[reference])}

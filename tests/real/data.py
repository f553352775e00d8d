"""Where the real data is that is no part of the repository."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tallykeeper.settings import project_root


def real_file(name: str, to: Path) -> Path:
    """A copy of a real file in the folder `to`; skips the test where the data is not there.

    It is looked for in TALLY_TEST_REAL_DATA, or else in `shared/real` beside the project.
    """
    folder = Path(
        os.environ.get("TALLY_TEST_REAL_DATA") or project_root().parent / "shared" / "real"
    )
    if not (folder / name).is_file():
        pytest.skip(
            f"no {name} in {folder}: name the folder with the real data in TALLY_TEST_REAL_DATA"
        )
    return Path(shutil.copy(folder / name, to))

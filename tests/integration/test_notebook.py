"""The example notebook shows what its file says, in a database that had nothing."""

from __future__ import annotations

import pytest

from tests import notebook


def test_every_cell_shows_what_the_file_says(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLY_DATABASE_URL", database_url)
    read = notebook.read()
    assert notebook.shown(read) == notebook.stored(read), "run `python -m tests.notebook`"
    assert sum(text is not None for text in notebook.stored(read)) > 4

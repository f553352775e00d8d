"""Databases as the documents' own statements make them, before Tallykeeper has been there.

A file of `installations/` each: names and types of tables and columns are the documents', and where
a document leaves a table out, what its application must have had. What must stay true: nothing of
Tallykeeper's is in them.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine

from tests.integration.support import execute

_FOLDER = Path(__file__).parent / "installations"


def build(engine: Engine, schema: str, *files: str) -> None:
    """Run the files' statements in the schema, which is made where it is not there."""
    execute(
        engine,
        f"CREATE SCHEMA IF NOT EXISTS {schema}",
        f"SET LOCAL search_path = {schema}",
        *((_FOLDER / f"{name}.sql").read_text() for name in files),
    )

"""Comparing a derived table with its SELECT as another query engine runs it, and rebuilding it so.

The sources are exported in the snapshot in which the derived table is read, so that nothing that
writers do meanwhile can make the two differ. Invariants: nothing of the tally is written but what
is known of it; exported rows are in a folder that only this user may read, removed at the end.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine

from tallykeeper import settings
from tallykeeper.database import sql
from tallykeeper.declarations.tally import Everything, KeyFilter, Tally
from tallykeeper.drift import dependencies
from tallykeeper.engines.export import export
from tallykeeper.engines.translation.refusal import NotExported, Refused
from tallykeeper.engines.translation.translate import Translation, translate
from tallykeeper.engines.transport import returned
from tallykeeper.engines.trust import equal_at, record_equal
from tallykeeper.maintain.derived_rows import Refreshed
from tallykeeper.maintain.refresh import rebuild_from
from tallykeeper.maintain.verify import (
    SHOWN_DIFFERENCES,
    Seen,
    Verification,
    compared,
    conclude,
)
from tallykeeper.parquet import reading
from tallykeeper.parquet.columns import columns_of
from tallykeeper.select.tally import SelectTally

RESULT = "engine_rows"
_LOADED = "engine_rows_loaded"
_MODULES = {"duckdb": "duckdb_engine", "spark": "spark_engine"}
ENGINES = tuple(_MODULES)
OnStep = Callable[[str], object]


@dataclass(frozen=True)
class EngineAudit:
    """What an audit by another engine found.

    `refused` says why the SELECT was not run in it, None where it was; `found` compares as verify
    does, None where it was refused. `rules` say what of the translation is not word for word.
    """

    tally: str
    engine: str
    version: str
    refused: str | None
    rules: tuple[str, ...]
    found: Verification | None
    seconds: float = field(compare=False)

    @property
    def ok(self) -> bool:
        """Whether the engine's rows were those of the derived table."""
        return self.found is not None and self.found.ok


@dependencies.explained
def audit_with(
    engine: Engine,
    tally: Tally,
    name: str,
    limit: int = SHOWN_DIFFERENCES,
    on_step: OnStep = lambda _: None,
) -> EngineAudit:
    """Compare all rows of a tally with what the engine of that name makes of its sources.

    `on_step` is called with what is done next, in a few words. At most `limit` differences are
    returned with their values. What differs is compared again by the next verify. Raises
    NotInstalled, NotExported, MissingExtra, or SQLAlchemy's errors.
    """
    started = time.perf_counter()
    module = engine_of(name)
    translations: list[Translation] = []
    found: Verification | None = None
    refusal: str | None = None
    try:
        if not isinstance(tally, SelectTally):
            raise Refused("it is not declared by a SELECT")
        with engine.connect() as connection:
            tally.bind(connection)
        by_engine = tally.reading(f"pg_temp.{RESULT}")

        def choose(connection: Connection) -> list[KeyFilter]:
            translation = translate(connection, tally.definition_name, name)
            translations[:] = [translation]
            compute(engine, connection, tally.definition_name, translation, module, on_step)
            on_step("comparing")
            return [Everything()]

        found = compared(engine, by_engine, choose, limit, everything=True)
    except Refused as refused:
        refusal = str(refused)
    else:
        assert found is not None
        with engine.begin() as connection:
            if found.differing:
                conclude(connection, tally, found, Seen())
            elif found.ok and translations:
                record_equal(connection, tally, translations[0], module.version(), found.compared)
    return EngineAudit(
        tally.name,
        name,
        module.version(),
        refusal,
        tuple(rule for each in translations for rule in each.rules),
        found,
        time.perf_counter() - started,
    )


@dependencies.explained
def rebuild_with(
    engine: Engine, tally: Tally, name: str, on_step: OnStep = lambda _: None
) -> Refreshed:
    """Rebuild all of a tally from what the engine of that name makes of its sources.

    Its rows are written by differences in one transaction, in whose snapshot the sources are
    exported, as those of any rebuild; refreshes of the tally wait for it. Raises Refused where the
    SELECT has no translation, or one that was never equal here; else as `rebuild`.
    """
    module = engine_of(name)

    def by_engine(connection: Connection) -> Tally:
        if not isinstance(tally, SelectTally):
            raise Refused("it is not declared by a SELECT")
        translation = translate(connection, tally.definition_name, name)
        if equal_at(connection, tally, translation, module.version()) is None:
            raise Refused(
                f"this SELECT was not yet equal by {name} {module.version()} here; run"
                f" `tally audit {tally.name} --engine {name}` first"
            )
        compute(engine, connection, tally.definition_name, translation, module, on_step)
        on_step("writing")
        return tally.reading(f"pg_temp.{RESULT}")

    try:
        return rebuild_from(engine, tally, by_engine)
    except Refused as refused:
        raise Refused(f"{tally.name} cannot be rebuilt by {name}: {refused}") from refused


def engine_of(name: str) -> Any:
    """The module that runs translations in the engine of that name."""
    return import_module(f"tallykeeper.engines.{_MODULES[name]}")


def compute(
    engine: Engine,
    connection: Connection,
    view: str,
    translation: Translation,
    module: Any,
    on_step: OnStep = lambda _: None,
) -> None:
    """Have an engine run the translation of a view's SELECT in the connection's snapshot.

    Its rows are those of the temporary view `RESULT` then, which goes with the transaction.

    Raises Refused, NotExported, or SQLAlchemy's errors.
    """
    try:
        query = _computed(engine, connection, view, translation, module, on_step)
    except OSError as error:
        raise NotExported(
            f"rows could not be exported for {translation.engine} ({error.strerror or error}); make"
            " room, or name another folder in TALLY_ENGINE_FOLDER"
        ) from error
    sql.execute(connection, f"CREATE TEMPORARY VIEW {RESULT} AS {query}")


def _computed(
    engine: Engine,
    connection: Connection,
    view: str,
    translation: Translation,
    module: Any,
    on_step: OnStep,
) -> str:
    """A SELECT of the rows that the engine returned, from a temporary table."""
    with _folder() as folder:
        on_step(f"exporting {', '.join(each.relation.quoted for each in translation.exports)}")
        files = export(engine, connection, translation.exports, folder)
        result = folder / "result"
        result.mkdir(mode=0o700)
        on_step(f"{translation.engine} computes")
        written = module.run(translation.statement, files, result)
        described = f"SELECT * FROM {view} LIMIT 0"
        columns = [returned(each) for each in columns_of(connection, described)]
        on_step("reading the result")
        batches = (batch for path in written for batch in reading.batches_of_file(path))
        return reading.load(connection, columns, batches, _LOADED)


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder for exported rows, of mode 0700; it is removed whatever happens."""
    place = settings.engine_folder()
    with tempfile.TemporaryDirectory(prefix="tally-engine-", dir=place) as folder:
        yield Path(folder)

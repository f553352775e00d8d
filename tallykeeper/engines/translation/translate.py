"""A tally's SELECT as one statement of an engine, and what has to be exported for it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from sqlalchemy import Connection

from tallykeeper.database import sql
from tallykeeper.engines.translation import constants as types
from tallykeeper.engines.translation.dialects import DIALECTS
from tallykeeper.engines.translation.names import Names
from tallykeeper.engines.translation.queries import Queries
from tallykeeper.engines.translation.scopes import Export
from tallykeeper.engines.translation.values import cast_to

# An engine may have computed these in another width.
_WIDE = (
    types.INT2,
    types.INT4,
    types.INT8,
    types.DATE,
    types.TIMESTAMP,
    types.TIMESTAMPTZ,
)


@dataclass(frozen=True)
class Translation:
    """What an engine runs, over tables of the names of `exports`.

    `rules` say what is not translated word for word; none: it is the same SELECT.
    """

    engine: str
    statement: str
    exports: tuple[Export, ...]
    rules: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Names the translation: another one has another."""
        exported = [(e.relation.quoted, e.name, e.columns) for e in self.exports]
        whole = json.dumps([self.engine, self.statement, exported], sort_keys=True)
        return hashlib.sha256(whole.encode()).hexdigest()


def translate(connection: Connection, view: str, engine: str) -> Translation:
    """Translate the SELECT of a view, named as SQL writes it. Raises Refused."""
    names = Names(connection)
    relid = sql.execute(connection, f"SELECT {sql.literal(view)}::regclass::oid").scalar_one()
    queries = Queries(names, DIALECTS[engine])
    text, columns = queries.query(names.rule(relid), None)
    shown = []
    for column in columns:
        value = column.sql
        if column.type in _WIDE:
            value = f"CAST({value} AS {cast_to(names, DIALECTS[engine], column.type)}) AS {value}"
        shown.append(value)
    exports = tuple(queries.context.exports.of.values())
    for export in exports:
        if not export.columns:
            # Its rows are counted, and a file needs a column.
            export.column("true", "c")
    return Translation(
        engine,
        f"SELECT {', '.join(shown)} FROM ({text}) AS result",
        exports,
        tuple(queries.context.rules),
    )

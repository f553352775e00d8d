"""Which SELECTs have a translation: those of the four systems and of TPC-H, as a page of the docs.

`python -m tests.engines.translations` writes it.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, Engine

from benchmarks.tpch import data
from tallykeeper.database import sessions, sql
from tallykeeper.database.connections import open_engine
from tallykeeper.declarations.tally import Everything, Tally
from tallykeeper.discovery import all_systems
from tallykeeper.engines.audit import ENGINES
from tallykeeper.engines.translation.refusal import Refused
from tallykeeper.engines.translation.translate import translate
from tallykeeper.installation.migrate import migrate
from tallykeeper.select.tally import SelectTally
from tallykeeper.settings import project_root
from tests.servers import VERSIONS, Servers

PAGE = "docs/reference/engine-translations.md"
SCALE = 0.002
HEAD = """# Which SELECTs other engines compute

Of the SELECTs of the four systems of the reference project and of TPC-H, what [other query
engines](../how-to/other-engines.md) compute: *equal* is translated word for word, *by rule* has
parts that PostgreSQL computes, all others are refused with the reason. What is computed was
compared row for row. Where the collation is `C`, order and extremes of text are translated too.

| SELECT | DuckDB | Spark |
|---|---|---|
"""


def make_tables(engine: Engine) -> None:
    """The tables of the systems and of TPC-H, with rows of the latter."""
    migrate(engine, all_systems(), with_sources=True)
    data.create(engine, SCALE)


def selects() -> Mapping[str, str]:
    """All of the SELECTs, by the names of their tallies."""
    tallies = [tally for system in all_systems() for tally in system.tallies]
    found = {tally.name: _text_of(tally) for tally in tallies}
    return found | {f"tpch.{name}": data.query(name, SCALE) for name in data.NAMES}


def _text_of(tally: Tally) -> str:
    if isinstance(tally, SelectTally):
        return tally.text
    return sql.render(tally.aggregate(Everything()))


def view_of(connection: Connection, text: str) -> str:
    """A temporary view of a SELECT."""
    sql.execute(connection, f"CREATE OR REPLACE TEMPORARY VIEW tried AS {text}")
    return "pg_temp.tried"


def page(engine: Engine) -> str:
    """The page, by the tables of `make_tables`."""
    lines = []
    for name, text in selects().items():
        cells = [_cell(engine, text, each) for each in ENGINES]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return HEAD + "\n".join(lines) + "\n"


def _cell(engine: Engine, text: str, name: str) -> str:
    with engine.connect() as connection:
        sessions.begin_computing(connection)
        try:
            translation = translate(connection, view_of(connection, text), name)
        except Refused as refused:
            return f"refused: {refused}"
        return f"by rule: {'; '.join(translation.rules)}" if translation.rules else "equal"


if __name__ == "__main__":
    servers = Servers()
    with servers.fresh_database(VERSIONS[0]) as url:
        made = open_engine(url)
        make_tables(made)
        (project_root() / PAGE).write_text(page(made), encoding="utf-8")
        made.dispose()
    servers.stop()

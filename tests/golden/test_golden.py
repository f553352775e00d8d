"""What the engine makes of a declaration: the statements that it sends, as files to read.

A change of a statement is a change of its file, seen in review. `make golden` writes them anew.
Left out is what is no tally's own: settings of transactions, what is read and recorded in the
schema `tallykeeper`, and the comparison of what tallies depend on.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.schema import CreateSchema

from tallykeeper import SelectTally, System, Tally, install, migrate, rebuild, refresh, verify
from tallykeeper.database.connections import open_engine
from tallykeeper.select.plan import statement
from tests.golden.system import (
    CREATE_VISITS,
    metadata,
    select_systems,
    selected,
    systems,
)
from tests.servers import Servers

FOLDER = Path(__file__).parent
KINDS = {system.name: system.tallies[0] for system in systems}
TRIGGERS = ("CREATE OR REPLACE TRIGGER", "ALTER TABLE ONLY")
SELECTS = {tally.system: tally for tally in selected}
NAMES = ("capture", "triggers", "live_view", "rebuild", "refresh", "verify")
# Of a SELECT the statement of a refresh is the plan's: whether it or everything is computed goes by
# measured times.
NAMES_OF_SELECT = ("capture", "triggers", "live_view", "refresh")
# Functions that all tallies share.
SHARED = tuple(
    f"CREATE OR REPLACE FUNCTION tallykeeper.{name}("
    for name in ("columns_are", "log_at", "require_unbroken")
)
# Of what is sent while a tally is maintained: its tables, its functions, temporary tables.
_OF_SELECT = "|".join(SELECTS)
OWN = re.compile(
    rf"\b(golden|pg_temp|{_OF_SELECT})\.|\btallykeeper\.({'|'.join(KINDS)}|{_OF_SELECT})_"
)
# What asks how the tables are, and not what is in them.
OF_CATALOG = re.compile(r"pg_attribute|pg_class|pg_partition_tree|pg_get_|^EXPLAIN|^ANALYZE")
Recorded = dict[str, dict[str, list[str]]]


@contextmanager
def recorded(engine: Engine) -> Iterator[list[str]]:
    """The statements that are sent meanwhile, each once and without its parameters."""
    sent: list[str] = []

    def keep(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        text = statement.replace("%%", "%").strip()
        if text not in sent:
            sent.append(text)

    event.listen(engine, "before_cursor_execute", keep)
    yield sent
    event.remove(engine, "before_cursor_execute", keep)


@pytest.fixture(scope="module")
def statements(postgres_servers: Servers) -> Iterator[Recorded]:
    """What is sent for each tally, by the name of the file that it stands in."""
    with postgres_servers.fresh_database(18) as url:
        engine = open_engine(url)
        with engine.begin() as connection:
            connection.execute(CreateSchema(str(metadata.schema)))
            for created in CREATE_VISITS:
                connection.exec_driver_sql(created)
            metadata.create_all(connection)
        by_hand = {kind: _of(engine, tally) for kind, tally in KINDS.items()}
        yield by_hand | {system.name: _of_select(engine, system) for system in select_systems}
        engine.dispose()


def _of(engine: Engine, tally: Tally) -> dict[str, list[str]]:
    made: dict[str, list[str]] = {}

    def during(name: str, work: Callable[[], object]) -> None:
        with recorded(engine) as sent:
            work()
        made[name] = [s for s in sent if OWN.search(s) and not OF_CATALOG.search(s)]

    with recorded(engine) as installing, engine.begin() as connection:
        install(connection, [tally])
    _write(engine)
    during("rebuild", lambda: rebuild(engine, tally))
    _write(engine)
    during("refresh", lambda: refresh(engine, tally))
    during("verify", lambda: verify(engine, tally))
    return made | _installed(installing)


def _of_select(engine: Engine, system: System) -> dict[str, list[str]]:
    (tally,) = system.tallies
    assert isinstance(tally, SelectTally)
    with recorded(engine) as installing:
        migrate(engine, [system])
    made = _installed(installing)
    pending = {source.part: 1 for source in tally.plan.captured}
    at_once = tally.consume_at_once()
    if at_once is not None:
        made["refresh"] = [at_once]
    elif tally.plan.changes:
        made["refresh"] = [statement(tally.plan, pending, into="pg_temp.changed", apply=True)]
    else:
        made["refresh"] = [f"SELECT * FROM {tally.definition_name}"]
    return made


def _installed(installing: list[str]) -> dict[str, list[str]]:
    """Of the statements of an installation those that make something, by file."""
    made: dict[str, list[str]] = {}
    functions = [s for s in installing if s.startswith("CREATE OR REPLACE FUNCTION")]
    made["shared"] = [s for s in functions if s.startswith(SHARED)]
    own = [s for s in functions if s not in made["shared"]]
    made["capture"] = [s for s in own if "RETURNS trigger" in s]
    made["triggers"] = [s for s in installing if s.startswith(TRIGGERS)]
    made["live_view"] = [
        *(
            s
            for s in installing
            if s.startswith(("CREATE TABLE", "CREATE UNIQUE INDEX")) and OWN.search(s)
        ),
        *(s for s in own if s not in made["capture"] and OWN.search(s)),
        *(s for s in installing if s.startswith("CREATE OR REPLACE VIEW")),
    ]
    return made


def _write(engine: Engine) -> None:
    with engine.begin() as connection:
        for table, values in (
            ("sales", "'2026-03-01 12:00Z', 'Ann', 7, 250"),
            ("products", "'{red,large}'"),
        ):
            connection.exec_driver_sql(
                f"INSERT INTO golden.{table} SELECT count(*), {values} FROM golden.{table}"
            )


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *((kind, name) for kind in KINDS for name in NAMES),
        *((kind, name) for kind in SELECTS for name in NAMES_OF_SELECT),
    ],
)
def test_the_statements_are_as_they_were(statements: Recorded, kind: str, name: str) -> None:
    _compare(FOLDER / kind / f"{name}.sql", statements[kind][name])


def test_the_functions_that_all_tallies_share_are_as_they_were(statements: Recorded) -> None:
    shared = [made["shared"] for made in statements.values() if made["shared"]]
    assert len(shared[0]) == len(SHARED)
    assert all(each == shared[0] for each in shared)
    _compare(FOLDER / "shared.sql", shared[0])


def _compare(path: Path, statements: list[str]) -> None:
    found = "\n\n".join(f"{statement};" for statement in statements) + "\n"
    # SQLAlchemy ends the lines of a SELECT with a blank.
    found = "\n".join(line.rstrip() for line in found.split("\n"))
    if os.environ.get("TALLY_TEST_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text(encoding="utf-8"), "read what differs, then run `make golden`"

"""An audit by another engine: what it finds, what it leaves behind, what it is trusted for."""

from __future__ import annotations

import json
import stat
import threading
from pathlib import Path

import click
import pytest
from sqlalchemy import Engine

from tallykeeper import Tally, refresh, verify
from tallykeeper.cli.engines.commands import audit as command
from tallykeeper.database.sql import CLAIM_WRITING
from tallykeeper.engines import duckdb_engine, export
from tallykeeper.engines.audit import audit_with
from tallykeeper.engines.translation.refusal import NotExported
from tests.engines import books
from tests.integration.support import execute, rows, scalar

pytest.importorskip("duckdb")
BY_HOUR = "books.by_hour"


def tally_of(engine: Engine, name: str = "by_hour", **more: str) -> Tally:
    return next(t for t in books.make(engine, **more).tallies if t.table.name == name)


@pytest.mark.parametrize("name", books.SELECTS)
def test_an_engine_finds_the_rows_of_the_derived_table(engine: Engine, name: str) -> None:
    tally = tally_of(engine, name)
    found = audit_with(engine, tally, "duckdb")
    assert found.ok, found
    assert found.found is not None
    assert found.found.compared == scalar(engine, f"SELECT count(*) FROM books.{name}")
    assert found.found.compared > 2


def test_pending_changes_count_as_they_do_for_verify(engine: Engine) -> None:
    tally = tally_of(engine)
    execute(engine, "UPDATE books.orders SET amount = amount + 1 WHERE id < 100")
    assert scalar(engine, "SELECT count(*) FROM tallykeeper.books_by_hour_log")
    assert audit_with(engine, tally, "duckdb").ok


def test_what_differs_is_named_and_compared_again_by_verify(engine: Engine) -> None:
    tally = tally_of(engine)
    assert verify(engine, tally).ok
    execute(engine, CLAIM_WRITING, "UPDATE books.by_hour SET orders = 77 WHERE hour = 'infinity'")
    found = audit_with(engine, tally, "duckdb").found
    assert found is not None
    assert not found.ok
    assert found.differing == 1
    (difference,) = found.differences
    assert difference.stored is not None
    assert difference.expected is not None
    assert (difference.stored["orders"], difference.expected["orders"]) == (77, 8)
    assert verify(engine, tally, "touched").differing == 1


def test_what_is_not_known_to_be_equal_is_refused_with_the_reason(engine: Engine) -> None:
    tally = tally_of(
        engine,
        "averages",
        averages="SELECT customer, avg(amount) * 2 > avg(cents) AS a FROM books.orders GROUP BY 1",
    )
    found = audit_with(engine, tally, "duckdb")
    assert found.refused == "the aggregate avg()"
    assert found.found is None
    assert not found.ok


def test_a_value_that_the_engine_has_no_type_for_is_refused(engine: Engine) -> None:
    tally = tally_of(engine)
    execute(engine, "UPDATE books.orders SET amount = 'NaN' WHERE id = 1")
    refresh(engine, tally)
    found = audit_with(engine, tally, "duckdb")
    assert found.refused is not None
    assert found.refused.startswith("no exact type for values of books.orders (amount: numeric")


def test_exported_rows_are_private_and_removed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []
    run = duckdb_engine.run

    def looked(statement: str, tables: dict[str, Path], result: Path) -> list[Path]:
        (path,) = tables.values()
        seen.append(path)
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert path.stat().st_size
        return run(statement, tables, result)

    tally = tally_of(engine)
    monkeypatch.setattr(duckdb_engine, "run", looked)
    assert audit_with(engine, tally, "duckdb").ok

    def failing(*_: object) -> list[Path]:
        raise OSError("no space left")

    monkeypatch.setattr(duckdb_engine, "run", failing)
    with pytest.raises(NotExported, match="could not be exported for duckdb"):
        audit_with(engine, tally, "duckdb")
    assert seen
    assert not any(path.parent.exists() for path in seen)


def test_writers_make_no_difference(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    tally = tally_of(engine)
    exported = export.export

    def beside(*arguments: object) -> object:
        # After the snapshot, before anything is read.
        execute(engine, "DELETE FROM books.orders WHERE id % 3 = 0")
        return exported(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("tallykeeper.engines.audit.export", beside)
    assert audit_with(engine, tally, "duckdb").ok
    assert scalar(engine, "SELECT count(*) FROM books.orders") < 300


def test_audits_stay_equal_while_writers_and_refreshes_run(engine: Engine) -> None:
    tally = tally_of(engine)
    ended = threading.Event()

    def write() -> None:
        n = 1000
        while not ended.is_set():
            n += 1
            execute(
                engine,
                f"INSERT INTO books.orders SELECT {n}, 1, now(), {n}, 1.5, 'paid', '{{a}}'",
                f"UPDATE books.orders SET amount = amount + 1 WHERE id = {n % 400}",
                f"DELETE FROM books.orders WHERE id = {n - 30}",
            )
            if n % 3 == 0:
                refresh(engine, tally)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(8):
            found = audit_with(engine, tally, "duckdb")
            assert found.ok, found
    finally:
        ended.set()
        writer.join()


def test_an_equal_translation_is_on_record(engine: Engine) -> None:
    tally = tally_of(engine)
    audit_with(engine, tally, "duckdb")
    query = "SELECT tally, engine, version, length(digest), rows FROM tallykeeper.translations"
    keys = scalar(engine, "SELECT count(*) FROM books.by_hour")
    expected = [(BY_HOUR, "duckdb", duckdb_engine.version(), 64, keys)]
    assert rows(engine, query) == expected
    audit_with(engine, tally, "duckdb")
    assert rows(engine, query) == expected


def test_the_command_says_it_in_words_and_in_json(
    engine: Engine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    books.make(engine)
    (tmp_path / "books").mkdir()
    for name, text in books.SELECTS.items():
        (tmp_path / "books" / f"{name}.sql").write_text(text)
    (tmp_path / "pyproject.toml").write_text('[tool.tallykeeper]\ntallies = ["books/*.sql"]\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TALLY_DATABASE_URL", engine.url.render_as_string(hide_password=False))

    def run(*arguments: str) -> tuple[int, str]:
        code = command.main(list(arguments), standalone_mode=False)
        return code, capsys.readouterr().out

    code, said = run("--engine", "duckdb")
    assert code == 0, said
    assert f"{BY_HOUR}: " in said
    assert f"keys equal by duckdb {duckdb_engine.version()} in" in said
    code, said = run(BY_HOUR, "--engine", "duckdb", "--json")
    printed = json.loads(said)
    assert printed["ok"] is True
    assert printed["tallies"][0]["found"]["differing"] == 0
    execute(engine, CLAIM_WRITING, "UPDATE books.by_hour SET orders = 77 WHERE hour = 'infinity'")
    code, said = run(BY_HOUR, "--engine", "duckdb")
    assert code == 1
    assert "says whether PostgreSQL does too" in said
    with pytest.raises(click.UsageError, match="which query engine is to compute them"):
        run(BY_HOUR)

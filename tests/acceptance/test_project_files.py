"""`tally init` and `tally new`: what they write, what they leave, what they refuse."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import pytest

from tallykeeper.cli.project.commands import TEMPLATES
from tallykeeper.select.files import read_files
from tests.acceptance.command import PROGRAM, Command
from tests.environment import environment

PATTERN = "tallies/**/*.sql"
DAGSTER = '[project]\nname = "own"\n\n[tool.dg]\ndirectory_type = "project"\n'


@pytest.fixture
def tally(tmp_path: Path) -> Command:
    """The command in an empty folder, without a database."""
    return Command("postgresql://nobody@127.0.0.1:1/none", tmp_path)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def named(folder: Path) -> list[str]:
    return [each.name for each in read_files(folder, [PATTERN])]


def table(folder: Path) -> dict[str, object]:
    found: dict[str, object] = tomllib.loads((folder / "pyproject.toml").read_text())["tool"]
    return found


def test_init_makes_a_project_of_an_empty_folder(tally: Command) -> None:
    assert tally.ok("init").out.splitlines() == [
        "wrote pyproject.toml",
        "wrote tallies/example/orders_daily.sql, an example",
        "wrote .gitignore",
        "next: `tally new SCHEMA.TABLE`, and `tally migrate`",
    ]
    assert table(tally.folder) == {"tallykeeper": {"tallies": [PATTERN]}}
    assert named(tally.folder) == ["example.orders_daily"]
    before = contents(tally.folder)
    assert tally.ok("init").out.splitlines() == [
        f"nothing to do: pyproject.toml names {PATTERN}",
        "next: `tally new SCHEMA.TABLE`, and `tally migrate`",
    ]
    assert contents(tally.folder) == before


def test_init_leaves_what_is_in_a_project(tally: Command) -> None:
    pyproject, ignored = tally.folder / "pyproject.toml", tally.folder / ".gitignore"
    pyproject.write_bytes(b'# Ours.\r\n[project]\r\nname = "own"  # it is\r\n')
    ignored.write_bytes(b"\xff*.pyc")
    pyproject.chmod(0o640)
    (tally.folder / "tallies/shop").mkdir(parents=True)
    (tally.folder / "tallies/shop/a.sql").write_text("SELECT 1")
    assert tally.ok("init").out.splitlines() == [
        f"named {PATTERN} in pyproject.toml",
        "added .tally/ to .gitignore",
        "next: `tally new SCHEMA.TABLE`, and `tally migrate`",
    ]
    assert pyproject.read_bytes() == (
        b'# Ours.\r\n[project]\r\nname = "own"  # it is\r\n\r\n'
        b'[tool.tallykeeper]\r\ntallies = ["tallies/**/*.sql"]\r\n'
    )
    assert pyproject.stat().st_mode & 0o777 == 0o640
    assert ignored.read_bytes() == b"\xff*.pyc\n.tally/\n"
    assert named(tally.folder) == ["shop.a"], "there is no need for an example"


def test_init_beside_dagster_keeps_names_apart(tally: Command) -> None:
    (tally.folder / "pyproject.toml").write_text(DAGSTER)
    out = tally.ok("init").out
    assert "`dg.Definitions.merge(yours, tallykeeper.dagster.definitions())`" in out
    assert (tally.folder / "pyproject.toml").read_text().startswith(DAGSTER)
    assert table(tally.folder)["tallykeeper"] == {"tallies": [PATTERN], "dagster_prefix": "tally"}


def test_init_within_a_project_is_of_that_project(tally: Command) -> None:
    tally.ok("init")
    inner = Command(tally.url, tally.folder / "tallies")
    before = contents(tally.folder)
    assert "nothing to do: " in inner.ok("init").out
    assert contents(tally.folder) == before


def test_init_in_a_project_of_systems_adds_files_and_no_example(tally: Command) -> None:
    (tally.folder / "pyproject.toml").write_text(
        '[tool.tallykeeper]\nsystems = ["a:b"]\ntallies = ["shop:one"]\n'
    )
    tally.ok("init")
    assert table(tally.folder)["tallykeeper"] == {
        "systems": ["a:b"],
        "tallies": [PATTERN, "shop:one"],
    }
    assert not (tally.folder / "tallies").exists()


@pytest.mark.parametrize("template", TEMPLATES)
def test_new_writes_a_file_of_each_template(tally: Command, template: str) -> None:
    assert tally.ok("new", "shop.revenue_daily", "--template", template).out.splitlines() == [
        "wrote tallies/shop/revenue_daily.sql",
        f"named {PATTERN} in pyproject.toml",
        "next: change its SELECT, then `tally explain shop.revenue_daily`, and `tally migrate`",
    ]
    (declared,) = read_files(tally.folder, [PATTERN])
    assert declared.name == "shop.revenue_daily"
    assert declared.header.description == "Revenue daily."
    assert "FROM shop." in declared.select


def test_new_takes_sql_from_an_option_or_from_what_is_piped_in(tally: Command) -> None:
    tally.ok("new", "shop.a", "--sql", "SELECT o.id FROM shop.orders o")
    assert piped(tally, "SELECT o.id FROM shop.orders o;\n", "new", "shop.b")
    assert piped(tally, "SELECT o.id FROM shop.orders o\n", "new", "shop.c", "--sql", "-")
    found = read_files(tally.folder, [PATTERN])
    assert [d.name for d in found] == ["shop.a", "shop.b", "shop.c"]
    assert {d.select for d in found} == {"SELECT o.id FROM shop.orders o"}
    first = (tally.folder / "tallies/shop/a.sql").read_text()
    assert first.startswith("-- A.\n-- tally: shop.a\nSELECT o.id FROM shop.orders o;\n\n-- Lines")


def test_new_keeps_the_comment_above_the_sql(tally: Command) -> None:
    sql = "-- By hand.\n-- key: id\nSELECT id FROM shop.orders;"
    tally.ok("new", "shop.a", "--sql", sql)
    tally.ok("new", "shop.b", "--sql", f"-- tally: shop.b\n{sql}")
    a, b = ((tally.folder / f"tallies/shop/{n}.sql").read_text() for n in "ab")
    assert a == "-- By hand.\n-- key: id\n-- tally: shop.a\nSELECT id FROM shop.orders;\n"
    assert b == f"-- tally: shop.b\n{sql}\n"


def test_new_adds_to_the_list_that_is_there(tally: Command) -> None:
    pyproject = tally.folder / "pyproject.toml"
    pyproject.write_text('[tool.tallykeeper]\ntallies = [\n    "shop:one",  # first\n]\n')
    tally.ok("new", "shop.a")
    assert pyproject.read_text() == (
        f'[tool.tallykeeper]\ntallies = [\n    "{PATTERN}",\n    "shop:one",  # first\n]\n'
    )
    tally.ok("new", "shop.b")
    assert pyproject.read_text().count(PATTERN) == 1


def test_new_uses_the_folder_that_the_project_names(tally: Command) -> None:
    pyproject = tally.folder / "pyproject.toml"
    pyproject.write_text('[tool.tallykeeper]\ntallies = ["db/sql/**/*.sql"]\n')
    assert tally.ok("new", "shop.a").out.startswith("wrote db/sql/shop/a.sql\nnext:")
    assert table(tally.folder)["tallykeeper"] == {"tallies": ["db/sql/**/*.sql"]}


def test_new_in_an_inner_folder_writes_into_the_project(tally: Command) -> None:
    (tally.folder / "pyproject.toml").write_text('[project]\nname = "own"\n')
    (tally.folder / "src").mkdir()
    inner = Command(tally.url, tally.folder / "src")
    assert inner.ok("new", "shop.a").out.startswith(f"wrote {tally.folder}/tallies/shop/a.sql\n")
    assert "tallykeeper" in table(tally.folder)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["orders"], 2, "the name 'orders': expected a schema and a table with a point between"),
        (["pg_x.orders"], 2, "expected a schema that PostgreSQL and Tallykeeper do not keep for"),
        (["shop.a", "--sql", "SELECT 1", "--template", "sum"], 2, "give one or the other"),
        (["shop.a", "--template", "some"], 2, "Invalid value for '--template': 'some' is not one"),
        (["shop.a", "--sql", "DELETE FROM a"], 1, "the SQL:1:1: expected a SELECT, found `DELETE`"),
        (["shop.a", "--sql", ""], 1, "the SQL:1:1: expected a SELECT, found an empty file"),
        (
            ["shop.a", "--sql", "-- tally: shop.b\nSELECT 1"],
            1,
            "its line `-- tally:` says shop.b, but the command shop.a; use one name",
        ),
    ],
)
def test_new_refuses_what_is_no_tally(
    tally: Command, arguments: list[str], code: int, message: str
) -> None:
    result = tally.run("new", *arguments)
    assert result.code == code
    assert message in result.err
    assert contents(tally.folder) == {}, "nothing is written"


def test_new_never_overwrites(tally: Command) -> None:
    tally.ok("new", "shop.a")
    before = contents(tally.folder)
    result = tally.run("new", "shop.a", "--template", "sum")
    assert (result.code, result.err) == (
        1,
        "tally: tallies/shop/a.sql is there already; nothing was written\n",
    )
    (tally.folder / "tallies/shop/other.sql").write_text("-- tally: shop.b\nSELECT 1")
    result = tally.run("new", "shop.b")
    assert result.err == (
        "tally: tallies/shop/other.sql declares shop.b already; nothing was written\n"
    )
    (tally.folder / "tallies/shop/c.sql").symlink_to("nowhere")
    assert "tallies/shop/c.sql is there already" in tally.run("new", "shop.c").err
    (tally.folder / "tallies/shop/c.sql").unlink()
    (tally.folder / "tallies/shop/other.sql").unlink()
    assert contents(tally.folder) == before


@pytest.mark.parametrize(
    "content",
    [
        "tool = { tallykeeper = {} }\n",
        "[tool]\ntallykeeper = { systems = [] }\n",
        '[tool.tallykeeper]\n"tallies" = ["a:b"]\n',
        'text = """\n[tool.tallykeeper]\n"""\n[tool."tallykeeper"]\n',
    ],
)
def test_a_pyproject_that_cannot_be_added_to_is_left_alone(tally: Command, content: str) -> None:
    pyproject = tally.folder / "pyproject.toml"
    pyproject.write_text(content)
    for command in (["init"], ["new", "shop.a"]):
        result = tally.run(*command)
        assert result.code == 1
        assert result.err == (
            'tally: pyproject.toml cannot be changed safely; write `tallies = ["tallies/**/*.sql"]`'
            " in its table [tool.tallykeeper], and run the command again\n"
        )
    assert contents(tally.folder) == {"pyproject.toml": content.encode()}


def test_a_malformed_pyproject_is_named(tally: Command) -> None:
    (tally.folder / "pyproject.toml").write_text("[tool")
    for command in (["init"], ["new", "shop.a"]):
        result = tally.run(*command)
        assert (result.code, "expected a pyproject.toml in TOML" in result.err) == (1, True)


def test_a_folder_that_cannot_be_written_is_named(tally: Command) -> None:
    (tally.folder / "tallies").write_text("a file")
    result = tally.run("new", "shop.a")
    assert result.code == 1
    assert "tallies/shop/a.sql: expected a file that can be written, but it is" in result.err
    assert not (tally.folder / "pyproject.toml").exists()


def piped(tally: Command, text: str, *arguments: str) -> str:
    return subprocess.run(
        [str(PROGRAM), *arguments],
        input=text,
        cwd=tally.folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    ).stdout

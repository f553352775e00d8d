"""Commands that write files of a project. They never overwrite one, and need no database."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import click

from tallykeeper import project_file
from tallykeeper.cli.common import as_json, example, say
from tallykeeper.cli.output.documents import emit
from tallykeeper.settings import SettingError, project_table, read

IGNORED = ".tally/"
TEMPLATES = ("count", "sum", "distinct", "top-n", "join")


@click.command(
    epilog=example(
        "tally new shop.revenue_daily --template join",
        'tally new shop.orders_daily --sql "SELECT ... GROUP BY 1"',
        "tally new shop.orders_daily < orders_daily.sql",
    )
)
@click.argument("name")
@click.option("--sql", metavar="TEXT", help="The SELECT; - reads it from standard input.")
@click.option(
    "--template",
    type=click.Choice(TEMPLATES),
    help="A SELECT to be changed.  [default: count, where no SQL comes in]",
)
@as_json
def new(name: str, sql: str | None, template: str | None, as_json: bool) -> None:
    """Write a file that declares a tally.

    tallies/SCHEMA/TABLE.sql in the project's folder, with the SELECT and a header that describes
    it. Where pyproject.toml does not name such files yet, it does then. A file that is there is
    never overwritten.
    """
    from tallykeeper.select.files.header import wrong_name

    if sql is not None and template is not None:
        raise _wrong("--sql and --template were both given; give one or the other")
    expected = wrong_name(name)
    if expected:
        raise _wrong(f"the name {name!r}: expected {expected}, as in shop.revenue_daily")
    if sql is None and template is None:
        sql = _piped()
    elif sql == "-":
        sql = sys.stdin.read()
    content = _content(name, sql, template)
    root = _project_above()
    patterns = _patterns(root)
    folder = _folder(patterns)
    path = root / folder / name.partition(".")[0] / f"{name.partition('.')[2]}.sql"
    _require_new(root, patterns, name, path)
    # Nothing is written where the project's file cannot be added to.
    named = _with_files(root, f"{folder}/**/*.sql")
    _write_new(path, content)
    say(f"wrote {_shown(path)}")
    if named is not None:
        _store(root / "pyproject.toml", named)
        say(f"named {folder}/**/*.sql in {_shown(root / 'pyproject.toml')}")
    change = "" if sql is not None else "change its SELECT, then "
    say(f"next: {change}`tally explain {name}`, and `tally migrate`")
    if as_json:
        emit(tally=name, file=_shown(path))


@click.command(epilog=example("tally init"))
@as_json
def init(as_json: bool) -> None:
    """Make this folder a project, or add what Tallykeeper needs to the project in it.

    Names tallies/**/*.sql in pyproject.toml, writes a first example where there is no tally yet,
    and has git ignore the folder of the embedded database. What is there stays as it is; run
    again, it does nothing.
    """
    root = _named_project() or _project_with_table() or Path.cwd()
    file = root / "pyproject.toml"
    done = []
    patterns = _patterns(root)
    of_dagster = project_file.is_of_dagster(file)
    if not any(pattern.endswith(".sql") for pattern in patterns):
        more = {"dagster_prefix": "tally"} if of_dagster else {}
        was_there = file.exists()
        named = _with_files(root, project_file.DEFAULT_PATTERN, **more)
        assert named is not None
        _store(file, named)
        verb = "named tallies/**/*.sql in" if was_there else "wrote"
        done.append(f"{verb} {_shown(file)}")
        patterns = _patterns(root)
    done += _first_example(root, patterns)
    done += _ignore(root / ".gitignore")
    for sentence in done or [f"nothing to do: {_shown(file)} names {', '.join(patterns)}"]:
        say(sentence)
    if of_dagster and done:
        say(
            "your Dagster definitions take the tallies by"
            " `dg.Definitions.merge(yours, tallykeeper.dagster.definitions())`"
        )
    say("next: `tally new SCHEMA.TABLE`, and `tally migrate`")
    if as_json:
        emit(done=done, project=_shown(file), patterns=patterns)


def _wrong(sentence: str) -> click.UsageError:
    return click.UsageError(sentence, ctx=click.get_current_context())


def _piped() -> str | None:
    """What is piped in, or redirected from a file; None where nothing is."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError):
        return None
    if not (stat.S_ISFIFO(mode) or stat.S_ISREG(mode)):
        return None
    return sys.stdin.read() or None


def _content(name: str, sql: str | None, template: str | None) -> str:
    from tallykeeper.cli.project import templates

    if sql is None:
        return templates.from_template(name, template or "count")
    try:
        return templates.from_sql(name, sql)
    except templates.OtherName as error:
        raise click.ClickException(f"{error}, but the command {name}; use one name") from error


def _named_project() -> Path | None:
    """The folder in TALLY_PROJECT. Raises SettingError where it is none."""
    if read("TALLY_PROJECT") is None:
        return None
    from tallykeeper.settings import project_root

    return project_root()


def _project_with_table() -> Path | None:
    """The nearest folder from the current one upwards that is a project of tallies."""
    here = Path.cwd()
    return next((f for f in (here, *here.parents) if project_table(f) is not None), None)


def _project_above() -> Path:
    here = Path.cwd()
    found = (f for f in (here, *here.parents) if (f / "pyproject.toml").is_file())
    return _named_project() or _project_with_table() or next(found, here)


def _patterns(root: Path) -> list[str]:
    """What the project names as tallies. Raises SettingError where its file is malformed."""
    project_table(root)
    return project_file.named_patterns(root / "pyproject.toml")


def _folder(patterns: list[str]) -> str:
    """The folder that files of all schemas are in, as the first pattern for such says."""
    for pattern in patterns:
        folder, found, _ = pattern.partition("/**/*.sql")
        if found and not set(folder) & set("*?[") and pattern == f"{folder}/**/*.sql":
            return folder
    return project_file.DEFAULT_PATTERN.partition("/")[0]


def _require_new(root: Path, patterns: list[str], name: str, path: Path) -> None:
    from tallykeeper.errors import BadFile
    from tallykeeper.select.files import read_files

    if path.exists() or path.is_symlink():
        raise click.ClickException(f"{_shown(path)} is there already; nothing was written")
    try:
        known = read_files(root, [p for p in patterns if p.endswith(".sql")])
    except BadFile:
        return  # The next command names it.
    for declared in known:
        if declared.name == name:
            raise click.ClickException(
                f"{declared.path} declares {name} already; nothing was written"
            )


def _with_files(root: Path, pattern: str, **more: str) -> str | None:
    """The text of the project's file that names the pattern; None where it does already."""
    path = root / "pyproject.toml"
    try:
        return project_file.addition(path, pattern, **more)
    except project_file.CannotEdit as error:
        raise click.ClickException(
            f"{_shown(path)} cannot be changed safely; {error}, and run the command again"
        ) from error


def _store(path: Path, text: str) -> None:
    try:
        project_file.write(path, text)
    except OSError as error:
        raise _not_written(path, error) from error


def _first_example(root: Path, patterns: list[str]) -> list[str]:
    from tallykeeper.cli.project import templates

    named = [pattern for pattern in patterns if pattern.endswith(".sql")]
    if len(named) < len(patterns) or any(next(root.glob(p), None) for p in named):
        return []  # There are tallies.
    schema, _, table = templates.EXAMPLE_NAME.partition(".")
    path = root / _folder(patterns) / schema / f"{table}.sql"
    _write_new(path, templates.EXAMPLE)
    return [f"wrote {_shown(path)}, an example"]


def _ignore(path: Path) -> list[str]:
    """Have git ignore what the embedded database stores."""
    text = path.read_bytes().decode("utf-8", "surrogateescape") if path.exists() else ""
    lines = {line.strip().strip("/") for line in text.splitlines()}
    if IGNORED.strip("/") in lines:
        return []
    between = "" if not text or text.endswith("\n") else "\n"
    try:
        with path.open("ab") as file:
            file.write(f"{between}{IGNORED}\n".encode())
    except OSError as error:
        raise _not_written(path, error) from error
    return [f"added {IGNORED} to {_shown(path)}" if text else f"wrote {_shown(path)}"]


def _write_new(path: Path, content: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(content)
    except FileExistsError as error:
        raise click.ClickException(f"{_shown(path)} is there already") from error
    except OSError as error:
        raise _not_written(path, error) from error


def _not_written(path: Path, error: OSError) -> SettingError:
    found = error.strerror or type(error).__name__
    return SettingError(_shown(path), "a file that can be written", found, "make it writable")


def _shown(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)

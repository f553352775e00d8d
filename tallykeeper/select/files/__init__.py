"""Tallies that are declared by a file each: `tallies/shop/revenue_daily.sql`.

A file holds one SELECT. The comment above it is the description of the tally, and may have header
lines. Nothing here asks a database: whether the SELECT is right, `tally migrate` finds out, and
`Declared.place` then says where in the file PostgreSQL found a fault.

Invariants: the SELECT is the text of the file, but for the ends of lines, which are line feeds.
"""

from __future__ import annotations

import codecs
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tallykeeper.declarations.tally import TimeKey
from tallykeeper.declarations.validation import nearest
from tallykeeper.declarations.windows import Windows
from tallykeeper.errors import BadFile
from tallykeeper.select.files.batch_lines import batches_of, require_read
from tallykeeper.select.files.header import Header, is_header_line, parse_header, wrong_name
from tallykeeper.select.files.lexer import BadToken, Token, tokens
from tallykeeper.select.files.lines import BadHeader, Line
from tallykeeper.select.outline import outline
from tallykeeper.select.tally import SelectTally

LARGEST_BYTES = 1_000_000
SUFFIX = ".sql"

_ENCODINGS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
_BEGINNINGS = ("SELECT", "WITH", "VALUES", "TABLE")
_MAKES = "remove what stands before the SELECT: `tally migrate` makes the table"
_WRITES = "a tally is one SELECT: write what the table must hold"
_TODO = {
    "CREATE": _MAKES,
    "INSERT": _WRITES,
    "UPDATE": _WRITES,
    "DELETE": _WRITES,
    "MERGE": _WRITES,
    "EXPLAIN": "remove the word; `tally explain` shows the plan",
}
_NOT_SQL = {
    "{": "a template is not filled in: write the SELECT itself",
    "}": "a template is not filled in: write the SELECT itself",
    "\\": "psql's own commands have no place here: remove it",
}


@dataclass(frozen=True)
class Declared:
    """A tally as a file declares it. `line` and `column` are where the SELECT begins, from 1."""

    name: str
    select: str
    path: Path
    line: int
    column: int
    header: Header

    @property
    def system(self) -> str:
        return self.name.partition(".")[0]

    @property
    def table(self) -> str:
        return self.name.partition(".")[2]

    def place(self, position: int) -> str:
        """Where a character of the SELECT stands, by its number from 1: `file:line:column`.

        PostgreSQL counts so, in its error messages.
        """
        before = self.select[: position - 1]
        lines = before.count("\n")
        column = len(before) - before.rfind("\n") if lines else self.column + len(before)
        return f"{self.path}:{self.line + lines}:{column}"


def read_files(root: Path, patterns: Iterable[str], shown: Path = Path()) -> list[Declared]:
    """The tallies of the files that match patterns like `tallies/**/*.sql`, ordered by their paths.

    What begins with a point is passed over. `shown` is how messages call the folder `root`.

    Raises BadFile where a file is malformed, two have one name, or a pattern without a wildcard
    names no file.
    """
    paths = dict.fromkeys(path for pattern in patterns for path in matching(root, pattern))
    found: dict[str, Declared] = {}
    for path in sorted(paths):
        declared = read_file(path, shown=shown / path.relative_to(root))
        first = found.setdefault(declared.name, declared)
        if first is not declared:
            found_name = f"`{first.name}`, which {first.path} has"
            todo = "rename one, by a line `-- tally:` or by the file's name"
            raise BadFile(declared.path, 1, 1, "a name of its own", found_name, todo)
    return list(found.values())


def matching(root: Path, pattern: str) -> list[Path]:
    """The files that a pattern names. Raises BadFile where it has no wildcard and names none."""
    has_wildcard = re.search(r"[*?\[]", pattern) is not None
    found = [
        path
        for path in root.glob(pattern)
        if not any(part.startswith(".") for part in path.relative_to(root).parts)
        and (path.is_symlink() or not path.is_dir())
    ]
    if not found and not has_wildcard:
        raise BadFile(Path(pattern), 1, 1, "a file", "none", "correct the name in pyproject.toml")
    return found


def read_file(path: Path, shown: Path | None = None) -> Declared:
    """The tally that a file declares; `shown` is how messages call the file. Raises BadFile."""
    shown = shown or path
    return parse(_text_of(path, shown), shown, _name_by(path))


def _name_by(path: Path) -> str:
    return f"{path.parent.name}.{path.stem}"


def _text_of(path: Path, shown: Path) -> str:
    """What the file holds, without a byte order mark, its lines ended by line feeds."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise BadFile(
                shown, 1, 1, "a file", "something else", "name it otherwise, or remove it"
            )
        if status.st_size > LARGEST_BYTES:
            most = f"a file of at most {LARGEST_BYTES:,} bytes"
            todo = "one file declares one SELECT: is there data in it?"
            raise BadFile(shown, 1, 1, most, f"{status.st_size:,} bytes", todo)
        content = path.read_bytes()
    except FileNotFoundError as error:
        is_link = path.is_symlink()
        found = "a link to what is not there" if is_link else "none"
        todo = "correct the link, or remove it" if is_link else "correct the name"
        raise BadFile(shown, 1, 1, "a file", found, todo) from error
    except OSError as error:
        found = error.strerror or type(error).__name__
        raise BadFile(shown, 1, 1, "a file that can be read", found, "make it readable") from error
    return _decoded(content, shown)


def _decoded(content: bytes, shown: Path) -> str:
    todo = "save it as UTF-8"
    for mark, encoding in _ENCODINGS.items():
        if content.startswith(mark):
            raise BadFile(shown, 1, 1, "text in UTF-8", encoding, todo)
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line, column = _line_and_column(content[: error.start].decode("utf-8"))
        found = f"the byte 0x{content[error.start]:02X}"
        raise BadFile(shown, line, column, "text in UTF-8", found, todo) from error
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        line, column = _line_and_column(text[: text.index("\0")])
        # UTF-16 without its mark has one at every other place.
        raise BadFile(shown, line, column, "text in UTF-8", "a zero byte", todo)
    return text


@dataclass(frozen=True)
class _Text:
    """A file's text, for what is wrong in it."""

    text: str
    path: Path

    def fault(self, position: int, expected: str, found: str, todo: str) -> BadFile:
        line, column = _line_and_column(self.text[:position])
        return BadFile(self.path, line, column, expected, found, todo)


def _line_and_column(before: str) -> tuple[int, int]:
    """Where the text behind `before` begins, both from 1."""
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def parse(text: str, path: Path, name: str | None = None) -> Declared:
    """The tally that a file's text declares; `name` is its name where no header line says one.

    Raises BadFile.
    """
    file = _Text(text, path)
    try:
        everything = list(tokens(text))
    except BadToken as error:
        raise file.fault(error.position, "SQL", error.found, error.todo) from error
    statement = [token for token in everything if token.kind != "comment"]
    first = statement[0].start if statement else len(text)
    comments = [token for token in everything if token.kind == "comment"]
    above = [token for token in comments if token.start < first]
    header = _header(file, [line for token in above for line in _lines(text, token)])
    if not statement:
        found = "a comment alone" if above else "an empty file"
        raise file.fault(0, "a SELECT", found, "write one, or remove the file")
    statement = _only_one(file, statement)
    _require_query(file, statement)
    _require_no_header_line(file, comments[len(above) :])
    line, column = _line_and_column(text[:first])
    select = text[first : statement[-1].end]
    if header.batches:
        with _in_file(file):
            require_read(header.batches, outline(select))
    return Declared(_named(path, header, name), select, path, line, column, header)


def _header(file: _Text, lines: Sequence[Line]) -> Header:
    with _in_file(file):
        return parse_header(lines)


@contextmanager
def _in_file(file: _Text) -> Iterator[None]:
    """Raise BadFile for what is wrong with a header line."""
    try:
        yield
    except BadHeader as error:
        where = (file.path, error.line, error.column)
        raise BadFile(*where, error.expected, error.found, error.todo) from error


def _named(path: Path, header: Header, name: str | None) -> str:
    if header.name is not None:
        return header.name
    wrong = "a line `-- tally: shop.revenue_daily`" if name is None else wrong_name(name)
    if name is None or wrong:
        todo = "rename file or folder, or write a line `-- tally: shop.revenue_daily`"
        raise BadFile(path, 1, 1, wrong, f"`{name}`" if name else "none", todo)
    return name


def _lines(text: str, comment: Token) -> list[Line]:
    """The lines of a comment, each without what makes it one."""
    first_line, first_column = _line_and_column(text[: comment.start])
    if comment.text.startswith("--"):
        return [_line(comment.text, 2, first_line, first_column)]
    found = []
    for number, content in enumerate(comment.text[2:-2].split("\n")):
        star = re.match(r"[ \t]*\*?", content)
        skipped = star.end() if star is not None else 0
        found.append(
            _line(content, skipped, first_line + number, 1 if number else first_column + 2)
        )
    return found


def _line(content: str, skipped: int, line: int, column: int) -> Line:
    rest = content[skipped:]
    kept = rest.lstrip(" \t")
    return Line(kept.rstrip(), line, column + skipped + len(rest) - len(kept))


def _only_one(file: _Text, statement: Sequence[Token]) -> list[Token]:
    """The tokens of the only statement, without the semicolon behind it. Raises BadFile."""
    found = [t for t in statement if t.kind != "symbol" or t.text != ";"]
    end = next((t.start for t in statement if t not in found), None)
    if not found or (end is not None and end < found[0].start):
        raise file.fault(statement[0].start, "a SELECT", "`;`", "remove what is there without one")
    behind = next((t for t in found if end is not None and t.start > end), None)
    if behind is not None:
        todo = "give each SELECT a file of its own"
        raise file.fault(behind.start, "one statement", "another one", todo)
    return found


def _require_query(file: _Text, statement: Sequence[Token]) -> None:
    """Refuse what is plainly no SELECT. Raises BadFile."""
    first = statement[0]
    opening = next((t for t in statement if t.text != "("), first)
    if opening.keyword not in _BEGINNINGS and opening.text not in _NOT_SQL:
        hint = nearest(opening.keyword, _BEGINNINGS) if opening.keyword else ""
        todo = _TODO.get(opening.keyword) or hint.removeprefix("; ") or _WRITES
        raise file.fault(opening.start, "a SELECT", _shown(opening), todo)
    depth = 0
    for token, following in zip(statement, [*statement[1:], None], strict=True):
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if depth < 0:
            raise file.fault(token.start, "a `(` for each `)`", "none for this one", "remove it")
        _require_reads(file, token, following)
    if depth > 0:
        missing = f"{depth} more of the first than of the second"
        raise file.fault(statement[-1].end, "a `)` for each `(`", missing, "close them")


def _require_reads(file: _Text, token: Token, following: Token | None) -> None:
    """Refuse what can only be part of a statement that writes, or of no statement."""
    then = following.keyword if following is not None else ""
    if token.keyword == "INTO" or (token.keyword == "DELETE" and then == "FROM"):
        found = f"`{token.keyword}`"
        raise file.fault(token.start, "a statement that only reads", found, _WRITES)
    if token.kind == "symbol" and token.text in _NOT_SQL:
        raise file.fault(token.start, "SQL", f"`{token.text}`", _NOT_SQL[token.text])
    if token.kind == "number" and token.text.startswith("$"):
        todo = "write the value: a tally has no parameters"
        raise file.fault(token.start, "an expression", f"the parameter {token.text}", todo)


def _shown(token: Token) -> str:
    return f"`{token.text[:40]}`"


def _require_no_header_line(file: _Text, comments: Sequence[Token]) -> None:
    """Refuse a header line below the beginning of the SELECT, which would have no effect."""
    for comment in comments:
        for line in _lines(file.text, comment):
            if is_header_line(line):
                found = f"`{line.text[:40]}` below its beginning"
                expected = "header lines above the SELECT"
                todo = "move it up, or word the comment otherwise"
                raise BadFile(file.path, line.line, line.column, expected, found, todo)


def tally_of(declared: Declared) -> SelectTally:
    """The tally that a file declares."""
    header, at = declared.header, None
    windows: bool | Windows = header.windows
    if header.window is not None or header.partitions is not None:
        read = outline(declared.select)
        found = read.time_key
        if header.window is not None:
            # Of any other time nothing is known but that it lies in one of the windows.
            known = (each for each in read.times if each.column == header.window)
            zone = header.partitions[1] if header.partitions is not None else None
            at = found = next(known, TimeKey(header.window, "hour", zone or "UTC"))
        if header.partitions is not None:
            unit, zone = header.partitions
            windows = Windows(unit, zone or (found.zone if found is not None else "UTC"))
    return SelectTally(
        declared.name,
        select=declared.select,
        key=header.key or None,
        time_key=at,
        description=header.description,
        windows=windows,
        indexes=header.indexes,
        batches=batches_of(header.batches),
        tags=header.tags,
        place=declared.place,
    )

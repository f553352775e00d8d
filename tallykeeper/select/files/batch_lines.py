"""Header lines that say how a tally too big for one transaction is built in batches.

`-- batches: content_id from gallery.items.id where source = regular`: the rows whose `source` is
`regular` are made of one row of `gallery.items` each, whose `id` they have as `content_id`. Several
lines are the lanes of such a tally; of one alone nothing needs to tell its rows from others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Column, Integer, MetaData, Table

from tallykeeper.declarations.batches import Batches, Lane
from tallykeeper.declarations.validation import nearest
from tallykeeper.select.files.lines import COLUMN, BadHeader, Line
from tallykeeper.select.outline import Outline

EXAMPLE = "content_id from gallery.items.id where source = regular"
_VALUE = re.compile(r"\s*(?:'(?P<quoted>(?:[^']|'')*)'|(?P<bare>[\w.+-]+))\s*$")
_WORD = re.compile(r"\s*(?P<word>[^\s\"',.=]+|=|\S)")


@dataclass(frozen=True)
class Name:
    """A name in a line, and where it begins."""

    text: str
    offset: int


@dataclass(frozen=True)
class BatchLine:
    """What one line says: the column `along` has the position, the column `at` of a source.

    Rows of this lane have `value` in the column `lane`, where they are not all rows.
    """

    line: Line
    along: Name
    schema: Name
    table: Name
    at: Name
    lane: Name | None = None
    value: str = ""


def batch_line(line: Line, at: int) -> BatchLine:
    """What a line says whose value begins at a place. Raises BadHeader."""
    along, position = _name(line, at, "a column's name")
    position = _word(line, position, "from")
    schema, position = _name(line, position, "a schema")
    table, position = _name(line, _word(line, position, "."), "a table")
    column, position = _name(line, _word(line, position, "."), "a column")
    if not line.text[position:].strip():
        return BatchLine(line, along, schema, table, column)
    lane, position = _name(line, _word(line, position, "where"), "a column's name")
    position = _word(line, position, "=")
    match = _VALUE.match(line.text, position)
    if match is None:
        raise _bad(line, position, "one value, in single quotes where it is no word")
    quoted = match["quoted"]
    value = match["bare"] if quoted is None else quoted.replace("''", "'")
    return BatchLine(line, along, schema, table, column, lane, value)


def with_line(lines: Sequence[BatchLine], more: BatchLine) -> tuple[BatchLine, ...]:
    """The lines and one more, which has to fit to them. Raises BadHeader."""
    if not lines:
        return (more,)
    first, both = lines[0], (lines[0], more)
    if any(each.lane is None for each in both):
        expected = "`where COLUMN = VALUE` in each of several lines `batches`"
        raise _bad(more.line, len(more.line.text), expected)
    for name, other in ((more.along, first.along), (more.lane, first.lane)):
        assert name is not None
        assert other is not None
        if name.text != other.text:
            expected = f"`{other.text}`, as in line {first.line.line}"
            raise _bad(more.line, name.offset, expected, f"`{name.text}`")
    if any(each.value == more.value for each in lines):
        raise _bad(more.line, 0, "a value for each line `batches`", f"`{more.value}` again")
    return (*lines, more)


def require_read(lines: Sequence[BatchLine], read: Outline) -> None:
    """Raise BadHeader where a line names what the SELECT does not return, or does not read."""
    tables = [f"{schema}.{table}" for schema, table in read.sources if schema is not None]
    for each in lines:
        for name in (each.along, each.lane):
            if name is not None and read.columns:
                what = "a column that the SELECT returns"
                _require(each.line, name, name.text, read.columns, what)
        if len(tables) == len(read.sources):
            full = f"{each.schema.text}.{each.table.text}"
            _require(each.line, each.schema, full, tables, "a table that the SELECT reads")
        if read.names:
            _require(each.line, each.at, each.at.text, read.names, "a column that the SELECT reads")


def batches_of(lines: Sequence[BatchLine]) -> Batches | None:
    """What the lines say together."""
    if not lines:
        return None
    first = lines[0]
    lanes = {each.value or each.table.text: _lane(each) for each in lines}
    return Batches(first.along.text, lanes, first.lane.text if first.lane is not None else None)


def _lane(line: BatchLine) -> Lane:
    at = line.at.text
    # The tally takes it for its own source of the same name.
    source = Table(line.table.text, MetaData(), Column(at, Integer), schema=line.schema.text)
    return Lane(source, lambda row: row[at])


def _require(line: Line, name: Name, text: str, known: Sequence[str], what: str) -> None:
    if text not in known:
        todo = nearest(text, known).removeprefix("; ") or f"name one of {', '.join(known)}"
        raise BadHeader(line, name.offset, what, f"`{text}`", todo)


def _name(line: Line, at: int, what: str) -> tuple[Name, int]:
    match = COLUMN.match(line.text, at)
    if match is None:
        raise _bad(line, at, what)
    quoted = match["quoted"]
    text = match["bare"].lower() if quoted is None else quoted.replace('""', '"')
    start = match.start("bare") if quoted is None else match.start("quoted") - 1
    return Name(text, start), match.end()


def _word(line: Line, at: int, wanted: str) -> int:
    """Where the text behind a word goes on that has to stand there. Raises BadHeader."""
    match = _WORD.match(line.text, at)
    if match is None or match["word"].lower() != wanted:
        hint = nearest(match["word"].lower(), [wanted]) if match is not None else ""
        raise _bad(line, at, f"`{wanted}`", todo=hint.removeprefix("; "))
    return match.end()


def _bad(line: Line, at: int, expected: str, found: str = "", todo: str = "") -> BadHeader:
    rest = line.text[at:]
    at += len(rest) - len(rest.lstrip())
    found = found or (f"`{rest.strip()}`" if rest.strip() else "nothing")
    return BadHeader(line, at, expected, found, todo or f"write it as in `-- batches: {EXAMPLE}`")

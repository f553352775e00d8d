"""The lines above a SELECT that say what it cannot: `-- key: day, product_id`.

A line of a comment that begins with a word in small letters and a colon is a header line. All other
lines of the comment are the tally's description; within a paragraph of it a line may begin so too,
if the word is near to none that there is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tallykeeper.declarations.validation import nearest
from tallykeeper.declarations.windows import Unit, require_zone
from tallykeeper.select.files.batch_lines import EXAMPLE, BatchLine, batch_line, with_line
from tallykeeper.select.files.lines import COLUMN, BadHeader, Line

PARTITIONS: dict[str, Unit] = {
    "hourly": "hour",
    "daily": "day",
    "weekly": "week",
    "monthly": "month",
    "quarterly": "quarter",
    "yearly": "year",
}
NONE = "none"
KEYS = ("tally", "description", "key", "window", "partitions", "index", "batches", "tags")

_LINE = re.compile(r"(?P<key>[A-Za-z][A-Za-z_-]*)[ \t]*(?P<sign>[:=])(?=\s|$)[ \t]*(?P<value>.*)")
TAG = re.compile(r"[A-Za-z0-9_.-]{1,63}")
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_RESERVED = ("tallykeeper", "information_schema")
_LONGEST = 63


@dataclass(frozen=True)
class Header:
    """What header lines say; None or empty: they do not, and it follows from the SELECT.

    `key` are the columns that make a row unique, `window` is the column of the time that a row
    belongs to; `partitions` are the unit of its windows, for each of which Dagster has a partition,
    and their zone, which may be missing; without `windows` there are none. `indexes` are columns
    that the derived table has an index over; `batches` say how it is built in parts; `tags` are
    what it is selected by.
    """

    name: str | None = None
    description: str = ""
    key: tuple[str, ...] = ()
    window: str | None = None
    partitions: tuple[Unit, str | None] | None = None
    windows: bool = True
    indexes: tuple[tuple[str, ...], ...] = ()
    batches: tuple[BatchLine, ...] = ()
    tags: tuple[str, ...] = ()


def parse_header(lines: Sequence[Line]) -> Header:
    """What the lines of the comment above a SELECT say. Raises BadHeader."""
    header, prose = Header(), list[str]()
    seen: dict[str, int] = {}
    is_prose = False
    for line in lines:
        match = _LINE.fullmatch(line.text)
        if match is None or not _is_meant(line, match, in_prose=is_prose):
            prose.append(line.text)
            is_prose = bool(line.text.strip())
            continue
        is_prose = False
        key = match["key"]
        if key in seen and key not in ("index", "batches"):
            found = f"a second one (the first is in line {seen[key]})"
            raise BadHeader(line, 0, f"one line `{key}`", found, "leave one of them out")
        seen[key] = line.line
        header = _with(header, line, key, match.start("value"))
        if header.window is not None and not header.windows:
            both = "a window, or `partitions: none`"
            raise BadHeader(line, 0, both, "both", "leave one of them out")
    return replace(header, description=header.description or _description(prose))


def is_header_line(line: Line) -> bool:
    """Whether the line is plainly meant as a header line, wherever it stands."""
    match = _LINE.fullmatch(line.text)
    return match is not None and match["key"] in KEYS


def _is_meant(line: Line, match: re.Match[str], *, in_prose: bool) -> bool:
    """Whether it is a header line, and not prose with a colon. Raises BadHeader where unsure."""
    key = match["key"]
    if key in KEYS and match["sign"] == "=":
        raise BadHeader(line, 0, "a colon after the word", f"`{key} =`", f"write `{key}:`")
    if match["sign"] == "=":
        return False
    if key in KEYS:
        return True
    if key.lower() in KEYS:
        todo = f"write `{key.lower()}:`, or word the description otherwise"
        raise BadHeader(line, 0, "a header line in small letters", f"`{key}:`", todo)
    hint = nearest(key, KEYS).removeprefix("; ")
    if key != key.lower() or (in_prose and not hint):
        return False
    todo = hint or "begin a description with a capital letter"
    raise BadHeader(line, 0, f"one of {', '.join(KEYS)}", f"`{key}:`", todo)


def _with(header: Header, line: Line, key: str, at: int) -> Header:
    value = line.text[at:].strip()
    if not value:
        example = _EXAMPLES[key]
        todo = f"write it as in `-- {key}: {example}`, or leave the line out"
        raise BadHeader(line, at, f"a value after `{key}:`", "nothing", todo)
    if key == "tally":
        return replace(header, name=_name(line, at, value))
    if key == "description":
        return replace(header, description=value)
    if key == "partitions":
        return _with_partitions(header, line, at, value)
    if key == "tags":
        return replace(header, tags=_tags(line, at, value))
    if key == "batches":
        return replace(header, batches=with_line(header.batches, batch_line(line, at)))
    columns = _columns(line, at, key)
    if key == "key":
        return replace(header, key=columns)
    if key == "index":
        return replace(header, indexes=(*header.indexes, columns))
    if len(columns) != 1:
        todo = f"name the one that counts, as in `-- {key}: {_EXAMPLES[key]}`"
        raise BadHeader(line, at, "one column", f"{len(columns)} ({value})", todo)
    return replace(header, window=columns[0])


def _with_partitions(header: Header, line: Line, at: int, value: str) -> Header:
    word, _, zone = value.partition(" ")
    known = (*PARTITIONS, NONE)
    if word not in known or (word == NONE and zone):
        expected = f"one of {', '.join(known)}" if word not in known else "nothing after `none`"
        todo = nearest(word, known).removeprefix("; ") or "correct it, or leave the line out"
        raise BadHeader(line, at, expected, f"`{value}`", todo)
    if word == NONE:
        return replace(header, windows=False)
    zone = zone.strip()
    try:
        require_zone(zone or "UTC")
    except ValueError as error:
        _, _, todo = str(error).partition("; ")
        where = at + line.text[at:].index(zone)
        raise BadHeader(line, where, "a time zone, or nothing", f"`{zone}`", todo) from None
    return replace(header, partitions=(PARTITIONS[word], zone or None))


_EXAMPLES = {
    "tally": "shop.revenue_daily",
    "description": "Revenue by day and product.",
    "key": "day, product_id",
    "window": "day",
    "partitions": "monthly Europe/Berlin",
    "index": "product_id, day",
    "batches": EXAMPLE,
    "tags": "finance, daily",
}


def _tags(line: Line, at: int, value: str) -> tuple[str, ...]:
    tags = tuple(tag.strip() for tag in value.split(","))
    for tag in tags:
        if not TAG.fullmatch(tag):
            expected = "words of letters, digits, _, - and points, with commas between them"
            todo = f"write it as in `-- tags: {_EXAMPLES['tags']}`"
            raise BadHeader(line, at, expected, f"`{tag}`", todo)
    return tags


def _columns(line: Line, at: int, key: str) -> tuple[str, ...]:
    """Names of columns with commas between them, folded to small letters where they are bare."""
    columns: list[str] = []
    position = at
    while True:
        match = COLUMN.match(line.text, position)
        rest = line.text[position:].strip()
        if match is None:
            found = f"`{rest}`" if rest else "nothing"
            expected = (
                f"a column's name after `{key}:`" if not columns else "a name after the comma"
            )
            todo = f"write it as in `-- {key}: {_EXAMPLES[key]}`; put an odd name in double quotes"
            raise BadHeader(line, position, expected, found, todo)
        quoted = match["quoted"]
        name = match["bare"].lower() if quoted is None else quoted.replace('""', '"')
        if name in columns:
            todo = "leave one out"
            raise BadHeader(line, position, "each column once", f"`{name}` again", todo)
        columns.append(name)
        position = match.end()
        if position == len(line.text):
            return tuple(columns)
        if line.text[position] != ",":
            found = f"`{line.text[position:].strip()}`"
            todo = "put commas between names, and an odd name in double quotes"
            raise BadHeader(line, position, "a comma or the end of the line", found, todo)
        position += 1


def _name(line: Line, at: int, value: str) -> str:
    wrong = wrong_name(value)
    if wrong:
        todo = "write it as in `-- tally: shop.revenue_daily`"
        raise BadHeader(line, at, wrong, f"`{value}`", todo)
    return value


def wrong_name(name: str) -> str:
    """What was expected, where no tally can have the name; else empty."""
    schema, _, table = name.partition(".")
    if not (_NAME.fullmatch(schema) and _NAME.fullmatch(table)):
        return (
            "a schema and a table with a point between them, each of small letters, digits and _,"
            " beginning with a letter"
        )
    if schema in _RESERVED or schema.startswith("pg_"):
        return "a schema that PostgreSQL and Tallykeeper do not keep for themselves"
    if len(f"{schema}_{table}_definition") > _LONGEST:
        most = _LONGEST - len("__definition")
        return (
            f"schema and table of {most} characters together, for the names that are made of them"
        )
    return ""


def _description(prose: Sequence[str]) -> str:
    text = "\n".join(line.strip() for line in prose)
    return re.sub(r"\n{3,}", "\n\n", text).strip()

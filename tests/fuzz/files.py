"""Files as they come: cells with odd words, encodings, compression, and bytes that went astray."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from hypothesis import strategies as st

ODD_TEXTS = (
    "",
    " ",
    "\t",
    "\0",
    "a\0b",
    "\ufeff",
    "\u2028",
    "\x85",
    "\x1c",
    "\udcff",
    "\ud800",
    "\U0001f680" * 40,
    "é" * 1_400,
    "x" * 3_000,
    '"',
    '""',
    "'",
    ",",
    ";",
    "\n",
    "\r",
    "\r\n",
    "a\nb",
    'a\n"b',
    "a,b",
    "\\",
    "\\.",
    "\\N",
    "NULL",
    "null",
    "nan",
    "None",
    "true",
    "-1",
    "0",
    "1.0",
    "1e5",
    "1e400",
    "٣",
    "9" * 400,
    "99999999999999999999",
    "2147483648",
    "[",
    "[]",
    "[1]",
    '["a"]',
    "[" * 3_000,
    "{}",
    "{a}",
    "{NULL}",
    "infinity",
    "-infinity",
    "now",
    "0000-00-00",
    "10000-01-01",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59.9999999-14:00",
    "2025-W01-1",
    "2025-02-30",
    "2025-01-14T18:31:30Z",
    "2025-01-14 18:31",
    "20250114T183130Z",
    "/a/b.jpg",
    "https://a.example/x.jpg",
    "../../x",
    "ann",
    "00000000-0000-0000-0000-000000000000",
    "{00000000-0000-0000-0000-000000000001}",
)

odd_texts = st.sampled_from(ODD_TEXTS) | st.text(max_size=12)


T = TypeVar("T")
U = TypeVar("U")


def mostly(
    good: st.SearchStrategy[T], odd: st.SearchStrategy[U], times: int = 8
) -> st.SearchStrategy[T | U]:
    """Draw the odd one once in so many times; of several equal branches `one_of` keeps one."""
    return st.integers(1, times).flatmap(lambda n: odd if n == times else good)


class File(NamedTuple):
    """A file to be loaded: its name, its bytes, and what it says where nothing is broken in it."""

    name: str
    content: bytes
    rows: int | None
    """How many rows a reader must account for; None: what was written is no longer known."""


class Damage(NamedTuple):
    """Bytes at a place (in thousandths of the file) that are replaced by others."""

    place: int
    length: int
    bytes: bytes


damages = st.lists(
    st.builds(
        Damage,
        st.integers(0, 1_000),
        st.integers(0, 30),
        st.binary(max_size=6) | st.sampled_from([b'"', b"\n", b"\r\n", b",", b"\0", b"\xff\xfe"]),
    ),
    min_size=1,
    max_size=4,
)
few_damages: st.SearchStrategy[list[Damage]] = mostly(st.just([]), damages, 4)


def damaged(content: bytes, done: Sequence[Damage]) -> bytes:
    for place, length, new in done:
        at = len(content) * place // 1_000
        content = content[:at] + new + content[at + length :]
    return content


def _compressed(content: bytes, how: str) -> bytes:
    match how:
        case "gzip":
            return gzip.compress(content, 1)
        case "two members":
            half = len(content) // 2
            return gzip.compress(content[:half], 1) + gzip.compress(content[half:], 1)
        case "broken off":
            return gzip.compress(content, 1)[: -len(content) // 8 - 9]
        case "rubbish behind":
            return gzip.compress(content, 1) + b"\0\1rubbish"
        case "gzip's beginning":
            return b"\x1f\x8b" + content
    return content


compressions = st.sampled_from(
    [
        *["plain"] * 9,
        *["gzip"] * 2,
        "two members",
        "broken off",
        "rubbish behind",
        "gzip's beginning",
    ]
)
_READABLE = {"plain", "gzip", "two members"}
encodings = st.sampled_from(
    [*["utf-8"] * 15, "utf-8-sig", "utf-16", "utf-16-le", "latin-1", "utf-32", "cp037"]
)


def _suffix(suffixes: Sequence[str], how: str) -> st.SearchStrategy[str]:
    """Of what is not compressed, a suffix that says otherwise comes seldom."""
    any_of = st.sampled_from(suffixes)
    honest = st.sampled_from([each for each in suffixes if not each.endswith(".gz")])
    return mostly(honest, any_of) if how == "plain" else any_of


def _encoded(text: str, encoding: str) -> bytes:
    errors = "surrogatepass" if encoding.startswith("utf") else "replace"
    return text.encode(encoding, errors)


def tables(
    columns: Mapping[str, Sequence[str]], suffixes: Sequence[str]
) -> st.SearchStrategy[File]:
    """CSV files with these columns, of which some good cells are given."""
    rows = st.lists(
        st.tuples(*(mostly(st.sampled_from(good), odd_texts, 20) for good in columns.values())),
        max_size=8,
    )
    headers = st.permutations(list(columns)) | st.lists(
        st.sampled_from([*columns, "x", "", '"']), max_size=6
    )

    @st.composite
    def build(draw: st.DrawFn) -> File:
        table = draw(rows)
        # The good header mostly: nothing is read below another.
        header = draw(mostly(st.just(list(columns)), headers))
        places = [list(columns).index(name) if name in columns else 0 for name in header]
        lines = [[row[place] for place in places] for row in table]
        quoted = draw(mostly(st.just(True), st.just(False), 4))
        end = draw(st.sampled_from(["\n", "\r\n"]))
        stream = io.StringIO(newline="")
        if quoted:
            writer = csv.writer(stream, lineterminator=end, quoting=csv.QUOTE_ALL)
            writer.writerows([header, *lines])
        else:
            stream.write(end.join(",".join(cells) for cells in [header, *lines]))
        encoding, how, broken = draw(encodings), draw(compressions), draw(few_damages)
        content = damaged(_encoded(stream.getvalue(), encoding), broken)
        known = quoted and not broken and how in _READABLE and encoding.startswith("utf-8")
        name = "input" + draw(_suffix(suffixes, how))
        packed = _compressed(content, how)
        return File(name, packed, len(lines) if known and header else None)

    return build()


def json_values(depth: int = 2) -> st.SearchStrategy[Any]:
    """JSON of all kinds, with numbers and texts that databases do not like."""
    numbers = st.sampled_from([0, -1, 1.5, 2**31, 2**63, 10**400, 1e308, float("nan")])
    leaves = st.none() | st.booleans() | numbers | odd_texts
    return st.recursive(
        leaves,
        lambda inside: (
            st.lists(inside, max_size=3)
            | st.dictionaries(st.sampled_from(["id", "a", ""]), inside, max_size=3)
        ),
        max_leaves=depth,
    )


def json_lines(objects: st.SearchStrategy[Any], suffixes: Sequence[str]) -> st.SearchStrategy[File]:
    """JSON Lines of these objects, some of them broken."""
    lines = st.lists(mostly(objects.map(json.dumps), odd_texts), max_size=8)

    @st.composite
    def build(draw: st.DrawFn) -> File:
        end = draw(st.sampled_from(["\n", "\r\n", "\n\n"]))
        encoding, how, broken = draw(encodings), draw(compressions), draw(few_damages)
        content = damaged(_encoded(end.join(draw(lines)), encoding), broken)
        name = "input" + draw(_suffix(suffixes, how))
        rows = None
        if how in _READABLE and encoding.startswith("utf-8"):
            text = content.decode("utf-8-sig", "surrogateescape")
            rows = sum(bool(line.strip()) for line in text.split("\n"))
            if content[:2] in (b"\xff\xfe", b"\xfe\xff", b"\x1f\x8b"):
                rows = None
        return File(name, _compressed(content, how), rows)

    return build()

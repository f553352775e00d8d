"""Tallies that are declared by a file each: what a file may say, and what is said of a bad one."""

from __future__ import annotations

import os
import stat
from itertools import pairwise
from pathlib import Path

import pytest

from tallykeeper.errors import BadFile
from tallykeeper.select import files
from tallykeeper.select.files import Declared, parse, read_files, tally_of
from tallykeeper.select.files.lexer import BadToken, tokens

WHOLE = """\
-- Revenue by day and product; refunded lines taken off.
--   Note: the day is Berlin's.
--
-- A second paragraph.
-- tally: shop.revenue_daily
-- key: day, "Product Id"
-- window: day
-- partitions: daily
-- index: "Product Id", DAY
-- index: revenue

SELECT date_trunc('day', o.placed_at, 'Europe/Berlin') AS day, -- key of the day
       'a;b' || $x$ ; $x$ || E'it\\'s;' AS "Product;Id" /* ; /* nested ; */ */
FROM shop.orders AS o;
-- The end; no header line.
"""


LANE = "-- batches: a from b.c.d where e"


def parsed(text: str, name: str | None = "shop.x") -> Declared:
    return parse(text, Path("tallies/shop/x.sql"), name)


def test_a_file_says_all_that_the_select_cannot() -> None:
    declared = parsed(WHOLE, None)
    assert (declared.name, declared.system, declared.table) == (
        "shop.revenue_daily",
        "shop",
        "revenue_daily",
    )
    header = declared.header
    assert header.description == (
        "Revenue by day and product; refunded lines taken off.\nNote: the day is Berlin's."
        "\n\nA second paragraph."
    )
    assert header.key == ("day", "Product Id")
    assert (header.window, header.partitions) == ("day", ("day", None))
    assert header.indexes == (("Product Id", "day"), ("revenue",))


def test_the_select_is_the_text_of_the_file() -> None:
    declared = parsed(WHOLE)
    assert declared.select == WHOLE[WHOLE.index("SELECT") : WHOLE.index(";\n-- The end")]
    assert (declared.line, declared.column) == (12, 1)


def test_a_place_that_postgresql_names_is_found_in_the_file() -> None:
    declared = parsed("-- Text\n  SELECT a,\n  b FROM c")
    assert declared.place(1) == "tallies/shop/x.sql:2:3"
    assert declared.place(declared.select.index("a,") + 1) == "tallies/shop/x.sql:2:10"
    assert declared.place(declared.select.index("b F") + 1) == "tallies/shop/x.sql:3:3"


@pytest.mark.parametrize(
    "text",
    [
        "select 1",
        "SELECT 1;",
        "SELECT 1 ; ;\n",
        "(SELECT 1) UNION ALL (SELECT 2)",
        "WITH a AS (SELECT 1) SELECT * FROM a",
        "WITH insert AS (SELECT 1), delete AS (SELECT 2) SELECT * FROM insert",
        "TABLE shop.orders",
        "VALUES (1)",
        "SELECT update, merge FROM shop.orders FOR UPDATE",
        "SELECT '{{', '\\', '$1', \"’\", '\u00a0' /* “quoted” */ AS a",
        "SELECT größe, a$1 FROM shop.maße",
        "SELECT 1_000, 1.5e10, 0x1F, x'1F', U&'d\\0061t\\+000061'",
        "SELECT a[1:2], b::int, c @> '{}', d -> 'e' #>> '{f}'",
        'SELECT 1 AS "x;""y"',
    ],
)
def test_what_is_a_select_is_accepted(text: str) -> None:
    assert parsed(text).select == text.rstrip("; \n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ":1:1: expected a SELECT, found an empty file; write one, or remove the file."),
        ("\n \n", ":1:1: expected a SELECT, found an empty file"),
        ("-- A\n", ":1:1: expected a SELECT, found a comment alone"),
        (";", ":1:1: expected a SELECT, found `;`"),
        ("; SELECT 1", ":1:1: expected a SELECT, found `;`"),
        ("SELCT 1", ":1:1: expected a SELECT, found `SELCT`; did you mean 'SELECT'?"),
        ("\n  42", ":2:3: expected a SELECT, found `42`; a tally is one SELECT: write what"),
        (
            "CREATE VIEW a AS SELECT 1",
            ":1:1: expected a SELECT, found `CREATE`; remove what stands before the SELECT:"
            " `tally migrate` makes the table.",
        ),
        ("insert into a SELECT 1", ":1:1: expected a SELECT, found `insert`; a tally is one SELE"),
        ("UPDATE a SET b = 1", ":1:1: expected a SELECT, found `UPDATE`; a tally is one SELECT"),
        ("DROP TABLE a", ":1:1: expected a SELECT, found `DROP`; a tally is one SELECT"),
        ("EXPLAIN SELECT 1", "found `EXPLAIN`; remove the word; `tally explain` shows the plan."),
        (
            "WITH a AS (DELETE FROM b RETURNING *) SELECT * FROM a",
            ":1:12: expected a statement that only reads, found `DELETE`; a tally is one SELECT",
        ),
        ("WITH a AS (INSERT INTO b DEFAULT VALUES) SELECT 1", ":1:19: expected a statement that"),
        ("SELECT 1 INTO a", ":1:10: expected a statement that only reads, found `INTO`"),
        ("SELECT 1;\nSELECT 2", ":2:1: expected one statement, found another one; give each SELE"),
        ("SELECT 1; -- A\nfoo", ":2:1: expected one statement, found another one"),
        ("SELECT (1", ":1:10: expected a `)` for each `(`, found 1 more of the first than of"),
        ("SELECT 1)", ":1:9: expected a `(` for each `)`, found none for this one; remove it."),
        (
            "SELECT * FROM {{ ref('a') }}",
            ":1:15: expected SQL, found `{`; a template is not filled in: write the SELECT itself.",
        ),
        ("\\set a 1\nSELECT 1", ":1:1: expected SQL, found `\\`; psql's own commands have no pla"),
        ("SELECT $1", ":1:8: expected an expression, found the parameter $1; write the value:"),
        ("SELECT 'a", ":1:8: expected SQL, found the text that begins here is not closed by '"),
        ("SELECT E'a\\'", ":1:8: expected SQL, found the text that begins here is not closed by '"),
        ("SELECT $a$ $b$", ":1:8: expected SQL, found the text that begins here is not closed by"),
        ('SELECT "a', ':1:8: expected SQL, found the name that begins here is not closed by "'),
        ("/* /* */ SELECT 1", ":1:1: expected SQL, found the comment that begins here is not clo"),
        ("SELECT “a”", ":1:8: expected SQL, found the character U+201C (LEFT DOUBLE QUOTATION"),
        ("SELECT\u00a01", ":1:7: expected SQL, found the character U+00A0 (NO-BREAK SPACE); writ"),
        ("SELECT \u200b1", ":1:8: expected SQL, found the character U+200B (ZERO WIDTH SPACE)"),
        ("SELECT €", "the character U+20AC (EURO SIGN); a name that has it is written in double"),
    ],
)
def test_what_is_no_select_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(BadFile) as refused:
        parsed(text)
    assert str(refused.value).startswith("tallies/shop/x.sql:")
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            "-- kye: day",
            ":1:4: expected one of tally, description, key, window, partitions, index,"
            " batches, tags, found `kye:`; did you mean 'key'?",
        ),
        ("--  windows: day", ":1:5: expected one of tally, description, key, window, partitions"),
        ("-- owner: me", "found `owner:`; begin a description with a capital letter."),
        ("-- Key: day", ":1:4: expected a header line in small letters, found `Key:`; write `key:"),
        ("-- key = day", ":1:4: expected a colon after the word, found `key =`; write `key:`."),
        ("-- key:", ":1:8: expected a value after `key:`, found nothing; write it as in `-- key:"),
        ("-- key: a,", ":1:11: expected a name after the comma, found nothing; write it as in"),
        ("-- key: 1", ":1:9: expected a column's name after `key:`, found `1`; write it as in"),
        ("-- key: a b", ":1:11: expected a comma or the end of the line, found `b`; put commas"),
        ("-- key: a, A", ":1:11: expected each column once, found `a` again; leave one out."),
        ("-- key: a\n-- key: b", ":2:4: expected one line `key`, found a second one (the first is"),
        ("-- window: a, b", ":1:12: expected one column, found 2 (a, b); name the one that counts"),
        (
            "-- partitions: none\n-- window: a",
            ":2:4: expected a window, or `partitions: none`, found both; leave one of them out.",
        ),
        (
            "-- partitions: day",
            ":1:16: expected one of hourly, daily, weekly, monthly, quarterly, yearly, none, found",
        ),
        ("-- partitions: day", "found `day`; did you mean 'daily'?"),
        ("-- partitions: never", "found `never`; correct it, or leave the line out."),
        ("-- partitions: none UTC", ":1:16: expected nothing after `none`, found `none UTC`"),
        (
            "-- partitions: monthly Europe/Berlni",
            ":1:24: expected a time zone, or nothing, found `Europe/Berlni`; did you mean"
            " 'Europe/Berlin'?",
        ),
        ("-- partitions: monthly MEZ", "found `MEZ`; "),
        ("-- tally: orders", ":1:11: expected a schema and a table with a point between them"),
        ("-- tally: Shop.orders", "found `Shop.orders`; write it as in `-- tally: shop.revenue_"),
        ("-- tally: a.b.c", "expected a schema and a table with a point between them"),
        ("-- tally: pg_a.b", "expected a schema that PostgreSQL and Tallykeeper do not keep for"),
        ("-- tally: tallykeeper.b", "expected a schema that PostgreSQL and Tallykeeper do not ke"),
        (f"-- tally: shop.{'x' * 60}", "expected schema and table of 51 characters together, for"),
        ("/* Text.\n * kye: day */", ":2:4: expected one of tally"),
        ("/* kye: day */", ":1:4: expected one of tally"),
        ("-- tags: a, b c", ":1:10: expected words of letters, digits, _, - and points, with"),
        ("-- A.\n-- index: a,,b", ":2:13: expected a name after the comma, found `,b`"),
    ],
)
def test_a_malformed_header_line_is_refused_with_its_place(header: str, message: str) -> None:
    with pytest.raises(BadFile) as refused:
        parsed(f"{header}\nSELECT 1")
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("-- batch: a", "tags, found `batch:`; did you mean 'batches'?"),
        ("-- batches: a", ":1:14: expected `from`, found nothing; write it as in `-- batches: con"),
        ("-- batches: a form b.c.d", ":1:15: expected `from`, found `form b.c.d`; did you mean 'f"),
        ("-- batches: a from b.c", ":1:23: expected `.`, found nothing; write it as in"),
        ("-- batches: a from 1", ":1:20: expected a schema, found `1`; write it as in"),
        ("-- batches: a from b.c.d wher e = f", ":1:26: expected `where`, found `wher e = f`; did"),
        ("-- batches: a from b.c.d where e", ":1:33: expected `=`, found nothing"),
        ("-- batches: a from b.c.d where e = f g", ":1:36: expected one value, in single quotes"),
        (
            "-- batches: a from b.c.d\n-- batches: a from b.e.d",
            ":2:25: expected `where COLUMN = VALUE` in each of several lines `batches`, found not",
        ),
        (
            f"{LANE} = 'x'\n{LANE.replace('a from', 'f from')} = y",
            ":2:13: expected `a`, as in line 1, found `f`",
        ),
        (f"{LANE} = 'x'\n{LANE} = x", ":2:4: expected a value for each line `batches`, found `x`"),
        (
            "-- batches: ae from b.c.d",
            ":1:13: expected a column that the SELECT returns, found `ae",
        ),
        ("-- batches: a from b.x.d", ":1:20: expected a table that the SELECT reads, found `b.x`;"),
        ("-- batches: a from b.c.db", ":1:24: expected a column that the SELECT reads, found `db`"),
        (
            f"{LANE}e = x",
            ":1:32: expected a column that the SELECT returns, found `ee`; did you mea",
        ),
    ],
)
def test_a_malformed_line_of_batches_is_refused_with_its_place(header: str, message: str) -> None:
    with pytest.raises(BadFile) as refused:
        parsed(f"{header}\nSELECT c.d AS a, c.e, count(*) FROM b.c AS c GROUP BY 1, 2")
    assert message in str(refused.value)


def test_lines_of_batches_are_its_lanes() -> None:
    header = f"{LANE} = 'x y'\n{LANE}=z"
    tally = tally_of(parsed(f"{header}\nSELECT c.d AS a, c.e, c.f FROM b.c AS c"))
    assert tally.batches is not None
    assert (tally.batches.along, tally.batches.lane) == ("a", "e")
    assert list(tally.batches.lanes) == ["x y", "z"]
    alone = tally_of(parsed('-- batches: "A" from b.c.d\nSELECT c.d AS "A", c.f FROM b.c AS c'))
    assert alone.batches is not None
    assert (alone.batches.along, alone.batches.lane) == ("A", None)
    (lane,) = alone.batches.lanes.values()
    assert lane.source is alone.sources[0]


@pytest.mark.parametrize(
    ("header", "description"),
    [
        ("-- Note: what it is.", "Note: what it is."),
        ("-- By day; that is\n-- the day: Berlin's.", "By day; that is\nthe day: Berlin's."),
        ("-- See https://example.org", "See https://example.org"),
        ("/* One\n * two\n */", "One\ntwo"),
        ("-- Prose.\n-- description: Said.", "Said."),
        ("--\n-- A\n--\n--\n-- B\n--", "A\n\nB"),
        ("--", ""),
        ("", ""),
    ],
)
def test_all_else_above_the_select_is_the_description(header: str, description: str) -> None:
    assert parsed(f"{header}\nSELECT 1").header.description == description


def test_a_header_line_below_the_select_is_refused() -> None:
    with pytest.raises(BadFile) as refused:
        parsed("SELECT 1\n  -- window: day\n")
    assert str(refused.value) == (
        "tallies/shop/x.sql:2:6: expected header lines above the SELECT, found `window: day` below"
        " its beginning; move it up, or word the comment otherwise."
    )


def test_without_a_line_the_name_is_folder_and_file(tmp_path: Path) -> None:
    file(tmp_path, "tallies/shop/revenue_daily.sql")
    file(tmp_path, "tallies/other/shop/orders.sql")
    assert names(tmp_path) == ["shop.orders", "shop.revenue_daily"]
    (first, _) = read_files(tmp_path, ["tallies/**/*.sql"])
    assert first.path == Path("tallies/other/shop/orders.sql")


def test_a_file_whose_name_no_tally_can_have_is_refused(tmp_path: Path) -> None:
    file(tmp_path, "tallies/shop/Revenue daily.sql")
    with pytest.raises(
        BadFile, match=r"found `shop.Revenue daily`; rename file or folder, or write"
    ):
        names(tmp_path)


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    file(tmp_path, "tallies/shop/a.sql")
    file(tmp_path, "tallies/shop/b.sql", "-- tally: shop.a\nSELECT 1")
    with pytest.raises(BadFile) as refused:
        names(tmp_path)
    assert str(refused.value) == (
        "tallies/shop/b.sql:1:1: expected a name of its own, found `shop.a`, which"
        " tallies/shop/a.sql has; rename one, by a line `-- tally:` or by the file's name."
    )


def test_a_file_that_two_patterns_match_is_one(tmp_path: Path) -> None:
    file(tmp_path, "tallies/shop/a.sql")
    assert names(tmp_path, "tallies/**/*.sql", "tallies/shop/a.sql", "*/*/*.sql") == ["shop.a"]


def test_what_begins_with_a_point_is_passed_over(tmp_path: Path) -> None:
    file(tmp_path, "tallies/shop/.hidden.sql", "no SELECT")
    file(tmp_path, "tallies/.venv/shop/a.sql", "no SELECT")
    (tmp_path / "tallies/shop/.#lock.sql").symlink_to("nobody@nowhere:1")
    (tmp_path / "tallies/shop/folder.sql").mkdir()
    assert names(tmp_path) == []


def test_a_name_that_matches_nothing_is_refused_and_a_pattern_is_not(tmp_path: Path) -> None:
    assert names(tmp_path) == []
    with pytest.raises(BadFile, match=r"shop/a.sql:1:1: expected a file, found none; correct the"):
        names(tmp_path, "shop/a.sql")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("SELECT 'ä'".encode("utf-16"), ":1:1: expected text in UTF-8, found UTF-16; save it as"),
        ("SELECT 'ä'".encode("utf-32"), ":1:1: expected text in UTF-8, found UTF-32; save it as"),
        ("SELECT 1".encode("utf-16-le"), ":1:2: expected text in UTF-8, found a zero byte; save"),
        ("-- A\nSELECT 'ä'".encode("latin-1"), ":2:9: expected text in UTF-8, found the byte 0xE4"),
        (
            b"-- " + b"x" * 1_000_000,
            ":1:1: expected a file of at most 1,000,000 bytes, found 1,000,",
        ),
    ],
)
def test_what_is_no_text_in_utf_8_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    file(tmp_path, "tallies/shop/a.sql").write_bytes(content)
    with pytest.raises(BadFile) as refused:
        names(tmp_path)
    assert message in str(refused.value)


def test_files_of_other_systems_are_read_alike(tmp_path: Path) -> None:
    path = file(tmp_path, "tallies/shop/a.sql")
    path.write_bytes(b"-- One\n-- key: a\nSELECT 'x\ny'\n")
    (plain,) = read_files(tmp_path, ["tallies/**/*.sql"])
    for content in (
        b"\xef\xbb\xbf-- One\r\n-- key: a\r\nSELECT 'x\r\ny'\r\n",
        b"-- One\r-- key: a\rSELECT 'x\ry'\r",
    ):
        path.write_bytes(content)
        assert read_files(tmp_path, ["tallies/**/*.sql"]) == [plain]


def test_a_link_counts_as_the_file_that_it_leads_to(tmp_path: Path) -> None:
    target = file(tmp_path, "elsewhere/a.sql")
    (tmp_path / "tallies/shop").mkdir(parents=True)
    link = tmp_path / "tallies/shop/b.sql"
    link.symlink_to(target)
    assert names(tmp_path) == ["shop.b"]
    target.unlink()
    with pytest.raises(
        BadFile, match=r"b.sql:1:1: expected a file, found a link to what is not ther"
    ):
        names(tmp_path)
    link.unlink()
    link.symlink_to(link)
    with pytest.raises(
        BadFile, match=r"b.sql:1:1: expected a file that can be read, found Too many"
    ):
        names(tmp_path)


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    (tmp_path / "tallies/shop").mkdir(parents=True)
    os.mkfifo(tmp_path / "tallies/shop/a.sql")
    with pytest.raises(BadFile, match=r"a.sql:1:1: expected a file, found something else"):
        names(tmp_path)


def test_a_file_that_cannot_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file(tmp_path, "tallies/shop/a.sql")

    def refuse(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(BadFile, match=r"expected a file that can be read, found Permission denied"):
        names(tmp_path)


def test_the_tokens_are_the_text_but_for_blanks() -> None:
    found = list(tokens(WHOLE))
    assert all(WHOLE[token.start : token.end] == token.text for token in found)
    between = [WHOLE[a.end : b.start] for a, b in pairwise(found)]
    assert "".join(between).strip() == ""
    with pytest.raises(BadToken):
        list(tokens("SELECT '"))


def file(root: Path, name: str, content: str = "SELECT 1") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    assert stat.S_ISREG(path.stat().st_mode)
    return path


def names(root: Path, *patterns: str) -> list[str]:
    return [each.name for each in files.read_files(root, patterns or ("tallies/**/*.sql",))]

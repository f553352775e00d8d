"""What loaders share: times, texts, reject lists, CSV rows, results, the progress bar."""

from __future__ import annotations

import csv
import gzip
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallykeeper.input import csv_input
from tallykeeper.input.csv_input import CsvFile
from tallykeeper.input.jsonl_input import JsonLinesFile
from tallykeeper.input.loading import Loaded, LoadError, RejectFile, indexed_text_fault, parse_time
from tallykeeper.input.parquet_input import ParquetFile

Rejected = list[tuple[int, str, str]]

offsets = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(
    lambda minutes: timezone(timedelta(minutes=minutes))
)
moments = st.datetimes(timezones=offsets).filter(lambda moment: 1 < moment.year < 9999)


@given(moments, st.sampled_from(["T", "t", " "]))
def test_any_moment_written_in_iso_8601_is_read_as_itself(moment: datetime, between: str) -> None:
    read = parse_time(moment.isoformat(sep=between))
    assert read == moment
    assert read.tzinfo is UTC


@given(st.datetimes())
def test_a_time_without_offset_is_utc(moment: datetime) -> None:
    assert parse_time(moment.isoformat()) == moment.replace(tzinfo=UTC)


@given(st.dates())
def test_a_bare_date_is_its_midnight_in_utc(day: date) -> None:
    assert parse_time(day.isoformat()) == datetime(day.year, day.month, day.day, tzinfo=UTC)


@given(st.text() | st.from_regex(r"[0-9TZtz:+. -]{0,30}", fullmatch=True))
def test_any_text_is_a_moment_in_utc_or_a_value_error(text: str) -> None:
    with suppress(ValueError):
        assert parse_time(text).tzinfo is UTC


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2020-07-29T05:29:41Z", datetime(2020, 7, 29, 5, 29, 41, tzinfo=UTC)),
        ("2020-07-29T00:29:41+02:00", datetime(2020, 7, 28, 22, 29, 41, tzinfo=UTC)),
        ("2020-07-29 05:29:41.5+00", datetime(2020, 7, 29, 5, 29, 41, 500_000, tzinfo=UTC)),
        ("20200729T052941Z", datetime(2020, 7, 29, 5, 29, 41, tzinfo=UTC)),
        ("2020-07-29T05:29:41-0330", datetime(2020, 7, 29, 8, 59, 41, tzinfo=UTC)),
        (" 2020-07-29t05:29z ", datetime(2020, 7, 29, 5, 29, tzinfo=UTC)),
        ("2020-07-29T05:29:41,1234567Z", datetime(2020, 7, 29, 5, 29, 41, 123_456, tzinfo=UTC)),
    ],
)
def test_the_usual_spellings_of_iso_8601_are_understood(text: str, moment: datetime) -> None:
    assert parse_time(text) == moment


@pytest.mark.parametrize(
    "text",
    [
        "",
        "42Z",
        "2020-07-29TTT05:29:42Z",
        "2020-07-29x05:29:42Z",
        "2020-07-29T05:29:42+25:00",
        "2020-02-30T05:29:42Z",
        "2020-07-29T05:29:60Z",
        "29.07.2020 05:29",
        "infinity",
        "0000-01-01",
        "10000-01-01T00:00:00Z",
        "\uff12020-07-29",
        "2020-07-29T05:29:42\0",
    ],
)
def test_what_is_no_time_raises_value_error_that_shows_it(text: str) -> None:
    with pytest.raises(ValueError, match="is no ISO 8601 time"):
        parse_time(text)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"])
def test_a_time_beyond_the_years_1_to_9999_in_utc_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="years 1 to 9999"):
        parse_time(text)


def test_a_very_long_text_is_shown_shortened() -> None:
    with pytest.raises(ValueError, match=r"'x{40}\.\.\.' is no") as caught:
        parse_time("x" * 100_000)
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a/b.jpg", None),
        ("a\0b.jpg", "NUL"),
        ("a\udce9b.jpg", "UTF-8"),
        ("é" * 1346, None),
        ("é" * 1347, "2,694 bytes"),
        ("a" * 2692, None),
        ("a" * 2693, "2,693 bytes"),
    ],
)
def test_text_that_an_indexed_column_cannot_hold_is_reported(text: str, fault: str | None) -> None:
    found = indexed_text_fault(text)
    assert found is None if fault is None else found is not None and fault in found


def rows_of(path: Path, content: bytes) -> tuple[list[list[str]], Rejected]:
    path.write_bytes(content)
    rejected: Rejected = []
    with CsvFile(path) as file:
        rows = [fields for _, fields, _ in file.rows(lambda *what: rejected.append(what))]
    return rows, rejected


def test_rows_come_with_their_line_number_and_raw_text(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text('path,note\na,"1\n2"\n\nb,3\n')
    with CsvFile(path) as file:
        rows = list(file.rows(lambda *_: None))
    assert file.header == ["path", "note"]
    assert rows == [(2, ["a", "1\n2"], 'a,"1\n2"'), (5, ["b", "3"], "b,3")]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_line_ends_and_byte_order_mark_make_no_difference(
    tmp_path: Path, end: str, mark: bytes
) -> None:
    content = mark + end.join(["path,note", "ä.jpg,1", "b.jpg,2"]).encode()
    rows, rejected = rows_of(tmp_path / "in.csv", content)
    assert rows == [["ä.jpg", "1"], ["b.jpg", "2"]]
    assert rejected == []


def test_a_row_with_too_few_or_too_many_columns_is_rejected_alone(tmp_path: Path) -> None:
    rows, rejected = rows_of(tmp_path / "in.csv", b"path,note\na,1\nb\nc,2,3\nd,4\n")
    assert rows == [["a", "1"], ["d", "4"]]
    assert rejected == [
        (3, "expected 2 columns, found 1", "b"),
        (4, "expected 2 columns, found 3", "c,2,3"),
    ]


@pytest.mark.parametrize(
    "content",
    [
        b'path,note\na,1\n"b,2\nc,3\nd,4\n',
        b'path,note\na,1\n"b,2\nc,3\nd,4',
        b'path,note\na,1\n"b"x,2\nc,3\nd,4\n',
        b'path,note\na,1\n"b,2\nc,3\nd,4\n' + b'e,"5"\n',
    ],
)
def test_a_quote_that_goes_wrong_costs_its_own_row_alone(tmp_path: Path, content: bytes) -> None:
    rows, rejected = rows_of(tmp_path / "in.csv", content)
    assert [row[0] for row in rows][:3] == ["a", "c", "d"]
    assert [line for line, _, _ in rejected] == [3]


ROWS_IN_A_CELL = "".join(f"forged{n},{n}\n" for n in range(3_000)) + "x" * 200_000


@pytest.mark.parametrize(
    ("cell", "rows_expected"),
    [
        (f'"{ROWS_IN_A_CELL}"', 3),
        ('"first line\nforged,1\n""quoted"" to the end"', 3),
        # Not quoted as it should be: what may have been text is no row.
        ('"first line\nforged,1 and more, of it\nforged "quoted" to the end"', 2),
    ],
)
def test_lines_inside_quotes_are_no_rows(tmp_path: Path, cell: str, rows_expected: int) -> None:
    content = f"path,note\na,1\nb,{cell}\nc,3\n".encode()
    rows, rejected = rows_of(tmp_path / "in.csv", content)
    assert [row[0] for row in rows] == ["a", "b", "c"] if rows_expected == 3 else ["a", "c"]
    assert len(rejected) == 3 - rows_expected
    if rejected:
        assert rejected[0][1].endswith("(lines 3 to 5)")
        assert "forged,1 and more" in rejected[0][2]


def test_a_cell_beyond_the_limit_costs_its_row_up_to_the_end_of_its_quotes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_input, "LONGEST_CELL", 1_000)
    content = f'path,note\na,1\nb,"{ROWS_IN_A_CELL}\nforged,9"\nc,3\n'.encode()
    rows, rejected = rows_of(tmp_path / "in.csv", content)
    monkeypatch.undo()
    assert [row[0] for row in rows] == ["a", "c"]
    ((line, reason, _),) = rejected
    assert line == 3
    assert reason.startswith("no valid CSV: a cell is longer than 1,000 characters (lines 3 to 3")


def test_a_file_in_utf_16_and_one_packed_under_another_name_read_like_the_file(
    tmp_path: Path,
) -> None:
    content = "path,note\nä.jpg,1\n𝄞,2\n"
    for stored in (
        content.encode("utf-16"),
        gzip.compress(content.encode()),
        gzip.compress(content.encode("utf-16")),
    ):
        assert rows_of(tmp_path / "in.csv", stored) == ([["ä.jpg", "1"], ["𝄞", "2"]], [])


@pytest.mark.parametrize("content", ['[{"id": 1}, {"id": 2}]', '[\n  {"id": 1}\n]\n'])
def test_a_json_array_is_refused_with_what_to_do(tmp_path: Path, content: str) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text(content)
    with JsonLinesFile(path) as file, pytest.raises(LoadError, match=r"one JSON array; .*jq -c"):
        list(file.rows(lambda *_: None))


def test_bytes_that_are_no_text_in_parquet_are_an_error_and_no_value(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    raw = pa.array([b"ann", b"\xff\xfe", None], pa.binary())
    names = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    pq.write_table(pa.table({"name": names}), path)
    with ParquetFile(path) as file:
        first, second, third = [fields["name"] for _, fields in file.rows(["name"])]
    assert (first, third) == ("ann", None)
    assert isinstance(second, ValueError)
    assert str(second) == "is not UTF-8"


def test_many_open_quotes_reject_just_those_rows(tmp_path: Path) -> None:
    lines = [f'"bad{n},1' if n % 2 else f"good{n},1" for n in range(1000)]
    rows, rejected = rows_of(tmp_path / "in.csv", "\n".join(["path,note", *lines]).encode())
    assert len(rows) == len(rejected) == 500


def test_bytes_that_are_not_utf_8_stay_in_their_row(tmp_path: Path) -> None:
    rows, rejected = rows_of(tmp_path / "in.csv", b"path,note\n\xe9.jpg,1\nb,2\n")
    assert rows == [["\udce9.jpg", "1"], ["b", "2"]]
    assert rejected == []


def test_a_gzipped_file_reads_like_the_file(tmp_path: Path) -> None:
    rows, _ = rows_of(tmp_path / "in.CSV.GZ", gzip.compress(b"path,note\na,1\n"))
    assert rows == [["a", "1"]]


def test_how_much_was_consumed_ends_at_the_size_of_the_file(tmp_path: Path) -> None:
    for name, content in (("a.csv", b"path\n" + b"x\n" * 99_999), ("a.csv.gz", b"")):
        path = tmp_path / name
        path.write_bytes(content or gzip.compress(b"path\n" + b"x\n" * 99_999))
        with CsvFile(path) as file:
            assert sum(1 for _ in file.rows(lambda *_: None)) == 99_999
            assert file.consumed() == file.size == path.stat().st_size


def test_a_gzip_file_that_breaks_off_stops_the_load_with_one_sentence(tmp_path: Path) -> None:
    whole = gzip.compress(b"path\n" + b"".join(b"%d\n" % n for n in range(100_000)))
    with pytest.raises(LoadError, match=r"cannot be read beyond line [1-9].*complete copy"):
        rows_of(tmp_path / "in.csv.gz", whole[: len(whole) // 2])


def test_a_file_that_only_claims_to_be_gzipped_is_reported(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="Not a gzipped file"):
        rows_of(tmp_path / "in.csv.gz", b"path\na\n")


def test_an_empty_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="is empty: expected a header line"):
        rows_of(tmp_path / "in.csv", b"")


def test_a_file_that_is_not_there_is_reported(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="cannot be opened: No such file"):
        CsvFile(tmp_path / "in.csv")


def test_a_header_with_a_broken_quote_is_reported(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="which is no CSV header"):
        rows_of(tmp_path / "in.csv", b'"path,note\n')


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            b"file;date\n",
            "has no column path: expected .* path, date, but it begins with 'file;date'",
        ),
        ("pfad,date\n".encode("utf-16"), "has no column path"),
        (b"path,date,path\n", "has the column path more than once"),
    ],
)
def test_a_header_without_the_column_or_with_it_twice_is_reported(
    tmp_path: Path, header: bytes, message: str
) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(header)
    with CsvFile(path) as file, pytest.raises(LoadError, match=message):
        file.columns(["path"], ["date"])


def test_columns_are_found_in_any_order_and_optional_ones_may_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("b, path ,a\n")
    with CsvFile(path) as file:
        assert file.columns(["path"], ["a", "c"]) == [1, 2, None]


def test_an_empty_list_of_a_load_that_was_killed_is_written_anew(tmp_path: Path) -> None:
    (tmp_path / "in.csv.rejects.csv").touch()
    with RejectFile(tmp_path / "in.csv") as rejects:
        rejects.add(1, "why", "row")
    assert (tmp_path / "in.csv.rejects.csv").read_text() == "line,reason,row\n1,why,row\n"


@pytest.mark.parametrize(
    ("row", "listed"),
    [
        ("a\rb", "a\rb"),
        ("\r", "\r"),
        ("a\r\nb", "a\r\nb"),
        ("\ud800", "\\ud800"),
        ("\udc00x\udcff", "\\udc00x\\udcff"),
        ("\udcff", "\udcff"),
    ],
)
def test_a_reject_is_one_row_of_the_list_whatever_characters_it_has(
    tmp_path: Path, row: str, listed: str
) -> None:
    with RejectFile(tmp_path / "in.csv") as rejects:
        rejects.add(1, row, row)
        rejects.add(2, "fine", "x")
    assert rejects.path is not None
    with rejects.path.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        found = list(csv.reader(stream))[1:]
    assert found == [["1", listed, listed], ["2", "fine", "x"]]


def test_rejects_stand_beside_the_input_with_line_reason_and_raw_row(tmp_path: Path) -> None:
    with RejectFile(tmp_path / "in.csv") as rejects:
        assert list(tmp_path.iterdir()) == []
        rejects.add(3, 'no "path"', 'x,"y')
        rejects.add(None, "broken", "/a/b.jpg")
    assert rejects.path == tmp_path / "in.csv.rejects.csv"
    assert rejects.count == 2
    with rejects.path.open(newline="") as stream:
        assert list(csv.reader(stream)) == [
            ["line", "reason", "row"],
            ["3", 'no "path"', 'x,"y'],
            ["", "broken", "/a/b.jpg"],
        ]


def test_rejected_bytes_reach_the_list_as_they_came(tmp_path: Path) -> None:
    raw = b"\xe9\0\xff,1"
    with RejectFile(tmp_path / "in.csv") as rejects:
        rejects.add(2, "not UTF-8", raw.decode("utf-8", "surrogateescape"))
    assert rejects.path is not None
    assert raw in rejects.path.read_bytes()


def test_a_load_without_rejects_removes_the_list_of_an_earlier_one(tmp_path: Path) -> None:
    with RejectFile(tmp_path / "in.csv") as rejects:
        rejects.add(2, "bad", "x")
    with RejectFile(tmp_path / "in.csv"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_load_that_fails_without_rejects_leaves_the_earlier_list(tmp_path: Path) -> None:
    with RejectFile(tmp_path / "in.csv") as rejects:
        rejects.add(2, "bad", "x")
    with suppress(LoadError), RejectFile(tmp_path / "in.csv"):
        raise LoadError("no such column")
    assert rejects.path is not None
    assert rejects.path.exists()


def test_a_file_of_that_name_that_is_no_list_of_rejects_is_never_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    mine = tmp_path / "in.csv.rejects.csv"
    mine.write_text("precious\n")
    with RejectFile(tmp_path / "in.csv"):
        pass
    with RejectFile(tmp_path / "in.csv") as rejects:
        rejects.add(2, "bad", "x")
    assert mine.read_text() == "precious\n"
    assert rejects.path == elsewhere / "in.csv.rejects.csv"


def test_rejects_go_to_the_current_folder_where_the_input_s_is_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    data, here = tmp_path / "data", tmp_path / "here"
    data.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    data.chmod(0o555)
    with RejectFile(data / "in.csv") as rejects:
        rejects.add(2, "bad", "x")
    assert rejects.path == here / "in.csv.rejects.csv"
    assert list(data.iterdir()) == []
    assert "the folder is read-only" in caplog.text


def test_where_no_list_can_be_written_the_load_stops_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o555)
    with RejectFile(tmp_path / "in.csv") as rejects, pytest.raises(LoadError) as caught:
        rejects.add(2, "bad", "x")
    tmp_path.chmod(0o755)
    assert "run the load from a folder that you can write in" in str(caught.value)


def test_the_summary_is_one_line_with_what_happened() -> None:
    quiet = Loaded(1500, 1000, 20, 480, 0, 0, 0.5, None)
    assert quiet.summary() == (
        "1,500 files read in 0.5 s (3,000/s): 1,000 inserted, 20 changed, 480 unchanged"
    )
    loud = Loaded(3, 1, 0, 0, 1, 1, 0.0, Path("in.csv.rejects.csv"))
    assert loud.summary("rows").endswith(
        "0 unchanged, 1 rejected, 1 unreadable (listed in in.csv.rejects.csv)"
    )

"""Batches without a database: what a stretch asks for, and what is declared wrongly."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console
from sqlalchemy import Text, cast, column, literal

from assets.gallery import tables
from assets.gallery.tallies import batches, content_tags
from tallykeeper import Batches, DeclarationError, Lane, Progress
from tallykeeper.cli.output.backfills import progress_line, showing
from tallykeeper.database import sql
from tallykeeper.strategies.batches import Stretch

PROGRESS = Progress(
    tally="gallery.content_tags",
    lane="auto",
    lanes=("regular", "auto"),
    items_done=1_500,
    items_total=2_000,
    rows=90_000,
    seconds=3.0,
    rows_per_second=30_000.0,
    eta_seconds=61.2,
    batch_rows=40_000,
    batch_seconds=1.9,
    paused=None,
)


def _asked(stretch: Stretch) -> list[str]:
    lane = cast(literal("auto"), Text)
    conditions = stretch(content_id=column("id"), content_source=lane)
    return [sql.render(condition) for condition in conditions]


def test_a_stretch_is_open_where_it_has_no_end() -> None:
    lane = "CAST('auto' AS TEXT) = 'regular'"
    of = "d.content_source = 'regular'"
    for bounds, asked, condition in [
        ((None, None), [lane], of),
        ((None, 7), [lane, "id <= 7"], f"{of} AND d.content_id <= 7"),
        ((-3, None), [lane, "id > -3"], f"{of} AND d.content_id > -3"),
        ((3, 7), [lane, "id > 3", "id <= 7"], f"{of} AND d.content_id > 3 AND d.content_id <= 7"),
    ]:
        stretch = Stretch(batches, "regular", *bounds)
        assert _asked(stretch) == asked
        assert stretch.condition(content_tags, "d") == condition


@pytest.mark.parametrize(
    ("declared", "complaint"),
    [
        (
            replace(batches, along="content"),
            r"'content', which must be .*did you mean 'content_id'",
        ),
        (replace(batches, lane="source"), "'source', which must be one of the group's columns"),
        (replace(batches, lanes={}), "each lane of its batches must be one of its sources"),
        (
            replace(
                batches,
                lanes={"users": Lane(tables.users, lambda row: row.id, lambda _row: literal(1))},
            ),
            r"these are not: \('users',\)",
        ),
        (replace(batches, lane=None), "of 2 lanes of its batches, a column of the group must say"),
    ],
)
def test_batches_that_cannot_be_are_refused(declared: Batches, complaint: str) -> None:
    with pytest.raises(DeclarationError, match=complaint):
        declared.require_fit(content_tags.name, content_tags.key, content_tags.sources)


def test_progress_in_one_line_says_what_it_does_instead_of_going_on() -> None:
    far = "gallery.content_tags: auto 75%, 1,500 of 2,000 items, "
    assert progress_line(PROGRESS) == f"{far}30,000 rows/s, 0:01:01 left"
    assert progress_line(replace(PROGRESS, eta_seconds=None)) == f"{far}30,000 rows/s"
    assert progress_line(replace(PROGRESS, building="content_tags_tag")) == (
        f"{far}building content_tags_tag"
    )
    assert progress_line(replace(PROGRESS, paused="a replica is 14 s behind")) == (
        f"{far}paused: a replica is 14 s behind"
    )
    assert "100%, 0 of 0" in progress_line(replace(PROGRESS, items_done=0, items_total=0))


def test_a_terminal_sees_a_bar_and_others_lines_when_something_changes() -> None:
    said: list[str] = []
    shown = io.StringIO()
    terminal = Console(file=shown, force_terminal=True, width=100)
    with showing(said.append, terminal) as show:
        show(PROGRESS)
    assert said == []
    assert "75%" in shown.getvalue()
    assert "0:01:01 left" in shown.getvalue()
    with showing(said.append, Console(file=io.StringIO())) as show:
        for progress in (PROGRESS, PROGRESS, replace(PROGRESS, paused="so"), PROGRESS):
            show(progress)
    assert [line.rsplit(", ", 1)[1] for line in said] == [
        "0:01:01 left",
        "paused: so",
        "0:01:01 left",
    ]

"""Batches without a database: what a stretch asks for, and what is declared wrongly."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import Text, cast, column, literal

from assets.gallery import tables
from assets.gallery.tallies import batches, content_tags
from tallykeeper import Batches, DeclarationError, Lane, Progress
from tallykeeper.cli.output.backfills import showing
from tallykeeper.cli.output.progress import Work
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


@pytest.mark.parametrize(
    ("progress", "said"),
    [
        (PROGRESS, "30,000 rows/s"),
        (replace(PROGRESS, eta_seconds=None, items_done=0), "30,000 rows/s"),
        (replace(PROGRESS, building="content_tags_tag"), "building content_tags_tag"),
        (replace(PROGRESS, paused="a replica is 14 s behind"), "paused: a replica is 14 s behind"),
    ],
)
def test_progress_says_what_it_does_instead_of_going_on(progress: Progress, said: str) -> None:
    work = Work("gallery.content_tags: backfill")
    showing(work)(progress)
    done = progress.items_done
    assert work.words.endswith(f"; auto, {done:,} of 2,000 items, {said}")
    assert ("about 0:01:01 left" in work.words) == (progress.eta_seconds is not None)
    assert work.share == done / 2_000

"""A single key as text."""

from __future__ import annotations

import pytest

from assets.classroom.tallies import submission_counts, submission_daily_activity
from assets.gallery.tallies import content_tags, gen_source_stats
from assets.media.tallies import daily_contributions
from tallykeeper import Tally
from tallykeeper.reads.keys import key_of


@pytest.mark.parametrize(
    ("tally", "given", "key"),
    [
        (submission_counts, "7", {"submission_id": 7}),
        (submission_counts, "submission_id=-7", {"submission_id": -7}),
        (
            content_tags,
            "content_source=auto,content_id=7",
            {"content_source": "auto", "content_id": 7},
        ),
        (
            submission_daily_activity,
            "course_id=1,day=2026-01-01Z",
            {"course_id": 1, "day": "2026-01-01Z"},
        ),
    ],
)
def test_keys_are_read_as_json_has_them(tally: Tally, given: str, key: dict[str, object]) -> None:
    assert key_of(tally, given) == key


@pytest.mark.parametrize(
    ("tally", "given", "sentence"),
    [
        (submission_counts, "seven", "submission_id is a whole number, and 'seven' is none"),
        (submission_counts, "submission=7", "there is no 'submission'; did you mean"),
        (submission_counts, "99999999999999999999", "submission_id is a whole number"),
        (submission_counts, "1_0", "submission_id is a whole number"),
        (content_tags, "content_source=auto,content_id=3000000000", "content_id is a whole number"),
        (daily_contributions, "day=2025-11-20Z", "there is no 'day'"),
        (daily_contributions, "20 November", "date is a timestamp with time zone, and '20 N"),
        (gen_source_stats, "user_id=ann,source_type=auto", "user_id is a uuid, and 'ann' is none"),
        (content_tags, "7", "as in content_id=...,content_source=..., but '7' is no column=value"),
        (content_tags, "content_id=7", "but content_source is missing"),
        (content_tags, "content_ids=7", "there is no 'content_ids'; did you mean 'content_id'?"),
    ],
)
def test_what_is_no_key_is_refused_with_what_would_be(
    tally: Tally, given: str, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence.replace("?", "[?]")):
        key_of(tally, given)

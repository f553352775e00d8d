"""Reading server-sent events: the same events, whatever pieces their bytes come in."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets.fediverse.streaming import sse
from assets.fediverse.streaming.sse import Events

WIRE = (
    b":)\n\n"
    b"event: update\ndata: {1}\n\n"
    b":thump\n\n\n"
    b"event:delete\r\ndata:  2\r\n\r\n"
    b"data: a\ndata\ndata: b\nid: 4\nretry: 5\nnonsense\n\n"
    b"event: \xc3\xa9\xff\n\n"
    b"event: cut\ndata: off"
)
EVENTS = [("update", "{1}"), ("delete", " 2"), (None, "a\n\nb"), ("é\\xff", None)]


@given(st.lists(st.integers(0, len(WIRE))))
def test_events_do_not_depend_on_the_pieces(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(WIRE)]
    events = Events()
    found = []
    for start, end in pairwise(places):
        found += list(events.feed(WIRE[start:end]))
    assert found == EVENTS


@pytest.mark.parametrize(
    "long",
    [b"data: " + b"x" * 200 + b"\n", b"data: x\n" * 40, b"data: x\n" + b"data: y" * 99 + b"\n"],
)
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_of_an_event_that_is_too_long_the_beginning_is_kept_and_the_next_is_whole(
    monkeypatch: pytest.MonkeyPatch, long: bytes, step: int
) -> None:
    monkeypatch.setattr(sse, "LONGEST_EVENT", 100)
    monkeypatch.setattr(sse, "BEGINNING", 5)
    events = Events()
    wire = b"event: a\n" + long + b"\nevent: b\ndata: 1\n\n"
    found = []
    for start in range(0, len(wire), step):
        found += list(events.feed(wire[start : start + step]))
    (name, data), following = found
    assert (name, following, events.cut) == ("a", ("b", "1"), 1)
    assert data is not None
    assert (len(data), data[0]) == (5, "x")


def test_a_long_stream_of_short_events_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "LONGEST_EVENT", 100)
    events = Events()
    assert len(list(events.feed(b"data: xxxxxxxxxx\n\n" * 50))) == 50

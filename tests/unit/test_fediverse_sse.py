"""Reading server-sent events: the same events, whatever pieces their bytes come in."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets.fediverse import sse
from assets.fediverse.sse import Events, Overlong

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


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 200, b"data: x\n" * 20])
def test_an_event_that_does_not_end_is_a_fault(
    monkeypatch: pytest.MonkeyPatch, piece: bytes
) -> None:
    monkeypatch.setattr(sse, "LONGEST_EVENT", 100)
    with pytest.raises(Overlong, match="longer than 100 bytes"):
        list(Events().feed(piece))


def test_a_long_stream_of_short_events_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "LONGEST_EVENT", 100)
    events = Events()
    assert len(list(events.feed(b"data: xxxxxxxxxx\n\n" * 50))) == 50

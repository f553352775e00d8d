"""What it costs when events are late, and to derive posts again from all their events.

Late is an event of a post of which one that was received afterwards is processed already: the post
is derived from all its events again. One in twenty is held back here until the others are done.
"""

from __future__ import annotations

from functools import partial

from assets.fediverse.processing.batches import process
from assets.fediverse.replay import replay, verify_log
from benchmarks.bench import Bench
from benchmarks.fediverse import Fediverse
from benchmarks.report import Row, Section, count, duration
from benchmarks.streams import Stream, write
from benchmarks.timing import Contender, Sample, alternate, seconds_of

# So many of the events, of which the processing of all is measured elsewhere.
SHARE = 4
ONE_IN = 20
REPETITIONS = 3


def measure(bench: Bench) -> Section:
    """A part of the stream in order, then what was held back; replay and comparison of all."""
    number = bench.events // SHARE
    fediverse, stream = Fediverse(bench.server, database="replays"), Stream()
    events = list(stream.take(number))
    held = events[::ONE_IN]
    write(fediverse, [event for nth, event in enumerate(events) if nth % ONE_IN])
    in_order = _process(fediverse)
    write(fediverse, held)
    late = _process(fediverse)
    fediverse.vacuum()
    posts = verify_log(fediverse.engine).posts
    took = alternate(
        {
            "replay": Contender(partial(replay, fediverse.engine)),
            "verify": Contender(partial(verify_log, fediverse.engine)),
        },
        REPETITIONS,
    )
    each = duration(in_order.median / (number - len(held)))
    return Section(
        "replays",
        [
            _row("processing in order", number - len(held), "events", in_order),
            _row(f"processing late events (in order: {each} each)", len(held), "events", late),
            _row("replay of everything, nothing wrong", posts, "posts", took["replay"]),
            _row("`verify_log` of everything", posts, "posts", took["verify"]),
        ],
    )


def _process(fediverse: Fediverse) -> Sample:
    fediverse.take()
    fediverse.vacuum()
    return Sample((seconds_of(partial(process, fediverse.engine)),))


def _row(what: str, number: int, unit: str, took: Sample) -> Row:
    return Row(f"{what}, {duration(took.median / number)} each", f"{count(number)} {unit}", took)

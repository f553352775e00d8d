"""What `tally check` prints: to people, to programs as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from tallykeeper.cli.output.documents import document
from tallykeeper.maintain.trial import Outcome, Trial, Try, summary


def in_words(found: Trial) -> Iterator[str]:
    """What was tried of each source, line by line."""
    verdict = "ok" if found.ok else "WRONG"
    if not any(each.outcome == "equal" for each in found.tries) and not _different(found):
        verdict = "nothing could be tried"
    equal = sum(each.outcome == "equal" for each in found.tries)
    compared = "1 change" if equal == 1 else f"{equal} changes"
    yield f"{found.tally}: {verdict}, equal after {compared}; all of them rolled back"
    for source, outcomes in summary(found).items():
        yield from _of_source(source, outcomes)
    for sentence in dict.fromkeys(found.left_out):
        yield f"  not tried: {sentence}"


def _of_source(source: str, outcomes: dict[Outcome, list[Try]]) -> Iterator[str]:
    tried = outcomes.get("equal", []) + outcomes.get("different", [])
    if tried:
        yield f"  {source}: {', '.join(dict.fromkeys(each.change for each in tried))}"
    for each in outcomes.get("different", []):
        yield f"  {source}: {each.change}: {each.detail}"
    for said in dict.fromkeys((e.change, e.detail) for e in outcomes.get("not possible", [])):
        yield f"  {source}: could not {said[0]}: {said[1]}"


def _different(found: Trial) -> bool:
    return any(each.outcome == "different" for each in found.tries)


def as_json(found: Trial) -> str:
    """The same for programs."""
    return document("check", **asdict(found), ok=found.ok)

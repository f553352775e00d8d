"""What a difference of a column means to the tallies that depend on it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from tallykeeper.drift.differences import Consequence, Drift, Found

_CASTS = re.compile(
    r"::(character varying|double precision|bit varying|time(stamp)? with(out)? time zone"
    r'|"[^"]+"|[\w.]+)(\([\d,]+\))?(\[\])*|[()\s]'
)
_SAID = {
    "type": "its type changed from {was} to {now}",
    "base": "the domain's type changed from {was} to {now}",
    "fields": "the fields of its type changed",
    "collation": "its collation changed from {was} to {now}",
    "generated": "it is generated otherwise now",
    "expression": "the expression that generates it changed",
    "extension": "the extension of its type changed from {was} to {now}",
}


def of_column(each: Found) -> Iterator[Drift]:
    """Yield what differs of a column, each with its consequence."""
    what = f"the column {each.part}"
    if not each.now:
        if each.name not in each.context.lost:
            yield each.drift(
                "column lost", f"{what} does not exist any more", Consequence.REINSTALL, missed=True
            )
        return
    if each.now.get("deterministic") is False and each.role in {"source", "derived"}:
        yield each.drift(
            "collation not deterministic",
            f"{what} has the collation {each.now['collation']}, which is not deterministic: texts"
            " that differ count as equal, and no key would be certain",
            Consequence.REFUSE,
            missed=True,
        )
    if each.now.get("generated") == "v" and each.role == "source":
        yield each.drift(
            "virtual column",
            f"{what} is a virtual generated column, which triggers do not see; make it STORED",
            Consequence.REFUSE,
            missed=True,
        )
    if each.name in each.context.lost:
        return
    if each.was:
        yield from _column_changed(each, what)
    elif each.role == "log" and each.now["not null"]:
        yield each.drift(
            "column of the log",
            f"{what} is not Tallykeeper's, and writes of the application may fail by it",
            Consequence.REINSTALL,
        )


def _column_changed(each: Found, what: str) -> Iterator[Drift]:
    graver = Consequence.STALE if each.role == "source" else Consequence.REINSTALL
    if each.replaced("number"):
        yield each.drift(
            "column replaced", f"{what} was dropped and added again", graver, missed=True
        )
        return
    said = [
        s.format(was=each.was.get(fact), now=each.now.get(fact))
        for fact, s in _SAID.items()
        if each.changed(fact) and not (fact == "expression" and _only_spelled_otherwise(each))
    ]
    if each.changed("labels") and not _only_added(each.was["labels"], each.now["labels"]):
        said.append("labels of its enum changed")
    if said:
        yield each.drift("column changed", f"{what}: {'; '.join(said)}", graver, missed=True)
    elif each.role == "source" and each.replaced("row") and each.context.rewritten:
        yield each.drift(
            "rows rewritten",
            f"{what}: its rows were rewritten without a trigger",
            graver,
            missed=True,
        )
    elif each.replaced("row"):
        yield each.drift("column altered", f"{what} was altered", Consequence.INFORMATION)
    yield from _null_changed(each, what)


def _only_spelled_otherwise(each: Found) -> bool:
    """Whether an expression that a dump wrote down and made again differs in no more than casts."""
    was, now = (_CASTS.sub("", facts.get("expression") or "") for facts in (each.was, each.now))
    return each.context.is_elsewhere and was == now


def _null_changed(each: Found, what: str) -> Iterator[Drift]:
    if each.changed("not null") and not each.now["not null"]:
        yield each.drift(
            "null allowed",
            f"{what} may be null now",
            Consequence.REINSTALL,
            missed=each.context.has_plan and each.role == "source",
        )
    elif each.changed("not null") or each.changed("constraints") or each.changed("labels"):
        yield each.drift("constraint", f"{what} has other constraints", Consequence.INFORMATION)


def _only_added(was: Sequence[str] | None, now: Sequence[str] | None) -> bool:
    return was is not None and [label for label in now or () if label in was] == list(was)

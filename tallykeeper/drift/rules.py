"""What a difference from the record means: its name, its cause in a sentence, its consequence.

`facts.py` finds which objects differ; here each difference is judged, one object at a
time, by its kind and by what the object is to the tally. Nothing is read from the database here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from tallykeeper.drift.column_rules import of_column
from tallykeeper.drift.differences import MOVED, Consequence, Context, Drift, Found
from tallykeeper.drift.function_rules import of_function
from tallykeeper.drift.relation_rules import of_relation
from tallykeeper.drift.trigger_rules import of_trigger


def judge(tally: str, rows: Sequence[Any]) -> list[Drift]:
    """The differences of one tally, the gravest first; each sentence once."""
    context = _context(rows)
    found: list[Drift] = []
    if context.is_elsewhere:
        said = "is another server, database or major version than the one that was recorded"
        found.append(Drift(tally, MOVED, "the database", said, Consequence.INFORMATION))
    for row in rows:
        if row.kind == "database":
            continue
        each = Found(
            tally,
            row.role,
            row.kind,
            row.name,
            row.part,
            row.was or {},
            row.now or {},
            row.was_identity or {},
            row.now_identity or {},
            row.filtered or (),
            None if context.is_elsewhere else row.elsewhere,
            row.bytes,
            row.is_derived,
            context,
        )
        found += _JUDGES[row.kind](each)
    return _once(found)


def _once(found: Iterable[Drift]) -> list[Drift]:
    by_sentence: dict[str, Drift] = {}
    repairs: dict[str, tuple[str, ...]] = {}
    places: dict[str, tuple[tuple[str, str, str], ...]] = {}
    for drift in found:
        by_sentence.setdefault(str(drift), drift)
        repairs[str(drift)] = repairs.get(str(drift), ()) + drift.repairs
        places[str(drift)] = places.get(str(drift), ()) + drift.objects
    merged = [
        Drift(
            d.tally,
            d.kind,
            d.name,
            d.what,
            d.consequence,
            d.missed,
            d.of_hand,
            tuple(dict.fromkeys(repairs[sentence])),
            places[sentence],
        )
        for sentence, d in by_sentence.items()
    ]
    return sorted(merged, key=lambda d: (-d.consequence, d.name))


def _context(rows: Sequence[Any]) -> Context:
    database = next(row for row in rows if row.kind == "database")
    was, now = database.was or {}, database.now or {}
    upgraded = was.get("version") != now.get("version")
    relations = [row for row in rows if row.kind == "relation"]
    stored = [
        row
        for row in relations
        if row.was and row.now and row.was_identity["storage"] != row.now_identity["storage"]
    ]
    elsewhere = upgraded or database.was_identity != database.now_identity
    return Context(
        is_elsewhere=elsewhere,
        is_upgraded=upgraded,
        new=frozenset(row.name for row in relations if row.was is None),
        lost=frozenset(
            row.name for row in relations if row.now is None or (not elsewhere and _is_other(row))
        ),
        rewritten=any(row.role == "source" for row in stored),
        keeper=database.keeper,
        has_plan=any(row.is_select for row in rows),
        is_handed_over=any(
            row.kind == "function"
            and row.was
            and row.now
            and row.was["owner"] != row.now["owner"] == database.keeper
            for row in rows
        ),
    )


def _is_other(row: Any) -> bool:
    return bool(row.was and row.now and row.was_identity.get("oid") != row.now_identity.get("oid"))


_JUDGES: dict[str, Callable[[Found], Iterator[Drift]]] = {
    "relation": of_relation,
    "column": of_column,
    "trigger": of_trigger,
    "function": of_function,
}

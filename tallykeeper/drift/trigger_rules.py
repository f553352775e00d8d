"""What a difference of a trigger means: one that captures, and one that is not ours."""

from __future__ import annotations

from collections.abc import Iterator

from tallykeeper.database.sql import quote
from tallykeeper.drift.differences import OF_HAND, OWN, Consequence, Drift, Found


def _event_of(trigger: str) -> str:
    """What messages call one of our triggers."""
    word = trigger.removeprefix("tallykeeper_").partition("_")[0]
    return "hand edit" if word in {"hand", "log", "pruned"} else word


def of_trigger(each: Found) -> Iterator[Drift]:
    """Yield what differs of a trigger, each with its consequence."""
    if each.role == "stray":
        yield each.drift(
            "capture left behind",
            "was captured with the source, but does not belong to it any more",
            Consequence.REINSTALL,
            missed=True,
            repairs=(f"DROP TRIGGER IF EXISTS {quote(each.part)} ON {each.name}",),
        )
        return
    if not each.was:
        yield from _new_trigger(each)
        return
    # Of a derived table that others count, their capture is no matter of its own.
    others = each.role == "derived" and not each.part.startswith(OWN)
    if others or each.name in each.context.lost or not each.was["ours"]:
        return
    what = f"the {_event_of(each.part)} trigger"
    of_hand = each.part.startswith(OF_HAND)
    found = _trigger_changed(each)
    if found is None:
        return
    kind, said, consequence = found
    yield each.drift(kind, f"{what} {said}", consequence, missed=not of_hand, of_hand=of_hand)


def _trigger_changed(each: Found) -> tuple[str, str, Consequence] | None:
    if not each.now:
        return "trigger lost", "is missing", Consequence.REINSTALL
    if each.changed("enabled"):
        said = "is disabled, or not enabled always"
        return "trigger disabled", said, Consequence.REINSTALL
    if each.changed("function") or not each.now["ours"]:
        return "trigger turned", "calls another function", Consequence.REINSTALL
    if each.changed("text") and not each.context.is_upgraded:
        said = "has other events, columns or another condition"
        return "trigger changed", said, Consequence.REINSTALL
    if each.replaced("row"):
        said = "was changed and changed back; changes in between may be missing"
        return "trigger changed back", said, Consequence.STALE
    return None


def _new_trigger(each: Found) -> Iterator[Drift]:
    if each.name in each.context.new or each.now["cloned"]:
        return
    if each.role in {"log", "state", "pruned"}:
        yield each.drift(
            "trigger on the log",
            f"has a trigger that is not Tallykeeper's ({each.part}) and may keep changes from it;"
            " drop it",
            Consequence.REFUSE,
            missed=True,
        )
    elif each.now["ours"] and not each.part.startswith("tallykeeper_"):
        yield each.drift(
            "captured twice",
            f"the trigger {each.part} captures its changes once more",
            Consequence.REINSTALL,
            missed=True,
            repairs=(f"DROP TRIGGER IF EXISTS {quote(each.part)} ON {each.name}",),
        )

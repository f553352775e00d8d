"""What a difference of a table or view means to the tallies that depend on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tallykeeper.database.sql import quote
from tallykeeper.drift.differences import ROW_SECURITY, Consequence, Drift, Facts, Found, of_facts

_THING = {
    "source": "captured",
    "above": "captured",
    "derived": "installed",
    "log": "installed",
    "live": "installed",
    "state": "installed",
    "pruned": "installed",
    "definition": "installed",
}
_VIEWS = {"live": "live view", "definition": "definition view"}
_KINDS = {
    "r": "a table",
    "p": "a partitioned table",
    "v": "a view",
    "m": "a materialized view",
    "f": "a foreign table",
}


def of_relation(each: Found) -> Iterator[Drift]:
    """Yield what differs of a table or view, each with its consequence."""
    if not each.now:
        yield from _lost_relation(each)
        return
    yield from _unfit(each)
    if not each.was:
        yield from _new_relation(each)
        return
    if each.replaced("oid"):
        yield _replaced(each)
        return
    if each.role in _VIEWS:
        yield from _view(each)
        return
    for fact, say in _RELATION_FACTS.items():
        if each.changed(fact):
            yield from say(each)
    if each.replaced("parents") and not each.changed("parents"):
        yield each.drift(
            "detached and attached again",
            "was detached and attached again; changes in between were not captured",
            Consequence.STALE,
            missed=True,
        )
    elif _had_heirs(each):
        yield each.drift(
            "heirs for a time",
            "had an heir or a partition for a time, whose rows were not captured",
            Consequence.STALE,
            missed=True,
        )
    elif each.replaced("storage"):
        yield each.drift("storage", "has new storage", Consequence.INFORMATION)


def _had_heirs(each: Found) -> bool:
    """Whether it counts as a parent since it was recorded, which ANALYZE alone puts back."""
    return each.replaced("heirs") and each.now_identity["heirs"] and not each.context.new


def _lost_relation(each: Found) -> Iterator[Drift]:
    if each.role in {"source", "above"} and each.was.get("parents"):
        if each.elsewhere in each.context.new:
            yield each.drift(
                "partition renamed", f"is named {each.elsewhere} now", Consequence.INFORMATION
            )
            return
        yield each.drift(
            "partition left",
            "was captured with the source, but does not belong to it any more",
            Consequence.REINSTALL,
            missed=True,
        )
        return
    what = f"was renamed to {each.elsewhere}" if each.elsewhere else "does not exist any more"
    yield each.drift(
        "renamed" if each.elsewhere else "dropped",
        what,
        Consequence.REINSTALL,
        missed=each.role not in _VIEWS,
    )


def _new_relation(each: Found) -> Iterator[Drift]:
    if each.role not in {"source", "above"} or each.elsewhere:
        return
    yield each.drift(
        "partition joined",
        "belongs to the source now, and is not captured with it",
        Consequence.REINSTALL,
        missed=bool(each.bytes) or each.role == "above",
    )


def _replaced(each: Found) -> Drift:
    where = (
        f"which is {each.elsewhere} now" if each.elsewhere else "as after dropping and restoring it"
    )
    kind = "view" if each.role in _VIEWS else "table"
    return each.drift(
        "replaced",
        f"is another {kind} than the one that was {_THING[each.role]}, {where}",
        Consequence.REINSTALL,
        missed=each.role not in _VIEWS,
    )


def _unfit(each: Found) -> Iterator[Drift]:
    """What makes a relation unfit, whatever was recorded."""
    if each.filtered:
        who = ", ".join(each.filtered)
        yield each.drift(
            ROW_SECURITY,
            f"row security hides rows of it from the role {who}, so no figure can be proven; ALTER"
            " ROLE ... BYPASSRLS, or disable row security on it",
            Consequence.REFUSE,
            missed=True,
        )
    if each.now.get("subscribed") and each.role == "source":
        yield each.drift(
            "subscription",
            "is filled by a subscription, which fires no trigger",
            Consequence.REFUSE,
            missed=True,
        )
    if each.now.get("persistence") == "u":
        yield _unlogged(each)


def _unlogged(each: Found) -> Drift:
    if each.role in {"log", "state", "pruned"}:
        return each.drift(
            "unlogged",
            "is UNLOGGED now: a crash would empty it",
            Consequence.REINSTALL,
            missed=True,
            repairs=(f"ALTER TABLE {each.name} SET LOGGED",),
        )
    return each.drift(
        "unlogged",
        f"is UNLOGGED: a crash empties it without a trigger; ALTER TABLE {each.name} SET LOGGED",
        Consequence.REFUSE,
        missed=True,
    )


def _view(each: Found) -> Iterator[Drift]:
    differs = [f for f in ("kind", "options", "columns") if each.changed(f)]
    if each.changed("owner") and not each.is_handed_over:
        differs.append("owner")
    # A view that a dump wrote down and made again may be spelled otherwise: other casts, brackets.
    if each.changed("text") and not each.context.is_elsewhere:
        differs.append("text")
    if differs:
        yield each.drift(
            f"{_VIEWS[each.role]} changed",
            f"the {_VIEWS[each.role]} is not the one that was installed: {of_facts(each, differs)}",
            Consequence.REINSTALL,
        )
    elif each.is_handed_over:
        yield from _owner_changed(each)


def _kind_changed(each: Found) -> Iterator[Drift]:
    was, now = (_KINDS.get(f["kind"], "another thing") for f in (each.was, each.now))
    yield each.drift("kind", f"is {now} now, not {was}", Consequence.REINSTALL, missed=True)


def _logged_again(each: Found) -> Iterator[Drift]:
    if each.now["persistence"] != "u":
        yield each.drift(
            "logged again",
            "was UNLOGGED for a time, when a crash may have emptied it",
            Consequence.STALE,
            missed=True,
        )


def _owner_changed(each: Found) -> Iterator[Drift]:
    said = f"belongs to {each.now['owner']} now"
    if each.role not in {"log", "state", "pruned"} or each.is_handed_over:
        yield each.drift("owner", said, Consequence.INFORMATION)
        return
    yield each.drift(
        "owner",
        f"{said}, but is written as {each.owner}",
        Consequence.REINSTALL,
        missed=True,
        repairs=(f"ALTER TABLE {each.name} OWNER TO {quote(each.owner)}",),
    )


def _constraints_changed(each: Found) -> Iterator[Drift]:
    more = sorted(set(each.now["constraints"] or ()) - set(each.was["constraints"] or ()))
    if more:
        yield each.drift(
            "constraint of the log",
            f"has a constraint that is not Tallykeeper's ({', '.join(more)}), by which writes of"
            " the application may fail; drop it",
            Consequence.REFUSE,
        )


def _parents_changed(each: Found) -> Iterator[Drift]:
    was, now = set(each.was["parents"] or ()), set(each.now["parents"] or ())
    said = [f"does not belong to {name} any more" for name in sorted(was - now)]
    said += [f"belongs to {name} now" for name in sorted(now - was)]
    yield each.drift("parents", " and ".join(said), Consequence.REINSTALL, missed=True)


def _detaching(each: Found) -> Iterator[Drift]:
    if each.now["detaching"]:
        yield each.drift("detaching", "is being detached", Consequence.REINSTALL, missed=True)


def _keys_changed(each: Found) -> Iterator[Drift]:
    # A derived table's rows are unique even while a load goes on that does without its indexes.
    if each.role != "source" or not each.context.has_plan or each.is_derived:
        return
    lost = sorted(set(each.was["keys"] or ()) - set(each.now["keys"] or ()))
    if lost:
        yield each.drift(
            "unique key",
            f"nothing makes its rows unique by {' and by '.join(lost)} any more",
            Consequence.REINSTALL,
            missed=True,
        )
    else:
        yield each.drift(
            "unique key",
            "has another unique key; `tally migrate` compiles its tallies with it",
            Consequence.INFORMATION,
        )


def _rules_changed(each: Found) -> Iterator[Drift]:
    if each.role in {"source", "above"}:
        yield each.drift(
            "rules",
            "its rules changed; what they write is captured where it is written",
            Consequence.INFORMATION,
        )
        return
    if each.context.is_elsewhere and _without_text(each.was) == _without_text(each.now):
        return
    known = {rule.split(" ")[0] for rule in each.was["rules"] or ()}
    there = [rule.split(" ")[0] for rule in each.now["rules"] or ()]
    named = ", ".join(name for name in there if name not in known) or "a rule"
    yield each.drift(
        "rules",
        f"has a rule that keeps writes from it ({named}); drop it",
        Consequence.REFUSE,
        missed=True,
    )


def _without_text(facts: Facts) -> list[str]:
    """The rules, but for their definitions, which a dump may spell otherwise."""
    return [rule.rpartition(" ")[0] for rule in facts["rules"] or ()]


def _row_security(each: Found) -> Iterator[Drift]:
    if not each.filtered:
        yield each.drift(
            "row security changed",
            "its row security changed; it hides nothing from the roles of the tally",
            Consequence.INFORMATION,
        )


_RELATION_FACTS: dict[str, Callable[[Found], Iterator[Drift]]] = {
    "kind": _kind_changed,
    "persistence": _logged_again,
    "owner": _owner_changed,
    "parents": _parents_changed,
    "detaching": _detaching,
    "keys": _keys_changed,
    "rules": _rules_changed,
    "row security": _row_security,
    "constraints": _constraints_changed,
}

"""What a difference from the record means: its name, its cause in a sentence, its consequence.

`facts.py` finds which objects differ; here each difference is judged, one object at a
time, by its kind and by what the object is to the tally. Nothing is read from the database here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from tallykeeper.database.sql import quote

Facts = Mapping[str, Any]

MOVED = "another database"
GRANTS = "function grants"
OWNER = "function owner"
# How the triggers are called that a derived table itself and its log have.
OF_HAND = ("tallykeeper_hand", "tallykeeper_log")
OWN = (*OF_HAND, "tallykeeper_cascade")
ROW_SECURITY = "row security"
# The role of a function that only notes what is done by hand.
HAND = "hand"


class Consequence(IntEnum):
    """What follows from a difference, the gravest last."""

    INFORMATION = 0
    """Nothing: it is written down by the next refresh or migration."""
    STALE = 1
    """Rows may have changed without any trigger; the next refresh rebuilds the tally."""
    REINSTALL = 2
    """What is installed is not what was; `tally migrate` puts it back."""
    REFUSE = 3
    """It cannot be kept exact as it is; `tally migrate` says so, until somebody changes it."""


@dataclass(frozen=True)
class Drift:
    """One difference between what a tally was installed on and what is there now.

    `kind` names it, `what` says it of the object `name`. `missed` says that changes may have been
    missed, so that the figures are not proven; `of_hand` that only a note of manual writes may be.
    `repairs` are statements that `tally migrate` runs. `objects` are the places in the record.
    """

    tally: str
    kind: str
    name: str
    what: str
    consequence: Consequence
    missed: bool = False
    of_hand: bool = False
    repairs: tuple[str, ...] = ()
    objects: tuple[tuple[str, str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.name}: {self.what}"

    @property
    def is_fault(self) -> bool:
        """Whether somebody has to know: anything but information."""
        return self.consequence > Consequence.INFORMATION


@dataclass(frozen=True)
class Found:
    """One object that differs, as the query found it, with what was found of the others."""

    tally: str
    role: str
    kind: str
    name: str
    part: str
    # Empty where it was not recorded, or is not there any more.
    was: Facts
    now: Facts
    was_identity: Facts
    now_identity: Facts
    filtered: Sequence[str]
    # What the relation that was recorded under this name is named now, or this one was before.
    elsewhere: str | None
    bytes: int | None
    context: Context

    @property
    def place(self) -> tuple[str, str, str]:
        """Where the record has it."""
        return self.kind, self.name, self.part

    def changed(self, fact: str) -> bool:
        """Whether a fact of an object that was and is there differs."""
        return bool(self.was.get(fact) != self.now.get(fact))

    def replaced(self, fact: str) -> bool:
        """Whether a part of its identity differs, in a database where that means anything."""
        if self.context.is_elsewhere or fact not in self.was_identity:
            return False
        return bool(self.was_identity[fact] != self.now_identity.get(fact))

    @property
    def is_handed_over(self) -> bool:
        """Whether it changed hands to the owner of the engine's schema, as `tally roles` does."""
        return self.changed("owner") and self.now["owner"] == self.context.keeper

    @property
    def owner(self) -> str:
        """Whose it is to be where it belongs to another role."""
        return self.context.keeper if self.context.is_handed_over else str(self.was["owner"])

    def drift(self, kind: str, what: str, consequence: Consequence, **more: Any) -> Drift:
        return Drift(self.tally, kind, self.name, what, consequence, objects=(self.place,), **more)


@dataclass(frozen=True)
class Context:
    """What concerns all objects of a tally."""

    # Another database, server or major version than the one that was recorded: a restored dump.
    is_elsewhere: bool
    # Of a later major version, which may write definitions otherwise.
    is_upgraded: bool
    # Relations that came, or that differ in which files they are, and functions that were recorded.
    new: frozenset[str]
    lost: frozenset[str]
    rewritten: bool
    # The owner of the engine's schema, and so of what is installed, however it came to it.
    keeper: str
    # Functions were handed to that owner, so what they belonged to before is not to have them back.
    is_handed_over: bool


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


# Relations.

_THING = {
    "source": "captured",
    "above": "captured",
    "derived": "installed",
    "log": "installed",
    "live": "installed",
    "state": "installed",
}
_KINDS = {
    "r": "a table",
    "p": "a partitioned table",
    "v": "a view",
    "m": "a materialized view",
    "f": "a foreign table",
}


def _of_relation(each: Found) -> Iterator[Drift]:
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
    if each.role == "live":
        yield from _live_view(each)
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
        missed=each.role != "live",
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
    kind = "view" if each.role == "live" else "table"
    return each.drift(
        "replaced",
        f"is another {kind} than the one that was {_THING[each.role]}, {where}",
        Consequence.REINSTALL,
        missed=each.role != "live",
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
    if each.role in {"log", "state"}:
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


def _live_view(each: Found) -> Iterator[Drift]:
    differs = [f for f in ("kind", "options", "columns") if each.changed(f)]
    if each.changed("owner") and not each.is_handed_over:
        differs.append("owner")
    # A view that a dump wrote down and made again may be spelled otherwise: other casts, brackets.
    if each.changed("text") and not each.context.is_elsewhere:
        differs.append("text")
    if differs:
        yield each.drift(
            "live view changed",
            f"the live view is not the one that was installed: {_of_facts(each, differs)}",
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
    if each.role not in {"log", "state"} or each.is_handed_over:
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
    "rules": _rules_changed,
    "row security": _row_security,
    "constraints": _constraints_changed,
}


# Columns.

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


def _of_column(each: Found) -> Iterator[Drift]:
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
        yield each.drift("null allowed", f"{what} may be null now", Consequence.REINSTALL)
    elif each.changed("not null") or each.changed("constraints") or each.changed("labels"):
        yield each.drift("constraint", f"{what} has other constraints", Consequence.INFORMATION)


def _only_added(was: Sequence[str] | None, now: Sequence[str] | None) -> bool:
    return was is not None and [label for label in now or () if label in was] == list(was)


# Triggers.


def event_of(trigger: str) -> str:
    """What messages call one of our triggers."""
    word = trigger.removeprefix("tallykeeper_").partition("_")[0]
    return "hand edit" if word in {"hand", "log"} else word


def _of_trigger(each: Found) -> Iterator[Drift]:
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
    what = f"the {event_of(each.part)} trigger"
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
    if each.role in {"log", "state"}:
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


# Functions.


def _of_function(each: Found) -> Iterator[Drift]:
    name = each.name.removesuffix("()")
    if not each.was:
        return
    ours = each.name.startswith("tallykeeper.")
    captures = each.was["returns"] == "trigger"
    thing = "the capture function" if captures else "the function"
    of_hand = each.role == HAND
    for kind, said, consequence, missed in _function_changed(each, ours, captures):
        yield Drift(
            each.tally,
            kind,
            name,
            f"{thing} {said}",
            consequence,
            missed and not of_hand,
            of_hand,
            objects=(each.place,),
            repairs=_repairs(each, kind) if ours else (),
        )


def _repairs(each: Found, kind: str) -> tuple[str, ...]:
    """What replacing the function does not repair: its grants and its owner stay."""
    if kind == OWNER and not each.is_handed_over:
        return (f"ALTER FUNCTION {each.name} OWNER TO {quote(each.owner)}",)
    return (_revoke(each),) if kind == GRANTS else ()


def _revoke(each: Found) -> str:
    granted = set(each.now["granted"] or ()) - set(each.was["granted"] or ())
    who = [quote(role) for role in sorted(granted)] + (["PUBLIC"] if each.changed("public") else [])
    return f"REVOKE ALL ON FUNCTION {each.name} FROM {', '.join(who)}"


def _function_changed(
    each: Found, ours: bool, captures: bool
) -> Iterator[tuple[str, str, Consequence, bool]]:
    grave = Consequence.REINSTALL if ours else Consequence.STALE
    missed = captures or not ours
    if not each.now:
        yield "function lost", "is missing", Consequence.REINSTALL, missed
        return
    if each.changed("text") or each.changed("language"):
        said = "is not the one that the declarations make" if ours else "was replaced"
        yield "function replaced", said, grave, missed
    elif each.changed("definer") and not each.now["definer"]:
        yield "function rights", "lost SECURITY DEFINER", grave, missed
    elif _settings_changed(each):
        facts = [f for f in ("settings", "volatility", "strict", "returns") if each.changed(f)]
        yield "function settings", f"was altered: {_of_facts(each, facts)}", grave, missed
    elif each.changed("extension"):
        said = "belongs to another version of its extension"
        yield "extension", said, Consequence.STALE, True
    elif each.changed("rights"):
        yield "function rights", "may be executed by other roles", Consequence.INFORMATION, False
    elif missed and _changed_back(each):
        said = "was changed and changed back; changes in between may be missing"
        yield "function changed back", said, Consequence.STALE, True
    if each.changed("owner"):
        wrong = ours and not each.is_handed_over
        said = f"belongs to {each.now['owner']} now"
        said += f", not to {each.owner}" if wrong else ""
        yield OWNER, said, grave if wrong else Consequence.INFORMATION, missed and wrong
    if ours and _granted(each):
        yield GRANTS, "may be executed by others than its owner", grave, False


def _changed_back(each: Found) -> bool:
    """Whether its row was written since, but for what is said otherwise.

    The guard of merges does nothing, and each system that is installed writes it.
    """
    if "guard_merge" in each.name or each.changed("owner") or each.changed("granted"):
        return False
    return each.replaced("row") and not each.changed("public")


def _settings_changed(each: Found) -> bool:
    return any(each.changed(f) for f in ("settings", "volatility", "strict", "returns", "definer"))


def _granted(each: Found) -> bool:
    more = set(each.now["granted"] or ()) - set(each.was["granted"] or ())
    return bool(more) or bool(each.now["public"] and not each.was["public"])


def _of_facts(each: Found, names: Sequence[str]) -> str:
    return ", ".join(
        "another text"
        if n == "text"
        else f"{n} {_spelled(each.now[n])}, not {_spelled(each.was[n])}"
        for n in names
    )


def _spelled(value: object) -> str:
    if isinstance(value, list):
        return " ".join(str(v) for v in value) or "none"
    return "none" if value is None else str(value)


_JUDGES: dict[str, Callable[[Found], Iterator[Drift]]] = {
    "relation": _of_relation,
    "column": _of_column,
    "trigger": _of_trigger,
    "function": _of_function,
}

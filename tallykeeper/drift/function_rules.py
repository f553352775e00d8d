"""What a difference of a function means: one of the engine's, and one that a SELECT calls."""

from __future__ import annotations

from collections.abc import Iterator

from tallykeeper.database.sql import quote
from tallykeeper.drift.differences import GRANTS, HAND, OWNER, Consequence, Drift, Found, of_facts


def of_function(each: Found) -> Iterator[Drift]:
    """Yield what differs of a function, each with its consequence."""
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
        yield "function settings", f"was altered: {of_facts(each, facts)}", grave, missed
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

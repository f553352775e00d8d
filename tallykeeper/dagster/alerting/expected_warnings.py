"""Warnings that are no incident: the demo's data hold on purpose what two of its checks warn of.

By check, in Dagster's storage, with what was said. A warning that says anything else, of one item
more, is an incident as ever.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import dagster as dg

STORED_AS = "tallykeeper/expected_warnings"


def expect(instance: dg.DagsterInstance, warnings: Iterable[dg.AssetCheckEvaluation]) -> None:
    """From now on these warnings open no incident."""
    known = {**expected(instance), **{_name(each): each.description or "" for each in warnings}}
    instance.run_storage.set_cursor_values({STORED_AS: json.dumps(known)})


def expected(instance: dg.DagsterInstance) -> Mapping[str, str]:
    """What is expected to be said, by check."""
    found: dict[str, str] = json.loads(
        instance.run_storage.get_cursor_values({STORED_AS}).get(STORED_AS, "{}")
    )
    return found


def is_expected(known: Mapping[str, str], evaluation: dg.AssetCheckEvaluation) -> bool:
    """Whether the warning says what it was expected to."""
    return (
        evaluation.severity is dg.AssetCheckSeverity.WARN
        and known.get(_name(evaluation)) == evaluation.description
    )


def _name(evaluation: dg.AssetCheckEvaluation) -> str:
    return f"{evaluation.asset_key.to_user_string()}:{evaluation.check_name}"

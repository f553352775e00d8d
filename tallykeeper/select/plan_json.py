"""A plan as JSON, as the database stores it, and back.

What is stored is read only by code of the same `VERSION`; `tally migrate` compiles anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tallykeeper.select.plan import (
    AskedSource,
    CapturedColumn,
    CapturedSource,
    Column,
    Lookup,
    Node,
    OwnerSource,
    Piece,
    Plan,
    Step,
    Summed,
    SummedSource,
    Text,
    Windowed,
)


def to_json(plan: Plan) -> dict[str, Any]:
    """The plan as a JSON object."""
    document: dict[str, Any] = json.loads(json.dumps(asdict(plan), default=sorted))
    return document


def digest(document: Mapping[str, Any]) -> str:
    """What tells two plans apart."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]


def from_json(document: Mapping[str, Any]) -> Plan:
    """The plan that `to_json` was given."""
    return Plan(
        **{
            **document,
            "columns": _columns(document["columns"]),
            "key": tuple(document["key"]),
            "captured": tuple(_captured(each) for each in document["captured"]),
            "nodes": tuple(_node(each) for each in document["nodes"]),
            "steps": _steps(document["steps"]),
            "changes": _text(document["changes"]),
            "losses": _text(document.get("losses", ())),
            "summed": _summed(document["summed"]),
            "reasons": tuple(document["reasons"]),
            "lookups": tuple(_lookup(each) for each in document.get("lookups", ())),
            "asked": tuple(_asked(each) for each in document.get("asked", ())),
            "marks": tuple(document.get("marks", ())),
            "owners": tuple(_owner(each) for each in document.get("owners", ())),
            "windowed": tuple(Windowed(**each) for each in document.get("windowed", ())),
        }
    )


def _columns(found: Sequence[Mapping[str, Any]]) -> tuple[Column, ...]:
    return tuple(Column(**each) for each in found)


def _captured(found: Mapping[str, Any]) -> CapturedSource:
    columns = tuple(CapturedColumn(**each) for each in found["columns"])
    return CapturedSource(**{**found, "columns": columns})


def _node(found: Mapping[str, Any]) -> Node:
    return Node(
        **{
            **found,
            "columns": _columns(found["columns"]),
            "key": tuple(found["key"]),
            "apply": _steps(found["apply"]),
            "parts": frozenset(found["parts"]),
            "indexes": tuple(found["indexes"]),
        }
    )


def _summed(found: Mapping[str, Any] | None) -> Summed | None:
    if found is None:
        return None
    lists = ("key", "key_of_many", "amounts", "columns")
    sources = tuple(
        SummedSource(**{**each, **{name: tuple(each[name]) for name in lists}})
        for each in found["sources"]
    )
    named = {name: tuple(found[name]) for name in ("key", "measures")}
    return Summed(**{**found, **named, "sources": sources})


def _lookup(found: Mapping[str, Any]) -> Lookup:
    columns, parts = tuple(found["columns"]), frozenset(found["asked_by"])
    return Lookup(found["schema"], found["table"], columns, parts, found.get("is_held", False))


def _asked(found: Mapping[str, Any]) -> AskedSource:
    return AskedSource(found["part"], tuple(found["columns"]), tuple(found["places"]))


def _owner(found: Mapping[str, Any]) -> OwnerSource:
    return OwnerSource(found["part"], tuple(tuple(each) for each in found["marks"]))


def _steps(found: Sequence[Mapping[str, Any]]) -> tuple[Step, ...]:
    return tuple(
        Step(each["name"], _text(each["text"]), frozenset(each["parts"]), each.get("source"))
        for each in found
    )


def _text(found: Sequence[Mapping[str, Any]]) -> Text:
    return tuple(
        Piece(
            each["sql"],
            tuple(frozenset(parts) for parts in each["needs"]),
            each.get("purpose"),
        )
        for each in found
    )

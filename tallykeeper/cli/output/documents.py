"""What commands print for programs: one JSON document each, whose shape has a version.

Each is an object with `version` and `command`, and what docs/reference/json.md says of the command.
Within a version fields are added and none is renamed, removed or given another meaning.
"""

from __future__ import annotations

import json
from dataclasses import asdict, is_dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

VERSION = 1


def document(command: str, **fields: Any) -> str:
    """The document of a command: dataclasses as objects, times in ISO 8601 and UTC."""
    whole = {"version": VERSION, "command": command, **fields}
    return json.dumps(whole, indent=2, default=_plain, ensure_ascii=False)


def emit(**fields: Any) -> None:
    """Print the document of the command that runs, as `places refresh`."""
    context = click.get_current_context()
    above = context.parent.info_name if context.parent and context.parent.parent else None
    click.echo(document(" ".join(filter(None, (above, context.info_name))), **fields))


def emit_if_json(**fields: Any) -> None:
    """The same where --json was given; nothing else."""
    if click.get_current_context().params.get("as_json"):
        emit(**fields)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return (value.astimezone(UTC) if value.tzinfo else value).isoformat()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, date | Decimal | Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in JSON")

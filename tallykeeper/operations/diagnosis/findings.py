"""What an examination finds: a level, what was looked at, what was found, what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One line of `tally doctor`. `todo` is empty where nothing is to be done."""

    level: Level
    subject: str
    found: str
    todo: str = ""


def ok(subject: str, found: str) -> Finding:
    """All is well."""
    return Finding("ok", subject, found)


def warn(subject: str, found: str, todo: str) -> Finding:
    """It works, and may not for long, or not as well as it could."""
    return Finding("warn", subject, found, todo)


def fail(subject: str, found: str, todo: str) -> Finding:
    """It does not work, or figures are not proven."""
    return Finding("fail", subject, found, todo)

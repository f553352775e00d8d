"""Dates as cameras and programs write them into pictures.

A date without an offset is read as UTC. Invariant: what is no date is None, never a guess.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime

# Digits may be padded by a blank; between day and hour some put a colon; seconds may be missing.
_TIME = re.compile(
    r"(\d{4})[:/.-] ?(\d{1,2})[:/.-] ?(\d{1,2})"
    r"(?:(?:[ T:] ?| {2})(\d{1,2}): ?(\d{1,2})(?:: ?(\d{1,2})(?:[.,]\d*)?)?"
    r" ?(Z|UTC|[+-]\d{1,2}(?::?\d{2})?)?)?",
    re.ASCII,
)
_OFFSET = re.compile(r"([+-])(\d{1,2})(?::?(\d{2}))?", re.ASCII)
_IPTC_TIME = re.compile(r"(\d{2})(\d{2})(\d{2})([+-]\d{4})?", re.ASCII)
_IPTC_DATE = re.compile(r"(\d{4})(\d{2})(\d{2})", re.ASCII)


def exif_time(value: object, offset: object = None) -> datetime | None:
    """Return the moment in UTC that a date of EXIF or XMP and its offset name, or None.

    Cameras write blanks, zeros, NULs and bytes there. An offset in the date itself comes before
    `offset`; one that is none counts as absent. A date without a time is its midnight.
    """
    match = _TIME.fullmatch(_text(value))
    if match is None:
        return None
    *numbers, written = match.groups()
    year, month, day, hour, minute, second = (int(number or 0) for number in numbers)
    zone = _zone(written or _text(offset))
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=zone).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def iptc_time(day: bytes, time: bytes) -> datetime | None:
    """Return the moment of IPTC's date (YYYYMMDD) and time (HHMMSS with or without offset)."""
    date = _IPTC_DATE.fullmatch(_text(day))
    if date is None:
        return None
    found = _IPTC_TIME.fullmatch(_text(time))
    hour, minute, second, offset = found.groups() if found else ("0", "0", "0", None)
    return exif_time(f"{':'.join(date.groups())} {hour}:{minute}:{second}", offset)


def written_time(text: str) -> datetime | None:
    """Return the moment of a date as programs write it into PNG: ISO 8601, or as mails have it."""
    found = exif_time(text)
    if found is not None:
        return found
    try:
        moment = parsedate_to_datetime(text.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def seconds_after(epoch: datetime, seconds: float) -> datetime | None:
    """Return the moment that many seconds after `epoch`; None for none, and where there is none."""
    if seconds <= 0:
        return None
    try:
        return epoch + timedelta(seconds=seconds)
    except OverflowError:
        return None


def _zone(offset: str) -> timezone:
    match = _OFFSET.fullmatch(offset)
    if match is None:
        return UTC
    sign, hours, minutes = match.groups()
    span = timedelta(hours=int(hours), minutes=int(minutes or 0))
    if span >= timedelta(hours=24) or int(minutes or 0) >= 60:
        return UTC
    return timezone(-span if sign == "-" else span)


def _text(value: object) -> str:
    """What a tag says, without NULs and blanks around it; empty where it is no text."""
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    return value.strip("\0 \t\r\n") if isinstance(value, str) else ""

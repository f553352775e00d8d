"""What the command line shows of tallies: to people within 80 columns, to programs as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tallykeeper import Difference, Refreshed, Status, Tally, Verification, Waiting
from tallykeeper.cli.output.documents import document
from tallykeeper.maintain.audit import LATEST

NEVER = "-"
SPANS = (("s", 60), ("min", 60), ("h", 24), ("d", 365), ("y", None))
BYTES = ("B", "kB", "MB", "GB", "TB")
SHOWN_DIFFERENCES = 20
# Of a key or a value that is in quarantine.
MOST_CHARACTERS = 200
# A log row is some 80 bytes: a log that takes much more for what is pending was not cleared.
LONG_LOG_BYTES = 64 * 1024**2
BYTES_A_CHANGE = 1_000
REPAIR = "changes may be missed until `tally migrate` and then `tally refresh {}` repair it"


def age(since: datetime | None, now: datetime) -> str:
    """How long ago that was, in one unit: `40 s`, `3 min`, `5 h`, `2 d`, `1 y`."""
    if since is None:
        return NEVER
    amount = max(0, int((now - since).total_seconds()))
    for unit, per_next in SPANS:
        if per_next is None or amount < per_next:
            return f"{amount} {unit}"
        amount //= per_next
    raise AssertionError("the last span has no end")


def size(used: int | None) -> str:
    """How much that is, in units of 1,024, as briefly as tells: `8 kB`, `1.2 MB`, `24 GB`."""
    if used is None:
        return NEVER
    amount, place = float(used), 0
    # What would round to four digits is said in the next unit.
    while amount >= 999.5 and place < len(BYTES) - 1:
        amount, place = amount / 1024, place + 1
    digits = 1 if place and amount < 9.95 and round(amount, 1) % 1 else 0
    return f"{amount:.{digits}f} {BYTES[place]}"


def show_status(
    found: Sequence[tuple[Tally, Status | None]],
    waiting: Mapping[str, Waiting],
    console: Console,
) -> None:
    """A table of what is known of each tally, and below it what wants doing."""
    table = _table()
    table.add_column("tally", overflow="fold")
    for heading in ("rows", "size", "refreshed", "pending", "oldest", "verified"):
        table.add_column(heading, justify="right", overflow="fold")
    system = ""
    for tally, status in found:
        if tally.system != system:
            system = tally.system
            table.add_row(f"[bold]{system}")
        table.add_row(f"  {tally.table.name}", *_cells(status))
    console.print(table)
    compared = _compared_line([status for _, status in found if status is not None])
    if compared:
        console.print(compared, highlight=False, markup=False, soft_wrap=True)
    for tally, status in found:
        for advice in _advice(tally, status):
            console.print(advice, highlight=False, markup=False, soft_wrap=True)
    for name, each in waiting.items():
        if each.rows:
            since = age(each.oldest, datetime.now(UTC))
            console.print(
                f"{name}: {each.rows:,} events wait to be processed, the oldest for {since};"
                " `tally refresh` processes them",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )


def _table() -> Table:
    # Without lines: 80 columns are needed for what stands in them.
    return Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")


def _cells(status: Status | None) -> list[str]:
    if status is None:
        return [NEVER] * 6
    return [
        NEVER if status.rows is None else f"{status.rows:,}",
        size(_total(status)),
        age(status.refreshed_at, status.as_of),
        f"{status.pending:,}",
        age(status.oldest_pending, status.as_of),
        _verified(status),
    ]


def _total(status: Status) -> int | None:
    if status.table_bytes is None or status.log_bytes is None:
        return None
    return status.table_bytes + status.log_bytes


def _verified(status: Status) -> str:
    if status.verified_at is None:
        return NEVER
    if status.differing:
        return f"{status.differing:,} WRONG"
    return f"ok {age(status.verified_at, status.as_of)}"


def _compared_line(found: Sequence[Status]) -> str | None:
    """Since when every key of every tally has been compared; None where of one that never was."""
    since = [
        (status.audit.compared_since, status.tally)
        for status in found
        if status.audit is not None and status.audit.compared_since is not None
    ]
    if not since or len(since) < len(found):
        return None
    first, tally = min(since)
    return f"all keys compared since {first.astimezone(UTC):%Y-%m-%d %H:%M} UTC ({tally})"


def _audit_advice(status: Status) -> list[str]:
    audit = status.audit
    if audit is None or status.stale or status.rows is None:
        return []
    if audit.compared_since is None:
        return [f"{status.tally}: not every key was compared yet; `tally verify` does that now"]
    if status.as_of - audit.compared_since <= LATEST:
        return []
    return [
        f"{status.tally}: not every key was compared within a day: all were"
        f" {age(audit.compared_since, status.as_of)} ago; does the hourly schedule run?"
    ]


def _advice(tally: Tally, status: Status | None) -> list[str]:
    if status is None:
        return [f"{tally.name}: not installed; run `tally migrate`"]
    advice = []
    if status.backfilling or status.unfinished:
        advice.append(f"{tally.name}: {_backfill(status)}")
    advice += fault_lines(tally.name, status.faults)
    if status.stale:
        why = "; ".join(dict.fromkeys(status.stale))
        advice.append(f"{tally.name}: the next refresh rebuilds it ({why})")
    if status.differing:
        advice.append(f"{tally.name}: wrong when last verified; see `tally verify`")
    if status.quarantined:
        advice.append(quarantine_line(tally, status.quarantined))
    advice += _audit_advice(status)
    advice += [f"{tally.name} {each.in_words}" for each in status.pruned]
    if (status.log_bytes or 0) > max(LONG_LOG_BYTES, BYTES_A_CHANGE * status.pending):
        advice.append(
            f"{tally.name}: its change log takes {size(status.log_bytes)} for"
            f" {_counted(status.pending, 'pending change')}, which live reads go through; end old"
            f" transactions (pg_stat_activity), and then `VACUUM {tally.log_name}` in psql"
        )
    return advice


def _backfill(status: Status) -> str:
    done = sum(lane.items_done for lane in status.unfinished)
    total = sum(lane.items_total for lane in status.unfinished)
    far = f"{', '.join(lane.lane for lane in status.unfinished)} {done:,} of {total:,} items"
    so_far = f" ({far})" if status.unfinished else ""
    if status.backfilling:
        return f"is being backfilled{so_far} by the session with process id {status.backfilling}"
    return f"its backfill was interrupted{so_far}; `tally backfill {status.tally}` goes on"


def status_as_json(
    found: Sequence[tuple[Tally, Status | None]], waiting: Mapping[str, Waiting]
) -> str:
    """An object with `tallies`: names, counts, ISO times; `pending_seconds` is the oldest's age.

    And `waiting`: by system, how many rows of a raw log are still to be processed, and since when.
    """
    listed = []
    for tally, status in found:
        entry: dict[str, Any] = {"tally": tally.name, "installed": status is not None}
        if status is not None:
            entry |= asdict(status)
            oldest = status.oldest_pending
            entry["pending_seconds"] = (status.as_of - oldest).total_seconds() if oldest else None
        listed.append(entry)
    return document("status", tallies=listed, waiting=dict(waiting))


def refreshed_line(result: Refreshed) -> str:
    """What a refresh or rebuild did, in one line."""
    how = "rebuilt" if result.how == "rebuild" else "refreshed"
    why = f" ({result.reason})" if result.reason else ""
    return (
        f"{result.tally}: {how} in {result.seconds:.2f} s{why};"
        f" {_counted(result.pending_consumed, 'pending change')} consumed,"
        f" {_counted(result.keys_changed, 'key')} changed, {_counted(result.rows, 'row')}"
    )


def fault_lines(tally: str, faults: Sequence[str]) -> list[str]:
    """What keeps figures from being proven, a line each, and what repairs it."""
    if not faults:
        return []
    return [f"{tally}: NOT INTACT: {fault}" for fault in faults] + [
        f"{tally}: {REPAIR.format(tally)}"
    ]


def show_verification(result: Verification, console: Console) -> None:
    """One line where all is well; else the keys that differ, with both values."""
    pruned = [f"{result.tally} {each.in_words}" for each in result.pruned]
    for line in (verified_line(result), *fault_lines(result.tally, result.faults), *pruned):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    _show_quarantine(result, console)
    if not result.differences:
        return
    table = _table()
    for heading in ("key", "stored", "expected"):
        table.add_column(heading, overflow="fold")
    shown = result.differences[:SHOWN_DIFFERENCES]
    for difference in shown:
        table.add_row(*map(escape, _sides(difference)))
    console.print(table)
    more = result.differing - len(shown)
    if more:
        console.print(f"... and {_counted(more, 'more key')}", highlight=False)


def quarantine_line(tally: Tally, keys: int) -> str:
    """That keys are in quarantine, and where to read which."""
    return (
        f"{tally.name}: {_counted(keys, 'key')} in quarantine, which its table cannot hold;"
        f" `tally verify {tally.name}` names them"
    )


def _show_quarantine(result: Verification, console: Console) -> None:
    """The keys that the derived table cannot hold, what they should be, and why it cannot."""
    for each in result.quarantine[:SHOWN_DIFFERENCES]:
        values = "; ".join(_values(row) for row in each.rows or ()) or "cannot be computed"
        console.print(
            f"  {_shortened(_values(each.key))}: {_shortened(values)} ({each.reason}), since"
            f" {each.since:%Y-%m-%d %H:%M %Z}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    more = result.quarantined - min(len(result.quarantine), SHOWN_DIFFERENCES)
    if more:
        console.print(f"  ... and {_counted(more, 'more key')}", highlight=False)


def _shortened(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}..."


def verified_line(result: Verification) -> str:
    """The outcome of a verify, in one line."""
    if result.stale:
        why = "; ".join(dict.fromkeys(result.stale))
        return f"{result.tally}: nothing to compare ({why}); run `tally refresh {result.tally}`"
    keys = f"{_counted(result.compared, 'key')} compared in {result.seconds:.2f} s"
    if result.quarantined and not result.differing:
        held = _counted(result.quarantined, "key")
        return f"{result.tally}: {held} in QUARANTINE, which its table cannot hold; else ok, {keys}"
    if not result.differing:
        verdict = "equal, but not proven" if result.faults else "ok"
        return f"{result.tally}: {verdict}, {keys}"
    days = f", on {_days(result.days)}" if result.days else ""
    return (
        f"{result.tally}: {_counted(result.differing, 'key')} WRONG, {keys}{days};"
        f" `tally rebuild {result.tally}` repairs it"
    )


def verifications_as_json(results: Sequence[Verification]) -> str:
    """An object with `ok` and `tallies`: each verification with its differing keys."""
    listed = [asdict(result) | {"ok": result.ok} for result in results]
    return document("verify", ok=all(result.ok for result in results), tallies=listed)


def _sides(difference: Difference) -> tuple[str, str, str]:
    return (
        _values(difference.key),
        _values(difference.stored) if difference.stored is not None else "no such row",
        _values(difference.expected) if difference.expected is not None else "no such row",
    )


def _values(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _days(days: Sequence[str]) -> str:
    return days[0] if len(days) == 1 else f"{len(days)} windows from {days[0]} to {days[-1]}"


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"

"""What identifies a state of tallies: as long as it is the same, so are answers read from them.

A fingerprint is made of what a live view is made of: the rows of the derived table, and the rows
of the change log that the snapshot sees. No time and no counter of changes goes into it, for a
transaction that began early may commit late. Invariants: a change that can alter an
answer alters its fingerprint, whenever it commits; the other way round, a refresh may alter the
fingerprint of an answer that stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import JSON, ColumnElement

from tallykeeper.catalog import state
from tallykeeper.database import sql
from tallykeeper.declarations.tally import Tally

Condition = Callable[[Any], Sequence[ColumnElement[bool]]]


@dataclass(frozen=True)
class Part:
    """What of a tally an answer is read from.

    `where` narrows it to some keys: given the columns of a row by name, it returns conditions on
    key columns that hold for every key that has a part in the answer. None: all keys.
    `also` names columns of the derived table that are read beside key and measures.
    """

    tally: Tally
    where: Condition | None = None
    also: tuple[str, ...] = ()


def fingerprint(*parts: Part) -> str:
    """An SQL expression of the parts' state in the snapshot: a text, or null where it has none.

    It has none while a tally is stale or not installed: the sources are read then, and not all
    changes of them leave a trace. Conditions are written out without a type, so that a time is
    compared as UTC also where a derived table was adopted with times that have no zone.
    """
    tallies = dict.fromkeys(t for part in parts for t in (part.tally, *part.tally.upstream))
    names = ", ".join(sql.literal(t.name) for t in tallies)
    stale = f"EXISTS (SELECT FROM {sql.name_of(state.stale_marks)} WHERE tally IN ({names}))"
    digests = [digest for part in parts for digest in _digests(part)]
    return f"CASE WHEN NOT {stale} THEN concat_ws(' ', {', '.join(digests)}) END"


def _digests(part: Part) -> list[str]:
    tally = part.tally
    if part.where is not None and tally.log_has_whole_keys():
        stored = _contents(part, (*tally.columns, *part.also))
        return [_installed(tally), stored, _pending(tally, part.where), _quarantined(tally)]
    found = []
    for each in (tally, *tally.upstream):
        found += [_installed(each), _written(each), _logged(each), _cascaded(each)]
    if part.also:
        found.append(_contents(part, part.also))
    return found


def _installed(tally: Tally) -> str:
    """What the tally is declared to be. Null, and with it all, where it is not installed."""
    return (
        f"(SELECT declaration_hash || capture_hash FROM {sql.name_of(state.tally_state)}"
        f" WHERE tally = {sql.literal(tally.name)})"
    )


def _written(tally: Tally) -> str:
    """Which transaction of the engine's wrote the derived table last.

    Each records itself in the tally's row: the row is another one then.
    """
    return (
        f"(SELECT xmin::text || '@' || extract(epoch FROM refreshed_at)"
        f" FROM {sql.name_of(state.tally_state)} WHERE tally = {sql.literal(tally.name)})"
    )


def _logged(tally: Tally) -> str:
    """Which rows of the log the snapshot sees.

    From one writing of the engine's to the next rows only come, so that their number tells them.
    """
    return f"(SELECT count(*) FROM {tally.log_name})"


def _pending(tally: Tally, where: Condition) -> str:
    """Which transactions have changes of the keys pending.

    All that a transaction logged comes at once, and what is consumed never comes again, so that no
    more need be known of its rows; a reader need not see deltas.
    """
    log = sql.relation(tally.log_name, tally.log_columns())
    fields = f"l.xmin::text, {sql.columns(tally.group, 'l')}"
    return _hashed(fields, f"{tally.log_name} AS l", log.alias("l").c, where)


def _quarantined(tally: Tally) -> str:
    """Which keys the derived table cannot hold, and what they would be."""
    hashes = "coalesce(sum(hashtextextended(digest || coalesce(rows::text, ''), 0)), 0)"
    return (
        f"(SELECT count(*) || '/' || {hashes} FROM {sql.name_of(state.quarantine)}"
        f" WHERE tally = {sql.literal(tally.name)})"
    )


def _cascaded(tally: Tally) -> str:
    table = sql.name_of(state.cascaded)
    name = sql.literal(tally.name)
    return f"(SELECT count(*) || '/' || coalesce(sum(rows), 0) FROM {table} WHERE tally = {name})"


def _contents(part: Part, names: Sequence[str]) -> str:
    """What the derived table says of the keys: equal contents are one, by whichever process."""
    tally = part.tally
    # Among the types that a derived table may have, this one alone has no hash.
    plain = [n for n in names if not isinstance(tally.table.c[n].type, JSON)]
    other = [n for n in names if n not in plain]
    fields = [sql.columns(tuple(plain), "d")] if plain else []
    fields += [f"d.{sql.quote(n)}::text" for n in other]
    table = sql.name_of(tally.table)
    columns = sql.relation(table, tally.table.c).alias("d").c
    return _hashed(", ".join(fields), f"{table} AS d", columns, part.where)


def _hashed(fields: str, relation: str, columns: Any, where: Condition | None) -> str:
    """How many rows of the relation there are, and the sum of their hashes, of 64 bits each.

    A record's hash is hashed again. It is itself a sum over the record's columns, and a sum of
    such would stay as it is where two rows exchange the values of a column.
    """
    conditions = [] if where is None else [sql.render(c) for c in where(columns)]
    narrowed = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    hashed = f"hashint8extended(hash_record_extended(ROW({fields}), 0), 0)"
    hashes = f"coalesce(sum({hashed}), 0)"
    return f"(SELECT count(*) || '/' || {hashes} FROM {relation}{narrowed})"

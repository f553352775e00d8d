"""Trying a tally: rows of its sources are changed, and after each change it is compared.

All of it in one transaction that is rolled back. Each change is undone before the next one, for
where one was captured, another of the same rows might not be missed; in the end all are made
together, and consumed by a refresh. What a constraint, a trigger or a right of the application's
forbids is named. Invariants: nothing is committed, and no sequence is asked for a number.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from tallykeeper.catalog import state
from tallykeeper.database import sql
from tallykeeper.database.sessions import begin_computing
from tallykeeper.database.sqlstates import sqlstate_of
from tallykeeper.errors import NotInstalled, TallyError
from tallykeeper.maintain.refresh import consume
from tallykeeper.select.plan import CapturedSource
from tallykeeper.select.tally import SelectTally

Outcome = Literal["equal", "different", "not possible"]
# What ends the transaction, or the connection, and not one change alone.
_ENDS = ("57", "08", "40", "53")
SAMPLED = 200

_COLUMNS = text("""
SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type,
  NOT a.attnotnull AS nullable, a.attgenerated <> '' AS generated,
  a.attidentity = 'a' AS numbered, t.typcategory AS category,
  EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = a.attrelid AND i.indisunique
    AND a.attnum = ANY (i.indkey::int2[])) AS in_key
FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
WHERE a.attrelid = to_regclass(:table) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum""")


@dataclass(frozen=True)
class Try:
    """One change, what came of the comparison, and why it was not possible."""

    source: str
    change: str
    outcome: Outcome
    detail: str = ""


@dataclass(frozen=True)
class Trial:
    """What was tried. `left_out` says what there was no time for, or nothing to try it with."""

    tally: str
    tries: tuple[Try, ...]
    left_out: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether there was anything to compare, and all of it was equal."""
        outcomes = {each.outcome for each in self.tries}
        return "equal" in outcomes and "different" not in outcomes


@dataclass(frozen=True)
class _Column:
    name: str
    type: str
    nullable: bool
    generated: bool
    numbered: bool
    category: str
    in_key: bool


@dataclass(frozen=True)
class _Change:
    """A change by its statement, which returns the places of the rows that it leaves."""

    what: str
    statement: str


def trial(
    engine: Engine,
    tally: SelectTally,
    *,
    rows: int = 2,
    seconds: float = 60.0,
    on_progress: Callable[[int, int, str], object] = lambda _done, _total, _source: None,
) -> Trial:
    """Change `rows` rows of each source in every way, and compare after each change.

    `on_progress` is called with how many of how many sources are through, and the next one.

    Raises NotInstalled; TallyError where the tally is stale, for then its live view is its SELECT;
    SQLAlchemy's errors where the connection is lost.
    """
    until = time.monotonic() + seconds
    with engine.connect() as connection, connection.begin() as transaction:
        begin_computing(connection)
        if state.installed(connection, tally) is None:
            raise NotInstalled(f"{tally.name} is not installed; run `tally migrate` first")
        stale = state.stale_reasons(connection, tally)
        if stale:
            raise TallyError(
                f"{tally.name} is stale ({', '.join(stale)}), so that its live view reads the"
                f" sources; run `tally refresh {tally.name}` first"
            )
        done = _Trying(connection, tally, until)
        sources = tally.plan.captured
        for number, source in enumerate(sources):
            on_progress(number, len(sources) + 1, f"{source.schema}.{source.table}")
            done.try_source(source, rows)
        on_progress(len(sources), len(sources) + 1, "all changes together")
        done.try_all()
        transaction.rollback()
    return Trial(tally.name, tuple(done.tries), tuple(done.left_out))


class _Trying:
    def __init__(self, connection: Connection, tally: SelectTally, until: float) -> None:
        self._connection = connection
        self._tally = tally
        self._until = until
        self.tries: list[Try] = []
        self.left_out: list[str] = []
        self._made: list[str] = []
        names = [c for c in tally.columns if c in {p.name for p in tally.plan.columns}]
        # Some types have no equality.
        plain = {c.name for c in tally.plan.columns if c.type not in ("json", "xml", "point")}
        self._shown = ", ".join(
            sql.quote(n) if n in plain else f"{sql.quote(n)}::text AS {sql.quote(n)}" for n in names
        )

    def try_source(self, source: CapturedSource, rows: int) -> None:
        name = f"{sql.quote(source.schema)}.{sql.quote(source.table)}"
        columns = [_Column(*row) for row in self._connection.execute(_COLUMNS, {"table": name})]
        places = self._sample(name, rows)
        if not places:
            self.left_out.append(f"{name} has no rows to be changed")
        captured = {column.name for column in source.columns}
        fixed = [c for c in columns if c.generated or c.numbered]
        used = [c for c in columns if c.name in captured and c not in fixed]
        for place in places:
            self._try(name, _copy(name, columns, place), then="delete the copy")
            for column in used:
                self._try(name, _to_another(name, column, place))
                if column.nullable:
                    self._try(name, _to_null(name, column, place))
            self._try(name, _Change("delete a row", _delete(name, place)))
        if len(places) > 1:
            self._try_several(name, used)

    def try_all(self) -> None:
        """Make all changes together, compare, consume them, and compare the derived table."""
        if not self._made:
            return
        for statement in self._made:
            savepoint = self._connection.begin_nested()
            try:
                sql.execute(self._connection, statement)
                savepoint.commit()
            except DBAPIError:
                savepoint.rollback()
        name = self._tally.name
        self._compare(name, "all of them together", self._tally.live_name)
        try:
            sql.execute(self._connection, sql.CLAIM_WRITING)
            consumed = consume(self._connection, self._tally).consumed
        except DBAPIError as error:
            said = str(error.orig).splitlines()[0]
            self.tries.append(Try(name, "refresh", "different", said))
            return
        said = f"refresh with {consumed:,} pending changes"
        self._compare(name, said, sql.name_of(self._tally.table))

    def _try_several(self, name: str, columns: Sequence[_Column]) -> None:
        """Statements that change several rows at once."""
        for column in columns:
            if column.in_key:
                continue
            quoted = sql.quote(column.name)
            some = f"SELECT ctid, tableoid, {quoted} AS v FROM {name} LIMIT 20"
            change = (
                f"UPDATE {name} AS t SET {quoted} = o.v FROM"
                f" (SELECT s.ctid AS at, s.tableoid AS of, lead(s.v, 1, s.v) OVER () AS v"
                f" FROM ({some}) AS s) AS o WHERE t.ctid = o.at AND t.tableoid = o.of"
                " RETURNING t.tableoid, t.ctid"
            )
            self._try(name, _Change(f"move {column.name} between 20 rows", change))

    def _try(self, source: str, change: _Change, then: str = "") -> None:
        """Make the change and compare, and undo it; `then` is said of deleting what it left."""
        if time.monotonic() > self._until:
            self.left_out.append(f"{source}: {change.what}, for want of time")
            return
        savepoint = self._connection.begin_nested()
        try:
            row: Sequence[Any] | None = sql.execute(self._connection, change.statement).first()
            if row is None:
                self.left_out.append(f"{source}: {change.what}, for want of another value")
            elif self._compare(source, change.what, self._tally.live_name):
                self._made.append(change.statement)
                if then:
                    sql.execute(self._connection, _delete(source, (row[0], row[1])))
                    self._compare(source, then, self._tally.live_name)
        except DBAPIError as error:
            self._note(source, change.what, error)
        savepoint.rollback()

    def _compare(self, source: str, change: str, relation: str) -> bool:
        """Compare a relation with the SELECT; whether they are equal."""
        found = self._differing(relation)
        outcome: Outcome = "different" if found else "equal"
        self.tries.append(Try(source, change, outcome, f"{found:,} rows differ" if found else ""))
        return not found

    def _note(self, source: str, change: str, error: DBAPIError) -> None:
        if sqlstate_of(error).startswith(_ENDS) or error.connection_invalidated:
            raise error
        said = str(error.orig).splitlines()[0]
        self.tries.append(Try(source, change, "not possible", said))

    def _differing(self, relation: str) -> int:
        """How many rows a relation and the SELECT differ in."""
        there = f"SELECT {self._shown} FROM {relation}"
        names = sql.columns([column.name for column in self._tally.plan.columns])
        rows = self._tally.with_pruned(f"SELECT {names} FROM {self._tally.definition_name}")
        wanted = f"SELECT {self._shown} FROM (\n{rows}\n) AS w"
        query = (
            f"SELECT count(*) FROM (({there} EXCEPT ALL {wanted}) UNION ALL"
            f" ({wanted} EXCEPT ALL {there})) AS d"
        )
        return int(sql.execute(self._connection, query).scalar_one())

    def _sample(self, name: str, rows: int) -> list[tuple[int, str]]:
        query = (
            f"SELECT * FROM (SELECT tableoid, ctid::text FROM {name} LIMIT {SAMPLED}) AS s"
            f" ORDER BY random() LIMIT {rows}"
        )
        found: Sequence[Sequence[Any]] = sql.execute(self._connection, query).all()
        return [(row[0], row[1]) for row in found]


def _at(place: tuple[int, str]) -> str:
    return f"t.tableoid = {place[0]} AND t.ctid = {sql.literal(place[1])}"


def _delete(name: str, place: tuple[int, str]) -> str:
    return f"DELETE FROM {name} AS t WHERE {_at(place)} RETURNING t.tableoid, t.ctid"


def _copy(name: str, columns: Sequence[_Column], place: tuple[int, str]) -> _Change:
    """An INSERT of a copy of the row, with other values in its keys where one can be made up."""
    own = [c for c in columns if not c.generated]
    values = [(_new_value(name, c) if c.in_key else None) or f"t.{sql.quote(c.name)}" for c in own]
    listed = ", ".join(sql.quote(c.name) for c in own)
    return _Change(
        "insert a copy of a row",
        f"INSERT INTO {name} ({listed}) OVERRIDING SYSTEM VALUE"
        f" SELECT {', '.join(values)} FROM {name} AS t WHERE {_at(place)}"
        " RETURNING tableoid, ctid",
    )


def _to_another(name: str, column: _Column, place: tuple[int, str]) -> _Change:
    """An UPDATE of the column to another row's value, or in a key to one that no row has."""
    quoted = sql.quote(column.name)
    begin, end = f"UPDATE {name} AS t SET {quoted} = ", "RETURNING t.tableoid, t.ctid"
    new = _new_value(name, column)
    if new is not None and column.in_key:
        return _Change(
            f"set {column.name} to a new value", f"{begin}{new} WHERE {_at(place)} {end}"
        )
    # Some types have no equality, so they are compared as text.
    other = (
        f" FROM (SELECT o.{quoted} AS v FROM {name} AS o WHERE o.{quoted}::text IS DISTINCT FROM"
        f" (SELECT t.{quoted}::text FROM {name} AS t WHERE {_at(place)}) LIMIT 1) AS another"
        f" WHERE {_at(place)} "
    )
    return _Change(f"set {column.name} to another row's value", f"{begin}another.v{other}{end}")


def _to_null(name: str, column: _Column, place: tuple[int, str]) -> _Change:
    return _Change(
        f"set {column.name} to null",
        f"UPDATE {name} AS t SET {sql.quote(column.name)} = NULL WHERE {_at(place)}"
        " RETURNING t.tableoid, t.ctid",
    )


def _new_value(name: str, column: _Column) -> str | None:
    """SQL for a value that no row has; None where none can be made up."""
    quoted = sql.quote(column.name)
    if column.type in ("smallint", "integer", "bigint", "numeric"):
        return f"(SELECT max(m.{quoted}) + 1 FROM {name} AS m)"
    if column.type == "uuid":
        return "gen_random_uuid()"
    if column.category == "S" and "char" not in column.type:
        return f"t.{quoted} || '-' || md5(random()::text)"
    return None


def summary(found: Trial) -> dict[str, dict[Outcome, list[Try]]]:
    """The tries by source and outcome."""
    by_source: dict[str, dict[Outcome, list[Try]]] = {}
    for each in found.tries:
        by_source.setdefault(each.source, {}).setdefault(each.outcome, []).append(each)
    return by_source

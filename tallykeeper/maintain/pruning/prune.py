"""Deleting old rows of a source while what they count stays.

Invariants: capture sees the deletion as any other, so there is nothing by which a writer could hide
a change from it; at every snapshot the derived table and what is pending equal the SELECT over the
rows that are there, plus what pruned rows had added, but for frozen groups. What dies leaves whole
batches.

Where all tallies are counts and sums over single rows of the source, a batch is one statement: it
deletes rows, adds up what they had added to each tally, writes that into the table of pruned rows
beside the tally, and returns it to the log of the tally, to which capture writes what the deletion
takes off. No batch waits for a refresh, a rebuild or a verify.

Otherwise a batch is a transaction that alone may write these derived tables. It consumes what is
pending, so that after the deletion each log has what that altered and nothing else: of counts and
sums this becomes what pruned rows had added, and of other tallies it says which groups to freeze.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple, TypeVar

from sqlalchemy import Connection, Engine, Table, case, func, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from tallykeeper.catalog import state
from tallykeeper.catalog.state import prunings
from tallykeeper.catalog.transactions import retried, writing_together
from tallykeeper.database import sql
from tallykeeper.database.lock_holders import ROWS, Wanted
from tallykeeper.database.sessions import begin_computing
from tallykeeper.database.sqlstates import FOREIGN_KEY_VIOLATION, RESTRICT_VIOLATION, sqlstate_of
from tallykeeper.declarations.tally import Event, Tally
from tallykeeper.drift import dependencies
from tallykeeper.errors import CannotPrune
from tallykeeper.faults import quarantine
from tallykeeper.installation.declaration_version import require_same_declaration
from tallykeeper.maintain.derived_rows import drop_temporary, record
from tallykeeper.maintain.pruning import sources
from tallykeeper.maintain.pruning.sources import Source
from tallykeeper.maintain.refresh import consume, refresh
from tallykeeper.maintain.status import faults_of
from tallykeeper.select.tally import SelectTally
from tallykeeper.strategies import pruned_rows
from tallykeeper.strategies.counts_and_sums import CountsAndSums

T = TypeVar("T")

BATCH_ROWS = 20_000
# One at a time: two would wait for each other's keys.
_KEY = "hashtext('tallykeeper.prune')"
# The places of the rows of a batch, by relation.
_OLD = "pg_temp.old_rows_"


@dataclass(frozen=True)
class Pruned:
    """What a pruning did, or would do.

    `rows` were deleted, in `batches`, of those of `source` whose column `by` is before `before`;
    `tallies` count them still. `frozen` says of each tally that freezes groups how many it froze.
    `late` of the rows came after rows as old had been pruned: where they repeat those, they count
    twice. With `dry_run` these are what there is to do, and nothing is done.
    """

    source: str
    by: str
    before: datetime
    rows: int
    batches: int
    tallies: tuple[str, ...]
    dry_run: bool
    seconds: float = field(compare=False)
    frozen: Mapping[str, int] = field(default_factory=dict)
    late: int = 0


@dataclass(frozen=True)
class PruneProgress:
    """How far it is: rows deleted so far, of how many there were when it began."""

    source: str
    rows: int
    total: int


class _Deleted(NamedTuple):
    rows: int
    late: int


class _Undone(Exception):
    """A dry run is over, and what it did is rolled back."""


def prune(
    engine: Engine,
    source: str,
    before: datetime,
    *,
    tallies: Sequence[Tally],
    by: str | None = None,
    freeze: bool = False,
    dry_run: bool = False,
    batch_rows: int = BATCH_ROWS,
    on_progress: Callable[[PruneProgress], None] | None = None,
) -> Pruned:
    """Delete the rows of `source` that are older than `before`; what they count stays.

    `source` is a table with its schema, `tallies` are those that are declared; all that count the
    table have to be among them. `by` is the column that says how old a row is, by default the only
    one of a time or a date; times without zone are in UTC. Rows are deleted in batches of at most
    `batch_rows`, each committed. What was interrupted goes on when it is called again.

    Of tallies that are not made of counts and sums over single rows, those groups are frozen that
    lose rows, if `freeze` allows it: they stay what they are, whatever changes later. A dry run
    does all of it then, and undoes it.

    Raises CannotPrune where what rows count could not stay, with nothing deleted; TallyBusy, or
    SQLAlchemy's errors, with the batches deleted that were committed.
    """
    if before.tzinfo is None:
        raise CannotPrune(f"{before} has no time zone; expected one, as in {before}+00:00")
    started = time.perf_counter()
    before = before.astimezone(UTC)

    def look(connection: Connection) -> Source:
        return sources.found(connection, source, before, tallies, by, freeze=freeze)

    with engine.connect() as connection, connection.begin() as transaction:
        begin_computing(connection)
        found = look(connection)
        for tally in found.tallies:
            _require_proven(connection, tally)
        total = sources.number_of_rows(connection, found)
        transaction.rollback()
    work = _Work(engine, found, look, before, batch_rows)
    rows = batches = 0
    if dry_run:
        rows = total
        if found.freezing:
            work.try_all()
    else:
        for relation in found.relations:
            while deleted := work.batch(relation):
                rows, batches = rows + deleted, batches + 1
                if on_progress is not None:
                    on_progress(PruneProgress(found.name, rows, total))
        _finish(engine, found, before)
    return Pruned(
        found.name,
        found.by,
        before,
        rows,
        batches,
        tuple(tally.name for tally in found.tallies),
        dry_run,
        time.perf_counter() - started,
        dict(work.frozen),
        work.late,
    )


class _Work:
    """The batches of one pruning; `frozen` counts the groups that it froze, `late` late rows."""

    def __init__(
        self,
        engine: Engine,
        found: Source,
        look: Callable[[Connection], Source],
        before: datetime,
        most: int,
    ) -> None:
        self.engine, self.found, self.look = engine, found, look
        self.before, self.most = before, most
        self.frozen: Counter[str] = Counter({tally.name: 0 for tally in found.freezing})
        self.late = 0

    def batch(self, relation: str) -> int:
        """Delete some rows of a relation; how many, none where there are no more."""
        if self.found.freezing or self.found.cascades:
            for tally in self.found.tallies:
                # A tally that is stale is built, and little is left to do under the lock.
                refresh(self.engine, tally)
            deleted, frozen = self._explained(lambda: self._alone([relation], self.most))
            self.frozen.update(frozen)
            self.late += deleted.late
            return deleted.rows
        wanted = [Wanted(self.found.name, ROWS)]

        def attempt() -> _Deleted:
            with self.engine.connect() as connection, connection.begin():
                begin_computing(connection)
                sql.execute(connection, f"SELECT pg_advisory_xact_lock({_KEY})")
                # Who installs or alters anything over the source waits for this.
                sql.execute(connection, f"LOCK TABLE {self.found.name} IN ROW EXCLUSIVE MODE")
                now = self.look(connection)
                sql.execute(connection, sql.CLAIM_WRITING)
                return _prune_batch(connection, now, self.before, relation, self.most)

        what = f"pruning {self.found.name}"
        deleted = self._explained(lambda: retried(attempt, what, self.engine, wanted, _KEY))
        self.late += deleted.late
        return deleted.rows

    def try_all(self) -> None:
        """Do all of it, and undo it."""

        def tried() -> None:
            with suppress(_Undone):
                self._alone(self.found.relations, None)

        self._explained(tried)

    def _alone(self, relations: Sequence[str], most: int | None) -> tuple[_Deleted, Counter[str]]:
        """Delete at most so many rows in a transaction that alone may write the derived tables.

        How many they were, and how many groups were frozen. Without `most` all is undone: it
        raises _Undone.
        """

        def work(connection: Connection) -> tuple[_Deleted, Counter[str]]:
            # At once, before a writer changes rows that this snapshot does not see changed.
            for number, relation in enumerate(relations):
                rows = _old_rows(self.found, relation, most)
                sql.execute(
                    connection,
                    f"CREATE TEMPORARY TABLE {_OLD.partition('.')[2]}{number} AS\n{rows}",
                )
            now = self.look(connection)
            if now != self.found:
                raise CannotPrune(
                    f"{now.name}, or which tallies count it, has changed meanwhile; prune it again"
                )
            for tally in now.tallies:
                _consume_all(connection, tally)
            counted = []
            for number, relation in enumerate(relations):
                places = f"SELECT o.place FROM {_OLD}{number} AS o"
                counted.append(
                    _deleted(
                        connection,
                        f"WITH old_rows AS (\n  DELETE FROM ONLY {relation} AS r"
                        f" WHERE r.ctid = ANY (ARRAY({places}))"
                        f" RETURNING {now.late.format('r')} AS tally_late\n)",
                    )
                )
            deleted = _Deleted(sum(each.rows for each in counted), sum(e.late for e in counted))
            frozen = Counter({tally.name: _freeze(connection, tally) for tally in now.freezing})
            for tally in now.tallies:
                if not tally.freezes:
                    sql.execute(connection, _amounts_of(tally)[0].keep_logged())
            for number, _ in enumerate(relations):
                sql.execute(connection, f"DROP TABLE {_OLD}{number}")
            if most is None:
                self.frozen = frozen
                raise _Undone
            _record(connection, now, self.before, deleted)
            return deleted, frozen

        found = self.found
        written = [found.name, *found.cascades]
        what = f"pruning {found.name}"
        return writing_together(self.engine, found.tallies, work, what, rows_of=written)

    def _explained(self, work: Callable[[], T]) -> T:
        """Do `work`, and say in our words what the database refuses."""
        try:
            with dependencies.explaining(self.engine, self.found.tallies):
                return work()
        except DBAPIError as error:
            if sqlstate_of(error) not in (FOREIGN_KEY_VIOLATION, RESTRICT_VIOLATION):
                raise
            said = str(error.orig).splitlines()[0]
            raise CannotPrune(
                f"rows of {self.found.name} are referred to ({said}); delete the rows that refer to"
                " them first. Batches that were done stay"
            ) from error


def _consume_all(connection: Connection, tally: Tally) -> None:
    """Bring the derived table up to date. Raises CannotPrune where it is not exact then."""
    started = time.perf_counter()
    require_same_declaration(connection, tally)
    _require_proven(connection, tally)
    if reasons := state.stale_reasons(connection, tally):
        raise CannotPrune(
            f"{tally.name} is stale ({'; '.join(reasons)}), so what it counts could not stay; run"
            " `tally refresh`, and prune again"
        )
    pruned_rows.note_changes(connection, tally)
    outcome = consume(connection, tally)
    if outcome.consumed:
        record(connection, tally, "refresh", None, outcome, started, False)
    drop_temporary(connection)
    if tally.freezes and (held := quarantine.held(connection, tally)):
        raise CannotPrune(
            f"{tally.name} cannot hold {held:,} of its keys, which are in quarantine, so what they"
            " are could not stay; `tally verify` names them"
        )


def _freeze(connection: Connection, tally: Tally) -> int:
    """Freeze the groups that the log says lost rows; how many."""
    frozen = pruned_rows.freeze(connection, tally)
    # The derived table stays as it is, and what stands behind it is brought up to date.
    consume(connection, tally)
    drop_temporary(connection)
    return frozen


def _old_rows(source: Source, relation: str, most: int | None) -> str:
    """A SELECT of the places of at most so many old rows, which locks them."""
    limit = "" if most is None else f" LIMIT {most:d}"
    condition = source.condition.format("o")
    return f"SELECT o.ctid AS place FROM ONLY {relation} AS o WHERE {condition}{limit} FOR UPDATE"


def _prune_batch(
    connection: Connection, source: Source, before: datetime, relation: str, most: int
) -> _Deleted:
    """Delete at most so many rows of a relation; how many they were."""
    for tally in source.tallies:
        require_same_declaration(connection, tally)
        _require_proven(connection, tally)
    parts, used = [], dict[str, None]()
    for number, tally in enumerate(source.tallies, 1):
        sums, amounts = _amounts_of(tally)
        for table in sources.tables_of(connection, tally, source.name):
            used |= dict.fromkeys(tally.relevant(table))
            parts.append(sums.prune(number, amounts(table, "delete")))
    late = f"{source.late.format('r')} AS tally_late"
    columns = ", ".join([*(f"r.{sql.quote(name)}" for name in used), late])
    deleted = _deleted(
        connection,
        f"WITH old_rows AS (\n  DELETE FROM ONLY {relation} AS r\n"
        f"  WHERE r.ctid = ANY (ARRAY({_old_rows(source, relation, most)}))\n"
        f"  AND {source.condition.format('r')} RETURNING {columns}\n"
        f"), {', '.join(parts)}",
    )
    _record(connection, source, before, deleted)
    return deleted


def _deleted(connection: Connection, with_: str) -> _Deleted:
    """Run a WITH clause that deletes `old_rows`; how many they were."""
    row = sql.execute(
        connection,
        f"{with_}\nSELECT count(*) AS rows, count(*) FILTER (WHERE tally_late) AS late"
        " FROM old_rows",
    ).one()
    return _Deleted(row.rows, row.late)


def _finish(engine: Engine, source: Source, before: datetime) -> None:
    """Note that all rows older than that were pruned."""
    columns = prunings.c
    with engine.begin() as connection:
        connection.execute(
            update(prunings)
            .where(columns.source == source.name, columns.by_column == source.by)
            .where(columns.tally.in_([tally.name for tally in source.tallies]))
            .values(finished=func.greatest(columns.finished, before))
        )


def _record(connection: Connection, source: Source, before: datetime, deleted: _Deleted) -> None:
    if not deleted.rows:
        return
    columns = prunings.c
    for tally in source.tallies:
        values = {"by_column": source.by, "summing_hash": tally.summing_hash()}
        statement = insert(prunings).values(
            tally=tally.name,
            source=source.name,
            before=before,
            rows=deleted.rows,
            late=deleted.late,
            **values,
        )
        # An earlier day adds nothing where another column decides.
        is_same = columns.by_column == statement.excluded.by_column
        latest = case(
            (is_same, func.greatest(columns.before, statement.excluded.before)),
            else_=statement.excluded.before,
        )
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["tally", "source"],
                set_={
                    **values,
                    "before": latest,
                    "finished": case((is_same, columns.finished)),
                    "rows": columns.rows + statement.excluded.rows,
                    "late": func.coalesce(columns.late, 0) + statement.excluded.late,
                    "pruned_at": func.now(),
                },
            )
        )


def _require_proven(connection: Connection, tally: Tally) -> None:
    """Raise CannotPrune where the deletion may not be captured as it was declared."""
    faults = [str(fault) for fault in faults_of(connection, tally)]
    if faults:
        raise CannotPrune(
            f"{tally.name} may not see every change ({'; '.join(faults)}), so nothing that it"
            " counts is pruned; run `tally migrate`, then `tally refresh`"
        )
    pruned_rows.require_same(connection, tally)


def _amounts_of(
    tally: Tally,
) -> tuple[CountsAndSums, Callable[[Table, Event], list[str]]]:
    assert isinstance(tally, SelectTally)
    assert tally.summed is not None
    return tally.summed.sums, tally.summed.amounts

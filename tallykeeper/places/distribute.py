"""`tally migrate --distribute`: source tables, derived tables and capture put on a Citus cluster.

First everything is examined, and said before anything changes: how each table is divided, which
keys and constraints have to be others for that (they are the application's, and are left to it),
and which tallies cannot be exact. Then tables are distributed, and capture, change logs and live
views are installed at each place. Idempotent: after shards were moved, or workers added, it
installs what is missing where they are now.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from sqlalchemy import Connection, Engine, MetaData, text
from sqlalchemy.engine import Row

from tallykeeper.database import sql
from tallykeeper.database.sessions import begin_work
from tallykeeper.database.sql import CLAIM_WRITING
from tallykeeper.errors import DoesNotFit
from tallykeeper.installation import derived_tables
from tallykeeper.installation.migrate import Migrated
from tallykeeper.installation.schema_check import derived_mismatches
from tallykeeper.places import live_reads
from tallykeeper.places.citus import Divided, divided_tables, is_coordinator, places_of
from tallykeeper.places.columns import columns_of, family_of, kept_of, name_in, wanted_of
from tallykeeper.places.renaming import Name
from tallykeeper.places.tallies import kept_at
from tallykeeper.places.work import Done, install_everywhere
from tallykeeper.select.tally import SelectTally
from tallykeeper.system import System

_COLUMN = text("""
SELECT a.attnotnull AS is_filled FROM pg_attribute AS a
WHERE a.attrelid = to_regclass(:table) AND a.attname = :column AND NOT a.attisdropped""")
_KEYS = text("""
SELECT quote_ident(i.relname) AS index, quote_ident(c.conname) AS name,
    coalesce(c.contype::text, 'i') AS kind, pg_get_constraintdef(c.oid) AS definition
FROM pg_index AS x JOIN pg_class AS i ON i.oid = x.indexrelid
LEFT JOIN pg_constraint AS c ON c.conindid = x.indexrelid AND c.conrelid = x.indrelid
WHERE x.indrelid = to_regclass(:table) AND (x.indisunique OR x.indisexclusion)
    AND NOT EXISTS (
        SELECT FROM pg_attribute AS a
        WHERE a.attrelid = x.indrelid AND a.attname = :column AND a.attnum = ANY (x.indkey)
    )
ORDER BY 1""")
_REFERENCES = text("""
SELECT quote_ident(c.conname) AS name, n.nspname AS schema, t.relname AS table,
    ARRAY(SELECT a.attname::text FROM unnest(c.conkey) WITH ORDINALITY AS k (number, place)
        JOIN pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = k.number
        ORDER BY k.place) AS own,
    ARRAY(SELECT a.attname::text FROM unnest(c.confkey) WITH ORDINALITY AS k (number, place)
        JOIN pg_attribute AS a ON a.attrelid = c.confrelid AND a.attnum = k.number
        ORDER BY k.place) AS theirs
FROM pg_constraint AS c JOIN pg_class AS t ON t.oid = c.confrelid
JOIN pg_namespace AS n ON n.oid = t.relnamespace
WHERE c.conrelid = to_regclass(:table) AND c.contype = 'f' AND c.conparentid = 0 ORDER BY 1""")
_REFERRED = text("""
SELECT quote_ident(c.conname) AS name, n.nspname AS schema, t.relname AS table
FROM pg_constraint AS c JOIN pg_class AS t ON t.oid = c.conrelid
JOIN pg_namespace AS n ON n.oid = t.relnamespace
WHERE c.confrelid = to_regclass(:table) AND c.contype = 'f' AND c.conparentid = 0 ORDER BY 1""")
_HAS_IDENTITY = text("""
SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass(:table)
    AND attidentity <> '' AND NOT attisdropped)""")
_TRIGGERS = text("""
SELECT quote_ident(tgname) FROM pg_trigger
WHERE tgrelid = to_regclass(:table) AND NOT tgisinternal ORDER BY 1""")


@dataclass(frozen=True)
class Report:
    """What distributing takes, found without a change.

    `first` is what has to be done by the application's own migrations before, a statement or a
    sentence for each; `refused` says of tallies why they cannot be kept so; `planned` is what will
    be done. `columns` are the columns by which derived tables are divided, by the tally's name.
    """

    first: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    planned: list[str] = field(default_factory=list)
    columns: dict[str, str] = field(default_factory=dict)

    @property
    def is_ready(self) -> bool:
        """Whether nothing stands against it."""
        return not self.first and not self.refused


def examine(coordinator: Engine, system: System, without: Collection[str] = ()) -> Report:
    """What distributing the system takes. Changes nothing.

    Tallies that are named in `without` are left out. Raises DoesNotFit where the database is no
    coordinator, or the system does not say how its sources are divided.
    """
    with coordinator.connect() as connection:
        begin_work(connection)
        report = _Examined(connection, system, without).report()
        connection.rollback()
        return report


def distribute(
    coordinator: Engine, system: System, without: Collection[str] = ()
) -> list[Done[Migrated]]:
    """Distribute what is not yet, and install the tallies at each place; what was done at each.

    Raises DoesNotFit where the report of `examine` has anything against it; nothing was changed
    then. What was distributed stays so, whatever fails at a place.
    """
    with coordinator.begin() as connection:
        begin_work(connection)
        connection.exec_driver_sql(CLAIM_WRITING)
        examined = _Examined(connection, system, without)
        report = examined.report()
        if not report.is_ready:
            why = [*report.first, *(f"{name}: {why}" for name, why in report.refused.items())]
            raise DoesNotFit(f"not distributed: {'; '.join(why)}. Nothing was changed")
        examined.distribute(report)
    tallies = kept_of(system, without)
    family = family_of(system)
    places = places_of(coordinator, family)
    done = install_everywhere(tallies, places)
    kept = kept_at(tallies, places())
    live_reads.install(coordinator, family, examined.column, examined.tallies, kept)
    return done


class _Examined:
    """One system on a coordinator, its SELECTs compiled over the tables there."""

    def __init__(self, connection: Connection, system: System, without: Collection[str]) -> None:
        self._connection = connection
        if not is_coordinator(connection):
            raise DoesNotFit(
                "the database is not the coordinator of a Citus cluster with workers; name that in"
                " TALLY_DATABASE_URL"
            )
        self._family = family_of(system)
        self._wanted = wanted_of(system)
        self.column = self._wanted[self._family] or ""
        self._there = divided_tables(connection)
        self._report = Report()
        self._lacking: set[Name] = set()
        self.tallies: list[SelectTally] = []
        for tally in kept_of(system, without):
            if isinstance(tally, SelectTally):
                schema = tally.table.schema or "public"
                self.tallies.append(tally.over(tally.text, schema, tally.table.name))
            else:
                self._report.refused[tally.name] = "it is not declared by a SELECT alone"
        # As a system of their own: one may read the derived table of another.
        System(system.name, MetaData(schema=system.metadata.schema), self.tallies)

    def report(self) -> Report:
        """What it takes."""
        report = self._report
        # What refers to a key stands before the key, which cannot be dropped before it.
        for of_table in (self._of_table, self._of_references, self._of_keys):
            for name, column in self._wanted.items():
                report.first.extend(of_table(name, column))
        for name, column in self._wanted.items():
            if name not in self._there:
                report.planned.append(f"distribute {_shown(name)} {_by(column)}")
        if self._lacking:
            # The SELECTs could not be compiled.
            return report
        columns, refused = columns_of(self._connection, self.tallies, self._wanted)
        report.columns.update(columns)
        report.refused.update(refused)
        for tally in (tally for tally in self.tallies if tally.name in columns):
            name = name_in(tally)
            if name not in self._there:
                report.planned.append(
                    f"create {_shown(name)}, distributed {_by(columns[tally.name])}"
                )
            elif self._is_other(tally):
                report.planned.append(f"create {_shown(name)} anew: it has other columns now")
        report.planned.append(f"install {len(self.tallies)} tallies at each shard group")
        return report

    def distribute(self, report: Report) -> None:
        """Distribute the tables that are not yet."""
        # Foreign keys to reference tables forbid parallel changes in one transaction.
        sql.execute(self._connection, "SET LOCAL citus.multi_shard_modify_mode = 'sequential'")
        for name, column in self._wanted.items():
            if column is None and name not in self._there:
                self._call("create_reference_table", name)
        for name, column in self._wanted.items():
            if column is not None and name not in self._there:
                self._create_distributed(name, column)
        for tally in self.tallies:
            if name_in(tally) in self._there and not self._is_other(tally):
                continue
            if name_in(tally) in self._there:
                # PostgreSQL names what depends on it.
                sql.execute(self._connection, f"DROP TABLE {sql.name_of(tally.table)}")
            derived_tables.create(self._connection, [tally.table], "derived")
            self._create_distributed(name_in(tally), report.columns[tally.name])
        live_reads.create_directory(self._connection, self._family, self.column)

    def _create_distributed(self, name: Name, column: str) -> None:
        beside = "'none'" if name == self._family else _literal(self._family)
        self._call(
            "create_distributed_table",
            name,
            f", {sql.literal(column)}, colocate_with => {beside}",
        )

    def _call(self, function: str, name: Name, more: str = "") -> None:
        sql.execute(self._connection, f"SELECT {function}({_literal(name)}{more})")

    def _is_other(self, tally: SelectTally) -> bool:
        """Whether the derived table that is there is not the one that the SELECT makes."""
        return bool(derived_mismatches(self._connection, tally))

    # What has to be otherwise in a source table.

    def _of_table(self, name: Name, column: str | None) -> Iterator[str]:
        table = {"table": _qualified(name)}
        if not self._connection.scalar(text("SELECT to_regclass(:table) IS NOT NULL"), table):
            self._lacking.add(name)
            yield f"the table {_shown(name)} does not exist: create it"
            return
        there = self._there.get(name)
        if there is not None:
            yield from self._of_distributed(name, column, there)
            return
        for trigger in self._connection.scalars(_TRIGGERS, table):
            yield (
                f"{_shown(name)} has the trigger {trigger}, which a distributed table cannot have;"
                " drop it, or remove the tally that it captures for with `tally drop`"
            )
        if column is None:
            return
        found = self._connection.execute(_COLUMN, table | {"column": column}).one_or_none()
        if found is None:
            self._lacking.add(name)
            yield (
                f"{_shown(name)} has no column {column}: add it, fill it, and make it NOT NULL; or"
                f" declare {_shown(name)} as a table of which each place has all rows (None)"
            )
        elif not found.is_filled:
            quoted = sql.quote(column)
            yield f"ALTER TABLE {_qualified(name)} ALTER COLUMN {quoted} SET NOT NULL"

    def _of_distributed(self, name: Name, column: str | None, there: Divided) -> Iterator[str]:
        if there.column != column:
            yield (
                f"{_shown(name)} is distributed {_by(there.column)}, but is declared to be so"
                f" {_by(column)}; correct `distribution`, or distribute the table anew"
            )
        family = self._there.get(self._family)
        if column is not None and family is not None and there.colocation != family.colocation:
            yield (
                f"{_shown(name)} is not colocated with {_shown(self._family)}; run"
                f" SELECT update_distributed_table_colocation({_literal(name)},"
                f" colocate_with => {_literal(self._family)})"
            )

    def _of_keys(self, name: Name, column: str | None) -> Iterator[str]:
        if column is None or name in self._lacking or name in self._there:
            return
        table = {"table": _qualified(name), "column": column}
        for key in self._connection.execute(_KEYS, table):
            yield _without(name, sql.quote(column), key)

    def _of_references(self, name: Name, column: str | None) -> Iterator[str]:
        if name in self._lacking or name in self._there:
            return
        table = {"table": _qualified(name)}
        for key in self._connection.execute(_REFERRED, table):
            other = (key.schema, key.table)
            if other not in self._wanted:
                yield (
                    f"ALTER TABLE {_qualified(other)} DROP CONSTRAINT {key.name}: it refers to"
                    f" {_shown(name)}, but `distribution` says nothing of {_shown(other)}"
                )
        for key in self._connection.execute(_REFERENCES, table):
            to = (key.schema, key.table)
            drop = f"ALTER TABLE {_qualified(name)} DROP CONSTRAINT {key.name}"
            if to not in self._wanted:
                yield f"{drop}: it refers to {_shown(to)}, of which `distribution` says nothing"
                continue
            theirs = self._wanted[to]
            if theirs is None:
                if to not in self._there and self._connection.scalar(_HAS_IDENTITY, table):
                    yield (
                        f"{drop}: Citus cannot distribute a table with an identity column that"
                        f" refers to {_shown(to)}; add it again afterwards"
                    )
                continue
            pairs = list(zip(key.own, key.theirs, strict=True))
            if column is None or (column, theirs) not in pairs:
                yield f"{drop}: it refers to {_shown(to)}, which is divided, without {theirs}"


def _without(name: Name, column: str, key: Row[tuple[object, ...]]) -> str:
    """What to do about a unique key or an exclusion that does not have the column."""
    table = _qualified(name)
    if key.kind == "p" or key.kind == "u":
        columns = str(key.definition).partition("(")[2].rpartition(")")[0]
        word = "PRIMARY KEY" if key.kind == "p" else "UNIQUE"
        return f"ALTER TABLE {table} DROP CONSTRAINT {key.name}, ADD {word} ({column}, {columns})"
    if key.kind == "x":
        return f"ALTER TABLE {table} DROP CONSTRAINT {key.name}: it excludes rows without {column}"
    schema = sql.quote(name[0])
    return f"DROP INDEX {schema}.{key.index}: it is unique without {column}; make it with that"


def _shown(name: Name) -> str:
    return ".".join(name)


def _qualified(name: Name) -> str:
    return ".".join(map(sql.quote, name))


def _literal(name: Name) -> str:
    return sql.literal(_qualified(name))


def _by(column: str | None) -> str:
    return "as a reference table" if column is None else f"by {column}"

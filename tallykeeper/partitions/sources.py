"""Which tables are archived, and their partitions: what a system declares, what the catalog says.

A source is partitioned by ranges of one column that says when a row came; each partition is written
to a file of its own. Nothing is read or written of the rows here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time

from sqlalchemy import Connection, Table, text

from tallykeeper.database import sql
from tallykeeper.errors import DeclarationError


@dataclass(frozen=True)
class ArchivedSource:
    """A partitioned table of a system whose old partitions are archived before they are dropped.

    `column` is what it is partitioned by. A partition is due `after_days` days after its end.
    `unsettled` is an SQL condition of rows that are still to change: a partition with such a row is
    neither archived nor dropped. `lock` is the key, in SQL, of the advisory lock that transactions
    hold to their end which change rows of old partitions: a drop waits for it.

    `on_drop` and `on_loss` are SQL statements that the drop runs in its transaction, the latter
    where rows are lost that no file has; `%1$s` in them is the partition.

    Each of `subjects` names columns that say, together, of what a row is. Where rows of a subject
    have to be redacted, `redact(connection, relation)` changes them in `relation`, a temporary
    table with the columns of the source, which holds the rows of archived files. `staged` is a
    table that rows of files are loaded into for a while, with the file's number in `archived_file`.
    """

    system: str
    table: Table
    column: str
    after_days: Callable[[], int]
    unsettled: str = "false"
    lock: str | None = None
    on_drop: str = ""
    on_loss: str = ""
    subjects: tuple[tuple[str, ...], ...] = ()
    redact: Callable[[Connection, str], None] | None = None
    drop_function: str = ""
    staged: str | None = None

    def __post_init__(self) -> None:
        if self.column not in self.table.c:
            raise DeclarationError(f"{self.name}: there is no column {self.column!r}")
        if not self.key:
            raise DeclarationError(
                f"{self.name} cannot be archived: it has no primary key, by which rows of a file"
                " could be compared with it"
            )

    @property
    def name(self) -> str:
        """How records, commands and messages call it: `fediverse.stream_events`."""
        return f"{self.system}.{self.table.name}"

    @property
    def relation(self) -> str:
        """The table's name with its schema, quoted."""
        return sql.name_of(self.table)

    @property
    def key(self) -> tuple[str, ...]:
        """The columns of the primary key."""
        return tuple(column.name for column in self.table.primary_key)

    @property
    def dropping(self) -> str:
        """The name of the function that drops a partition."""
        return sql.in_engine_schema(
            self.drop_function or f"{self.system}_{self.table.name}_drop_partition"
        )


@dataclass(frozen=True)
class Partition:
    """A partition by its name, quoted and with its schema, and its bounds; None: it has none."""

    name: str
    starts_at: datetime | None
    ends_at: datetime | None

    @property
    def shown(self) -> str:
        """What people call it: its name without the schema."""
        return self.name.rpartition(".")[2].strip('"')


def rows_of(source: ArchivedSource, partition: Partition) -> str:
    """SQL: the partition's rows as a relation, read through the source.

    Who may read the source need not have been granted its partitions. In a session in UTC.
    """
    column = sql.quote(source.column)
    bounds = [
        f"{column} {operator} '{bound.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}'"
        for operator, bound in ((">=", partition.starts_at), ("<", partition.ends_at))
        if bound is not None
    ]
    return f"(SELECT * FROM {source.relation} WHERE {' AND '.join(bounds)})"


def why_not_partitioned(connection: Connection, source: ArchivedSource) -> str | None:
    """Why the table has no partitions that could be archived; None where it may have some."""
    found = connection.execute(
        text(
            "SELECT pg_get_partkeydef(c.oid) AS key, format('RANGE (%I)', CAST(:column AS text))"
            " AS expected FROM pg_class AS c WHERE c.oid = to_regclass(:name)"
        ),
        {"name": source.relation, "column": source.column},
    ).one_or_none()
    if found is None:
        return f"there is no table {source.relation}"
    if found.key is None:
        return f"{source.relation} is not partitioned"
    if found.key != found.expected:
        return f"{source.relation} is partitioned by {found.key}, not by {found.expected}"
    return None


def partitions(connection: Connection, source: ArchivedSource) -> Sequence[Partition]:
    """The partitions that have an end, the oldest first; those that are partitioned again: none.

    In a transaction of the engine's. Bounds without a time zone are in UTC.
    """
    found = connection.execute(
        text(
            "SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name,"
            " CAST((regexp_match(b.bound, 'FROM \\(''([^'']+)''\\)'))[1] AS timestamptz) AS lower,"
            " CAST((regexp_match(b.bound, 'TO \\(''([^'']+)''\\)'))[1] AS timestamptz) AS upper"
            " FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid"
            " JOIN pg_namespace AS n ON n.oid = c.relnamespace"
            " CROSS JOIN LATERAL (SELECT pg_get_expr(c.relpartbound, c.oid) AS bound) AS b"
            " WHERE i.inhparent = to_regclass(:name) AND c.relkind = 'r' AND b.bound <> 'DEFAULT'"
            " AND NOT i.inhdetachpending ORDER BY upper, lower"
        ),
        {"name": source.relation},
    )
    return [Partition(*row) for row in found if row.upper is not None]


def ending_by(connection: Connection, source: ArchivedSource, before: date) -> Sequence[Partition]:
    """Of the partitions those whose last day, in UTC, is before that day and over."""
    limit = datetime.combine(before, time.min, UTC)
    now = connection.exec_driver_sql("SELECT now()").scalar_one()
    ends = min(limit, now)
    return [
        each for each in partitions(connection, source) if each.ends_at and each.ends_at <= ends
    ]

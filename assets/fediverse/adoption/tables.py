"""What an application's schema has of the tables that are brought over, and whether it may be read.

Invariants: reading runs nobody else's code with the rights of this role. So a view, a
foreign table or a function of another role that a mere SELECT would call is refused by name, in
each transaction anew, before the first SELECT and while the tables are locked. Nor are fewer rows
read than there are: a table of which row security hides rows is refused, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from assets.fediverse.tables import mastodon_posts
from tallykeeper.catalog.transactions import retried
from tallykeeper.database import sessions
from tallykeeper.database.sql import execute, literal, quote
from tallykeeper.database.sqlstates import INSUFFICIENT_PRIVILEGE, sqlstate_of
from tallykeeper.errors import TallyError

T = TypeVar("T")

# The columns without which nothing can be made of a table.
NEEDED = {
    "instances": ("id", "base_url"),
    "mastodon_posts": ("id", "account_id"),
    "mastodon_accounts": ("id",),
    "post_versions": ("post_id", "valid_from"),
    "post_metric_snapshots": ("post_id", "captured_at"),
    "post_sentiments": ("post_id",),
    "stream_events": ("id", "received_at", "event_type", "payload"),
}
_NO_TABLES = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}
# No schema in which others may create functions: theirs would fit a call better than the server's.
_PATH = {"search_path": "pg_catalog, pg_temp"}


class AdoptionError(TallyError):
    """Nothing can be brought over: says what was expected, what came, and what to do."""


@dataclass(frozen=True)
class Old:
    """The application's tables: their quoted schema, and each one's columns with their types.

    The type of a domain is that under it: a cast to the domain would run its checks.
    """

    schema: str
    columns: Mapping[str, Mapping[str, str]]

    @property
    def knows_instances(self) -> bool:
        """Whether posts say of which instance they are."""
        return self.has("mastodon_posts", "instance_id")

    def has(self, table: str, *columns: str) -> bool:
        """Whether there is such a table, with these columns."""
        return table in self.columns and all(c in self.columns[table] for c in columns)

    def lacks(self, table: str) -> list[str]:
        """The columns without which nothing can be made of the table, and that it has not."""
        needed = NEEDED[table]
        if self.knows_instances and table != "instances":
            needed = (*needed, "instance_id")
        return [c for c in needed if not self.has(table, c)]

    def table(self, name: str) -> str:
        """The table's name in SQL."""
        return f"{self.schema}.{name}"

    def kind(self, table: str, column: str = "id") -> str:
        """The column's type in SQL, without a length."""
        return self.columns[table][column]

    def of(self, table: str, alias: str, there: str | None) -> str:
        """A condition: of that instance, as far as the table knows instances."""
        if there is None or not self.has(table, "instance_id"):
            return "true"
        kind = self.kind(table, "instance_id")
        if kind != self.kind("instances"):
            return f"{alias}.instance_id::text = {literal(there)}"
        return f"{alias}.instance_id = {literal(there)}::{kind}"

    def same(self, one: tuple[str, str, str], other: tuple[str, str, str]) -> str:
        """A condition: two columns have the same value. Each is alias, table and column."""
        (a, of_a, x), (b, of_b, y) = one, other
        if self.kind(of_a, x) == self.kind(of_b, y):
            return f"{a}.{x} = {b}.{y}"
        return f"{a}.{x}::text = {b}.{y}::text"


def reading(engine: Engine, schema: str, work: Callable[[Connection, Old], T]) -> T:
    """Do `work` in a transaction of its own, with the tables as they are now; commit.

    Raises AdoptionError, TallyBusy, or SQLAlchemy's errors.
    """

    def attempt() -> T:
        with engine.begin() as connection:
            sessions.begin_work(connection)
            execute(connection, sessions.set_local(_PATH))
            return work(connection, _found(connection, schema))

    try:
        return retried(attempt, "the adoption", engine)
    except DBAPIError as error:
        if sqlstate_of(error) != INSUFFICIENT_PRIVILEGE:
            raise
        said = str(error.orig).splitlines()[0]
        raise AdoptionError(f"{said}; GRANT this role what it needs, or use another") from error


def _found(connection: Connection, schema: str) -> Old:
    """Lock the tables that the schema has against changes of them. Raises AdoptionError."""
    if schema == mastodon_posts.schema:
        raise AdoptionError(
            f"{schema} is the schema of the tables to which posts are brought; move the others to a"
            " schema of their own with `tally migrate --move-aside`, and name that"
        )
    values = {"schema": schema, "tables": list(NEEDED)}
    known = _relations(connection, values)
    if known:
        tables = ", ".join(f"{quote(schema)}.{quote(name)}" for name in sorted(known))
        execute(connection, f"LOCK TABLE {tables} IN ACCESS SHARE MODE")
        if _relations(connection, values) != known:
            raise AdoptionError(f"tables were renamed in {schema} meanwhile; run it again")
    _require_own_code(connection, values)
    columns: dict[str, dict[str, str]] = {}
    for row in connection.execute(text(_COLUMNS), values):
        columns.setdefault(row.relation, {})[row.name] = row.type
    lacking = [n for n in NEEDED["mastodon_posts"] if n not in columns.get("mastodon_posts", {})]
    if lacking:
        raise AdoptionError(
            f"expected a table mastodon_posts with the columns id and account_id in the schema"
            f" {schema}, but there is no {' and no '.join(lacking)}; name the schema that has the"
            " application's tables"
        )
    return Old(quote(schema), columns)


def _relations(connection: Connection, values: Mapping[str, object]) -> dict[str, int]:
    """The tables' oids by name. Raises AdoptionError for what is no table, or not whole."""
    found: dict[str, int] = {}
    for row in connection.execute(text(_RELATIONS), values):
        if row.kind in _NO_TABLES:
            raise AdoptionError(
                f"expected a table, but {row.name} is {_NO_TABLES[row.kind]}, and reading it would"
                " run its owner's code with the rights of this role; copy its rows into a table"
            )
        if row.hides:
            raise AdoptionError(
                f"row security hides rows of {row.name} from the role {row.who}; run it as a role"
                " with BYPASSRLS, or disable row security on it"
            )
        if row.named:
            found[row.relation] = row.oid
    return found


def _require_own_code(connection: Connection, values: Mapping[str, object]) -> None:
    foreign = connection.execute(text(_FOREIGN_CODE), values).first()
    if foreign is not None:
        raise AdoptionError(
            f"reading {values['schema']} would run {foreign.function}, a function of the role"
            f" {foreign.owner}, with the rights of this role, for {foreign.why} needs it; copy the"
            f" rows into a table without that, or run it as {foreign.owner}"
        )


# With what inherits from them, which is read along: a partition may be a foreign table.
_TABLES = """tables (oid, relation, named) AS (
  SELECT c.oid, c.relname, true FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
  WHERE n.nspname = :schema AND c.relname = ANY (:tables)
    AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
  UNION
  SELECT i.inhrelid, t.relation, false FROM tables AS t JOIN pg_inherits AS i ON i.inhparent = t.oid
)"""

_RELATIONS = f"""
WITH RECURSIVE {_TABLES}
SELECT t.oid, t.relation, t.named, c.oid::regclass::text AS name, c.relkind::text AS kind,
  t.named AND row_security_active(c.oid) AS hides, current_user AS who
FROM tables AS t JOIN pg_class AS c ON c.oid = t.oid ORDER BY 4"""

_COLUMNS = f"""
WITH RECURSIVE {_TABLES}, under (relation, name, type) AS (
  SELECT t.relation, a.attname, a.atttypid FROM tables AS t JOIN pg_attribute AS a
    ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped WHERE t.named
  UNION
  SELECT u.relation, u.name, y.typbasetype FROM under AS u JOIN pg_type AS y ON y.oid = u.type
  WHERE y.typtype = 'd'
)
SELECT u.relation, u.name, format_type(u.type, -1) AS type
FROM under AS u JOIN pg_type AS y ON y.oid = u.type WHERE y.typtype <> 'd'"""

# What came with the server has smaller ones.
_FIRST_OID = 16384
# Functions that the server calls by itself, already while it plans: in expressions of indexes,
# checks, statistics and keys of partitions, and where a type has a cast that JSON is made by. Those
# of a superuser and of this role do nothing that could not be done otherwise.
_FOREIGN_CODE = f"""
WITH RECURSIVE {_TABLES}, objects (class, oid, why) AS (
  SELECT 'pg_class'::regclass, oid, 'the table ' || oid::regclass FROM tables
  UNION ALL
  SELECT 'pg_class'::regclass, i.indexrelid, 'the index ' || i.indexrelid::regclass
  FROM pg_index AS i JOIN tables AS t ON t.oid = i.indrelid
  UNION ALL
  SELECT 'pg_constraint'::regclass, c.oid, 'the constraint ' || c.conname
  FROM pg_constraint AS c JOIN tables AS t ON t.oid = c.conrelid
  UNION ALL
  SELECT 'pg_statistic_ext'::regclass, s.oid, 'the statistics object ' || s.stxname
  FROM pg_statistic_ext AS s JOIN tables AS t ON t.oid = s.stxrelid
), needed AS (
  SELECT o.why, d.refclassid AS class, d.refobjid AS oid FROM objects AS o
  JOIN pg_depend AS d ON d.classid = o.class AND d.objid = o.oid AND d.objsubid = 0
), domains (why, oid) AS (
  SELECT why, oid FROM needed WHERE class = 'pg_type'::regclass
  UNION
  SELECT n.why, y.typbasetype FROM domains AS n JOIN pg_type AS y ON y.oid = n.oid
  WHERE y.typtype = 'd'
), types (oid, why) AS (
  SELECT a.atttypid, 'the column ' || a.attname FROM pg_attribute AS a
    JOIN tables AS t ON t.oid = a.attrelid
  WHERE a.attnum > 0 AND NOT a.attisdropped AND a.atttypid >= {_FIRST_OID}
  UNION
  SELECT part.oid, s.why FROM types AS s JOIN pg_type AS y ON y.oid = s.oid
  CROSS JOIN LATERAL (
    SELECT y.typelem AS oid UNION ALL SELECT y.typbasetype
    UNION ALL SELECT rngsubtype FROM pg_range WHERE y.oid IN (rngtypid, rngmultitypid)
    UNION ALL SELECT atttypid FROM pg_attribute
      WHERE attrelid = y.typrelid AND attnum > 0 AND NOT attisdropped) AS part
  WHERE part.oid >= {_FIRST_OID}
), functions AS (
  SELECT why, oid FROM needed WHERE class = 'pg_proc'::regclass
  UNION
  SELECT n.why, p.oprcode FROM needed AS n JOIN pg_operator AS p ON p.oid = n.oid
  WHERE n.class = 'pg_operator'::regclass
  UNION
  SELECT n.why, d.refobjid FROM domains AS n JOIN pg_constraint AS c ON c.contypid = n.oid
  JOIN pg_depend AS d ON d.classid = 'pg_constraint'::regclass AND d.objid = c.oid
    AND d.refclassid = 'pg_proc'::regclass
  UNION
  SELECT s.why, c.castfunc FROM types AS s JOIN pg_cast AS c ON c.castsource = s.oid
  WHERE c.castfunc >= {_FIRST_OID}
)
SELECT f.why, p.oid::regprocedure::text AS function, r.rolname AS owner
FROM functions AS f JOIN pg_proc AS p ON p.oid = f.oid JOIN pg_roles AS r ON r.oid = p.proowner
WHERE NOT r.rolsuper AND r.rolname <> current_user ORDER BY 2, 1 LIMIT 1"""

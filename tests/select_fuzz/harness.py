"""Runs a case: writes, compares live views, refreshes, compares derived tables.

What a comparison finds is a `Wrong`: rows that are missing or too many, an error that the SELECT
itself has not, or a write that fails only because its table is captured. Invariant: definition and
what is compared with it are read by one statement.
"""

from __future__ import annotations

import re
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import psycopg
from sqlalchemy.exc import DBAPIError

from tests.select_fuzz.adapters import Adapter, Kept, Refused
from tests.select_fuzz.cases import Case

Connection = psycopg.Connection[tuple[object, ...]]
MOST_ROWS = 3000
# What equal values of it may look different.
_BY_VALUE = {"numeric", "numeric[]", "interval", "double precision", "real", "bpchar"}
_TIMEOUT = "4s"
# Settings of applications, under which capture has to log the same: each transaction has others.
_SESSIONS = (
    "SET LOCAL datestyle = 'German'; SET LOCAL intervalstyle = 'sql_standard'",
    "SET LOCAL standard_conforming_strings = off; SET LOCAL escape_string_warning = off",
    "SET LOCAL transform_null_equals = on",
    "SET LOCAL timezone = 'America/St_Johns'; SET LOCAL search_path = ''",
    "SET LOCAL extra_float_digits = -5; SET LOCAL bytea_output = 'escape'",
    "SET LOCAL quote_all_identifiers = on; SET LOCAL plan_cache_mode = 'force_generic_plan'",
)


@dataclass(frozen=True)
class Wrong:
    """A tally that was wrong: of which case, where and how."""

    seed: int
    tally: str
    where: str
    message: str
    strategy: str = ""

    @property
    def kind(self) -> str:
        """What was wrong without the values in it, so that the same faults count together."""
        if self.where in ("derived", "live"):
            return f"{self.where} ({self.strategy})"
        first = self.message.strip().split("\n")[0]
        return f"{self.where}: {re.sub(r'[0-9]+', '0', first)[:150]}"


@dataclass
class Results:
    """Counts of many cases."""

    cases: int = 0
    selects: int = 0
    invalid: Counter[str] = field(default_factory=Counter)
    kept: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    strategies: Counter[str] = field(default_factory=Counter)
    nodes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    snapshots: int = 0
    unreadable: int = 0
    transactions: int = 0
    wrong: list[Wrong] = field(default_factory=list)
    refused_examples: dict[str, tuple[int, str]] = field(default_factory=dict)
    reason_examples: dict[str, tuple[int, str]] = field(default_factory=dict)

    def add(self, other: Results) -> None:
        """Count another's as well."""
        for name in ("cases", "selects", "kept", "snapshots", "unreadable", "transactions"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("invalid", "refused", "strategies", "nodes", "reasons"):
            getattr(self, name).update(getattr(other, name))
        self.wrong += other.wrong
        for key, example in other.refused_examples.items():
            self.refused_examples.setdefault(key, example)
        for key, example in other.reason_examples.items():
            self.reason_examples.setdefault(key, example)


AdapterFactory = Callable[[str], Adapter]


def open_connection(url: str) -> Connection:
    """A connection as an application has one, that waits for nothing for long."""
    connection = psycopg.connect(url, autocommit=True, prepare_threshold=None)
    connection.execute(f"SET statement_timeout = '{_TIMEOUT}'; SET jit = off")
    return connection


def set_up(connection: Connection, case: Case) -> None:
    """Create the case's tables and their first rows."""
    for statement in case.ddl:
        connection.execute(statement)
    for statement in case.rows:
        try:
            connection.execute(statement)
        except psycopg.IntegrityError:
            continue


def sanitize(message: str) -> str:
    """A reason without names and numbers, so that the same reasons count together."""
    text = message.strip().split("\n")[0]
    text = re.sub(r'"[^"]*"|\'[^\']*\'|`[^`]*`', "...", text)
    return re.sub(r"\b(\w+\.)*t\d+\b|\d+", "n", text)[:160]


class Run:
    """One case in one empty database."""

    def __init__(self, case: Case, url: str, factory: AdapterFactory) -> None:
        self.case = case
        self.results = Results(cases=1)
        self.connection = open_connection(url)
        self.factory = factory
        self.url = url
        self.kept: list[Kept] = []
        self.adapter: Adapter
        self._stopped: set[str] = set()
        self._selected: dict[str, str] = {}

    def quick(self, *, stop: bool = False) -> Results:
        """Run it on one connection. `stop`: end at the first wrong."""
        try:
            self._quick(stop)
        finally:
            self.connection.close()
        return self.results

    def _quick(self, stop: bool) -> None:
        adapter = self.start()
        try:
            for round_ in self.case.rounds:
                for transaction in round_:
                    self.write(transaction, adapter)
                    for kept in self.running():
                        self.compare(kept, "live")
                    if stop and self.results.wrong:
                        return
                for kept in self.running():
                    self.refresh(adapter, kept)
                if stop and self.results.wrong:
                    return
        finally:
            adapter.close()

    def start(self) -> Adapter:
        """Create the tables, have the SELECTs kept, and compare once."""
        set_up(self.connection, self.case)
        valid = [name for name, text in self.case.selects.items() if self._is_valid(text)]
        self.adapter = adapter = self.factory(self.url)
        self.results.selects += len(valid)
        for name in valid:
            self._keep(adapter, name)
        for kept in self.running():
            self.refresh(adapter, kept)
        return adapter

    def running(self) -> Iterable[Kept]:
        """The tallies that were right until now."""
        return [k for k in self.kept if k.name not in self._stopped]

    def _is_valid(self, select: str) -> bool:
        try:
            with self.connection.transaction(force_rollback=True):
                self.connection.execute(f"CREATE VIEW src.tried AS {select}")
                found = self.connection.execute("SELECT count(*) FROM src.tried").fetchone()
        except psycopg.Error as error:
            self.results.invalid[sanitize(str(error))] += 1
            return False
        if found is None or int(str(found[0])) > MOST_ROWS:
            self.results.invalid["too many rows"] += 1
            return False
        return True

    def _keep(self, adapter: Adapter, name: str) -> None:
        try:
            kept = adapter.keep(name, self.case.selects[name])
        except Refused as refused:
            reason = sanitize(str(refused))
            self.results.refused[reason] += 1
            self.results.refused_examples[reason] = (self.case.seed, self.case.selects[name])
            return
        except Exception as error:  # noqa: BLE001 -- any failure of the engine is a finding
            self.found(name, "install", error)
            return
        self.results.kept += 1
        self.results.strategies[kept.strategy] += 1
        self.results.nodes.update(kept.nodes)
        for reason in map(sanitize, kept.reasons if kept.strategy == "whole" else ()):
            self.results.reasons[reason] += 1
            self.results.reason_examples[reason] = (self.case.seed, self.case.selects[name])
        self.kept.append(kept)

    def found(self, name: str, where: str, message: object) -> None:
        """Note what was wrong of a tally, which is not looked at any more."""
        strategy = next((k.strategy for k in self.kept if k.name == name), "")
        text = f"{type(message).__name__}: {message}" if isinstance(message, Exception) else message
        self._stopped.add(name)
        self.results.wrong.append(Wrong(self.case.seed, name, where, str(text), strategy))

    def write(self, transaction: tuple[str, ...], adapter: Adapter | None = None) -> None:
        """Run a transaction; an error rolls it back, and only those of constraints may be."""
        self.results.transactions += 1
        if adapter is not None and hasattr(adapter, "last_write"):
            adapter.last_write = " ".join(transaction)
        failed = write(self.connection, transaction)
        if failed is not None:
            self.results.wrong.append(Wrong(self.case.seed, "", "write", failed))

    def refresh(self, adapter: Adapter, kept: Kept) -> None:
        """Refresh the tally and compare its derived table."""
        try:
            adapter.refresh(kept)
        except Exception as error:  # noqa: BLE001 -- any failure of the engine is a finding
            if self.is_readable(kept):
                self.found(kept.name, "refresh", error)
            return
        self.compare(kept, "derived")

    def is_readable(self, kept: Kept) -> bool:
        """Whether the SELECT itself has no error, as by a division by zero."""
        try:
            self.connection.execute(f"SELECT count(x.*) FROM {kept.definition} AS x")
        except psycopg.Error:
            self.results.unreadable += 1
            self._stopped.add(kept.name)
            return False
        return True

    def compare(self, kept: Kept, where: str) -> None:
        """Compare definition and derived table, or live view, in one statement."""
        self.results.snapshots += 1
        try:
            compared = self.adapter.live(kept) if where == "live" else kept.derived
            found = differences(self.connection, kept, compared, self.columns(kept))
        except (psycopg.Error, DBAPIError) as error:
            if isinstance(error, psycopg.errors.QueryCanceled) or self.is_readable(kept):
                self.found(kept.name, where + " error", error)
            return
        if found:
            self.found(kept.name, where, "\n".join(found))

    def columns(self, kept: Kept) -> str:
        """How the tally's columns are compared."""
        if kept.name not in self._selected:
            self._selected[kept.name] = compared_columns(self.connection, kept.definition)
        return self._selected[kept.name]


def write(connection: Connection, transaction: Iterable[str]) -> str | None:
    """Run the transaction; what failed, where no constraint did."""
    statements = tuple(transaction)
    session = _SESSIONS[zlib.crc32("".join(statements).encode()) % len(_SESSIONS)]
    try:
        connection.execute("BEGIN")
        connection.execute(session)
        for statement in statements:
            connection.execute(statement)
            if statement == "ROLLBACK":
                return None
        connection.execute("COMMIT")
    except psycopg.IntegrityError:
        connection.execute("ROLLBACK")
    except (psycopg.OperationalError, psycopg.errors.QueryCanceled):
        # Deadlocks, locks that others hold, rows that moved to another partition.
        connection.execute("ROLLBACK")
    except psycopg.Error as error:
        connection.execute("ROLLBACK")
        return f"{type(error).__name__}: {error}"
    return None


def compared_columns(connection: Connection, relation: str) -> str:
    """Its columns, as text but where equal values may look different."""
    rows = connection.execute(
        "SELECT quote_ident(attname), format_type(atttypid, NULL) FROM pg_attribute"
        " WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum",
        (relation,),
    ).fetchall()
    return ", ".join(n if t in _BY_VALUE else f"{n}::text AS {n}" for n, t in rows)  # type: ignore[misc]


def differences(connection: Connection, kept: Kept, compared: str, columns: str) -> list[str]:
    """Rows that are missing or too many, at most four of each."""
    rows = connection.execute(
        f"WITH d AS MATERIALIZED (SELECT {columns} FROM {kept.definition} AS x),"
        f" k AS MATERIALIZED (SELECT {columns} FROM {compared} AS x)"
        " (SELECT 'missing', t::text FROM (TABLE d EXCEPT ALL TABLE k) AS t LIMIT 4) UNION ALL"
        " (SELECT 'too many', t::text FROM (TABLE k EXCEPT ALL TABLE d) AS t LIMIT 4)"
    ).fetchall()
    return [f"{what}: {row}" for what, row in rows]


def report(results: Results, started: float) -> str:
    """The counts in lines."""
    seconds = max(time.monotonic() - started, 0.001)
    accepted = results.kept / max(results.selects, 1)
    kept = max(results.kept, 1)
    not_whole = (results.kept - results.strategies["whole"]) / kept
    lines = [
        f"{results.cases} cases in {seconds:.0f} s: {results.selects} SELECTs"
        f" ({sum(results.invalid.values())} others refused by PostgreSQL or too large),"
        f" {results.transactions} transactions, {results.snapshots} snapshots compared",
        f"accepted {results.kept} ({accepted:.1%}); not whole {not_whole:.1%} of them;"
        f" wrong {len(results.wrong)}; unreadable {results.unreadable}",
        f"strategies: {_histogram(results.strategies)}; of nodes: {_histogram(results.nodes)}",
    ]
    for title, counts, examples in (
        ("refused", results.refused, results.refused_examples),
        ("whole because", results.reasons, results.reason_examples),
    ):
        for reason, number in counts.most_common(25):
            seed, text = examples.get(reason, (0, ""))
            lines.append(f"  {title} {number}: {reason}\n      {seed}: {text[:300]}")
    kinds = Counter(w.kind for w in results.wrong)
    for kind, number in kinds.most_common(40):
        first = min((w for w in results.wrong if w.kind == kind), key=lambda w: w.seed)
        seeds = sorted({f"{w.seed}/{w.tally}" for w in results.wrong if w.kind == kind})[:8]
        lines.append(
            f"  wrong {number}: {kind}\n      {' '.join(seeds)}\n      {first.message[:300]}"
        )
    return "\n".join(lines)


def _histogram(counts: Counter[str]) -> str:
    total = max(counts.total(), 1)
    return ", ".join(f"{k} {v} ({v / total:.0%})" for k, v in counts.most_common()) or "none"

"""Applying a change to a fresh copy of an installation, and looking at what could be wrong then.

`Original` is the installation, made once; `examine` copies it, applies one change, lets the
application write, and reports what reads, `tally status`, `tally migrate`, `tally refresh` and
`tally verify` make of it (`Seen`). `judge` says what of that is not as it must be.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg
from rich.console import Console
from sqlalchemy.exc import DBAPIError

from tallykeeper import NotInstalled, Tally, TallyError, rebuild, refresh, verify
from tallykeeper import status as status_of
from tallykeeper.cli.failures import explain
from tallykeeper.cli.output.tallies import show_status
from tallykeeper.database.connections import DatabaseUnavailable, open_engine
from tallykeeper.database.sql import columns
from tallykeeper.drift import catalog_rows, dependencies, facts
from tallykeeper.installation.migrate import migrate
from tests.catalogue.beds import Bed
from tests.catalogue.change import Change
from tests.role_world import APPLICATION, WANTED, WEB, World, divide, libpq_url, world_of

LOGINS = {
    "superuser": "",
    "application": APPLICATION,
    "owner": "deploy",
    "refresher": "runs",
    "writer": WEB,
    "reader": "look",
}
NAMES = {
    "{app}": f'"{APPLICATION.replace(chr(34), chr(34) * 2)}"',
    "{owner}": f'"{WANTED.owner}"',
    "{refresher}": '"' + WANTED.refresher.replace('"', '""') + '"',
    "{reader}": f'"{WANTED.reader}"',
}
PLAIN = "SET datestyle TO 'ISO'; SET timezone TO 'UTC'"
# What can go wrong in the engine; a driver that cannot read a value raises the last.
FAILURES = (DBAPIError, TallyError, DatabaseUnavailable, NotImplementedError)


@dataclass(frozen=True)
class Reading:
    """One tally as a reader finds it: right, wrong, or refused, and what was wrong or said."""

    how: str
    detail: str = ""


@dataclass
class Seen:
    """What came of a change."""

    blocked: str = ""
    broken_writes: list[str] = field(default_factory=list)
    readings: dict[str, Reading] = field(default_factory=dict)
    named: dict[str, list[str]] = field(default_factory=dict)
    verified: dict[str, str] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)
    repaired: dict[str, Reading] = field(default_factory=dict)
    still_named: dict[str, list[str]] = field(default_factory=dict)

    def silently_wrong(self) -> list[str]:
        """The tallies that show a wrong figure which nothing speaks of."""
        found = [
            f"{name}: {reading.detail}, and `tally status` says nothing"
            for name, reading in self.readings.items()
            if reading.how == "wrong" and not self.named.get(name)
        ]
        return found + [
            f"after migrate and refresh, {name}: {reading.detail}, and `tally status` says nothing"
            for name, reading in self.repaired.items()
            if reading.how == "wrong" and not self.still_named.get(name)
        ]


class Original:
    """An installation in a database of its own, which others are copied from."""

    def __init__(self, world: World, bed: Bed) -> None:
        self.bed = bed
        self.url = world.admin.url
        self._copies = 0
        divide(world, [bed.system])
        run(world, "application", bed.filled)
        for tally in bed.system.tallies:
            refresh(world.runs, tally)
            assert verify(world.runs, tally).ok
            with world.runs.connect() as connection:
                looked = catalog_rows.look(connection, tally, facts.FORMAT)
                assert looked is not None
                assert looked.is_same, "a refresh after it has nothing to compare"
        world.close()
        world.admin.dispose()

    @contextmanager
    def copy(self) -> Iterator[World]:
        """A fresh copy of it."""
        self._copies += 1
        own, name = self.url.database, f"{self.url.database}_{self._copies}"
        server = self.url.set(database="postgres", drivername="postgresql")
        with psycopg.connect(
            server.render_as_string(hide_password=False), autocommit=True
        ) as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{own}" STRATEGY file_copy')
            url = self.url.set(database=name).render_as_string(hide_password=False)
            world = World(open_engine(url))
            try:
                yield world
            finally:
                world.close()
                world.admin.dispose()
                connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@contextmanager
def original(url: str, bed: Bed) -> Iterator[Original]:
    """The bed's installation in the empty database at `url`, its roles with it."""
    admin = open_engine(url)
    with world_of(admin, [bed.system]) as world:
        yield Original(world, bed)
    admin.dispose()


def run(world: World, role: str, statements: Sequence[str]) -> None:
    """Run the statements as the role, each a transaction of its own, in one session."""
    with _session(world, role) as connection:
        for statement in statements:
            connection.execute(_filled_in(statement, world))


def examine(source: Original, change: Change) -> Seen:
    """What comes of the change in a fresh copy of the installation."""
    seen = Seen()
    with source.copy() as world:
        try:
            try:
                run(world, change.role, change.statements)
            except psycopg.Error as error:
                seen.blocked = _said(error)
            _write(world, source.bed, change, seen)
            seen.readings = _readings(world, source.bed)
            seen.named = _named(world, source.bed, seen)
            _look(world, source.bed, seen)
            _repair(world, source.bed, change, seen)
            if not change.is_harmless:
                # Repaired capture has to see what is written from now on.
                _write(world, source.bed, change, seen)
            seen.repaired = _readings(world, source.bed)
            seen.still_named = _named(world, source.bed, seen)
        finally:
            for statement in change.undo:
                run(world, "superuser", [statement])
    return seen


def judge(change: Change, seen: Seen) -> list[str]:
    """What is not as it must be; empty where all is well."""
    found = list(dict.fromkeys(seen.unclear))
    if change.outcome != "audited":
        found += seen.silently_wrong()
    if seen.broken_writes and not change.breaks_writes:
        found += [f"a write of the application fails: {what}" for what in seen.broken_writes]
    found += _judged_outcome(change, seen)
    found += _judged_repair(change, seen)
    return found


def _judged_outcome(change: Change, seen: Seen) -> list[str]:
    said = [line for lines in seen.named.values() for line in lines]
    refused = [r.detail for r in seen.readings.values() if r.how == "refused"]
    not_right = [f"{n}: {r.detail}" for n, r in seen.readings.items() if r.how != "right"]
    if seen.blocked and change.outcome != "blocked":
        return [f"the change is refused: {seen.blocked}"]
    if change.outcome == "unharmed":
        return [*(f"status says: {line}" for line in said), *not_right]
    sentences = {"named": said, "refused": refused, "blocked": [seen.blocked]}
    if change.outcome == "audited":
        if said:
            return [f"status names it already: {line}" for line in said]
        if not any(seen.verified.values()):
            return ["verify finds nothing either"]
        return []
    if not any(change.says in sentence for sentence in sentences[change.outcome] if sentence):
        return [f"expected {change.says!r} in {sentences[change.outcome]}"]
    return []


def _judged_repair(change: Change, seen: Seen) -> list[str]:
    if change.after != "right":
        said = [*seen.refusals, *(line for lines in seen.still_named.values() for line in lines)]
        if any(change.after in sentence for sentence in said):
            return []
        return [f"expected {change.after!r} after migrate and refresh, but there is {said}"]
    found = [f"migrate or refresh refuses: {sentence}" for sentence in seen.refusals]
    found += [
        f"after migrate and refresh, {name}: {reading.how} ({reading.detail})"
        for name, reading in seen.repaired.items()
        if reading.how != "right"
    ]
    return found + [
        f"after migrate and refresh, status says: {line}"
        for lines in seen.still_named.values()
        for line in lines
    ]


@contextmanager
def _session(world: World, role: str) -> Iterator[psycopg.Connection[Any]]:
    # A name with blanks in it has no place in an address.
    user = LOGINS[role] or world.admin.url.username
    with psycopg.connect(libpq_url(world.admin), user=user, autocommit=True) as connection:
        yield connection


def _filled_in(statement: str, world: World) -> str:
    for placeholder, name in NAMES.items():
        statement = statement.replace(placeholder, name)
    return statement.replace("{database}", str(world.admin.url.database))


def _write(world: World, bed: Bed, change: Change, seen: Seen) -> None:
    """The application writes; what fails of it by our triggers is noted."""
    with _session(world, "writer") as connection:
        for statement in (*bed.writes, *change.writes):
            try:
                connection.execute(_filled_in(statement, world))
            except psycopg.Error as error:
                context = f"{error.diag.context or ''} {_said(error)}"
                if "tallykeeper" in context or "tally" in context:
                    seen.broken_writes.append(f"{_said(error)} ({statement[:60]} ...)")


def _readings(world: World, bed: Bed) -> dict[str, Reading]:
    with _session(world, "reader") as look, _truth_session(world) as admin:
        return {
            tally.name: _reading(look, admin, tally, bed.truths[tally.name])
            for tally in bed.system.tallies
        }


@contextmanager
def _truth_session(world: World) -> Iterator[psycopg.Connection[Any]]:
    """A session that no setting of the database and no row security has a part in."""
    with _session(world, "superuser") as admin:
        admin.execute(f"SET search_path TO pg_catalog; SET row_security TO off; {PLAIN}")
        yield admin


def _reading(
    look: psycopg.Connection[Any], admin: psycopg.Connection[Any], tally: Tally, truth: str
) -> Reading:
    try:
        live = _read(look, f"SELECT {columns(tally.columns)} FROM {tally.live_name}")
    except psycopg.Error as error:
        return Reading("refused", _said(error))
    try:
        wanted = admin.execute(truth).fetchall()
    except psycopg.Error as error:
        # There is nothing that the figures could be right about.
        return Reading("wrong", f"it has {len(live)} rows, while the sources say: {_said(error)}")
    missing, extra = Counter(wanted) - Counter(live), Counter(live) - Counter(wanted)
    if not missing and not extra:
        return Reading("right")
    return Reading("wrong", f"live {_shown(extra)}, the sources {_shown(missing)}")


def _read(look: psycopg.Connection[Any], query: str) -> list[tuple[Any, ...]]:
    """The rows, computed under the reader's settings, but written as this driver reads them."""
    try:
        look.execute(f"BEGIN; DECLARE found CURSOR WITH HOLD FOR {query}; COMMIT")
        look.execute(f"BEGIN; {PLAIN.replace('SET ', 'SET LOCAL ')}")
        return look.execute("FETCH ALL FROM found").fetchall()
    finally:
        look.execute("ROLLBACK; CLOSE ALL")


def _shown(rows: Counter[tuple[Any, ...]]) -> str:
    return ", ".join("(" + ", ".join(map(str, row)) + ")" for row in list(rows)[:2]) or "nothing"


def _named(world: World, bed: Bed, seen: Seen) -> dict[str, list[str]]:
    """What `tally status` says of each tally below its table."""
    named: dict[str, list[str]] = {}
    for tally in bed.system.tallies:
        try:
            found = status_of(world.runs, tally)
        except NotInstalled:
            found = None
        except FAILURES as error:
            named[tally.name] = [_explained(f"status of {tally.name}", error, seen)]
            continue
        shown = io.StringIO()
        show_status([(tally, found)], {}, Console(file=shown, width=1000))
        lines = shown.getvalue().splitlines()
        named[tally.name] = [line for line in lines if line.startswith(f"{tally.name}:")]
    return named


def _look(world: World, bed: Bed, seen: Seen) -> None:
    """Whether the next refresh finds what a comparison finds: it compares for that alone."""
    with suppress(*FAILURES), world.runs.connect() as connection:
        for tally in dependencies.recorded_among(connection, bed.system.tallies):
            looked = catalog_rows.look(connection, tally, facts.FORMAT)
            found = dependencies.drifts_of(connection, tally)
            if looked and looked.is_same and found:
                said = "; ".join(map(str, found))
                seen.unclear.append(f"a refresh of {tally.name} would not find: {said}")


def _repair(world: World, bed: Bed, change: Change, seen: Seen) -> None:
    """What an operator does next, and whether what is then called right is right."""
    if change.outcome == "audited":
        _audit(world, bed, seen)
    try:
        migrated = migrate(world.deploy, [bed.system])
        seen.refusals += [
            f"there is no {', '.join(missing)}" for missing in migrated.skipped.values()
        ]
    except FAILURES as error:
        seen.refusals.append(_explained("migrate", error, seen))
    with _truth_session(world) as admin:
        for tally in bed.system.tallies:
            try:
                refresh(world.runs, tally)
                if verify(world.runs, tally).ok:
                    _require_stored(admin, tally, bed.truths[tally.name], seen)
            except FAILURES as error:
                seen.refusals.append(_explained(f"refresh of {tally.name}", error, seen))


def _audit(world: World, bed: Bed, seen: Seen) -> None:
    """The comparison that finds what nothing else does, and what a repair does then."""
    for tally in bed.system.tallies:
        result = verify(world.runs, tally)
        seen.verified[tally.name] = "" if result.ok else f"{result.differing} keys differ"
        if not result.ok:
            rebuild(world.runs, tally)


def _require_stored(admin: psycopg.Connection[Any], tally: Tally, truth: str, seen: Seen) -> None:
    """A verify that is content with what is not so is the worst of all."""
    with suppress(psycopg.Error):
        stored = admin.execute(f"SELECT {columns(tally.columns)} FROM {tally.table}").fetchall()
        if Counter(stored) != Counter(admin.execute(truth).fetchall()):
            seen.unclear.append(f"verify calls {tally.name} right, and it is not")


def _explained(what: str, error: BaseException, seen: Seen) -> str:
    sentence = explain(error)
    if sentence is None:
        said = str(getattr(error, "orig", error)).splitlines()[0]
        seen.unclear.append(f"{what}: no sentence for {type(error).__name__}: {said}")
        return said
    return sentence


def _said(error: psycopg.Error) -> str:
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"{error.sqlstate or ''} {first}".strip()

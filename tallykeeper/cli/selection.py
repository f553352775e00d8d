"""Which tallies and incidents a command is about: all in the database, or those that are named."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from sqlalchemy import Engine, select

from tallykeeper import Incident, NotInstalled, System, Tally
from tallykeeper.catalog import state
from tallykeeper.discovery import active_systems, all_systems, chosen_systems, is_kept, left_out
from tallykeeper.faults import incidents as written

# What a tag begins with, where tallies are named.
TAG = "tag:"
MOST_OPEN = 1_000
MOST_RESOLVED = 100


class UnknownTally(ValueError):
    """A name that no tally has, or more than one."""


def named_tallies(engine: Engine, names: Sequence[str]) -> list[Tally]:
    """The tallies that `names` mean, each once; without names all that have their sources.

    Those that a pattern or a tag means have their sources, too, if any of them has. Raises
    UnknownTally, SettingError, or NotInstalled where no system is active.
    """
    if names:
        return list(dict.fromkeys(t for name in names for t in _present(engine, name)))
    tallies = [tally for tally, lacking in kept_tallies(engine).items() if not lacking]
    if not tallies:
        known = ", ".join(system.name for system in chosen_systems())
        raise NotInstalled(
            f"this database has the source tables of no system ({known}); make them with"
            " `tally migrate --with-sources`, or name the schema that has them in"
            " TALLY_SCHEMA_<SYSTEM>"
        )
    return tallies


def kept_tallies(engine: Engine) -> dict[Tally, list[str]]:
    """The tallies of the active systems, with the tables that each lacks: then it is left out."""
    found: dict[Tally, list[str]] = {}
    for system in active_systems(engine):
        with engine.connect() as connection:
            # One that is asked for by name is not passed over, whatever it lacks.
            without = left_out(connection, system) if is_kept(connection, system) else {}
        found |= {tally: without.get(tally, []) for tally in system.tallies}
    return found


def systems_of(tallies: Sequence[Tally]) -> list[System]:
    """The systems that have any of the tallies, in their own order."""
    return [system for system in all_systems() if set(system.tallies) & set(tallies)]


def is_pattern(name: str) -> bool:
    """Whether it may mean several tallies: `media.*`, `tag:finance`."""
    return name.startswith(TAG) or bool(set(name) & set("*?["))


def matching(name: str) -> list[Tally]:
    """The tallies that a name, a pattern or a tag means, whatever the database has.

    A pattern without a point or slash is one for tables. Raises UnknownTally where it means none.
    """
    if not is_pattern(name):
        return [find_tally(name)]
    tallies = [tally for system in all_systems() for tally in system.tallies]
    if name.startswith(TAG):
        found = [tally for tally in tallies if name.removeprefix(TAG) in tally.tags]
        known = sorted({tag for tally in tallies for tag in tally.tags})
        if not found:
            raise UnknownTally(f"no tally has the {name!r}; there are {_listed(known)}")
        return found
    wanted = name.replace("/", ".", 1)
    found = [
        tally
        for tally in tallies
        if fnmatchcase(tally.name if "." in wanted else tally.table.name, wanted)
    ]
    if not found:
        names = _listed([tally.name for tally in tallies])
        raise UnknownTally(f"no tally matches {name!r}; there are {names}")
    return found


def changed_among(engine: Engine, tallies: Sequence[Tally]) -> list[Tally]:
    """Those that are not installed, or declared otherwise than when they were."""
    found = []
    with engine.connect() as connection:
        for tally in tallies:
            try:
                known = state.installed(connection, tally)
            except NotInstalled:
                connection.rollback()
                known = None
            if known is None or known.declaration_hash != tally.declaration_hash():
                found.append(tally)
    return found


def _present(engine: Engine, name: str) -> list[Tally]:
    """Those of a pattern that have their sources; where none has, all, which then say so."""
    found = matching(name)
    if not is_pattern(name):
        return found
    kept = kept_tallies(engine)
    return [tally for tally in found if tally in kept and not kept[tally]] or found


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def find_tally(name: str) -> Tally:
    """The tally called `media.daily_contributions`, `media/daily_contributions`, or by its table.

    Raises UnknownTally, which lists the names that there are.
    """
    tallies = [tally for system in all_systems() for tally in system.tallies]
    wanted = name.replace("/", ".", 1)
    exact = [tally for tally in tallies if tally.name == wanted]
    found = exact or [tally for tally in tallies if tally.table.name == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise UnknownTally(
            f"{name!r} is ambiguous; write {' or '.join(tally.name for tally in found)}"
        )
    raise UnknownTally(
        f"no tally is called {name!r}; there are {', '.join(tally.name for tally in tallies)}"
    )


def incidents_of(engine: Engine, names: Sequence[str], *, open_only: bool) -> list[Incident]:
    """The incidents of what `names` mean, or all: open ones first, of each the latest first.

    A name is a tally's, or what an incident is about besides: a job, a schedule, a check. Those
    that were resolved are a hundred at most.

    Raises UnknownTally, or NotInstalled where incidents are not written down yet.
    """
    with engine.connect() as connection:
        if not state.is_there(connection, written.incidents):
            raise NotInstalled(
                "incidents are not written down in this database yet; run `tally migrate` first"
            )
        subjects: list[str | None] = [None]
        if names:
            columns = written.incidents.c
            known = set(connection.scalars(select(columns.subject).distinct()))
            subjects = [
                subject
                for name in names
                for subject in ([name] if name in known else [t.name for t in matching(name)])
            ]
        found = [
            incident
            for subject in dict.fromkeys(subjects)
            for incident in written.listed(
                connection, open_only=open_only, subject=subject, limit=MOST_OPEN
            )
        ]
    latest = sorted(found, key=lambda i: (i.found_at, i.id), reverse=True)
    resolved = [incident for incident in latest if not incident.is_open]
    return [*(i for i in latest if i.is_open), *resolved[:MOST_RESOLVED]]


def number_open(engine: Engine) -> int:
    """How many incidents are open; none where they are not written down yet."""
    with engine.connect() as connection:
        if not state.is_there(connection, written.incidents):
            return 0
        return sum(written.open_counts(connection).values())

"""What is done with tallies at all places: installed, refreshed, rebuilt, compared, looked at.

Each place is worked at by itself, several at a time, and what fails at one fails there alone. Of
each place and tally there is a result or an error. Invariant: nothing is a result of a tally of
which a place was left out; where the places are others by the end than they were at the beginning,
those concerned are errors.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from tallykeeper.database.connections import DatabaseUnavailable
from tallykeeper.declarations.tally import Tally
from tallykeeper.errors import TallyError
from tallykeeper.installation.migrate import Migrated, migrate
from tallykeeper.places.place import Place
from tallykeeper.places.tallies import Kept, kept_at
from tallykeeper.system import System

T = TypeVar("T")

AT_ONCE = 8
"""At how many places is worked at the same time."""

Places = Callable[[], Sequence[Place]]
"""Where the places are asked for, each time that something is done."""


class PlaceMoved(TallyError):
    """The rows of a place were moved to another database while something was done there."""


@dataclass(frozen=True)
class Done(Generic[T]):
    """What was done with a tally at a place: `result`, or why it could not be, `error`.

    The error is one of the library's, or a database's.
    """

    tally: str
    place: str
    result: T | None = None
    error: Exception | None = None

    @property
    def succeeded(self) -> bool:
        """Whether there is a result."""
        return self.error is None


def everywhere(
    tallies: Sequence[Tally],
    places: Places,
    work: Callable[[Engine, Tally], T],
    *,
    at_once: int = AT_ONCE,
    on_progress: Callable[[int, int], object] = lambda _done, _total: None,
) -> list[Done[T]]:
    """Do `work` with each tally at each place; in the order of places, then of tallies.

    `on_progress` is called, by any thread, with how many are done, of all at all places. Raises
    DeclarationError where a tally cannot be kept at places.
    """
    began = tuple(places())
    kept = kept_at(tallies, began)

    def at(place: Place) -> list[Done[T]]:
        with place.connected() as engine:
            return [counted(_one(each, engine, work)) for each in kept if each.place is place]

    number = itertools.count(1)

    def counted(result: Done[T]) -> Done[T]:
        on_progress(next(number), len(kept))
        return result

    done = [each for of_place in _parallel(at, began, at_once) for each in of_place]
    left = {place.name for place in _moved(began, tuple(places()))}
    return [_as_moved(each) if each.place in left else each for each in done]


def install_everywhere(
    tallies: Sequence[Tally],
    places: Places,
    *,
    dry_run: bool = False,
    at_once: int = AT_ONCE,
) -> list[Done[Migrated]]:
    """Install the tallies at each place, database by database; a result for each place.

    Others of their systems that were installed there become stale, so that their live views read
    the sources. What is said of a database is said
    of the first of the places in it. Idempotent. Raises DeclarationError where a tally cannot be
    kept at places.
    """
    found = tuple(places())
    by_url: dict[str, list[Kept]] = defaultdict(list)
    for each in kept_at(tallies, found):
        by_url[each.place.url].append(each)

    def at(kept: Sequence[Kept]) -> list[Done[Migrated]]:
        there = list(dict.fromkeys(each.place.name for each in kept))
        systems: list[System] = list(dict.fromkeys(each.system for each in kept))
        names = ", ".join(system.name for system in systems)
        error: Exception | None = None
        result: Migrated | None = None
        with kept[0].place.connected() as engine:
            try:
                result = migrate(engine, systems, dry_run=dry_run)
            except (TallyError, DatabaseUnavailable, SQLAlchemyError) as failed:
                error = failed
        rest = Migrated() if error is None else None
        return [
            Done(names, place, result if number == 0 else rest, error)
            for number, place in enumerate(there)
        ]

    return [each for done in _parallel(at, list(by_url.values()), at_once) for each in done]


def _one(kept: Kept, engine: Engine, work: Callable[[Engine, Tally], T]) -> Done[T]:
    name, place = kept.declared.name, kept.place.name
    try:
        return Done(name, place, work(engine, kept.tally))
    except (TallyError, DatabaseUnavailable, SQLAlchemyError) as error:
        return Done(name, place, error=error)


def _parallel(work: Callable[[Any], T], over: Sequence[Any], at_once: int) -> list[T]:
    if not over:
        return []
    with ThreadPoolExecutor(max_workers=min(at_once, len(over))) as pool:
        return list(pool.map(work, over))


def _moved(before: Sequence[Place], after: Sequence[Place]) -> list[Place]:
    """Those that are not as they were, or not there any more."""
    now = {place.name: place for place in after}
    return [place for place in before if now.get(place.name) != place]


def _as_moved(done: Done[T]) -> Done[T]:
    return Done(
        done.tally,
        done.place,
        error=PlaceMoved(
            f"{done.tally} at {done.place}: the place was moved to another database, or its tables"
            " are others, while this was done; nothing is known of it there. Run `tally migrate"
            " --distribute`, then try again"
        ),
    )

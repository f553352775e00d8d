"""A place: a database, and what the tables of an application are called there.

Places are declared in a file (`read_places`), or are the shard groups of a Citus cluster
(`tallykeeper.places.citus`).
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, make_url

from tallykeeper.database.connections import open_engine
from tallykeeper.errors import DeclarationError
from tallykeeper.places.renaming import Name, name_of
from tallykeeper.settings import SettingError

VARIABLE = "TALLY_PLACES"
_FIELDS = ("name", "database", "tables")


@dataclass(frozen=True)
class Place:
    """Where a part of the rows is.

    `url` is the address of the database, which several places may have in common if their tables
    differ. `tables` are the names there of declared tables, sources and derived ones, where they
    are others; `options` are settings of each session there.
    """

    name: str
    url: str = field(repr=False)
    tables: Mapping[Name, Name] = field(default_factory=dict, hash=False)
    options: Mapping[str, str] = field(default_factory=dict, hash=False)

    def table(self, schema: str, name: str) -> Name:
        """What a declared table is called there."""
        return self.tables.get((schema, name), (schema, name))

    @contextmanager
    def connected(self) -> Iterator[Engine]:
        """An engine on its database, closed at the end. Raises DatabaseUnavailable once used."""
        engine = open_engine(_with_options(self.url, self.options))
        try:
            yield engine
        finally:
            engine.dispose()


def _with_options(url: str, options: Mapping[str, str]) -> str:
    if not options:
        return url
    address = make_url(url)
    given = address.query.get("options", "")
    own = " ".join(f"-c {name}={value}" for name, value in options.items())
    both = f"{given} {own}".strip()
    return address.update_query_dict({"options": both}).render_as_string(hide_password=False)


def read_places(path: Path) -> tuple[Place, ...]:
    """The places that a TOML file declares, in its order.

        [[places]]
        name = "eu"
        database = "postgresql://tally@eu.example/shop"
        tables = { "shop.orders" = "shop_eu.orders" }

    Raises SettingError.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _malformed("a TOML file", f"{path}: {error}") from error
    declared = document.get("places")
    if set(document) != {"places"} or not isinstance(declared, list) or not declared:
        raise _malformed("a list [[places]] and nothing besides", ", ".join(document) or "nothing")
    places = tuple(_place(number, given) for number, given in enumerate(declared, 1))
    require_distinct(places)
    return places


def require_distinct(places: Sequence[Place]) -> None:
    """Raise SettingError where two have one name, or one table of one database."""
    owners: dict[tuple[str, Name], str] = {}
    names: set[str] = set()
    for place in places:
        if place.name in names:
            raise _malformed("places of different names", f"two called {place.name!r}")
        names.add(place.name)
        for table in place.tables.values():
            other = owners.setdefault((place.url, table), place.name)
            if other != place.name:
                raise _malformed(
                    "each table at one place", f"{'.'.join(table)} at {other} and {place.name}"
                )


def _place(number: int, given: Any) -> Place:
    where = f"[[places]] number {number}"
    if not isinstance(given, dict):
        raise _malformed(f"{', '.join(_FIELDS)} in {where}", repr(given))
    for name in given:
        if name not in _FIELDS:
            raise _malformed(f"{', '.join(_FIELDS)} in {where}", repr(name))
    for name in ("name", "database"):
        if not isinstance(given.get(name), str) or not given[name]:
            # The address may hold a password.
            raise _malformed(f"a text as `{name}` of {where}", "none")
    tables = given.get("tables", {})
    if not isinstance(tables, dict) or not all(isinstance(t, str) for t in tables.values()):
        raise _malformed(f"names by declared names as `tables` of {where}", repr(tables))
    try:
        named = {name_of(own): name_of(there) for own, there in tables.items()}
    except DeclarationError as error:
        raise _malformed(f"tables with their schemas in {where}", str(error)) from error
    return Place(given["name"], given["database"], named)


def _malformed(expected: str, came: str) -> SettingError:
    return SettingError(VARIABLE, expected, came, "correct the file that it names")

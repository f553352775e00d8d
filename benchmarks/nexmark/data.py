"""The tables with the rows of the first events, the queries, and what several writers do."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Any

import psycopg
from sqlalchemy import Engine

from tallykeeper.database import sql

NAMES = (
    *("q03", "q04", "q05", "q06", "q07", "q08", "q09", "q15", "q16", "q17", "q18", "q19", "q20"),
    "sellers",
)
TABLES = {"person": "persons", "auction": "auctions", "bid": "bids"}
_EVENTS_AT_ONCE = 1_000_000

Cursor = psycopg.Cursor[Any]
Statement = Callable[[Cursor, random.Random], None]


def query(name: str) -> str:
    """The SELECT of one query, with its comment."""
    return _file(f"queries/{name}.sql")


def create(engine: Engine, events: int) -> None:
    """Make the tables in an empty database, with the first so many events."""
    with engine.begin() as connection:
        sql.execute(connection, _file("schema.sql"))
    for first in range(0, events, _EVENTS_AT_ONCE):
        with engine.begin() as connection:
            for statement in insert_events(first, min(first + _EVENTS_AT_ONCE, events)):
                sql.execute(connection, statement)
    with engine.begin() as connection:
        sql.execute(connection, "ANALYZE")


def insert_events(first: int, after: int) -> list[str]:
    """The statements that insert the events from one number to before another, if not there."""
    return [
        f"INSERT INTO nexmark.{table} SELECT * FROM nexmark.{function}({first}, {after})"
        " ON CONFLICT DO NOTHING"
        for table, function in TABLES.items()
    ]


class Writes:
    """Events that come, and changes to those that came: more than a stream would do."""

    def __init__(self, events: int) -> None:
        self.events = events

    def operations(self) -> dict[Statement, float]:
        """Each with its weight."""
        return {
            self.insert_next_events: 8,
            self.delete_bids: 3,
            self.change_price: 4,
            self.move_bid: 2,
            self.change_auction: 2,
            self.move_auction: 1,
            self.delete_auction: 1,
            self.change_person: 1,
            self.change_person_id: 0.5,
            self.delete_person: 0.5,
        }

    def insert_next_events(self, cursor: Cursor, rng: random.Random) -> None:
        first = rng.randrange(2 * self.events)
        for statement in insert_events(first, first + rng.randint(1, 60)):
            cursor.execute(statement)

    def delete_bids(self, cursor: Cursor, rng: random.Random) -> None:
        first = rng.randrange(2 * self.events)
        cursor.execute(
            f"DELETE FROM nexmark.bid WHERE id BETWEEN {first} AND {first + rng.randint(0, 50)}"
        )

    def change_price(self, cursor: Cursor, rng: random.Random) -> None:
        cursor.execute(
            f"UPDATE nexmark.bid SET price = {rng.choice((5, 9_999, 10_000, 3_000_000))},"
            f" channel = '{rng.choice(('Apple', 'Baidu'))}' WHERE id = {self._event(rng)}"
        )

    def move_bid(self, cursor: Cursor, rng: random.Random) -> None:
        """To another auction, bidder and moment; to another number."""
        cursor.execute(
            f"UPDATE nexmark.bid SET id = id + {rng.choice((0, 0, 1_000_000))},"
            f" auction = {self._auction(rng)}, bidder = {self._person(rng)},"
            f" date_time = date_time + {rng.randint(-20_000, 20_000)} * interval '1 millisecond'"
            f" WHERE id = {self._event(rng)}"
        )

    def change_auction(self, cursor: Cursor, rng: random.Random) -> None:
        cursor.execute(
            f"UPDATE nexmark.auction SET category = {10 + rng.randrange(5)},"
            f" expires = expires + {rng.randint(-9_000, 9_000)} * interval '1 millisecond'"
            f" WHERE id = {self._auction(rng)}"
        )

    def move_auction(self, cursor: Cursor, rng: random.Random) -> None:
        cursor.execute(
            f"UPDATE nexmark.auction SET seller = {self._person(rng)}"
            f" WHERE id % 50 = {rng.randrange(50)} AND category = 10"
        )

    def delete_auction(self, cursor: Cursor, rng: random.Random) -> None:
        cursor.execute(f"DELETE FROM nexmark.auction WHERE id = {self._auction(rng)}")

    def change_person(self, cursor: Cursor, rng: random.Random) -> None:
        state = rng.choice(("'CA'", "'OR'", "'WY'", "NULL"))
        cursor.execute(
            f"UPDATE nexmark.person SET state = {state}, name = 'renamed',"
            " date_time = date_time + interval '5 seconds'"
            f" WHERE id = {self._person(rng)}"
        )

    def change_person_id(self, cursor: Cursor, rng: random.Random) -> None:
        cursor.execute(
            f"UPDATE nexmark.person SET id = id + 1000000 WHERE id = {self._person(rng)}"
        )

    def delete_person(self, cursor: Cursor, rng: random.Random) -> None:
        cursor.execute(f"DELETE FROM nexmark.person WHERE id = {self._person(rng)}")

    def _event(self, rng: random.Random) -> int:
        return rng.randrange(2 * self.events)

    def _auction(self, rng: random.Random) -> int:
        return rng.randrange(2 * self.events // 50 * 3 + 3)

    def _person(self, rng: random.Random) -> int:
        return rng.randrange(2 * self.events // 50 + 1)


@cache
def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")

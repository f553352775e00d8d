"""The databases that changes are applied to: what the application writes there, and the truth.

The truth of a tally is written out by hand, so that it shares nothing with the engine's own SQL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from assets.media.tallies import system as media
from tallykeeper import System
from tests.catalogue.shop import LINES, SALES, VISITS
from tests.oracle import DAILY, DAY_OF, HOURLY


@dataclass(frozen=True)
class Bed:
    """A system, what fills it, what the application goes on writing, and what it then must say.

    `truths` give each tally's columns in the declaration's order. `writes` are one transaction
    each and may be run again and again.
    """

    system: System
    filled: Sequence[str]
    writes: Sequence[str]
    truths: Mapping[str, str]


SHOP = Bed(
    system=SALES,
    filled=(
        "INSERT INTO shop.sales (at, amount, customer) SELECT timestamptz '2024-03-01 Z'"
        " + i * interval '7 hours', i % 9 + 0.25 * (i % 3) + i % 5 * 2,"
        " ('{ann,bob,cid,dot}'::text[])[i % 5 + 1] FROM generate_series(1, 40) AS i",
    ),
    writes=(
        "INSERT INTO shop.sales (at, amount, customer) VALUES ('2024-03-03 04:00Z', 5.25, 'ann'),"
        " ('2024-03-20 12:00Z', 17, 'new'), ('2024-03-03 05:00Z', NULL, NULL)",
        "INSERT INTO shop.sales (at, amount, customer) VALUES ('2024-03-01 23:59Z', 92.50, 'bob')",
        "UPDATE shop.sales SET amount = amount + 1 WHERE customer = 'bob'",
        "UPDATE shop.sales SET at = at + interval '1 day', note = 'moved'"
        " WHERE id = (SELECT min(id) FROM shop.sales)",
        "UPDATE shop.sales SET customer = 'eve' WHERE id = (SELECT max(id) FROM shop.sales)",
        "DELETE FROM shop.sales WHERE id IN"
        " (SELECT id FROM shop.sales ORDER BY id OFFSET 5 LIMIT 3)",
    ),
    truths={
        "shop.daily_sales": f"SELECT {DAY_OF.format('at::timestamptz')}, count(*),"
        " coalesce(sum((amount * 100)::bigint), 0) FROM shop.sales GROUP BY 1",
        "shop.best_sales": "SELECT customer, max(amount), count(*) FROM shop.sales"
        " WHERE customer IS NOT NULL GROUP BY 1",
        "shop.sizes": "SELECT shop.size_of(amount), count(*) FROM shop.sales WHERE amount > 0"
        " GROUP BY 1",
    },
)

PARTITIONED = Bed(
    system=VISITS,
    filled=(
        "INSERT INTO shop.visits (at, pages) SELECT timestamptz '2023-12-20 Z'"
        " + i * interval '11 hours', i % 7 FROM generate_series(1, 40) AS i",
    ),
    writes=(
        "INSERT INTO shop.visits (at, pages) VALUES ('2023-12-30 10:00Z', 3),"
        " ('2024-01-02 10:00Z', 4), ('2024-01-02 11:00Z', 5)",
        "INSERT INTO shop.visits (at, pages) VALUES ('2024-01-05 11:00Z', 6)",
        "UPDATE shop.visits SET pages = pages + 1 WHERE at < '2023-12-25Z'",
        "UPDATE shop.visits SET at = at + interval '20 days' WHERE id IN"
        " (SELECT id FROM shop.visits WHERE at < '2024-01-01Z' ORDER BY at DESC LIMIT 2)",
        "DELETE FROM shop.visits WHERE id IN"
        " (SELECT id FROM shop.visits WHERE at >= '2024-01-01Z' ORDER BY at DESC LIMIT 2)",
    ),
    truths={
        "shop.daily_visits": f"SELECT {DAY_OF.format('at::timestamptz')}, count(*), sum(pages)"
        " FROM shop.visits GROUP BY 1",
    },
)

REFERRING = Bed(
    system=LINES,
    filled=(
        "INSERT INTO shop.products SELECT i, 'product ' || i % 6 FROM generate_series(1, 12) AS i",
        "INSERT INTO shop.lines (product_id, pieces, state) SELECT i % 12 + 1, i % 5,"
        " ('{sold,sold,gift}'::shop.line_state[])[i % 3 + 1] FROM generate_series(1, 40) AS i",
    ),
    writes=(
        "INSERT INTO shop.products VALUES ((SELECT max(id) + 1 FROM shop.products), 'product 2')",
        "INSERT INTO shop.lines (product_id, pieces)"
        " SELECT id, 7 FROM shop.products ORDER BY id DESC LIMIT 2",
        "UPDATE shop.lines SET pieces = pieces + 1 WHERE id % 3 = 0",
        "UPDATE shop.lines SET pieces = pieces + 1 WHERE id = (SELECT max(id) FROM shop.lines)",
        "UPDATE shop.lines SET state = 'gift' WHERE id % 7 = 3",
        "UPDATE shop.products SET name = 'renamed' WHERE id = (SELECT min(id) FROM shop.products)",
        "DELETE FROM shop.products WHERE id = (SELECT min(id) + 1 FROM shop.products)",
    ),
    truths={
        "shop.stock": "SELECT product_id, count(*), sum(pieces), coalesce(sum(weight), 0)"
        " FROM shop.lines GROUP BY 1",
        "shop.named_lines": "SELECT p.name, count(*), sum(l.pieces) FROM shop.lines AS l"
        " JOIN shop.products AS p ON p.id = l.product_id WHERE l.state <> 'gift' GROUP BY 1",
    },
)

MEDIA = Bed(
    system=media,
    filled=(
        "INSERT INTO media.media_files (path, original_created_at) SELECT 'file ' || i,"
        " timestamptz '2024-03-01 Z' + i * interval '7 hours' FROM generate_series(1, 40) AS i",
    ),
    writes=(
        "INSERT INTO media.media_files (path, original_created_at) SELECT 'file '"
        " || count(*) + 1000, '2024-03-02 10:00Z' FROM media.media_files",
        "INSERT INTO media.media_files (path, original_created_at) SELECT gen_random_uuid(),"
        " timestamptz '2024-03-10 Z' + i * interval '1 hour' FROM generate_series(1, 3) AS i",
        "UPDATE media.media_files SET original_created_at = original_created_at + interval '1 day'"
        " WHERE id % 4 = 0",
        "DELETE FROM media.media_files WHERE id IN"
        " (SELECT id FROM media.media_files ORDER BY id OFFSET 3 LIMIT 2)",
    ),
    truths={oracle.tally: oracle.truth for oracle in (DAILY, HOURLY)},
)

BEDS: dict[str, Bed] = {
    "sales": SHOP,
    "visits": PARTITIONED,
    "lines": REFERRING,
    "media": MEDIA,
}

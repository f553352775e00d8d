"""Which SELECTs are the same over all rows as over those of each place, one after the other.

The oracle is PostgreSQL: what is accepted is run over all rows and over those of each place.
"""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from tallykeeper.places.division import NotDivided, division_of
from tallykeeper.places.renaming import renamed
from tests.integration.support import execute, rows

COLUMNS = {
    ("net", "posts"): "server",
    ("net", "tags"): "server",
    ("net", "labels"): None,
    ("net", "deep"): "server",
}
TABLES = """
CREATE TABLE {0}posts (server int, id int, author text, likes int, PRIMARY KEY (server, id));
CREATE TABLE {0}tags (server int, post_id int, label int, PRIMARY KEY (server, post_id, label));
CREATE TABLE {0}labels (id int PRIMARY KEY, name text, server int);
CREATE TABLE {0}deep (server int, label int, n int, PRIMARY KEY (server, label));
"""
PLACES = 3

DIVIDED = {
    "columns": "SELECT server, id, likes FROM net.posts",
    "group": "SELECT server, author, count(*), sum(likes) FROM net.posts GROUP BY server, author",
    "join": "SELECT p.server, t.label, count(*) FROM net.posts p JOIN net.tags t"
    " ON t.server = p.server AND t.post_id = p.id GROUP BY 1, 2",
    "join by using": "SELECT server, count(DISTINCT author) FROM net.posts"
    " JOIN net.deep USING (server) GROUP BY server",
    "join in where": "SELECT p.server, d.n FROM net.posts p, net.deep d WHERE d.server = p.server",
    "join by way of another": "SELECT t.server, l.name FROM net.labels l, net.tags t, net.posts p"
    " WHERE l.id = t.label AND l.server = t.server AND p.server = l.server AND p.id = t.post_id",
    "left join": "SELECT p.server, p.id, t.label, l.name FROM net.posts p LEFT JOIN net.tags t"
    " ON t.server = p.server AND t.post_id = p.id LEFT JOIN net.labels l ON l.id = t.label",
    "left join of what may be missing": "SELECT p.server, p.id, d.n FROM net.posts p"
    " LEFT JOIN net.tags t ON t.server = p.server AND t.post_id = p.id"
    " LEFT JOIN net.deep d ON d.server = t.server AND d.label = t.label",
    "exists": "SELECT server, count(*) FROM net.posts p WHERE EXISTS (SELECT 1 FROM net.tags t"
    " WHERE t.server = p.server AND t.post_id = p.id) GROUP BY server",
    "not exists": "SELECT server, id FROM net.posts p WHERE NOT EXISTS (SELECT 1 FROM net.tags t"
    " WHERE t.server = p.server AND t.post_id = p.id)",
    "in": "SELECT server, id FROM net.posts WHERE (server, id) IN"
    " (SELECT server, post_id FROM net.tags)",
    "not in": "SELECT server, id FROM net.posts WHERE server NOT IN"
    " (SELECT server FROM net.tags WHERE label = 3)",
    "scalar": "SELECT server, id, (SELECT count(*) FROM net.tags t WHERE t.server = p.server"
    " AND t.post_id = p.id) AS n FROM net.posts p",
    "scalar of all labels": "SELECT server, id, (SELECT max(id) FROM net.labels) AS n"
    " FROM net.posts",
    "derived": "SELECT x.server, max(x.n) FROM (SELECT server, author, count(*) AS n FROM net.posts"
    " GROUP BY server, author) x GROUP BY x.server",
    "lateral": "SELECT p.server, p.id, x.label FROM net.posts p CROSS JOIN LATERAL"
    " (SELECT t.label FROM net.tags t WHERE t.server = p.server AND t.post_id = p.id"
    " ORDER BY t.label LIMIT 1) x",
    "left lateral": "SELECT p.server, p.id, x.n FROM net.posts p LEFT JOIN LATERAL"
    " (SELECT count(*) AS n FROM net.tags t WHERE t.server = p.server) x ON true",
    "window": "SELECT server, id, row_number() OVER (PARTITION BY server ORDER BY likes, id)"
    " FROM net.posts",
    "named window": "SELECT server, id, rank() OVER w FROM net.posts"
    " WINDOW w AS (PARTITION BY server, author ORDER BY likes)",
    "distinct": "SELECT DISTINCT server, author FROM net.posts",
    "distinct on": "SELECT DISTINCT ON (server, author) server, author, id FROM net.posts"
    " ORDER BY server, author, id",
    "union all": "SELECT server, id FROM net.posts UNION ALL SELECT server, post_id FROM net.tags",
    "except": "SELECT server, id FROM net.posts EXCEPT SELECT server, post_id FROM net.tags",
    "with": "WITH x AS (SELECT server, likes FROM net.posts WHERE likes > 2)"
    " SELECT server, sum(likes) FROM x GROUP BY server",
    "function": "SELECT server, id, w FROM net.posts,"
    " regexp_split_to_table(author, ' '::text) AS w",
    "having": "SELECT server, author FROM net.posts GROUP BY server, author HAVING count(*) > 1",
    "reference that has the column": "SELECT l.server, l.name, p.id FROM net.labels l"
    " JOIN net.posts p ON p.server = l.server",
}

REFUSED = {
    "GROUP BY does not contain server": (
        "SELECT author, count(*) FROM net.posts GROUP BY author",
        "SELECT t.server, count(*) FROM net.posts p LEFT JOIN net.tags t ON t.server ="
        " p.server AND t.post_id = p.id GROUP BY t.server",
        "SELECT server, author, count(*) FROM net.posts GROUP BY ROLLUP (server, author)",
        "SELECT x.n, d.server FROM (SELECT count(*) AS n FROM net.tags t GROUP BY"
        " t.label) x JOIN net.deep d ON d.n = x.n",
    ),
    "it adds up all rows": (
        "SELECT count(*) FROM net.posts",
        "SELECT server, id, (SELECT max(likes) FROM net.posts) AS most FROM net.posts",
    ),
    "its result does not have server": (
        "SELECT id, likes FROM net.posts",
        "SELECT server + 1 AS server, id FROM net.posts",
    ),
    "t is not joined by server": (
        "SELECT p.server, t.label FROM net.posts p JOIN net.tags t ON t.post_id = p.id",
        "SELECT p.server, t.label FROM net.posts p JOIN net.tags t ON t.post_id = p.id"
        " AND (t.server = p.server OR p.id = 1)",
        "SELECT p.server, t.label FROM net.posts p LEFT JOIN net.tags t ON t.post_id = p.id",
    ),
    "LEFT JOIN with t": (
        "SELECT l.id, t.server FROM net.labels l LEFT JOIN net.tags t ON t.label = l.id",
    ),
    "FULL JOIN": (
        "SELECT p.server, d.n FROM net.posts p FULL JOIN net.deep d ON d.server = p.server",
    ),
    "a subquery reads rows of all places": (
        "SELECT server, id FROM net.posts WHERE id IN (SELECT post_id FROM net.tags)",
        "SELECT server, id FROM net.posts p WHERE EXISTS (SELECT 1 FROM net.tags t WHERE"
        " t.post_id = p.id)",
        "SELECT server, id FROM net.posts p WHERE EXISTS (SELECT 1 FROM (SELECT t.label"
        " FROM net.tags t WHERE t.server = p.server) x, net.deep d WHERE d.label ="
        " x.label)",
    ),
    "LIMIT and OFFSET": (
        "SELECT server, id FROM net.posts ORDER BY id LIMIT 3",
        "SELECT x.server, x.id FROM (SELECT server, id FROM net.posts ORDER BY id LIMIT 3) x",
    ),
    "PARTITION BY of a window": (
        "SELECT server, row_number() OVER (ORDER BY id) FROM net.posts",
        "SELECT server, author, row_number() OVER (PARTITION BY author ORDER BY id) FROM net.posts",
    ),
    "DISTINCT does not contain server": (
        "SELECT DISTINCT author FROM net.posts",
        "SELECT DISTINCT ON (author) author, server FROM net.posts ORDER BY author, server, id",
    ),
    "a side of UNION": ("SELECT author FROM net.posts UNION SELECT name FROM net.labels",),
    "UNION compares rows without server": (
        "SELECT author, id FROM net.posts UNION SELECT 'x', label FROM net.tags",
    ),
    "none of its sources is divided": ("SELECT id, name FROM net.labels",),
    "WITH": (
        "WITH RECURSIVE x AS (SELECT server, id FROM net.posts UNION ALL SELECT server,"
        " id - 1 FROM x WHERE id > 0) SELECT server, id FROM x",
    ),
    "it is not declared how the rows of net.unknown are divided": (
        "SELECT server FROM net.unknown",
    ),
    "the rows of the subquery x do not have server": (
        "SELECT x.author, d.server FROM (SELECT author FROM net.posts) x JOIN net.deep d"
        " ON d.n = length(x.author)",
    ),
}


@pytest.fixture
def world(engine: Engine) -> Engine:
    """All rows in `net`, and those of each place in tables of that place."""
    execute(
        engine, "CREATE SCHEMA net", TABLES.format("net."), "CREATE TABLE net.unknown (server int)"
    )
    execute(
        engine,
        "INSERT INTO net.posts SELECT i % 6, i % 19, 'author ' || i % 4, i * 7 % 10"
        " FROM generate_series(1, 80) AS i ON CONFLICT DO NOTHING",
        "INSERT INTO net.tags SELECT i % 6, i % 19, i * 5 % 7 FROM generate_series(1, 90, 2) AS i"
        " ON CONFLICT DO NOTHING",
        "INSERT INTO net.labels SELECT i, 'label ' || i, i % 7 FROM generate_series(1, 8) AS i",
        "INSERT INTO net.deep SELECT i % 5, i % 7, i % 3 FROM generate_series(1, 20) AS i"
        " ON CONFLICT DO NOTHING",
    )
    for number in range(PLACES):
        execute(engine, TABLES.format(f"net.p{number}_"))
        for (_, table), column in COLUMNS.items():
            where = f" WHERE {column} % {PLACES} = {number}" if column else ""
            execute(engine, f"INSERT INTO net.p{number}_{table} SELECT * FROM net.{table}{where}")
    return engine


def test_what_is_accepted_is_the_sum_of_its_places(world: Engine) -> None:
    for name, select in DIVIDED.items():
        with world.connect() as connection:
            connection.exec_driver_sql(
                f"CREATE TEMPORARY VIEW tried AS {select.replace('%', '%%')}"
            )
            assert "server" in division_of(connection, "pg_temp.tried", COLUMNS), name
            connection.rollback()
        found = [
            row
            for number in range(PLACES)
            for row in rows(
                world, renamed(select, {n: (n[0], f"p{number}_{n[1]}") for n in COLUMNS})
            )
        ]
        expected = rows(world, select)
        assert expected, name
        assert sorted(map(str, found)) == sorted(map(str, expected)), name


def test_what_puts_rows_of_several_places_together_is_refused(world: Engine) -> None:
    for why, selects in REFUSED.items():
        for select in selects:
            with world.connect() as connection:
                connection.exec_driver_sql(f"CREATE TEMPORARY VIEW tried AS {select}")
                try:
                    division_of(connection, "pg_temp.tried", COLUMNS)
                except NotDivided as refused:
                    assert why in str(refused), select  # noqa: PT017 -- which of them it was
                else:
                    pytest.fail(f"not refused: {select}")
                connection.rollback()

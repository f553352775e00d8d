"""What is done to the partitions of a source, and to a partitioned derived table."""

from __future__ import annotations

from tests.catalogue.change import Change

VISIT = "INSERT INTO shop.{} (at, pages) VALUES ('{}', 4), ('{}', 5)"
NEW_2025 = (
    "CREATE TABLE shop.visits_2025 (id bigint NOT NULL, at timestamptz NOT NULL,"
    " pages integer NOT NULL)",
    "INSERT INTO shop.visits_2025 SELECT i, timestamptz '2025-02-01Z' + i * interval '5 hours', i"
    " FROM generate_series(1, 9) AS i",
)
ATTACH_2025 = (
    "ALTER TABLE shop.visits ATTACH PARTITION shop.visits_2025"
    " FOR VALUES FROM ('2025-01-01Z') TO ('2026-01-01Z')"
)
ATTACH_2024 = (
    "ALTER TABLE shop.visits ATTACH PARTITION shop.visits_2024"
    " FOR VALUES FROM ('2024-01-01Z') TO ('2025-01-01Z')"
)

CHANGES = (
    Change(
        "an empty partition is made",
        "application",
        "CREATE TABLE shop.visits_2025 PARTITION OF shop.visits"
        " FOR VALUES FROM ('2025-01-01Z') TO ('2026-01-01Z')",
        # What is written through the partitioned table is captured; it itself is not yet.
        "named",
        "shop.visits_2025",
        writes=("INSERT INTO shop.visits (at, pages) VALUES ('2025-03-01Z', 2)",),
        everywhere=True,
        bed="visits",
    ),
    Change(
        "an empty partition is made, and written to by its own name",
        "application",
        (
            "CREATE TABLE shop.visits_2025 PARTITION OF shop.visits"
            " FOR VALUES FROM ('2025-01-01Z') TO ('2026-01-01Z')",
            "GRANT ALL ON shop.visits_2025 TO web",
        ),
        "named",
        "shop.visits_2025",
        writes=(
            "INSERT INTO shop.visits_2025 (id, at, pages) VALUES (800, '2025-03-01Z', 2),"
            " (801, '2025-03-01Z', 3)",
            "UPDATE shop.visits_2025 SET pages = 9",
        ),
        bed="visits",
    ),
    Change(
        "a table with rows is attached as a partition",
        "application",
        (*NEW_2025, ATTACH_2025),
        "named",
        "shop.visits_2025",
        everywhere=True,
        bed="visits",
    ),
    Change(
        "a partition is detached",
        "application",
        "ALTER TABLE shop.visits DETACH PARTITION shop.visits_2023",
        "named",
        "shop.visits_2023",
        everywhere=True,
        bed="visits",
    ),
    Change(
        "a partition is detached concurrently, and dropped",
        "application",
        (
            "ALTER TABLE shop.visits DETACH PARTITION shop.visits_2023 CONCURRENTLY",
            "DROP TABLE shop.visits_2023",
        ),
        "named",
        "shop.visits_2023",
        bed="visits",
    ),
    Change(
        "a partition is detached, changed where nothing captures it, and attached again",
        "application",
        (
            "ALTER TABLE shop.visits DETACH PARTITION shop.visits_2024",
            "DROP TRIGGER tallykeeper_merge ON shop.visits_2024",
        ),
        "blocked",
        "does not exist",
        bed="visits",
    ),
    Change(
        "a partition is detached, changed and attached again",
        "application",
        (
            "ALTER TABLE shop.visits DETACH PARTITION shop.visits_2024",
            "DELETE FROM shop.visits_2024 WHERE pages = 3",
            ATTACH_2024,
        ),
        # Its own capture goes with it, and logs what is changed meanwhile.
        "named",
        "shop.visits_2024",
        bed="visits",
    ),
    Change(
        "a partition is dropped",
        "application",
        "DROP TABLE shop.visits_2023",
        "named",
        "shop.visits_2023",
        everywhere=True,
        bed="visits",
    ),
    Change(
        "a partition is truncated",
        "application",
        "TRUNCATE shop.visits_2024",
        "named",
        "truncated",
        bed="visits",
    ),
    Change(
        "a partition is renamed",
        "application",
        "ALTER TABLE shop.visits_2024 RENAME TO visits_lately",
        bed="visits",
    ),
    Change(
        "a partition is moved to another schema",
        "superuser",
        "ALTER TABLE shop.visits_2024 SET SCHEMA public",
        bed="visits",
    ),
    Change(
        "a partition is swapped for another",
        "application",
        (
            "ALTER TABLE shop.visits DETACH PARTITION shop.visits_2024",
            "ALTER TABLE shop.visits_2024 RENAME TO visits_2024_old",
            "CREATE TABLE shop.visits_2024 (id bigint NOT NULL, at timestamptz NOT NULL,"
            " pages integer NOT NULL)",
            "INSERT INTO shop.visits_2024 SELECT id, at, pages + 1 FROM shop.visits_2024_old",
            ATTACH_2024,
        ),
        "named",
        "shop.visits_2024",
        everywhere=True,
        bed="visits",
    ),
    Change(
        "a partition is divided further",
        "application",
        (
            "CREATE TABLE shop.visits_2025 PARTITION OF shop.visits"
            " FOR VALUES FROM ('2025-01-01Z') TO ('2026-01-01Z') PARTITION BY RANGE (at)",
            "CREATE TABLE shop.visits_2025_1 PARTITION OF shop.visits_2025 DEFAULT",
            "GRANT ALL ON shop.visits_2025, shop.visits_2025_1 TO web",
        ),
        "named",
        "shop.visits_2025",
        writes=(
            "INSERT INTO shop.visits (at, pages) VALUES ('2025-03-01Z', 2)",
            "INSERT INTO shop.visits_2025_1 (id, at, pages) VALUES (800, '2025-03-02Z', 2)",
            "UPDATE shop.visits_2025 SET pages = 9",
        ),
        bed="visits",
    ),
    Change(
        "the trigger of one partition is disabled",
        "application",
        (
            "ALTER TABLE shop.visits_2024 DISABLE TRIGGER tallykeeper_update",
            "GRANT ALL ON shop.visits_2024 TO web",
        ),
        "named",
        "shop.visits_2024",
        writes=("UPDATE shop.visits_2024 SET pages = 9",),
        bed="visits",
    ),
    Change(
        "a trigger of a partition drops rows that an update moves there",
        "application",
        (
            "CREATE FUNCTION shop.none() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN RETURN NULL; END'",
            "CREATE TRIGGER none BEFORE INSERT ON shop.visits_2024"
            " FOR EACH ROW EXECUTE FUNCTION shop.none()",
        ),
        writes=(
            "UPDATE shop.visits SET at = '2024-06-01Z' WHERE id ="
            " (SELECT min(id) FROM shop.visits WHERE at < '2024-01-01Z')",
            "UPDATE shop.visits SET at = at + interval '1 year' WHERE at < '2023-12-26Z'",
        ),
        everywhere=True,
        bed="visits",
    ),
    Change(
        "a trigger of a partition drops rows that a MERGE moves there",
        "application",
        (
            "CREATE FUNCTION shop.none() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN RETURN NULL; END'",
            "CREATE TRIGGER none BEFORE INSERT ON shop.visits_2024"
            " FOR EACH ROW EXECUTE FUNCTION shop.none()",
            "MERGE INTO shop.visits AS v USING (SELECT max(id) AS id FROM shop.visits"
            " WHERE at < '2024-01-01Z') AS s ON v.id = s.id"
            " WHEN MATCHED THEN UPDATE SET at = '2024-07-01Z'",
        ),
        "audited",
        because="PostgreSQL shows triggers neither the old row nor a new one",
        bed="visits",
        everywhere=True,
    ),
    Change(
        "the guard for MERGE is dropped",
        "application",
        "DROP TRIGGER tallykeeper_merge ON shop.visits",
        "named",
        "the merge trigger is missing",
        writes=(
            "MERGE INTO shop.visits AS v USING (VALUES (1), (99999)) AS s (id) ON v.id = s.id"
            " WHEN MATCHED THEN UPDATE SET pages = 30 WHEN NOT MATCHED THEN INSERT (at, pages)"
            " VALUES ('2024-02-02Z', 8)",
        ),
        bed="visits",
    ),
    Change(
        "a foreign table becomes a partition",
        "superuser",
        (
            "CREATE FOREIGN DATA WRAPPER nothing",
            "CREATE SERVER far FOREIGN DATA WRAPPER nothing",
            "ALTER TABLE shop.visits DROP CONSTRAINT visits_pkey",
            "CREATE FOREIGN TABLE shop.visits_far PARTITION OF shop.visits"
            " FOR VALUES FROM ('2030-01-01Z') TO ('2031-01-01Z') SERVER far",
        ),
        "named",
        "shop.visits_far",
        after="shop.visits_far",
        bed="visits",
    ),
    Change(
        "a partition is not logged",
        "application",
        "ALTER TABLE shop.visits_2024 SET UNLOGGED",
        "named",
        "UNLOGGED",
        after="UNLOGGED",
        bed="visits",
    ),
    Change(
        "a default partition takes what fits nowhere",
        "application",
        "CREATE TABLE shop.visits_rest PARTITION OF shop.visits DEFAULT",
        "named",
        "shop.visits_rest",
        writes=("UPDATE shop.visits SET at = '2031-01-01Z' WHERE pages = 2",),
        bed="visits",
    ),
)

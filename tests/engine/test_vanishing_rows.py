"""Rows that a trigger or rule keeps out, changes or turns away, while a statement writes them."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from tallykeeper import install, refresh
from tests.integration.support import LOGGED_DAYS, Cases, check_each, execute, settled_media
from tests.library import system as media
from tests.oracle import DAILY, HOURLY

TRIGGERS = """
CREATE FUNCTION media.meddle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  CASE TG_OP
    WHEN 'INSERT' THEN
      IF NEW.path LIKE 'no%' THEN RETURN NULL; END IF;
      IF NEW.path LIKE 'odd%' THEN NEW.original_created_at := '2024-03-09Z'; END IF;
      IF NEW.path LIKE 'copy%' AND pg_trigger_depth() = 1 THEN
        INSERT INTO media.media_files (path, created_at) VALUES ('a ' || NEW.path, '2024-03-02Z');
        RETURN NULL;
      END IF;
    WHEN 'UPDATE' THEN
      IF NEW.path LIKE 'fixed%' THEN RETURN NULL; END IF;
    WHEN 'DELETE' THEN
      IF OLD.path LIKE 'kept%' THEN RETURN NULL; END IF;
      RETURN OLD;
  END CASE;
  RETURN NEW;
END $$;
CREATE TRIGGER meddle BEFORE INSERT OR UPDATE OR DELETE ON media.late
  FOR EACH ROW EXECUTE FUNCTION media.meddle()"""


@pytest.fixture
def partitioned(any_postgres_engine: Engine) -> Engine:
    """Files early in March in one partition, later ones in one with a trigger."""
    engine = any_postgres_engine
    execute(
        engine,
        "CREATE SCHEMA media",
        "CREATE SEQUENCE media.ids",
        "CREATE TABLE media.instants (at timestamptz PRIMARY KEY)",
        "INSERT INTO media.instants VALUES ('2024-03-20Z'), ('2024-03-21Z'), ('2024-03-09Z')",
        "CREATE TABLE media.media_files (id bigint NOT NULL DEFAULT nextval('media.ids'),"
        " path text NOT NULL, original_created_at timestamptz DEFAULT '2024-03-21Z'"
        " REFERENCES media.instants ON UPDATE CASCADE ON DELETE SET NULL,"
        " created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz,"
        " PRIMARY KEY (id, created_at), UNIQUE (path, created_at)) PARTITION BY RANGE (created_at)",
        "CREATE TABLE media.early PARTITION OF media.media_files"
        " FOR VALUES FROM (MINVALUE) TO ('2024-03-03Z')",
        "CREATE TABLE media.late PARTITION OF media.media_files"
        " FOR VALUES FROM ('2024-03-03Z') TO (MAXVALUE)",
        "INSERT INTO media.media_files (path, created_at, original_created_at) VALUES"
        " ('no 1', '2024-03-01Z', NULL), ('no 2', '2024-03-02Z', NULL),"
        " ('odd', '2024-03-01Z', NULL),"
        " ('fixed', '2024-03-05Z', NULL), ('kept', '2024-03-06Z', NULL),"
        " ('dated', '2024-03-01Z', '2024-03-20Z')",
        TRIGGERS,
    )
    with engine.begin() as connection:
        media.metadata.create_all(connection)
        install(connection, media.tallies)
    for tally in media.tallies:
        refresh(engine, tally)
    return engine


MERGE = (
    "MERGE INTO media.media_files AS m USING (VALUES {}) AS s (path, at) ON m.path = s.path"
    " WHEN MATCHED AND s.at IS NULL THEN DELETE"
    " WHEN MATCHED THEN UPDATE SET created_at = s.at::timestamptz"
    " WHEN NOT MATCHED THEN INSERT (path, created_at, original_created_at)"
    " VALUES (s.path, s.at::timestamptz, NULL)"
)
INSERT = "INSERT INTO media.media_files (path, created_at, original_created_at) VALUES"

VANISHING: Cases = {
    "a row that vanishes on its way to another partition": (
        "UPDATE media.media_files SET created_at = '2024-03-08Z' WHERE path = 'no 1'",
        [("03-01", -1)],
    ),
    "several rows that vanish": (
        "UPDATE media.media_files SET created_at = '2024-03-08Z' WHERE path LIKE 'no%'",
        [("03-01", -1), ("03-02", -1)],
    ),
    "one that vanishes, and one that is changed on its way": (
        "UPDATE media.media_files SET created_at = '2024-03-08Z' WHERE path IN ('no 1', 'odd')",
        [("03-01", -2), ("03-09", 1)],
    ),
    "a row that vanishes in a merge": (MERGE.format("('no 1', '2024-03-08Z')"), [("03-01", -1)]),
    "a merge of which some rows vanish": (
        MERGE.format(
            "('no 2', '2024-03-08Z'), ('new', '2024-03-08Z'), ('no 3', '2024-03-08Z'),"
            " ('fixed', '2024-03-10Z'), ('kept', NULL), ('odd', NULL)"
        ),
        [("03-01", -1), ("03-02", -1), ("03-08", 1)],
    ),
    "an update that a trigger turns away": (
        "UPDATE media.media_files SET created_at = '2024-03-08Z' WHERE path = 'fixed'",
        [],
    ),
    "a deletion that a trigger turns away": ("DELETE FROM media.late WHERE path = 'kept'", []),
    "an insertion that a trigger turns away": (f"{INSERT} ('no', '2024-03-08Z', NULL)", []),
    "insertions of which one is kept out and one changed": (
        f"{INSERT} ('no', '2024-03-08Z', NULL), ('odd 2', '2024-03-08Z', NULL)",
        [("03-09", 1)],
    ),
    "an insertion that a trigger makes elsewhere": (
        f"{INSERT} ('copy', '2024-03-08Z', NULL)",
        [("03-21", 1)],
    ),
    "an upsert of a row that may not be changed": (
        f"{INSERT} ('fixed', '2024-03-05Z', NULL), ('e', '2024-03-02Z', NULL)"
        " ON CONFLICT (path, created_at) DO UPDATE SET original_created_at = '2024-03-20Z'",
        [("03-02", 1)],
    ),
    "a rule that updates instead of deleting": (
        "CREATE RULE keep AS ON DELETE TO media.early DO INSTEAD"
        " UPDATE media.early SET original_created_at = '2024-03-20Z' WHERE id = OLD.id;"
        " DELETE FROM media.early WHERE path = 'no 2'",
        [("03-02", -1), ("03-20", 1)],
    ),
    "a referenced row that is renamed": (
        "UPDATE media.instants SET at = '2024-03-22Z' WHERE at = '2024-03-20Z'",
        [("03-20", -1), ("03-22", 1)],
    ),
    "a referenced row that is deleted": (
        "DELETE FROM media.instants WHERE at = '2024-03-20Z'",
        [("03-01", 1), ("03-20", -1)],
    ),
    "a referenced row that is deleted, for a default": (
        "ALTER TABLE media.media_files DROP CONSTRAINT media_files_original_created_at_fkey,"
        " ADD FOREIGN KEY (original_created_at) REFERENCES media.instants ON DELETE SET DEFAULT;"
        " DELETE FROM media.instants WHERE at = '2024-03-20Z'",
        [("03-20", -1), ("03-21", 1)],
    ),
}


def test_what_vanishes_is_recorded_as_it_is_stored(partitioned: Engine) -> None:
    check_each(partitioned, VANISHING, LOGGED_DAYS, [DAILY, HOURLY])
    for statement, _ in VANISHING.values():
        execute(partitioned, statement)
    settled_media(partitioned)

"""What is done to the triggers and functions that capture changes."""

from __future__ import annotations

from tests.catalogue.change import Change

INSERTED = "tallykeeper.capture_shop_sales_insert"
UPDATED = "tallykeeper.capture_shop_sales_update"
PENDING = "tallykeeper.capture_media_media_files_update"
SETTINGS = "SECURITY DEFINER SET search_path TO pg_catalog, pg_temp SET timezone TO 'UTC'"

CHANGES = (
    Change(
        "all triggers of a source are disabled",
        "application",
        "ALTER TABLE shop.sales DISABLE TRIGGER USER",
        "named",
        "shop.sales: the insert trigger is disabled",
        everywhere=True,
    ),
    Change(
        "one trigger is disabled, something is changed, and it is enabled again",
        "application",
        (
            "ALTER TABLE shop.sales DISABLE TRIGGER tallykeeper_update",
            "UPDATE shop.sales SET amount = amount + 1 WHERE id % 4 = 0",
            "ALTER TABLE shop.sales ENABLE ALWAYS TRIGGER tallykeeper_update",
        ),
        "named",
        "shop.sales",
        everywhere=True,
    ),
    Change(
        "data alone is restored with triggers disabled, as pg_restore does",
        "application",
        (
            "ALTER TABLE shop.sales DISABLE TRIGGER USER",
            "INSERT INTO shop.sales (at, amount, customer) VALUES ('2024-03-05Z', 4, 'ann')",
            "ALTER TABLE shop.sales ENABLE TRIGGER USER",
        ),
        "named",
        "shop.sales",
        everywhere=True,
    ),
    Change(
        "a trigger fires for ordinary sessions alone",
        "application",
        "ALTER TABLE shop.sales ENABLE TRIGGER tallykeeper_insert",
        "named",
        "the insert trigger is disabled, or not enabled always",
    ),
    Change(
        "a trigger fires for replicas alone",
        "application",
        "ALTER TABLE shop.lines ENABLE REPLICA TRIGGER tallykeeper_insert",
        "named",
        "the insert trigger is disabled, or not enabled always",
        bed="lines",
    ),
    Change(
        "a trigger is dropped",
        "application",
        "DROP TRIGGER tallykeeper_delete ON shop.sales",
        "named",
        "shop.sales: the delete trigger is missing",
        everywhere=True,
    ),
    Change(
        "a trigger is dropped, something is changed, and it is made again",
        "owner",
        (
            "CREATE TEMP TABLE kept AS SELECT pg_get_triggerdef(oid) AS statement FROM pg_trigger"
            " WHERE tgrelid = 'shop.sales'::regclass AND tgname = 'tallykeeper_delete'",
            "DROP TRIGGER tallykeeper_delete ON shop.sales",
            "DELETE FROM shop.sales WHERE id % 6 = 0",
            "DO $$BEGIN EXECUTE (SELECT statement FROM kept); END$$",
            "ALTER TABLE shop.sales ENABLE ALWAYS TRIGGER tallykeeper_delete",
        ),
        "named",
        "shop.sales",
    ),
    Change(
        "a trigger is renamed",
        "application",
        "ALTER TRIGGER tallykeeper_insert ON shop.sales RENAME TO a_insert",
        "named",
        "the insert trigger is missing",
    ),
    Change(
        "a trigger calls another function",
        "application",
        (
            "CREATE FUNCTION shop.nothing() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN RETURN NULL; END'",
            "CREATE OR REPLACE TRIGGER tallykeeper_delete AFTER DELETE ON shop.sales"
            " REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION shop.nothing()",
            "ALTER TABLE shop.sales ENABLE ALWAYS TRIGGER tallykeeper_delete",
        ),
        "named",
        "the delete trigger calls another function",
    ),
    Change(
        "a trigger gets a condition that never holds",
        "owner",
        (
            "CREATE OR REPLACE TRIGGER tallykeeper_insert AFTER INSERT ON shop.sales"
            " REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT WHEN (false)"
            f" EXECUTE FUNCTION {INSERTED}()",
            "ALTER TABLE shop.sales ENABLE ALWAYS TRIGGER tallykeeper_insert",
        ),
        "named",
        "insert",
        everywhere=True,
    ),
    Change(
        "a trigger watches fewer columns",
        "owner",
        (
            "CREATE OR REPLACE TRIGGER tallykeeper_truncate BEFORE TRUNCATE ON shop.sales"
            " FOR EACH STATEMENT EXECUTE FUNCTION tallykeeper.capture_shop_sales_truncate()",
        ),
        "named",
        "truncate",
    ),
    Change(
        "triggers of the server's catalog are edited",
        "superuser",
        (
            "SET allow_system_table_mods = on",
            "UPDATE pg_trigger SET tgenabled = 'D' WHERE tgname = 'tallykeeper_insert'",
            "ALTER TABLE shop.sales ADD COLUMN more text",
        ),
        "named",
        "the insert trigger is disabled",
    ),
    Change(
        "a capture function does nothing",
        "owner",
        f"CREATE OR REPLACE FUNCTION {UPDATED}() RETURNS trigger LANGUAGE plpgsql {SETTINGS}"
        " AS 'BEGIN RETURN NULL; END'",
        "named",
        "the capture function is not the one that the declarations make",
        everywhere=True,
    ),
    Change(
        "a capture function is dropped with its triggers",
        "owner",
        f"DROP FUNCTION {UPDATED} CASCADE",
        "named",
        "capture_shop_sales_update",
    ),
    Change(
        "a capture function is renamed",
        "owner",
        f"ALTER FUNCTION {UPDATED} RENAME TO something",
        "named",
        "capture_shop_sales_update",
    ),
    Change(
        "a capture function runs with the rights of those who write",
        "owner",
        f"ALTER FUNCTION {INSERTED} SECURITY INVOKER",
        "named",
        "SECURITY DEFINER",
        breaks_writes=True,
        because="it runs as the application, which may not write the change log",
        everywhere=True,
    ),
    Change(
        "a capture function follows the session's time zone",
        "owner",
        f"ALTER FUNCTION {INSERTED} RESET timezone",
        "named",
        "capture_shop_sales_insert",
        everywhere=True,
    ),
    Change(
        "a capture function looks names up where others may put theirs",
        "owner",
        f"ALTER FUNCTION {INSERTED} SET search_path TO shop, public",
        "named",
        "capture_shop_sales_insert",
    ),
    Change(
        "a capture function belongs to another role",
        "superuser",
        f"ALTER FUNCTION {INSERTED} OWNER TO web",
        "named",
        "capture_shop_sales_insert",
        after="capture_shop_sales_insert",
        breaks_writes=True,
        because="it runs as a role that may not write the change log",
    ),
    Change(
        "everybody may execute a capture function",
        "owner",
        f"GRANT EXECUTE ON FUNCTION {INSERTED} TO PUBLIC",
        "named",
        "capture_shop_sales_insert",
        everywhere=True,
    ),
    Change(
        "a capture function is of another language",
        "owner",
        (
            "SET ROLE {owner}",
            f"DROP FUNCTION {INSERTED} CASCADE",
            f"CREATE FUNCTION {INSERTED}() RETURNS trigger LANGUAGE plpgsql {SETTINGS}"
            " AS 'BEGIN RETURN NULL; END'",
        ),
        "named",
        "capture_shop_sales_insert",
    ),
    Change(
        "all triggers of a source are disabled, of the media system",
        "application",
        "ALTER TABLE media.media_files DISABLE TRIGGER USER",
        "named",
        "media.media_files: the insert trigger is disabled",
        bed="media",
        everywhere=True,
    ),
    Change(
        "the source of the media system is dropped and made anew",
        "application",
        (
            "ALTER TABLE media.media_files RENAME TO old",
            "CREATE TABLE media.media_files (LIKE media.old INCLUDING ALL)",
            "DROP TABLE media.old CASCADE",
            "GRANT ALL ON media.media_files TO web",
        ),
        "named",
        "media.media_files",
        bed="media",
    ),
    Change(
        "another table takes the place of the source of the media system",
        "application",
        (
            "ALTER TABLE media.media_files RENAME TO old",
            "CREATE TABLE media.media_files (LIKE media.old INCLUDING ALL)",
            "GRANT ALL ON media.media_files TO web",
        ),
        "named",
        "media.media_files",
        bed="media",
    ),
    Change(
        "the source of the media system is dropped",
        "application",
        "DROP TABLE media.media_files",
        "blocked",
        "other objects depend on it",
        bed="media",
    ),
    Change(
        "a column of the media system is renamed",
        "application",
        "ALTER TABLE media.media_files RENAME COLUMN original_created_at TO shot_at",
        "named",
        "original_created_at",
        after="original_created_at is missing",
        bed="media",
        writes=("INSERT INTO media.media_files (path, shot_at) VALUES ('x', '2024-03-03Z')",),
    ),
    Change(
        "the source of the media system is written by a replica's session",
        "superuser",
        (
            "SET session_replication_role = replica",
            "UPDATE media.media_files SET original_created_at = '2024-03-03Z' WHERE id < 9",
            "DELETE FROM media.media_files WHERE id > 30",
        ),
        bed="media",
    ),
    Change(
        "the daily tally of the media system is emptied by hand",
        "owner",
        "TRUNCATE media.daily_contributions",
        "named",
        "by hand",
        bed="media",
    ),
)

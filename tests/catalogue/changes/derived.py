"""What is done to derived tables and to live views."""

from __future__ import annotations

from tests.catalogue.change import Change

UNSEEN_EDIT = "it passes for the engine's own write; the rolling comparison finds it within a day"

CHANGES = (
    Change(
        "a row of a derived table is edited by hand",
        "owner",
        "UPDATE shop.daily_sales SET cents = cents + 1000 WHERE day < '2024-03-04Z'",
        "named",
        "by hand",
        everywhere=True,
    ),
    Change(
        "rows of a derived table are inserted by hand",
        "owner",
        "INSERT INTO shop.best_sales VALUES ('nobody', 5, 1)",
        "named",
        "by hand",
    ),
    Change(
        "a derived table is emptied by hand",
        "owner",
        "DELETE FROM shop.sizes",
        "named",
        "by hand",
    ),
    Change(
        "a derived table is truncated",
        "owner",
        "TRUNCATE shop.daily_visits",
        "named",
        "by hand",
        bed="visits",
    ),
    Change(
        "a derived table is edited by hand as a replica would",
        "superuser",
        (
            "SET session_replication_role = replica",
            "UPDATE shop.stock SET pieces = pieces + 1000",
        ),
        "named",
        "by hand",
        bed="lines",
    ),
    Change(
        "the refresher edits a derived table by hand",
        "refresher",
        "UPDATE shop.daily_sales SET sales = 0",
        "named",
        "by hand",
    ),
    Change(
        "a derived table is edited by hand under the engine's own setting",
        "owner",
        "BEGIN; SELECT set_config('tallykeeper.writing', 'on', true),"
        " set_config('tallykeeper.transaction', pg_backend_pid() || ' ' ||"
        " extract(epoch FROM transaction_timestamp()), true);"
        "UPDATE shop.daily_sales SET cents = cents + 1000 WHERE day < '2024-03-04Z'; COMMIT",
        "audited",
        because=UNSEEN_EDIT,
        everywhere=True,
    ),
    Change(
        "a derived table is edited by a trigger of the application",
        "owner",
        (
            "CREATE TABLE shop.noted (id integer)",
            "CREATE FUNCTION shop.edit() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN UPDATE shop.sizes SET sales = sales + 100; RETURN NULL; END'",
            "CREATE TRIGGER edit AFTER INSERT ON shop.noted EXECUTE FUNCTION shop.edit()",
            "INSERT INTO shop.noted VALUES (1)",
        ),
        "named",
        "by hand",
    ),
    Change(
        "the trigger that notes edits by hand is disabled, and something is edited",
        "owner",
        (
            "ALTER TABLE shop.sizes DISABLE TRIGGER USER",
            "UPDATE shop.sizes SET sales = sales + 100",
        ),
        "named",
        "shop.sizes",
        # Migrate has everything compared for it, which finds what to repair.
        after="wrong when last verified",
        everywhere=True,
    ),
    Change(
        "the trigger that notes edits by hand is off while something is edited",
        "owner",
        (
            "ALTER TABLE shop.sizes DISABLE TRIGGER tallykeeper_hand",
            "UPDATE shop.sizes SET sales = sales + 100",
            "ALTER TABLE shop.sizes ENABLE ALWAYS TRIGGER tallykeeper_hand",
        ),
        "named",
        "shop.sizes",
    ),
    Change(
        "the trigger that gives back what cascades take is dropped",
        "owner",
        "DROP TRIGGER tallykeeper_cascade ON shop.stock",
        "named",
        "shop.stock: the cascade trigger is missing",
        writes=("DELETE FROM shop.products WHERE id = 7",),
        everywhere=True,
        bed="lines",
    ),
    Change(
        "a derived table is renamed",
        "owner",
        "ALTER TABLE shop.stock RENAME TO stock_old",
        "named",
        "shop.stock",
        everywhere=True,
        bed="lines",
    ),
    Change(
        "a derived table is swapped for a copy of an hour ago",
        "owner",
        (
            "SET ROLE {owner}",
            "CREATE TABLE shop.copy (LIKE shop.daily_sales INCLUDING ALL)",
            "INSERT INTO shop.copy SELECT * FROM shop.daily_sales WHERE day < '2024-03-05Z'",
            "ALTER TABLE shop.daily_sales RENAME TO daily_sales_old",
            "ALTER TABLE shop.copy RENAME TO daily_sales",
        ),
        "named",
        "shop.daily_sales",
    ),
    Change(
        "a derived table is dropped with its live view",
        "owner",
        "DROP TABLE shop.daily_sales CASCADE",
        "named",
        "shop.daily_sales",
        everywhere=True,
    ),
    Change(
        "a derived table is dropped and made anew with its live view",
        "owner",
        (
            "SET ROLE {owner}",
            "DROP TABLE shop.sizes CASCADE",
            "CREATE TABLE shop.sizes (size text PRIMARY KEY, sales integer NOT NULL)",
            "CREATE VIEW shop.sizes_live AS SELECT * FROM shop.sizes",
            "GRANT SELECT ON shop.sizes_live TO {reader}",
        ),
        "named",
        "shop.sizes",
    ),
    Change(
        "a derived table is moved to another schema",
        "superuser",
        "ALTER TABLE shop.sizes SET SCHEMA public",
        "named",
        "shop.sizes",
    ),
    Change(
        "a column of a derived table is renamed",
        "owner",
        "ALTER TABLE shop.sizes RENAME COLUMN sales TO number",
        "named",
        "shop.sizes",
        after="number is NOT NULL without a default",
    ),
    Change(
        "a column of a derived table becomes narrower",
        "owner",
        (
            "DROP VIEW shop.sizes_live",
            "DROP TRIGGER tallykeeper_hand ON shop.sizes",
            "DROP TRIGGER tallykeeper_hand_nested ON shop.sizes",
            "ALTER TABLE shop.sizes ALTER COLUMN sales TYPE smallint",
        ),
        "named",
        "shop.sizes",
    ),
    Change(
        "a column of a derived table becomes wider",
        "owner",
        (
            "DROP VIEW shop.sizes_live",
            "DROP TRIGGER tallykeeper_hand ON shop.sizes",
            "DROP TRIGGER tallykeeper_hand_nested ON shop.sizes",
            "ALTER TABLE shop.sizes ALTER COLUMN sales TYPE bigint",
        ),
        "named",
        "shop.sizes",
    ),
    Change(
        "a column of a derived table is dropped with its live view",
        "owner",
        "ALTER TABLE shop.stock DROP COLUMN weight CASCADE",
        "named",
        "shop.stock",
        breaks_writes=True,
        because="what a cascade deletes cannot be given back without that column",
        bed="lines",
    ),
    Change(
        "a derived table has a column of its own, with a default",
        "owner",
        "ALTER TABLE shop.daily_sales ADD COLUMN target integer DEFAULT 10",
    ),
    Change(
        "a derived table has a column that nothing fills",
        "owner",
        (
            "TRUNCATE shop.sizes",
            "ALTER TABLE shop.sizes ADD COLUMN owner text NOT NULL",
        ),
        "named",
        "shop.sizes",
        after="owner is NOT NULL without a default",
    ),
    Change(
        "the key of a derived table is not unique any more",
        "owner",
        "ALTER TABLE shop.sizes DROP CONSTRAINT sizes_pkey",
        # One transaction at a time writes it, so that no key is there twice.
        "unharmed",
        after="no unique index on (size)",
        everywhere=True,
    ),
    Change(
        "a derived table has further indexes",
        "owner",
        "CREATE INDEX ON shop.daily_sales (cents)",
    ),
    Change(
        "a derived table has a constraint that its figures violate",
        "owner",
        "ALTER TABLE shop.daily_sales ADD CONSTRAINT few CHECK (sales < 4) NOT VALID",
        # Until the next refresh, which puts those keys aside; live reads stay right.
        "unharmed",
        after="in quarantine",
    ),
    Change(
        "a derived table has a constraint that its figures keep",
        "owner",
        "ALTER TABLE shop.daily_sales ADD CONSTRAINT positive CHECK (sales > 0)",
    ),
    Change(
        "a derived table is not logged",
        "owner",
        "ALTER TABLE shop.daily_sales SET UNLOGGED",
        "named",
        "shop.daily_sales",
        # An unlogged table is empty after a crash.
        after="UNLOGGED",
    ),
    Change(
        "row security hides rows of a derived table",
        "owner",
        (
            "ALTER TABLE shop.daily_sales ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY part ON shop.daily_sales USING (sales > 3)",
            "ALTER TABLE shop.daily_sales FORCE ROW LEVEL SECURITY",
        ),
        "named",
        "row security",
        after="row security",
        everywhere=True,
    ),
    Change(
        "a trigger changes what the engine writes to a derived table",
        "owner",
        (
            "CREATE FUNCTION shop.more() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN NEW.sales := NEW.sales + 1; RETURN NEW; END'",
            "CREATE TRIGGER more BEFORE INSERT OR UPDATE ON shop.daily_sales"
            " FOR EACH ROW EXECUTE FUNCTION shop.more()",
        ),
        # Nothing is wrong until the next refresh, which is verified.
        "unharmed",
        after="wrong when last verified",
    ),
    Change(
        "a rule swallows what the engine writes to a derived table",
        "owner",
        "CREATE RULE swallow AS ON UPDATE TO shop.daily_sales DO INSTEAD NOTHING",
        "named",
        "shop.daily_sales",
        after="shop.daily_sales",
    ),
    Change(
        "the foreign key of a derived table is dropped",
        "owner",
        "ALTER TABLE shop.stock DROP CONSTRAINT stock_product_id_fkey",
        "unharmed",
        writes=("DELETE FROM shop.products WHERE id = 7",),
        bed="lines",
    ),
    Change(
        "the foreign key of a derived table restricts",
        "owner",
        (
            "ALTER TABLE shop.stock DROP CONSTRAINT stock_product_id_fkey",
            "ALTER TABLE shop.stock ADD FOREIGN KEY (product_id) REFERENCES shop.products",
        ),
        "unharmed",
        writes=("DELETE FROM shop.products WHERE id = 7",),
        bed="lines",
    ),
    Change(
        "a derived table belongs to the application",
        "superuser",
        "ALTER TABLE shop.daily_sales OWNER TO {app}",
        # Of whose role the owner is a member.
        "unharmed",
    ),
    Change(
        "a live view is replaced by one that says something else",
        "owner",
        "CREATE OR REPLACE VIEW shop.sizes_live AS SELECT size, sales + 1 AS sales FROM shop.sizes",
        "named",
        "shop.sizes_live",
        everywhere=True,
    ),
    Change(
        "a live view is dropped",
        "owner",
        "DROP VIEW shop.sizes_live",
        "refused",
        "does not exist",
        everywhere=True,
    ),
    Change(
        "a live view is renamed",
        "owner",
        "ALTER VIEW shop.sizes_live RENAME TO sizes_now",
        "refused",
        "does not exist",
    ),
    Change(
        "a live view is replaced by a materialized one",
        "owner",
        (
            "ALTER VIEW shop.sizes_live RENAME TO old",
            "SET ROLE {owner}",
            "CREATE MATERIALIZED VIEW shop.sizes_live AS SELECT * FROM shop.old",
            "GRANT SELECT ON shop.sizes_live TO {reader}",
        ),
        "named",
        "shop.sizes_live",
        after="is not a view",
    ),
    Change(
        "a live view is replaced by a table",
        "owner",
        (
            "SET ROLE {owner}",
            "CREATE TABLE shop.copied AS SELECT * FROM shop.sizes_live",
            "DROP VIEW shop.sizes_live",
            "ALTER TABLE shop.copied RENAME TO sizes_live",
            "GRANT SELECT ON shop.sizes_live TO {reader}",
        ),
        "named",
        "shop.sizes_live",
        after="is not a view",
    ),
    Change(
        "a live view reads with the rights of its reader",
        "owner",
        "ALTER VIEW shop.sizes_live SET (security_invoker = on)",
        "refused",
        "permission denied",
    ),
    Change(
        "columns of a live view are renamed",
        "owner",
        "ALTER VIEW shop.stock_live RENAME COLUMN pieces TO number",
        "refused",
        "does not exist",
        bed="lines",
    ),
    Change(
        "two columns of a live view exchange their names",
        "owner",
        (
            "ALTER VIEW shop.stock_live RENAME COLUMN pieces TO p",
            "ALTER VIEW shop.stock_live RENAME COLUMN weight TO pieces",
            "ALTER VIEW shop.stock_live RENAME COLUMN p TO weight",
        ),
        "named",
        "shop.stock_live",
        bed="lines",
    ),
    Change(
        "views of the application's hang on a live view",
        "application",
        (
            "SET ROLE {owner}",
            "CREATE VIEW shop.report AS SELECT sum(sales) AS sales FROM shop.daily_sales_live",
            "CREATE MATERIALIZED VIEW shop.kept AS SELECT * FROM shop.daily_sales_live",
        ),
        "blocked",
        "permission denied",
    ),
    Change(
        "a function that a live view calls has a namesake with other arguments",
        "owner",
        "CREATE OR REPLACE FUNCTION tallykeeper.shop_best_sales_rows_of_keys"
        "(keys text) RETURNS integer LANGUAGE sql RETURN 1",
        "unharmed",
    ),
    Change(
        "the function that a stale live view reads the sources by says something else",
        "owner",
        (
            "DO $$DECLARE f text; BEGIN f := pg_get_functiondef("
            "'tallykeeper.shop_sizes_from_sources'::regproc);"
            " EXECUTE replace(f, 'count(*)', 'count(*) + 1'); END$$",
            "TRUNCATE shop.sales",
        ),
        "named",
        "shop_sizes_from_sources",
        everywhere=True,
    ),
    Change(
        "a function of a live view follows the reader's time zone",
        "owner",
        "ALTER FUNCTION tallykeeper.shop_daily_sales_from_sources RESET timezone",
        "named",
        "shop_daily_sales_from_sources",
    ),
    Change(
        "a function of a live view looks names up where others may put theirs",
        "owner",
        "ALTER FUNCTION tallykeeper.shop_best_sales_pending_rows SET search_path TO shop",
        "named",
        "shop_best_sales_pending_rows",
    ),
    Change(
        "a function of a live view reads with the rights of its reader",
        "owner",
        "ALTER FUNCTION tallykeeper.shop_best_sales_pending_rows SECURITY INVOKER",
        "named",
        "shop_best_sales_pending_rows",
    ),
    Change(
        "a function of a live view is dropped with the view",
        "owner",
        "DROP FUNCTION tallykeeper.shop_best_sales_pending_rows CASCADE",
        "refused",
        "does not exist",
    ),
    Change(
        "a derived table is analyzed, vacuumed and clustered",
        "owner",
        (
            "VACUUM (FULL, ANALYZE) shop.daily_sales",
            "CLUSTER shop.daily_sales USING daily_sales_pkey",
        ),
    ),
)

"""What is done to source tables and to the functions that a tally's SELECT calls."""

from __future__ import annotations

from tests.catalogue.change import Change

NEW_SALES = (
    "CREATE TABLE shop.sales (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
    " at timestamptz NOT NULL, amount numeric(12, 2), customer text, note text);"
    "GRANT ALL ON shop.sales TO web"
)
SOLD_TO = "INSERT INTO shop.sales (at, amount, client) VALUES ('2024-03-05Z', 4, 'ann')"
# The columns of `shop.sales` that a copy of its rows has.
COLUMNS = "id, at, amount, customer, note"

HARMLESS = (
    Change(
        "a column is added to a source",
        "application",
        "ALTER TABLE shop.sales ADD COLUMN place text DEFAULT 'here'",
    ),
    Change(
        "a column that no tally reads is dropped",
        "application",
        "ALTER TABLE shop.sales DROP COLUMN note",
        everywhere=True,
    ),
    Change(
        "a column that no tally reads is renamed",
        "application",
        "ALTER TABLE shop.sales RENAME COLUMN note TO remark",
    ),
    Change(
        "a column that no tally reads gets another type, which writes the table anew",
        "application",
        "ALTER TABLE shop.sales ALTER COLUMN note TYPE varchar(40) USING left(note, 40)",
    ),
    Change(
        "indexes of a source come and go",
        "application",
        (
            "CREATE INDEX ON shop.sales (at)",
            "DROP INDEX shop.sales_customer",
            "CREATE INDEX CONCURRENTLY ON shop.sales (customer, at)",
            "REINDEX TABLE shop.sales",
        ),
    ),
    Change(
        "a source is clustered, vacuumed and analyzed",
        "application",
        (
            "CLUSTER shop.sales USING sales_pkey",
            "VACUUM (FULL, ANALYZE) shop.sales",
            "VACUUM (FREEZE) shop.sales",
        ),
        everywhere=True,
    ),
    Change(
        "a source gets comments, statistics and storage settings",
        "application",
        (
            "COMMENT ON TABLE shop.sales IS 'what was sold'",
            "ALTER TABLE shop.sales SET (fillfactor = 70, autovacuum_enabled = off)",
            "ALTER TABLE shop.sales ALTER COLUMN customer SET STATISTICS 500",
            "ALTER TABLE shop.sales ALTER COLUMN note SET STORAGE EXTERNAL",
            "CREATE STATISTICS shop.sales_both ON at, customer FROM shop.sales",
        ),
    ),
    Change(
        "a source gets constraints and defaults",
        "application",
        (
            "ALTER TABLE shop.sales ADD CHECK (amount > -1000000)",
            "ALTER TABLE shop.sales ALTER COLUMN customer SET DEFAULT 'somebody'",
            "ALTER TABLE shop.sales ALTER COLUMN note SET DEFAULT 'none'",
        ),
    ),
    Change(
        "a source is renamed and renamed back",
        "application",
        ("ALTER TABLE shop.sales RENAME TO s", "ALTER TABLE shop.s RENAME TO sales"),
    ),
    Change(
        "the application has triggers of its own, which change what is written",
        "application",
        (
            "CREATE FUNCTION shop.rounded() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN NEW.amount := round(NEW.amount); RETURN NEW; END'",
            "CREATE TRIGGER rounded BEFORE INSERT OR UPDATE ON shop.sales"
            " FOR EACH ROW EXECUTE FUNCTION shop.rounded()",
        ),
        everywhere=True,
    ),
    Change(
        "the application's trigger keeps rows from being written",
        "application",
        (
            "CREATE FUNCTION shop.never() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN RETURN CASE WHEN random() < 0.5 THEN coalesce(NEW, OLD) END; END'",
            "CREATE TRIGGER a BEFORE INSERT OR UPDATE OR DELETE ON shop.sales"
            " FOR EACH ROW EXECUTE FUNCTION shop.never()",
        ),
    ),
    Change(
        "the application's trigger writes further rows",
        "application",
        (
            "CREATE FUNCTION shop.twice() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN"
            " IF pg_trigger_depth() < 2 THEN"
            " INSERT INTO shop.sales (at, amount, customer) SELECT at, amount, 'twin' FROM n;"
            " UPDATE shop.sales SET amount = amount + 1 WHERE customer = 'ann';"
            " END IF; RETURN NULL; END$$",
            "CREATE TRIGGER a AFTER INSERT ON shop.sales REFERENCING NEW TABLE AS n"
            " FOR EACH STATEMENT EXECUTE FUNCTION shop.twice()",
        ),
    ),
    Change(
        "a rule sends writes elsewhere",
        "application",
        (
            "CREATE TABLE shop.refused (LIKE shop.sales)",
            "CREATE RULE kept AS ON DELETE TO shop.sales DO INSTEAD"
            " UPDATE shop.sales SET note = 'deleted', amount = 0 WHERE id = OLD.id",
        ),
    ),
    Change(
        "a rule writes more than what is asked for",
        "application",
        "CREATE RULE also AS ON INSERT TO shop.lines DO ALSO"
        " UPDATE shop.lines SET pieces = pieces + 1 WHERE id % 7 = 0",
        bed="lines",
    ),
    Change(
        "writes come through a view and an INSTEAD OF trigger",
        "application",
        (
            "CREATE VIEW shop.open_sales AS SELECT * FROM shop.sales WHERE amount < 50",
            "GRANT ALL ON shop.open_sales TO web",
        ),
        writes=(
            "INSERT INTO shop.open_sales (at, amount, customer) VALUES ('2024-03-05Z', 4, 'ann')",
            "UPDATE shop.open_sales SET amount = 49 WHERE customer = 'ann'",
            "DELETE FROM shop.open_sales WHERE customer = 'dot'",
        ),
    ),
    Change(
        "rows are copied in and merged",
        "superuser",
        "COPY shop.sales (at, amount, customer) FROM PROGRAM"
        " 'printf \"2024-04-01Z\\t7\\tann\\n2024-04-02Z\\t7\\tann\\n\"'",
        writes=(
            "MERGE INTO shop.sales AS s USING (VALUES (1), (9), (9999)) AS n (id) ON s.id = n.id"
            " WHEN MATCHED AND n.id = 1 THEN DELETE WHEN MATCHED THEN UPDATE SET amount = 50"
            " WHEN NOT MATCHED THEN INSERT (at, amount, customer) VALUES ('2024-04-03Z', 3, 'bob')",
        ),
    ),
    Change(
        "rows are inserted on conflict, and merged",
        "application",
        "ANALYZE shop.lines",
        bed="lines",
        writes=(
            "INSERT INTO shop.products VALUES (5, 'five'), (77, 'more') ON CONFLICT (id)"
            " DO UPDATE SET name = excluded.name",
            "MERGE INTO shop.lines AS l USING (VALUES (1), (9999)) AS n (id) ON l.id = n.id"
            " WHEN MATCHED THEN UPDATE SET pieces = 50 WHEN NOT MATCHED THEN"
            " INSERT (product_id, pieces) VALUES (77, 3)",
        ),
    ),
    Change(
        "a loader writes as a replica would",
        "superuser",
        (
            "SET session_replication_role = replica",
            "INSERT INTO shop.sales (at, amount, customer) VALUES ('2024-03-07Z', 70, 'ann')",
            "UPDATE shop.sales SET at = at + interval '1 day' WHERE id % 5 = 1",
            "DELETE FROM shop.sales WHERE id % 5 = 0",
        ),
        everywhere=True,
    ),
    Change(
        "a loader moves rows between partitions as a replica would",
        "superuser",
        (
            "SET session_replication_role = replica",
            "UPDATE shop.visits SET at = at + interval '1 year' WHERE pages = 3"
            " AND at < '2023-12-28Z'",
            "DELETE FROM shop.visits_2024 WHERE pages = 2",
        ),
        bed="visits",
    ),
    Change(
        "a referenced key is updated, which the derived table follows",
        "application",
        "UPDATE shop.products SET id = id + 100 WHERE id IN (1, 2)",
        writes=("UPDATE shop.products SET id = id + 100 WHERE id = 5",),
        everywhere=True,
        bed="lines",
    ),
    Change(
        "a prepared transaction writes and commits",
        "application",
        (
            "BEGIN; UPDATE shop.sales SET amount = 3 WHERE id < 5; PREPARE TRANSACTION 'p'",
            "COMMIT PREPARED 'p'",
        ),
    ),
    Change(
        "a source belongs to another role",
        "superuser",
        "ALTER TABLE shop.sales OWNER TO web",
        "refused",
        "permission denied",
        after="may not install tallies here",
    ),
    Change(
        "the replica identity and publications of sources change",
        "superuser",
        (
            "ALTER TABLE shop.sales REPLICA IDENTITY FULL",
            "CREATE PUBLICATION one FOR TABLE shop.sales",
            "CREATE PUBLICATION everything FOR ALL TABLES",
        ),
        everywhere=True,
    ),
)

COLUMNS_CHANGED = (
    Change(
        "a column that tallies read is renamed",
        "application",
        "ALTER TABLE shop.sales RENAME COLUMN customer TO client",
        "named",
        "customer",
        after="customer is missing",
        writes=(SOLD_TO, "UPDATE shop.sales SET client = 'zoe' WHERE id = 7"),
        everywhere=True,
    ),
    Change(
        "a column that tallies read is renamed and renamed back",
        "application",
        (
            "ALTER TABLE shop.sales RENAME COLUMN customer TO client",
            SOLD_TO,
            "ALTER TABLE shop.sales RENAME COLUMN client TO customer",
        ),
        "named",
        "shop.sales",
    ),
    Change(
        "two columns exchange their names",
        "application",
        (
            "ALTER TABLE shop.sales RENAME COLUMN customer TO c",
            "ALTER TABLE shop.sales RENAME COLUMN note TO customer",
            "ALTER TABLE shop.sales RENAME COLUMN c TO note",
        ),
        "named",
        "customer",
    ),
    Change(
        "a column that tallies read is dropped",
        "application",
        "ALTER TABLE shop.sales DROP COLUMN customer",
        "named",
        "customer",
        after="customer is missing",
        writes=("INSERT INTO shop.sales (at, amount) VALUES ('2024-03-05Z', 4)",),
        everywhere=True,
    ),
    Change(
        "a column that tallies read is dropped and added again",
        "application",
        (
            "ALTER TABLE shop.sales DROP COLUMN customer",
            "ALTER TABLE shop.sales ADD COLUMN customer text DEFAULT 'nobody'",
        ),
        "named",
        "customer",
        everywhere=True,
    ),
    Change(
        "a number loses digits",
        "application",
        "ALTER TABLE shop.sales ALTER COLUMN amount TYPE numeric(12, 1)",
        "blocked",
        "type of a column used by a view",
        everywhere=True,
    ),
    Change(
        "a number becomes whole",
        "application",
        "ALTER TABLE shop.sales ALTER COLUMN amount TYPE integer",
        "blocked",
        "type of a column used by a view",
    ),
    Change(
        "a number becomes a floating-point one",
        "application",
        "ALTER TABLE shop.sales ALTER COLUMN amount TYPE double precision",
        "blocked",
        "type of a column used by a view",
    ),
    Change(
        "a number gets more digits, which writes nothing anew",
        "application",
        "ALTER TABLE shop.sales ALTER COLUMN amount TYPE numeric(20, 2)",
        "blocked",
        "type of a column used by a view",
    ),
    Change(
        "text is cut to a length",
        "application",
        "ALTER TABLE shop.sales ALTER COLUMN customer TYPE varchar(2) USING left(customer, 2)",
        "named",
        "customer",
        writes=("INSERT INTO shop.sales (at, amount, customer) VALUES ('2024-03-05Z', 4, 'an')",),
    ),
    Change(
        "an instant loses its time zone, in a session that is elsewhere",
        "application",
        (
            "SET timezone = 'America/St_Johns'",
            "ALTER TABLE shop.sales ALTER COLUMN at TYPE timestamp",
        ),
        "blocked",
        "type of a column used by a view",
    ),
    Change(
        "instants are shifted by a cast",
        "application",
        "ALTER TABLE shop.visits ALTER COLUMN pages TYPE integer USING pages + 1",
        "blocked",
        "type of a column used by a view",
        everywhere=True,
        bed="visits",
    ),
    Change(
        "values are rewritten by a cast to the same type",
        "application",
        "ALTER TABLE shop.sales ALTER COLUMN amount TYPE numeric(12, 2) USING amount + 1",
        "blocked",
        "type of a column used by a view",
    ),
    Change(
        "a column becomes of a domain",
        "application",
        (
            "CREATE DOMAIN shop.price AS numeric(12, 2) CHECK (VALUE > -100)",
            "ALTER TABLE shop.sales ALTER COLUMN amount TYPE shop.price",
        ),
        "blocked",
        "type of a column used by a view",
    ),
    Change(
        "a column becomes of an enumeration",
        "application",
        (
            "CREATE TYPE shop.person AS ENUM ('ann', 'bob', 'cid', 'dot', 'eve', 'new')",
            "ALTER TABLE shop.sales ALTER COLUMN customer TYPE shop.person"
            " USING customer::shop.person",
        ),
        "named",
        "customer",
        after="customer is",
    ),
    Change(
        "a key of a tally gets a collation in which unlike texts are equal",
        "superuser",
        (
            "CREATE COLLATION shop.nocase"
            " (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
            "ALTER TABLE shop.sales ALTER COLUMN customer TYPE text COLLATE shop.nocase",
        ),
        "named",
        "customer",
        after="collation",
        writes=("INSERT INTO shop.sales (at, amount, customer) VALUES ('2024-03-05Z', 4, 'Ann')",),
        # The PostgreSQL that comes along is built without ICU; Debian's is with it.
        until=15,
        everywhere=True,
    ),
    Change(
        "a key of a tally gets another collation in which only the same is equal",
        "application",
        'ALTER TABLE shop.sales ALTER COLUMN customer TYPE text COLLATE "C"',
        "named",
        "customer",
    ),
    Change(
        "a generated column is computed otherwise",
        "application",
        "ALTER TABLE shop.lines ALTER COLUMN weight SET EXPRESSION AS (pieces * 3)",
        "named",
        "weight",
        since=17,
        bed="lines",
    ),
    Change(
        "a generated column is dropped and added with another expression",
        "application",
        (
            "ALTER TABLE shop.lines DROP COLUMN weight",
            "ALTER TABLE shop.lines ADD COLUMN weight integer"
            " GENERATED ALWAYS AS (pieces * 3) STORED",
        ),
        "blocked",
        "other objects depend on it",
        everywhere=True,
        bed="lines",
    ),
    Change(
        "a generated column becomes virtual",
        "application",
        (
            "ALTER TABLE shop.lines DROP COLUMN weight",
            "ALTER TABLE shop.lines ADD COLUMN weight integer"
            " GENERATED ALWAYS AS (pieces * 2) VIRTUAL",
        ),
        "blocked",
        "other objects depend on it",
        since=18,
        bed="lines",
    ),
    Change(
        "a generated column becomes an ordinary one",
        "application",
        "ALTER TABLE shop.lines ALTER COLUMN weight DROP EXPRESSION",
        "named",
        "weight",
        writes=("INSERT INTO shop.lines (product_id, pieces, weight) VALUES (9, 1, 5)",),
        bed="lines",
    ),
    Change(
        "an enumeration has a further label",
        "application",
        "ALTER TYPE shop.line_state ADD VALUE 'lent'",
        writes=("UPDATE shop.lines SET state = 'lent' WHERE id = 11",),
        bed="lines",
    ),
    Change(
        "a label of an enumeration that a tally names is renamed",
        "application",
        "ALTER TYPE shop.line_state RENAME VALUE 'gift' TO 'present'",
        "named",
        "shop.lines",
        after="invalid input value",
        bed="lines",
    ),
    Change(
        "two labels of an enumeration exchange their names",
        "application",
        (
            "ALTER TYPE shop.line_state RENAME VALUE 'gift' TO 'given'",
            "ALTER TYPE shop.line_state RENAME VALUE 'sold' TO 'gift'",
            "ALTER TYPE shop.line_state RENAME VALUE 'given' TO 'sold'",
        ),
        "named",
        "state",
        bed="lines",
    ),
    Change(
        "a column may be null now",
        "application",
        "ALTER TABLE shop.sales ALTER COLUMN at DROP NOT NULL",
        "named",
        "at",
        after="at may be null",
        writes=("INSERT INTO shop.sales (at, amount, customer) VALUES (NULL, 1, 'ann')",),
    ),
    Change(
        "the numbers of a source's rows become wider",
        "application",
        "ALTER TABLE shop.sales ALTER COLUMN id TYPE numeric",
        "blocked",
        "identity",
    ),
    Change(
        "the primary key of a source is dropped",
        "application",
        "ALTER TABLE shop.sales DROP CONSTRAINT sales_pkey",
        "named",
        "nothing makes its rows unique",
        writes=(
            "INSERT INTO shop.sales (id, at, amount, customer) OVERRIDING SYSTEM VALUE"
            " VALUES (1, '2024-03-05Z', 4, 'ann')",
        ),
    ),
)

TABLES_CHANGED = (
    Change(
        "a source is truncated",
        "application",
        "TRUNCATE shop.sales",
        "named",
        "truncated",
        everywhere=True,
    ),
    Change(
        "a source is truncated with all that refers to it, as by a restore",
        "superuser",
        ("SET session_replication_role = replica", "TRUNCATE shop.products CASCADE"),
        "named",
        "truncated",
        bed="lines",
    ),
    Change(
        "a source is truncated, filled and committed at once",
        "application",
        "BEGIN; TRUNCATE shop.lines RESTART IDENTITY; INSERT INTO shop.lines (product_id, pieces)"
        " VALUES (3, 3), (4, 4); COMMIT",
        "named",
        "truncated",
        bed="lines",
    ),
    Change(
        "a source is dropped",
        "application",
        "DROP TABLE shop.sales CASCADE",
        "named",
        "shop.sales",
        after="shop.sales",
        everywhere=True,
    ),
    Change(
        "a source is dropped and made anew",
        "application",
        ("DROP TABLE shop.sales CASCADE", NEW_SALES),
        "named",
        "shop.sales",
        everywhere=True,
    ),
    Change(
        "a source is renamed away",
        "application",
        "ALTER TABLE shop.sales RENAME TO sales_old",
        "named",
        "shop.sales",
        after="shop.sales",
        writes=("INSERT INTO shop.sales_old (at, amount) VALUES ('2024-03-05Z', 4)",),
    ),
    Change(
        "a source is moved to another schema",
        "application",
        ("SET ROLE {app}", "ALTER TABLE shop.sales SET SCHEMA public"),
        "blocked",
        "permission denied",
    ),
    Change(
        "a source is moved to another schema by an administrator",
        "superuser",
        "ALTER TABLE shop.sales SET SCHEMA public",
        "named",
        "shop.sales",
        after="shop.sales",
    ),
    Change(
        "the schema of the sources is renamed",
        "superuser",
        "ALTER SCHEMA shop RENAME TO store",
        "refused",
        "does not exist",
        after="shop.",
    ),
    Change(
        "a source is swapped for a new one, and its rows follow in batches",
        "application",
        (
            "ALTER TABLE shop.sales RENAME TO sales_old",
            NEW_SALES,
            f"INSERT INTO shop.sales ({COLUMNS}) OVERRIDING SYSTEM VALUE"
            f" SELECT {COLUMNS} FROM shop.sales_old WHERE id < 20",
        ),
        "named",
        "shop.sales",
        writes=(
            "DELETE FROM shop.sales_old WHERE id < 10",
            "INSERT INTO shop.sales_old (at, amount, customer) VALUES ('2024-03-05Z', 4, 'ann')",
        ),
        everywhere=True,
    ),
    Change(
        "a source is swapped for a partitioned one",
        "application",
        (
            "ALTER TABLE shop.sales RENAME TO sales_old",
            "CREATE TABLE shop.sales (id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz"
            " NOT NULL, amount numeric(12, 2), customer text, note text) PARTITION BY RANGE (at)",
            "CREATE TABLE shop.sales_all PARTITION OF shop.sales DEFAULT",
            "GRANT ALL ON shop.sales, shop.sales_old TO web",
            f"INSERT INTO shop.sales ({COLUMNS}) OVERRIDING SYSTEM VALUE"
            f" SELECT {COLUMNS} FROM shop.sales_old WHERE id < 20",
        ),
        "named",
        "shop.sales",
        writes=("DELETE FROM shop.sales_old WHERE id < 10",),
    ),
    Change(
        "a source is swapped for a copy that has all of its triggers, as a restore makes",
        "superuser",
        (
            "CREATE TABLE shop.copy (LIKE shop.sales INCLUDING ALL)",
            "INSERT INTO shop.copy OVERRIDING SYSTEM VALUE SELECT * FROM shop.sales WHERE id < 30",
            "GRANT ALL ON shop.copy TO web",
            "GRANT SELECT ON shop.copy TO {refresher}",
            "ALTER TABLE shop.copy OWNER TO {app}",
            "ALTER TABLE shop.sales RENAME TO sales_old",
            "ALTER TABLE shop.copy RENAME TO sales",
            "DO $$DECLARE t text; BEGIN FOR t IN SELECT pg_get_triggerdef(oid) FROM pg_trigger"
            " WHERE tgrelid = 'shop.sales_old'::regclass AND NOT tgisinternal LOOP"
            " EXECUTE replace(t, 'shop.sales_old', 'shop.sales'); END LOOP; END$$",
            "DO $$DECLARE t text; BEGIN FOR t IN SELECT tgname FROM pg_trigger"
            " WHERE tgrelid = 'shop.sales'::regclass AND NOT tgisinternal LOOP"
            " EXECUTE 'ALTER TABLE shop.sales ENABLE ALWAYS TRIGGER ' || t; END LOOP; END$$",
        ),
        "named",
        "shop.sales",
    ),
    Change(
        "a source is replaced by a view of its name",
        "application",
        (
            "ALTER TABLE shop.sales RENAME TO sales_old",
            "CREATE VIEW shop.sales AS SELECT * FROM shop.sales_old WHERE amount > 5",
            "GRANT ALL ON shop.sales TO web",
        ),
        "named",
        "shop.sales",
        after="it is not a table",
    ),
    Change(
        "a source is no longer written to the log of the server",
        "application",
        "ALTER TABLE shop.sales SET UNLOGGED",
        "named",
        "UNLOGGED",
        after="UNLOGGED",
        everywhere=True,
    ),
    Change(
        "a source has an heir, whose rows count too",
        "application",
        (
            "CREATE TABLE shop.sales_more () INHERITS (shop.sales)",
            "GRANT ALL ON shop.sales_more TO web",
        ),
        "named",
        "shop.sales_more",
        writes=(
            "INSERT INTO shop.sales_more (id, at, amount, customer)"
            " VALUES (900, '2024-03-05Z', 4, 'ann')",
            "UPDATE shop.sales_more SET amount = 8",
        ),
        everywhere=True,
    ),
    Change(
        "a table with rows becomes a source's heir, and ceases to be",
        "application",
        (
            "CREATE TABLE shop.sales_more (LIKE shop.sales)",
            "INSERT INTO shop.sales_more SELECT id + 500, at, amount, customer FROM shop.sales",
            "ALTER TABLE shop.sales_more INHERIT shop.sales",
            "DELETE FROM shop.sales WHERE id = 510",
            "ALTER TABLE shop.sales_more NO INHERIT shop.sales",
        ),
        "named",
        "shop.sales",
    ),
    Change(
        "a source becomes a partition of a new table, through which it is written",
        "application",
        (
            "CREATE TABLE shop.all_lines (id bigint NOT NULL, product_id bigint NOT NULL,"
            " pieces integer NOT NULL, weight integer GENERATED ALWAYS AS (pieces * 2) STORED,"
            " state shop.line_state NOT NULL DEFAULT 'sold') PARTITION BY RANGE (id)",
            "ALTER TABLE shop.lines ALTER COLUMN id DROP IDENTITY",
            "ALTER TABLE shop.all_lines ATTACH PARTITION shop.lines FOR VALUES FROM (0) TO (5000)",
            "CREATE TABLE shop.other_lines PARTITION OF shop.all_lines DEFAULT",
            "GRANT ALL ON shop.all_lines TO web",
        ),
        "named",
        "shop.lines",
        writes=(
            "INSERT INTO shop.all_lines (id, product_id, pieces)"
            " SELECT max(id) + 1, 9, 4 FROM shop.lines",
            "UPDATE shop.all_lines SET pieces = 6 WHERE id % 11 = 0",
            "UPDATE shop.all_lines SET id = id + 6000 WHERE id % 10 = 7 AND id < 5000",
        ),
        bed="lines",
    ),
    Change(
        "row security hides rows of a source from all but the application",
        "application",
        (
            "ALTER TABLE shop.sales ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY own ON shop.sales TO web USING (true) WITH CHECK (true)",
        ),
        "named",
        "row security",
        after="row security",
        everywhere=True,
    ),
    Change(
        "row security hides rows of a source from its owner too",
        "application",
        (
            "ALTER TABLE shop.sales ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE shop.sales FORCE ROW LEVEL SECURITY",
            "CREATE POLICY own ON shop.sales USING (customer = 'ann') WITH CHECK (true)",
        ),
        "named",
        "row security",
        after="row-level security",
    ),
    Change(
        "row security of a partition's own",
        "application",
        (
            "ALTER TABLE shop.visits_2024 ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY own ON shop.visits_2024 TO web USING (true) WITH CHECK (true)",
        ),
        # A session that reads through the partitioned table sees all of them.
        "unharmed",
        bed="visits",
    ),
    Change(
        "policies without row security",
        "application",
        "CREATE POLICY own ON shop.sales TO web USING (true)",
    ),
    Change(
        "a source is filled by a subscription",
        "superuser",
        (
            "CREATE SUBSCRIPTION other CONNECTION 'host=/nowhere dbname=x' PUBLICATION p"
            " WITH (connect = false, slot_name = NONE)",
            "SET allow_system_table_mods = on",
            "INSERT INTO pg_subscription_rel (srsubid, srrelid, srsubstate)"
            " SELECT oid, 'shop.sales'::regclass, 'r' FROM pg_subscription"
            " WHERE subname = 'other' AND subdbid ="
            " (SELECT oid FROM pg_database WHERE datname = current_database())",
        ),
        "named",
        "filled by a subscription",
        after="filled by a subscription",
        undo=("DROP SUBSCRIPTION IF EXISTS other",),
        everywhere=True,
    ),
    Change(
        "the foreign key between sources is dropped, and rows of nothing are left",
        "application",
        "ALTER TABLE shop.lines DROP CONSTRAINT lines_product_id_fkey",
        # The next refresh puts keys aside that the derived table's own foreign key refuses.
        "unharmed",
        after="in quarantine",
        writes=("INSERT INTO shop.lines (product_id, pieces) VALUES (4711, 3)",),
        bed="lines",
    ),
)

FUNCTIONS_CHANGED = (
    Change(
        "a function that a key is computed by is replaced",
        "application",
        "CREATE OR REPLACE FUNCTION shop.size_of(amount numeric) RETURNS text LANGUAGE sql"
        " IMMUTABLE RETURN CASE WHEN amount < 6 THEN 'small' ELSE 'large' END",
        "named",
        "shop.size_of",
        everywhere=True,
    ),
    Change(
        "a function that a key is computed by is replaced, and replaced back",
        "application",
        (
            "CREATE OR REPLACE FUNCTION shop.size_of(amount numeric) RETURNS text LANGUAGE sql"
            " IMMUTABLE RETURN CASE WHEN amount < 6 THEN 'small' ELSE 'large' END",
            "UPDATE shop.sales SET amount = 7 WHERE id % 5 = 2",
            "CREATE OR REPLACE FUNCTION shop.size_of(amount numeric) RETURNS text LANGUAGE sql"
            " IMMUTABLE RETURN CASE WHEN amount < 10 THEN 'small' ELSE 'large' END",
        ),
        "named",
        "shop.size_of",
    ),
    Change(
        "a function that a key is computed by is dropped",
        "application",
        "DROP FUNCTION shop.size_of CASCADE",
        "named",
        "shop.size_of",
        after="shop.size_of",
    ),
    Change(
        "a function that a key is computed by is renamed away",
        "application",
        "ALTER FUNCTION shop.size_of RENAME TO size_class",
        "named",
        "shop.size_of",
        after="shop.size_of",
    ),
    Change(
        "a function that a key is computed by gets a namesake for another type",
        "application",
        "CREATE FUNCTION shop.size_of(amount integer) RETURNS text LANGUAGE sql IMMUTABLE"
        " RETURN 'whole'",
        "unharmed",
    ),
    Change(
        "a function that a key is computed by may say something else each time",
        "application",
        "ALTER FUNCTION shop.size_of VOLATILE",
        "named",
        "shop.size_of",
        after="is declared VOLATILE",
    ),
    Change(
        "a function that a key is computed by may no longer be executed by all",
        "application",
        "REVOKE EXECUTE ON FUNCTION shop.size_of FROM PUBLIC",
        # All that runs as the owner goes on, who is a member of the application's role.
        "unharmed",
        after="permission denied for function size_of",
    ),
)

CHANGES = (
    *HARMLESS,
    *COLUMNS_CHANGED,
    *TABLES_CHANGED,
    *FUNCTIONS_CHANGED,
)

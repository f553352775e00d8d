"""What is done to the engine's own tables."""

from __future__ import annotations

from tests.catalogue.change import Change

LOG = "tallykeeper.shop_daily_sales_log"
SALE = "INSERT INTO shop.sales (at, amount, customer) VALUES ('2024-03-05Z', 4, 'ann')"
# Tables that `tally status` reads.
SHOWN = ("verifications", "cascaded")

CHANGES = (
    Change(
        "pending changes are deleted by hand",
        "owner",
        (SALE, f"DELETE FROM {LOG}"),
        "named",
        "by hand",
    ),
    Change(
        "a change log is truncated",
        "owner",
        (SALE, f"TRUNCATE {LOG}"),
        "named",
        "by hand",
    ),
    Change(
        "changes are put into a log by hand",
        "owner",
        f"INSERT INTO {LOG} (day, sales, cents) VALUES ('2024-03-05Z', 7, 700)",
        "audited",
        because="only what the log says and what the sources say together show it",
    ),
    Change(
        "a change log is dropped with its live view",
        "owner",
        f"DROP TABLE {LOG} CASCADE",
        "named",
        "shop_daily_sales_log",
        everywhere=True,
    ),
    Change(
        "a change log is dropped and made anew",
        "owner",
        (
            "SET ROLE {owner}",
            f"CREATE TABLE tallykeeper.copy (LIKE {LOG} INCLUDING ALL)",
            f"DROP TABLE {LOG} CASCADE",
            f"ALTER TABLE tallykeeper.copy RENAME TO {LOG.partition('.')[2]}",
        ),
        "named",
        "shop_daily_sales_log",
    ),
    Change(
        "a change log is renamed",
        "owner",
        f"ALTER TABLE {LOG} RENAME TO kept_log",
        "named",
        "shop_daily_sales_log",
    ),
    Change(
        "a column of a change log is renamed",
        "owner",
        f"ALTER TABLE {LOG} RENAME COLUMN sales TO number",
        "named",
        "shop_daily_sales_log",
        breaks_writes=True,
        because="a change that cannot be logged must not be made",
        everywhere=True,
    ),
    Change(
        "two columns of a change log exchange their names",
        "owner",
        (
            "ALTER TABLE tallykeeper.shop_stock_log RENAME COLUMN pieces TO p",
            "ALTER TABLE tallykeeper.shop_stock_log RENAME COLUMN weight TO pieces",
            "ALTER TABLE tallykeeper.shop_stock_log RENAME COLUMN p TO weight",
        ),
        "named",
        "shop_stock_log",
        bed="lines",
    ),
    Change(
        "a change log has a column that nothing fills",
        "owner",
        f"ALTER TABLE {LOG} ADD COLUMN who text NOT NULL",
        "named",
        "the column who is not Tallykeeper's",
        breaks_writes=True,
        because="a change that cannot be logged must not be made",
    ),
    Change(
        "a change log has a constraint that changes violate",
        "owner",
        f"ALTER TABLE {LOG} ADD CHECK (sales > 0)",
        "named",
        "has a constraint that is not Tallykeeper's",
        after="drop it",
        breaks_writes=True,
        because="a change that cannot be logged must not be made",
    ),
    Change(
        "a change log is not logged by the server",
        "owner",
        f"ALTER TABLE {LOG} SET UNLOGGED",
        "named",
        "shop_daily_sales_log",
        everywhere=True,
    ),
    Change(
        "row security hides rows of a change log",
        "owner",
        (
            f"ALTER TABLE {LOG} ENABLE ROW LEVEL SECURITY",
            f"ALTER TABLE {LOG} FORCE ROW LEVEL SECURITY",
            f"CREATE POLICY part ON {LOG} USING (sales > 0) WITH CHECK (true)",
        ),
        "named",
        "row security",
        after="row security",
        breaks_writes=True,
        because="capture may not write what it cannot read again",
    ),
    Change(
        "a rule swallows what is logged",
        "owner",
        f"CREATE RULE swallow AS ON INSERT TO {LOG} DO INSTEAD NOTHING",
        "named",
        "has a rule that keeps writes from it",
        after="drop it",
        everywhere=True,
    ),
    Change(
        "a trigger swallows what is logged",
        "owner",
        (
            "CREATE FUNCTION tallykeeper.none() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN RETURN NULL; END'",
            f"CREATE TRIGGER none BEFORE INSERT ON {LOG}"
            " FOR EACH ROW EXECUTE FUNCTION tallykeeper.none()",
        ),
        "named",
        "has a trigger that is not Tallykeeper's",
        after="drop it",
    ),
    Change(
        "a change log belongs to another role",
        "superuser",
        f"ALTER TABLE {LOG} OWNER TO web",
        "named",
        "shop_daily_sales_log",
        after="must be owner of table",
        breaks_writes=True,
        because="capture runs as the owner, who may not write that log",
    ),
    Change(
        "the marks of staleness are deleted by hand",
        "owner",
        ("TRUNCATE shop.sales", "DELETE FROM tallykeeper.stale_marks"),
        "audited",
        because="nothing else says that the source was truncated",
    ),
    Change(
        "the marks of staleness cannot be written",
        "owner",
        (
            "ALTER TABLE tallykeeper.stale_marks ADD CHECK (tally = '') NOT VALID",
            "TRUNCATE shop.sales",
        ),
        "blocked",
        "stale_marks",
        after="drop it",
    ),
    Change(
        "a rule swallows the marks of staleness",
        "owner",
        (
            "CREATE RULE swallow AS ON INSERT TO tallykeeper.stale_marks DO INSTEAD NOTHING",
            "TRUNCATE shop.sales",
        ),
        "named",
        "has a rule that keeps writes from it",
        after="drop it",
    ),
    Change(
        "the table of staleness is dropped with the live views",
        "owner",
        "DROP TABLE tallykeeper.stale_marks CASCADE",
        "refused",
        "does not exist",
    ),
    Change(
        "the table of what is installed is emptied",
        "owner",
        "DELETE FROM tallykeeper.tally_state",
        "named",
        "not installed",
        everywhere=True,
    ),
    Change(
        "the declaration of a tally is falsified",
        "owner",
        "UPDATE tallykeeper.tally_state SET declaration_hash = 'x' WHERE tally = 'shop.sizes'",
        "named",
        "shop.sizes",
    ),
    Change(
        "the table of what is installed is dropped",
        "owner",
        "DROP TABLE tallykeeper.tally_state",
        "named",
        "tally migrate",
    ),
    *(
        Change(
            f"the engine's table {table} is dropped",
            "owner",
            f"DROP TABLE tallykeeper.{table}",
            *(("named", table) if table in SHOWN else ()),
        )
        for table in (
            *SHOWN,
            "unverified",
            "unverified_keys",
            "hand_edits",
            "captured_relations",
            "captured_identities",
        )
    ),
    Change(
        "what is recorded of captured tables is deleted",
        "owner",
        (
            "DELETE FROM tallykeeper.captured_relations",
            "DELETE FROM tallykeeper.captured_identities",
        ),
        "unharmed",
    ),
    Change(
        "the engine's schema is dropped with all that is in it",
        "superuser",
        "DROP SCHEMA tallykeeper CASCADE",
        "refused",
        "does not exist",
        after="may not create schemas",
        everywhere=True,
    ),
    Change(
        "the engine's schema is renamed",
        "superuser",
        "ALTER SCHEMA tallykeeper RENAME TO kept",
        "named",
        "not installed",
        after="may not create schemas",
        breaks_writes=True,
        because="capture finds no place to note the change",
    ),
    Change(
        "the guard against truncated sources never refuses",
        "owner",
        "CREATE OR REPLACE FUNCTION tallykeeper.require_unbroken(VARIADIC sources regclass[])"
        " RETURNS boolean LANGUAGE sql STABLE RETURN true",
        "named",
        "require_unbroken",
    ),
    Change(
        "an incident and other records are deleted",
        "owner",
        (
            "DELETE FROM tallykeeper.incidents",
            "DELETE FROM tallykeeper.verifications",
            "DELETE FROM tallykeeper.unverified",
        ),
    ),
)

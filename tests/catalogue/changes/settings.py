"""What is done with grants, roles, settings, extensions and the database itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tests.catalogue.change import Change

# Settings that change how statements are read, values are written, or plans are made.
ODD_SETTINGS = (
    "timezone TO 'Asia/Kolkata'",
    "datestyle TO 'SQL, DMY'",
    "intervalstyle TO 'iso_8601'",
    "search_path TO ''",
    "quote_all_identifiers TO on",
    "extra_float_digits TO -3",
    "bytea_output TO 'escape'",
    "transform_null_equals TO on",
    "default_transaction_isolation TO 'serializable'",
    "row_security TO off",
    "client_min_messages TO error",
)
TROUBLESOME = ("datestyle", "quote_all_identifiers", "search_path")


def _settings(target: str, settings: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"ALTER {target} SET {setting}" for setting in settings)


def _odd_settings() -> Iterator[Change]:
    """Those that made trouble alone for the whole database, all at once for each role."""
    for name in TROUBLESOME:
        alone = [s for s in ODD_SETTINGS if s.startswith(name)]
        yield Change(
            f"the database sets {name}",
            "superuser",
            _settings("DATABASE {database}", alone),
            everywhere=True,
        )
    others = [s for s in ODD_SETTINGS if not s.startswith(TROUBLESOME)]
    yield Change(
        "the database sets many things", "superuser", _settings("DATABASE {database}", others)
    )
    for who, role in (("application", "web"), ("refresher", "runs"), ("reader", "look")):
        yield Change(
            f"the {who}'s role sets many things",
            "superuser",
            _settings(f"ROLE {role}", ODD_SETTINGS),
            undo=(f"ALTER ROLE {role} RESET ALL",),
        )


CHANGES = (
    *_odd_settings(),
    Change(
        "the application's role writes as a replica would",
        "superuser",
        "ALTER ROLE web SET session_replication_role TO replica",
        undo=("ALTER ROLE web RESET ALL",),
    ),
    Change(
        "the database is read-only by default",
        "superuser",
        "ALTER DATABASE {database} SET default_transaction_read_only TO on",
        after="read-only",
    ),
    Change(
        "the reader may not read a live view",
        "owner",
        "REVOKE ALL ON shop.sizes_live FROM {reader}",
        "refused",
        "permission denied",
        everywhere=True,
    ),
    Change(
        "the reader may not use the engine's schema",
        "owner",
        "REVOKE ALL ON SCHEMA tallykeeper FROM {reader}",
    ),
    Change(
        "the refresher may not read a source",
        "application",
        "REVOKE ALL ON shop.sales FROM {refresher}",
    ),
    Change(
        "the refresher may not read a change log",
        "owner",
        "REVOKE ALL ON tallykeeper.shop_sizes_log FROM {refresher}",
        "named",
        "may not",
    ),
    Change(
        "the refresher may not write a derived table",
        "owner",
        "REVOKE INSERT ON shop.sizes FROM {refresher}",
    ),
    Change(
        "the refresher may not use the schema of the sources",
        "superuser",
        "REVOKE ALL ON SCHEMA shop FROM {refresher}",
        "named",
        "may not",
    ),
    Change(
        "the owner may not use the schema of the sources",
        "superuser",
        "REVOKE ALL ON SCHEMA shop FROM {owner}",
    ),
    Change(
        "the owner is no longer a member of the application's role",
        "superuser",
        "REVOKE {app} FROM {owner}",
        "refused",
        "permission denied",
        undo=("GRANT {app} TO {owner}",),
        after="may not install tallies here",
    ),
    Change(
        "the application may write no sources",
        "application",
        "REVOKE INSERT, UPDATE ON shop.sales FROM web",
    ),
    Change(
        "everybody may do everything with the engine's tables",
        "owner",
        "GRANT ALL ON ALL TABLES IN SCHEMA tallykeeper TO PUBLIC",
    ),
    Change(
        "the application is a superuser",
        "superuser",
        "ALTER ROLE web SUPERUSER",
        undo=("ALTER ROLE web NOSUPERUSER",),
    ),
    Change(
        "the reader's role is renamed",
        "superuser",
        "ALTER ROLE {reader} RENAME TO other",
        undo=("ALTER ROLE other RENAME TO {reader}",),
    ),
    Change(
        "the recorded roles are forgotten",
        "owner",
        "DELETE FROM tallykeeper.roles",
    ),
    Change(
        "functions and operators of the application's hide the server's",
        "superuser",
        (
            "CREATE FUNCTION shop.date_trunc(text, timestamptz, text) RETURNS timestamptz"
            " LANGUAGE sql IMMUTABLE RETURN '2000-01-01Z'::timestamptz",
            "CREATE FUNCTION shop.minus(bigint, bigint) RETURNS bigint LANGUAGE sql RETURN 0",
            "CREATE OPERATOR shop.- (leftarg = bigint, rightarg = bigint, function = shop.minus)",
            "CREATE FUNCTION shop.sum_(numeric, numeric) RETURNS numeric LANGUAGE sql RETURN 0",
            "CREATE AGGREGATE shop.sum (numeric) (sfunc = shop.sum_, stype = numeric)",
            "ALTER DATABASE {database} SET search_path TO shop, pg_catalog",
            "GRANT USAGE ON SCHEMA shop TO PUBLIC",
        ),
        everywhere=True,
    ),
    Change(
        "an event trigger refuses every change of the schema",
        "superuser",
        (
            "CREATE FUNCTION public.refuse() RETURNS event_trigger LANGUAGE plpgsql AS"
            " $$BEGIN RAISE 'no changes on Fridays'; END$$",
            "CREATE EVENT TRIGGER refuse ON ddl_command_start EXECUTE FUNCTION public.refuse()",
        ),
        after="no changes on Fridays",
    ),
    Change(
        "all that an application's role has is handed to another",
        "superuser",
        "REASSIGN OWNED BY {app} TO web",
        "refused",
        "permission denied",
        after="may not install tallies here",
    ),
    Change(
        "all that the owner's role has is handed to another",
        "superuser",
        # The engine's schema goes with it: that is a handover, as `tally roles` makes one.
        "REASSIGN OWNED BY {owner} TO web",
        after="may not",
    ),
)

"""Ids that an earlier release kept as numbers: `tally migrate` makes text of them, in place."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, Engine

from assets.fediverse import tables
from assets.fediverse.processing.batches import process
from assets.fediverse.replay import verify_log
from assets.fediverse.tallies import system
from tallykeeper import HasDependents, drop, refresh, verify
from tallykeeper.database.sql import CLAIM_WRITING, name_of
from tallykeeper.drift import dependencies
from tallykeeper.installation import live_views, view_replacement
from tallykeeper.installation.migrate import migrate
from tests.integration.releases import restore
from tests.integration.support import execute, rows, scalar
from tests.systems.fediverse.test_threads import DEFINITION, STORED

# The last release that kept them as numbers.
RELEASE = "0.1.0"
# What came with a later migration is left out.
TABLES = (
    *tables.RAW,
    *(table for table in tables.PROCESSED if table is not tables.account_follows),
    tables.post_sentiments,
)
LATER = {
    "hashtags": ("first_seen_at", "last_seen_at"),
    "media_attachments": ("meta_json",),
    "post_sentiments": ("sentiment_label",),
}
LOGS = [tally.log_name for tally in system.tallies]
# Of two posts that answer each other the smaller number was the root; as text, 10 comes before 9.
CIRCLE = (
    "INSERT INTO fediverse.mastodon_posts (instance_id, id, account_id, domain, visibility,"
    " in_reply_to_id, created_at, first_seen_at) SELECT 1, i, 1, 'x', 'public', 19 - i, now(),"
    " now() FROM unnest(ARRAY[9, 10]) AS i",
    "INSERT INTO fediverse.conversation_threads VALUES (1, 9, 9, 0, 1), (1, 10, 9, 1, 1)",
)
CUT = {(f"(1,{row})",) for row in ("9,9,0,1", "10,9,1,1", "10,10,0,1", "9,10,1,1")}


def contents(engine: Engine) -> dict[str, list[tuple[str]]]:
    """Each table's and log's rows with all their values as text."""
    found = {}
    for name in (*map(name_of, TABLES), *LOGS):
        names = rows(
            engine,
            f"SELECT attname FROM pg_attribute WHERE attrelid = to_regclass('{name}')"
            " AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        )
        later = LATER.get(name.rpartition(".")[2], ())
        values = ", ".join(f'"{n}"::text' for (n,) in names if n not in later)
        found[name] = rows(engine, f"SELECT ROW({values})::text FROM {name} ORDER BY 1")
    return found


def types(engine: Engine) -> dict[str, str]:
    """The type and collation of each column that is declared as an id."""
    found = {}
    for table in TABLES:
        for column in (c for c in table.c if c.type is tables.ID):
            found[f"{table.name}.{column.name}"] = scalar(
                engine,
                "SELECT format_type(a.atttypid, NULL) || ' ' || coalesce(c.collname, '')"
                " FROM pg_attribute AS a LEFT JOIN pg_collation AS c ON c.oid = a.attcollation"
                f" WHERE attrelid = to_regclass('{name_of(table)}') AND attname = '{column.name}'",
            )
    return found


def test_ids_become_text_and_nothing_else_changes(engine: Engine, database_url: str) -> None:
    restore(RELEASE, database_url)
    execute(engine, *CIRCLE)
    assert set(types(engine).values()) == {"bigint "}
    view = "CREATE VIEW public.authors AS SELECT account_id FROM fediverse.mastodon_posts"
    execute(engine, view)
    before = contents(engine)
    with pytest.raises(HasDependents, match=r"view public\.authors"):
        migrate(engine, [system])
    assert contents(engine) == before
    execute(engine, "DROP VIEW public.authors")
    migrate(engine, [system])
    assert set(types(engine).values()) == {"text C"}
    after = contents(engine)
    threads = name_of(tables.conversation_threads)
    moved = [set(each.pop(threads)) for each in (before, after)]
    assert after == before
    assert moved[0] ^ moved[1] == CUT
    assert rows(engine, STORED) == rows(engine, DEFINITION)
    assert verify_log(engine).ok
    assert rows(engine, "SELECT tally FROM tallykeeper.stale_marks") == []
    process(engine)
    for tally in system.tallies:
        assert refresh(engine, tally).how != "rebuild"
        assert verify(engine, tally).ok
    assert migrate(engine, [system]).done == []


def as_numbers(connection: Connection) -> None:
    """Make of the present version's database what one between releases was.

    That one had no SELECTs, whose views read the columns.
    """
    kept = [tally for tally in system.tallies if tally.kind != "select"]
    for tally in kept:
        view_replacement.stand_on_nothing(connection, tally)
    relations = {name_of(t): [c.name for c in t.c if c.type is tables.ID] for t in TABLES}
    logged = "SELECT 1 FROM pg_attribute WHERE attrelid = to_regclass('{}') AND attname = 'post_id'"
    for name in LOGS:
        if connection.exec_driver_sql(logged.format(name)).all():
            relations[name] = ["post_id"]
    for relation, names in relations.items():
        changes = ", ".join(f"ALTER {n} TYPE bigint USING {n}::bigint" for n in names)
        if names:
            connection.exec_driver_sql(f"ALTER TABLE {relation} {changes}")
    for tally in kept:
        view = live_views.create_view(tally, live_views.naive_columns(connection, tally))
        wanted = view_replacement.LiveView(tally, live_views.create_functions(tally), view)
        view_replacement.replace(connection, wanted, [], alter_log=False)
    dependencies.record(connection, kept)


@pytest.mark.parametrize("drifted", [False, True], ids=["as recorded", "capture was off before"])
def test_only_what_had_drifted_before_is_built_anew(
    engine: Engine, database_url: str, drifted: bool
) -> None:
    restore(RELEASE, database_url)
    migrate(engine, [system])
    selects = [tally.name for tally in system.tallies if tally.kind == "select"]
    drop(engine, *selects, systems=[system])
    with engine.begin() as connection:
        connection.exec_driver_sql(CLAIM_WRITING)
        as_numbers(connection)
    if drifted:
        execute(engine, "ALTER TABLE fediverse.post_sentiments DISABLE TRIGGER ALL")
    migrate(engine, [system])
    found = {name for (name,) in rows(engine, "SELECT tally FROM tallykeeper.stale_marks")}
    marked = found - set(selects)
    assert marked == ({"fediverse.daily_summaries"} if drifted else set())
    assert migrate(engine, [system]).done == []

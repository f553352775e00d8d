"""Posts partitioned by month: the conversion, and what comes of processing, counts and migrate."""

from __future__ import annotations

from datetime import date, timedelta
from functools import partial

import pytest
from sqlalchemy import Engine

from assets.fediverse.demo import change_demo, create_demo
from assets.fediverse.processing.batches import process
from assets.fediverse.replay import replay, verify_log
from assets.fediverse.storage import bootstrap
from assets.fediverse.storage.post_months import ensure_months, partition_posts
from assets.fediverse.tallies import hourly_stats, system
from tallykeeper import DoesNotFit, HasDependents, capture_faults, install, refresh, verify
from tallykeeper.installation.migrate import migrate
from tests.fediverse_posts import add_instance, add_post
from tests.integration.support import create, execute, rows, scalar

POSTS = "fediverse.mastodon_posts"
NEXT_MONTH = "date_trunc('month', now() AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC'"


@pytest.fixture
def demo(engine: Engine) -> Engine:
    """A made-up stream, nothing of it processed yet, over posts in partitions."""
    migrate(engine, [system], with_sources=True)
    partition_posts(engine, system.tallies, 2)
    create_demo(engine, events=500)
    return engine


@pytest.fixture
def filled(engine: Engine) -> Engine:
    """Posts in one table, that are counted; one of them was created next month."""
    create(engine, system)
    add_instance(engine)
    now = scalar(engine, "SELECT now()")
    for days in (0, 1, 100, 10_000):
        add_post(engine, 1, now - timedelta(days=days), tags=["cats"], favourites_count=days)
    add_post(engine, 1, scalar(engine, f"SELECT {NEXT_MONTH}"))
    for tally in system.tallies:
        refresh(engine, tally)
    return engine


def settle(engine: Engine) -> None:
    for tally in system.tallies:
        refresh(engine, tally)
        assert verify(engine, tally).ok, tally


def partitions(engine: Engine) -> list[str]:
    found = rows(
        engine,
        "SELECT c.relname FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid"
        f" WHERE i.inhparent = '{POSTS}'::regclass ORDER BY 1",
    )
    return [name.removeprefix("mastodon_posts_") for (name,) in found]


def test_posts_in_partitions_are_processed_replayed_and_counted(demo: Engine) -> None:
    for _ in range(2):
        process(demo)
        settle(demo)
        assert verify_log(demo).ok
        change_demo(demo)
    process(demo)
    execute(
        demo,
        f"UPDATE {POSTS} SET created_at = {NEXT_MONTH}"
        f" WHERE (instance_id, id) = (SELECT instance_id, id FROM {POSTS} LIMIT 1)",
    )
    assert scalar(demo, f"SELECT count(*) FROM {POSTS}_before") < scalar(
        demo, f"SELECT count(*) FROM {POSTS}"
    )
    assert replay(demo).rows == {"mastodon_posts": 1}
    settle(demo)


def test_posts_that_are_there_stay_and_are_counted_as_before(filled: Engine) -> None:
    counted = "SELECT sum(post_count), sum(total_engagement) FROM fediverse.hourly_stats_live"
    before, posts = rows(filled, counted), rows(filled, f"SELECT * FROM {POSTS} ORDER BY id")
    shape = rows(
        filled,
        "SELECT attname, format_type(atttypid, atttypmod), attnotnull, attgenerated,"
        " col_description(attrelid, attnum) FROM pg_attribute"
        f" WHERE attrelid = '{POSTS}'::regclass AND attnum > 0 ORDER BY attnum",
    )
    execute(
        filled,
        "CREATE ROLE months_reader",
        f"GRANT SELECT ON {POSTS} TO months_reader",
        f"UPDATE {POSTS} SET favourites_count = 7 WHERE favourites_count = 100",
    )
    try:
        changed = rows(filled, counted)
        assert changed != before
        done = partition_posts(filled, system.tallies, 3)
        assert done[0].startswith(f"partitioned {POSTS} by month: mastodon_posts_before up to ")
        assert scalar(filled, f"SELECT has_table_privilege('months_reader', '{POSTS}', 'SELECT')")
    finally:
        execute(filled, "DROP OWNED BY months_reader", "DROP ROLE months_reader")
    assert len(partitions(filled)) == 5
    assert {"before", "default"} < set(partitions(filled))
    assert scalar(filled, f"SELECT count(*) FROM {POSTS}_before") == 4
    assert len(rows(filled, f"SELECT * FROM {POSTS}")) == len(posts)
    assert rows(filled, counted) == changed
    settle(filled)
    assert rows(filled, counted) == changed
    assert shape == rows(
        filled,
        "SELECT attname, format_type(atttypid, atttypmod), attnotnull, attgenerated,"
        " col_description(attrelid, attnum) FROM pg_attribute"
        f" WHERE attrelid = '{POSTS}'::regclass AND attnum > 0 ORDER BY attnum",
    )
    indexes = scalar(
        filled, f"SELECT count(*) FROM pg_indexes WHERE schemaname || '.' || tablename = '{POSTS}'"
    )
    assert indexes == 1 + len(system.metadata.tables[POSTS].indexes)
    # Written into a month, into what was before, and moved from one to the other.
    late = add_post(filled, 1, scalar(filled, f"SELECT {NEXT_MONTH}"))
    execute(filled, f"UPDATE {POSTS} SET created_at = '2020-01-01Z' WHERE id = '{late}'")
    add_post(filled, 1, scalar(filled, "SELECT timestamptz '2020-01-01 12:00Z'"))
    assert refresh(filled, hourly_stats).how == "refresh"
    settle(filled)
    assert partition_posts(filled, system.tallies, 3) == []


def test_migrate_makes_the_months_to_come_and_captures_them(
    filled: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "ensure_months", partial(ensure_months, months_ahead=5))
    partition_posts(filled, system.tallies, 2)
    settle(filled)
    stray = scalar(filled, f"SELECT {NEXT_MONTH} + interval '100 days'")
    add_post(filled, 1, stray)
    done = migrate(filled, [system]).done
    made = [sentence for sentence in done if sentence.startswith("created the partition")]
    # Five, of which two were there and one has a post in the default partition.
    assert len(made) == 2
    assert not any(f"{stray:%Y%m}" in sentence for sentence in made)
    assert migrate(filled, [system]).done == []
    assert refresh(filled, hourly_stats).how == "refresh"
    settle(filled)
    with filled.begin() as connection:
        before = ensure_months(connection, date(2000, 1, 5))
        assert before == []


def test_a_month_that_is_made_by_hand_has_to_be_captured_first(filled: Engine) -> None:
    partition_posts(filled, system.tallies, 2)
    settle(filled)
    execute(
        filled,
        f"CREATE TABLE {POSTS}_later PARTITION OF {POSTS}"
        " FOR VALUES FROM ('2100-01-01Z') TO ('2100-02-01Z')",
    )
    with filled.connect() as connection:
        faults = capture_faults(connection, hourly_stats)
    assert faults == [f"{POSTS}_later: belongs to the source now, and is not captured with it"]
    with filled.begin() as connection:
        install(connection, system.tallies)
    with filled.connect() as connection:
        assert capture_faults(connection, hourly_stats) == []
    # Nothing was ever in it.
    assert refresh(filled, hourly_stats).how == "refresh"


def test_a_month_that_is_detached_takes_its_counts_along(filled: Engine) -> None:
    partition_posts(filled, system.tallies, 2)
    settle(filled)
    execute(filled, f"ALTER TABLE {POSTS} DETACH PARTITION {POSTS}_before")
    assert not verify(filled, hourly_stats).ok
    with filled.begin() as connection:
        install(connection, system.tallies)
    refresh(filled, hourly_stats)
    assert scalar(filled, "SELECT sum(post_count) FROM fediverse.hourly_stats") == 1


BUILT = {
    f"CREATE TABLE public.x (i bigint, p {{id}}, FOREIGN KEY (i, p)"
    f" REFERENCES {POSTS} (instance_id, id))": "the foreign key x_i_p_fkey of x",
    f"CREATE TRIGGER x AFTER INSERT ON {POSTS}"
    " EXECUTE FUNCTION suppress_redundant_updates_trigger()": "the trigger x",
    f"CREATE POLICY x ON {POSTS}": "the policy x",
    f"CREATE PUBLICATION x FOR TABLE {POSTS}": "the publication x",
    f"ALTER TABLE {POSTS} ADD CONSTRAINT named CHECK (language <> '')": "the check named",
    f"ALTER TABLE {POSTS} ADD CONSTRAINT late CHECK (url <> '') NOT VALID": "the check late",
    f"ALTER TABLE {POSTS} ADD CONSTRAINT own FOREIGN KEY (instance_id)"
    " REFERENCES fediverse.instances (id) NOT VALID": (
        "the foreign key own to fediverse.instances"
    ),
    f"CREATE UNIQUE INDEX part ON {POSTS} (uri) WHERE uri <> ''": (
        "the unique index fediverse.part"
    ),
    f"ALTER TABLE {POSTS} ADD CONSTRAINT one_url UNIQUE (url)": (
        "the unique index fediverse.one_url"
    ),
    f"ALTER TABLE {POSTS} ADD CONSTRAINT other EXCLUDE (uri WITH =)": (
        "the exclusion constraint other"
    ),
    f"ALTER TABLE {POSTS} ENABLE ROW LEVEL SECURITY": "row level security",
    f"ALTER TABLE {POSTS} REPLICA IDENTITY FULL": "the replica identity",
    f"CREATE TABLE public.child () INHERITS ({POSTS})": (f"the inheritance of child from {POSTS}"),
}


@pytest.mark.parametrize(
    "built",
    [
        {f"CREATE VIEW public.x AS SELECT id FROM {POSTS}": "this depends on it: view public.x"},
        BUILT,
    ],
    ids=["a view", "all else"],
)
def test_what_others_built_on_the_posts_is_refused_and_nothing_changed(
    engine: Engine, built: dict[str, str]
) -> None:
    create(engine, system)
    id_type = scalar(
        engine,
        "SELECT format_type(atttypid, -1) FROM pg_attribute"
        f" WHERE attrelid = '{POSTS}'::regclass AND attname = 'id'",
    )
    execute(engine, *(statement.format(id=id_type) for statement in built))
    with pytest.raises(HasDependents) as caught:
        partition_posts(engine, system.tallies)
    assert [sentence for sentence in built.values() if sentence not in str(caught.value)] == []
    assert "Nothing was changed" in str(caught.value)
    assert (
        scalar(engine, f"SELECT relkind::text FROM pg_class WHERE oid = '{POSTS}'::regclass") == "r"
    )


def test_a_layout_of_an_application_s_own_is_left_alone(engine: Engine) -> None:
    create(engine, system)
    execute(
        engine,
        f"ALTER TABLE {POSTS} RENAME TO plain",
        f"CREATE TABLE {POSTS} (LIKE fediverse.plain INCLUDING GENERATED,"
        " PRIMARY KEY (instance_id, id, domain)) PARTITION BY LIST (domain)",
    )
    with pytest.raises(DoesNotFit, match=r"partitioned by LIST \(domain\), expected RANGE"):
        partition_posts(engine, system.tallies)
    with engine.begin() as connection:
        assert ensure_months(connection, date(2000, 1, 1)) == []

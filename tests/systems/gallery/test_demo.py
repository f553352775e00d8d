"""The made-up gallery: as large as wished, as uneven as life, made once, and changed like one."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine

from assets.gallery.demo import change_demo, create_demo
from assets.gallery.demo_names import tag_names
from assets.gallery.tallies import system
from tallykeeper import refresh, verify
from tests.integration.support import create, execute, rows, scalar

BOTH = "(SELECT * FROM gallery.content_items UNION ALL SELECT * FROM gallery.content_items_auto)"


@pytest.fixture
def gallery(engine: Engine) -> Engine:
    """A database with an empty gallery and its capture."""
    create(engine, system)
    return engine


def contents(engine: Engine) -> dict[str, list[tuple[Any, ...]]]:
    """Everything in the sources."""
    names = "users", "tags", "content_items", "content_items_auto"
    return {name: rows(engine, f"SELECT * FROM gallery.{name} ORDER BY id") for name in names}


def check_tallies(engine: Engine) -> None:
    for tally in system.tallies:
        refresh(engine, tally)
        assert verify(engine, tally).ok


def test_the_demo_gallery_is_as_large_as_wished_and_ends_today(gallery: Engine) -> None:
    made = create_demo(gallery, links=50_000)
    counted = sum(len(each) for each in contents(gallery).values())
    assert made == counted
    links, items, private = rows(
        gallery,
        f"SELECT sum(cardinality(tags)), count(*), avg(is_private::integer) FROM {BOTH} AS i",
    )[0]
    assert 47_000 < links < 53_000
    assert 6 < links / items < 7
    assert 0.03 < private < 0.07
    assert scalar(
        gallery,
        "SELECT max(created_at) BETWEEN now() - interval '1 day' AND now()"
        f" AND min(created_at) > now() - interval '732 days' FROM {BOTH} AS i",
    )
    regular = scalar(gallery, "SELECT count(*) FROM gallery.content_items")
    assert 0.59 < regular / items < 0.61


def test_names_of_tags_differ_and_the_plainest_come_first() -> None:
    names = tag_names(49_000)
    assert len(set(names)) == 49_000
    assert names[:2] == ["portrait", "sky"]
    assert all(name == name.strip() for name in names)


def test_tags_and_creators_are_as_uneven_as_in_life(gallery: Engine) -> None:
    create_demo(gallery, links=50_000)
    used = [
        n
        for (n,) in rows(
            gallery,
            f"SELECT count(*) FROM {BOTH} AS i, unnest(tags) GROUP BY unnest ORDER BY 1 DESC",
        )
    ]
    assert sum(used[: len(used) // 10]) > sum(used) / 3
    assert used[0] > 20 * used[len(used) // 2] / 4
    made = [
        n
        for (n,) in rows(
            gallery, f"SELECT count(*) FROM {BOTH} AS i GROUP BY creator_id ORDER BY 1 DESC"
        )
    ]
    assert sum(made[: len(made) // 10]) > sum(made) / 3


def test_arrays_hold_a_few_duplicates_nulls_and_unknown_ids(gallery: Engine) -> None:
    create_demo(gallery, links=50_000)
    seen = rows(
        gallery,
        "SELECT cardinality(tags) = 0, count(tag) > count(DISTINCT tag), count(*) > count(tag)"
        " AND cardinality(tags) > 0, count(tag) > count(t.id)"
        f" FROM {BOTH} AS i LEFT JOIN unnest(tags) AS tag ON true"
        " LEFT JOIN gallery.tags AS t ON t.id = tag GROUP BY i.id, i.creator_id, tags",
    )
    for kind in zip(*seen, strict=True):
        assert 0 < sum(kind) < len(seen) / 20
    check_tallies(gallery)
    assert scalar(gallery, "SELECT count(*) FROM gallery.content_tags_left_out") > 50


def test_the_demo_gallery_is_made_up_once_and_alike(gallery: Engine) -> None:
    create_demo(gallery, links=5000)
    first = contents(gallery)
    assert create_demo(gallery, links=5000) == 0
    assert contents(gallery) == first
    execute(gallery, "TRUNCATE gallery.users, gallery.tags CASCADE")
    create_demo(gallery, links=5000)
    again = contents(gallery)
    assert again["users"] == first["users"]
    assert again["tags"] == first["tags"]
    today = scalar(gallery, "SELECT date_trunc('day', now(), 'UTC')")
    for name in ("content_items", "content_items_auto"):
        past = [item for item in first[name] if item[4] < today]
        assert len(past) > 200
        assert [item for item in again[name] if item[4] < today] == past
    execute(gallery, "TRUNCATE gallery.users, gallery.tags CASCADE")
    create_demo(gallery, links=5000, seed=0.1)
    assert contents(gallery)["content_items"] != again["content_items"]


def test_several_statements_make_one_gallery(
    gallery: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assets.gallery.demo._LINKS_A_STATEMENT", 1000)
    create_demo(gallery, links=5000)
    for items in ("content_items", "content_items_auto"):
        stored = scalar(gallery, f"SELECT count(*) FROM gallery.{items}")
        assert stored > 300
        assert scalar(gallery, f"SELECT max(id) FROM gallery.{items}") == stored
        moments = f"SELECT count(DISTINCT created_at) FROM gallery.{items}"
        assert scalar(gallery, moments) == stored
    execute(gallery, "DELETE FROM gallery.content_items WHERE id IN (3, 500)")
    assert create_demo(gallery, links=5000) == 2


def test_tags_are_found_by_the_index_which_is_left_as_it_was(gallery: Engine) -> None:
    create_demo(gallery, links=20_000)
    assert rows(
        gallery,
        "SELECT DISTINCT reloptions::text FROM pg_class"
        " WHERE relname IN ('content_items_tags', 'content_items_auto_tags')",
    ) == [("{fastupdate=off}",)]
    found = "SELECT count(*) FROM gallery.content_items WHERE {}"
    sky = "(SELECT id FROM gallery.tags WHERE name = 'sky')"
    with gallery.begin() as connection:
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        by_index = connection.exec_driver_sql(found.format(f"tags @> ARRAY[{sky}]")).scalar_one()
    assert by_index == scalar(gallery, found.format(f"{sky} = ANY (tags)")) > 100


def test_the_applications_next_item_gets_a_free_id(gallery: Engine) -> None:
    create_demo(gallery, links=1000)
    largest = scalar(gallery, "SELECT max(id) FROM gallery.content_items")
    added = (
        "INSERT INTO gallery.content_items (creator_id) SELECT id FROM gallery.users LIMIT 1"
        " RETURNING id"
    )
    assert scalar(gallery, added) == largest + 1


def test_what_was_there_before_stays_and_is_never_changed(gallery: Engine) -> None:
    execute(
        gallery,
        "INSERT INTO gallery.users (username) VALUES ('demo-9999'), (NULL)",
        "INSERT INTO gallery.tags (name) VALUES ('sky'), ('a b')",
        "INSERT INTO gallery.content_items (creator_id, tags)"
        " SELECT u.id, ARRAY[t.id] FROM gallery.users AS u, gallery.tags AS t",
    )
    before = contents(gallery)
    create_demo(gallery, links=5000)
    for _ in range(3):
        assert change_demo(gallery) > 0
    after = contents(gallery)
    for name, there in before.items():
        assert set(map(repr, there)) <= set(map(repr, after[name]))
    assert scalar(gallery, "SELECT count(*) FROM gallery.tags WHERE name = 'sky'") == 1
    check_tallies(gallery)


def test_changes_touch_items_creators_tags_and_users(gallery: Engine) -> None:
    create_demo(gallery, links=20_000)
    check_tallies(gallery)
    before = contents(gallery)
    changed = change_demo(gallery)
    after = contents(gallery)
    assert len(before["tags"]) - len(after["tags"]) == 1
    assert len(before["users"]) - len(after["users"]) == 1
    for items in ("content_items", "content_items_auto"):
        old = {item[0]: item for item in before[items]}
        new = {item[0]: item for item in after[items]}
        # Some of them went with the user who left.
        assert 50 <= len(new.keys() - old.keys()) <= 60
        assert len(old.keys() - new.keys()) >= 20
        both = old.keys() & new.keys()
        assert any(old[n][3] != new[n][3] for n in both)
        assert sum(old[n][7] != new[n][7] for n in both) >= 70
    assert 300 < changed < 800
    check_tallies(gallery)
    assert scalar(gallery, f"SELECT count(*) FROM {BOTH} AS i WHERE created_at > now()") == 0


def test_changing_a_gallery_without_anything_made_up_changes_nothing(gallery: Engine) -> None:
    assert change_demo(gallery) == 0


@pytest.mark.parametrize(("links", "seed"), [(-1, 0.0), (2_000_000_000, 0.0), (1, 1.5)])
def test_a_demo_of_impossible_size_is_reported(gallery: Engine, links: int, seed: float) -> None:
    with pytest.raises(ValueError, match="Expected 0 to 1,000,000,000 links and a seed"):
        create_demo(gallery, links, seed)


def test_a_gallery_of_nothing_is_made_of_nothing(gallery: Engine) -> None:
    assert create_demo(gallery, links=0) == 0

"""The rolling audit: every key is compared again and again, in stretches of a snapshot each.

Whatever way a derived table or a change log was changed that no trigger sees, a round finds it.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest
from sqlalchemy import (
    BigInteger,
    Column,
    Engine,
    Identity,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    cast,
    event,
    func,
    select,
)

from assets.gallery.tallies import system as gallery
from assets.media.tallies import system as media
from tallykeeper import (
    Audited,
    SelectTally,
    System,
    Tally,
    Verification,
    audit,
    rebuild,
    rebuild_keys,
    refresh,
    status,
    verify,
)
from tallykeeper.database.sql import CLAIM_WRITING
from tallykeeper.maintain import stretches
from tests import tag_hours
from tests.integration.support import create, create_anew, execute, scalar
from tests.shapes import DESK_WRITES, MART_WRITES, SHELF_WRITES, desk, mart, shelf, written
from tests.templates import fill

DAILY, HOURLY = media.tallies
DAYS = 40
AT_MOST = 30
ADD = "INSERT INTO media.media_files (path, original_created_at)"
LOG = "tallykeeper.media_daily_contributions_log"


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stretches of three rows."""
    monkeypatch.setattr(stretches, "FEWEST_ROWS", 3)
    monkeypatch.setattr(stretches, "MOST_BYTES", 0)


def filled(engine: Engine) -> Engine:
    """Forty days with a file each, and what stands at the ends of time: all right a day ago."""
    fill(engine, "audited_media", _fill)
    return engine


def _fill(engine: Engine) -> None:
    create_anew(engine, media)
    execute(
        engine,
        f"{ADD} SELECT 'f' || n, timestamptz '2024-03-01 12:34Z' + n * interval '1 day'"
        f" FROM generate_series(1, {DAYS - 7}) AS n",
        f"{ADD} VALUES ('first', '-infinity'), ('last', 'infinity')",
        f"{ADD} SELECT 'o' || n, timestamptz '0044-03-01Z BC' + n * interval '1 day'"
        " FROM generate_series(1, 5) AS n",
    )
    refresh(engine, DAILY)
    verify(engine, DAILY)
    pass_hours(engine, 24)


@pytest.fixture
def library(engine: Engine) -> Engine:
    return filled(engine)


def pass_hours(engine: Engine, hours: float) -> None:
    """Let all that is known of audits be older by so many hours."""
    execute(
        engine,
        f"UPDATE tallykeeper.audits SET started_at = started_at - interval '{hours} hours',"
        f" compared_since = compared_since - interval '{hours} hours',"
        f" compared_at = compared_at - interval '{hours} hours'",
    )


def turns(engine: Engine, tally: Tally, between: list[str] | None = None) -> list[Audited]:
    """An audit every hour, until a round is complete; between two of them a statement each."""
    done: list[Audited] = []
    waiting = list(between or ())
    while len(done) < AT_MOST:
        done.append(audit(engine, tally))
        assert done[-1].audit is not None
        if done[-1].audit.started_at is None:
            return done
        if waiting:
            execute(engine, waiting.pop())
        pass_hours(engine, 1)
    raise AssertionError(f"no round was complete after {AT_MOST} turns")


def differing(done: list[Audited]) -> list[Verification]:
    return [turn.found for turn in done if turn.found is not None and turn.found.differing]


def compared(done: list[Audited]) -> int:
    return sum(turn.found.compared for turn in done if turn.found is not None)


def test_a_round_compares_every_key_once_in_stretches_over_the_hours(
    any_postgres_engine: Engine,
) -> None:
    library = filled(any_postgres_engine)
    done = turns(library, DAILY)
    assert compared(done) == DAYS
    assert len(done) == 10, "a tenth of it is due each hour"
    assert max(len(turn.stretches) for turn in done) <= 3
    assert done[0].stretches[0] == "date before 0001-01-01"
    assert done[-1].stretches[-1].endswith("to the end")
    assert differing(done) == []


def test_what_has_been_compared_is_known(library: Engine) -> None:
    before = status(library, DAILY).audit
    assert before is not None
    assert before.compared_since is not None
    assert before.done is None
    first = audit(library, DAILY).audit
    assert first is not None
    assert first.started_at is not None
    assert 0 < (first.done or 0) < 0.5
    assert first.compared_since == before.compared_since, "until the round is complete"
    turns(library, DAILY)
    after = status(library, DAILY).audit
    assert after is not None
    assert after.compared_since is not None
    assert after.compared_since > before.compared_since
    assert (after.started_at, after.done) == (None, None)


def test_a_missed_hour_is_caught_up_with_by_the_next(library: Engine) -> None:
    usual = len(audit(library, DAILY).stretches)
    pass_hours(library, 4)
    assert len(audit(library, DAILY).stretches) > usual
    pass_hours(library, 12)
    late = audit(library, DAILY)
    assert late.audit is not None
    assert late.audit.started_at is None, "the rest of it, at once"


def test_nothing_is_compared_again_before_it_is_due(library: Engine) -> None:
    first = audit(library, DAILY)
    assert first.found is not None
    again = audit(library, DAILY)
    assert (again.found, again.stretches) == (None, ())
    verify(library, DAILY)
    after = audit(library, DAILY)
    assert after.found is None, "all of it has just been compared"
    assert after.audit is not None
    assert after.audit.started_at is None


def test_a_small_tally_is_compared_every_hour(engine: Engine) -> None:
    """One day is less than a stretch."""
    create(engine, media)
    execute(engine, f"{ADD} VALUES ('a', '2024-03-01Z')")
    refresh(engine, DAILY)
    for _ in range(3):
        assert audit(engine, DAILY).stretches == ("all keys",)
        assert audit(engine, DAILY).stretches == ()
        pass_hours(engine, 1)


def test_one_that_took_long_is_compared_again_within_half_a_day(library: Engine) -> None:
    verify(library, DAILY)
    execute(library, "UPDATE tallykeeper.audits SET compared_seconds = 60")
    pass_hours(library, 1)
    assert audit(library, DAILY).found is None
    pass_hours(library, 10)
    assert audit(library, DAILY).found is not None


def test_what_is_interrupted_goes_on_where_it_was(library: Engine) -> None:
    first = audit(library, DAILY)
    position = scalar(library, "SELECT position FROM tallykeeper.audits WHERE tally LIKE '%daily%'")
    pass_hours(library, 3)

    def interrupt(_c: object, _u: object, statement: str, *_: object) -> None:
        if "both_sides" in statement:
            raise KeyboardInterrupt

    event.listen(library, "before_cursor_execute", interrupt)
    with pytest.raises(KeyboardInterrupt):
        audit(library, DAILY)
    event.remove(library, "before_cursor_execute", interrupt)
    assert position == scalar(
        library, "SELECT position FROM tallykeeper.audits WHERE tally LIKE '%daily%'"
    )
    done = [first, *turns(library, DAILY)]
    assert compared(done) == DAYS
    names = [name for turn in done for name in turn.stretches]
    assert len(set(names)) == len(names), "no stretch twice"


def test_two_at_once_compare_no_less(library: Engine) -> None:
    pass_hours(library, 1)
    other: list[Audited] = []

    def meanwhile(_c: object, _u: object, statement: str, *_: object) -> None:
        if "both_sides" in statement and not other:
            other.append(Audited(None, (), None))
            other[0] = audit(library, DAILY)

    event.listen(library, "before_cursor_execute", meanwhile)
    first = audit(library, DAILY)
    event.remove(library, "before_cursor_execute", meanwhile)
    assert first.stretches == other[0].stretches[:1], "it stops where it sees the other"
    assert compared([other[0], *turns(library, DAILY)]) == DAYS


# By name: how a tally may be changed such that no trigger of ours sees it.
UNSEEN = {
    "edited as if by the engine": [
        CLAIM_WRITING,
        "UPDATE media.daily_contributions SET count = 7 WHERE date = '2024-03-20Z'",
    ],
    "a row deleted as if by the engine": [
        CLAIM_WRITING,
        "DELETE FROM media.daily_contributions WHERE date = '2024-03-20Z'",
    ],
    "log rows deleted": [
        f"{ADD} VALUES ('missed', '2024-03-20Z')",
        CLAIM_WRITING,
        f"DELETE FROM {LOG}",
    ],
    "log rows added": [f"INSERT INTO {LOG} (date, count) VALUES ('2024-03-20Z', 5)"],
    "log rows added of a day that is nowhere else": [
        f"INSERT INTO {LOG} (date, count) VALUES ('2031-03-20Z', 5)"
    ],
    "a row before the first": [
        CLAIM_WRITING,
        "INSERT INTO media.daily_contributions (date, count) VALUES ('4000-01-01Z BC', 5)",
    ],
    "a row after the last": [
        CLAIM_WRITING,
        "DELETE FROM media.daily_contributions WHERE date = 'infinity'",
        "INSERT INTO media.daily_contributions (date, count) VALUES ('290000-01-01Z', 5)",
    ],
    "a row that is no day": [
        CLAIM_WRITING,
        "INSERT INTO media.daily_contributions (date, count) VALUES ('2024-03-20 12:34Z', 1)",
    ],
    "a key that the sources have alone": [
        CLAIM_WRITING,
        "DELETE FROM media.daily_contributions WHERE date = '-infinity'",
    ],
}


@pytest.mark.parametrize("name", UNSEEN)
def test_what_no_trigger_sees_is_found_within_a_round(name: str, library: Engine) -> None:
    execute(library, *UNSEEN[name])
    done = turns(library, DAILY)
    wrong = differing(done)
    assert sum(found.differing for found in wrong) >= 1
    assert status(library, DAILY).differing, "and status says so"
    assert verify(library, DAILY, "touched").differing, "it is compared again until it is right"
    for day in sorted({day for found in wrong for day in found.days}):
        start = None if day == "0001-01-01" else datetime.fromisoformat(day).replace(tzinfo=UTC)
        end = None if day == "9999-12-31" else datetime.fromisoformat(day).replace(tzinfo=UTC)
        rebuild(library, DAILY, start, end and end.replace(day=end.day + 1))
    assert verify(library, DAILY, "touched").ok
    pass_hours(library, 24)
    assert differing(turns(library, DAILY)) == []


def test_a_stretch_is_short_even_where_the_derived_table_is_empty(library: Engine) -> None:
    execute(
        library,
        CLAIM_WRITING,
        "DELETE FROM media.daily_contributions",
        "ANALYZE media.media_files",
    )
    done = turns(library, DAILY)
    wrong = [found.differing for found in differing(done)]
    assert sum(wrong) == DAYS
    assert len(wrong) > 2
    assert max(wrong) <= 3 * stretches.UNUSUAL + 1


def test_all_keys_are_compared_by_hand_in_stretches(library: Engine) -> None:
    seen: list[int] = []
    found = verify(library, DAILY, on_progress=lambda progress: seen.append(progress.keys))
    assert (found.whole, found.compared, found.ok) == (True, DAYS, True)
    assert len(seen) > 5
    assert seen == sorted(seen)
    execute(library, *UNSEEN["edited as if by the engine"])
    found = verify(library, DAILY)
    assert [(d.stored, d.expected) for d in found.differences] == [({"count": 7}, {"count": 1})]
    assert (found.differing, found.days) == (1, ("2024-03-20",))


def test_what_is_written_while_all_is_compared_is_compared_again(library: Engine) -> None:
    """A mark that comes while stretches are compared is of a change that they may not have seen."""
    written_days = [0]

    def write(_progress: object) -> None:
        written_days[0] += 1
        execute(library, f"{ADD} VALUES ('w{written_days[0]}', '2024-03-02Z')")
        refresh(library, DAILY)

    execute(library, f"{ADD} VALUES ('before', '2024-03-01Z')")
    refresh(library, DAILY)
    assert verify(library, DAILY, on_progress=write).ok
    assert verify(library, DAILY, "touched").compared == 1, "the day that was written meanwhile"


def test_a_stale_tally_has_nothing_to_compare(library: Engine) -> None:
    execute(library, "TRUNCATE media.media_files")
    assert audit(library, DAILY).found is None
    assert verify(library, DAILY).stale
    refresh(library, DAILY)
    assert audit(library, DAILY).found is not None


def test_an_installation_of_an_earlier_release_is_verified_as_before(engine: Engine) -> None:
    create(engine, media)
    execute(engine, f"{ADD} VALUES ('a', '2024-03-01Z')", "DROP TABLE tallykeeper.audits")
    refresh(engine, DAILY)
    assert audit(engine, DAILY) == Audited(None, (), None)
    assert verify(engine, DAILY).ok
    assert status(engine, DAILY).audit is None


CASES = [
    pytest.param(shelf, SHELF_WRITES, id="shelf"),
    pytest.param(desk, DESK_WRITES, id="desk"),
    pytest.param(mart, MART_WRITES, id="mart"),
    pytest.param(tag_hours.system, (), id="forum"),
]
FORUM_WRITES = (
    "INSERT INTO forum.posts (author_id, created_at) SELECT {p}, timestamptz '2024-03-01Z'"
    " + ({n} * 7 + i) * interval '5 hours' FROM generate_series(1, 3) AS i",
    "INSERT INTO forum.post_tags SELECT id, {t} FROM forum.posts WHERE id % 4 = {p}"
    " ON CONFLICT DO NOTHING",
    "UPDATE forum.posts SET created_at = created_at + interval '1 hour' WHERE id % 5 = {t}",
    "DELETE FROM forum.posts WHERE id % 11 = {n}",
)


@pytest.mark.parametrize(("system", "writes"), CASES)
def test_a_falsified_row_anywhere_is_found_within_a_round_and_nothing_else_is(
    system: System, writes: tuple[str, ...], engine: Engine
) -> None:
    rng = random.Random(f"audit {system.name}")
    create(engine, system)
    kept = [w for w in writes or FORUM_WRITES if not w.startswith("TRUNCATE")]
    for _ in range(30):
        write(engine, rng.choice(kept), rng)
    for round_number in range(4):
        for tally in system.tallies:
            refresh(engine, tally)
            pass_hours(engine, 24)
            between = [written(rng.choice(kept), rng) for _ in range(8)]
            is_wrong = round_number > 0 and falsify(engine, tally, rng)
            found = differing(turns(engine, tally, tolerated(between)))
            if not is_wrong:
                assert found == []
            elif not found:
                # A key of which a change is pending is not compared.
                assert verify(engine, tally).ok
            rebuild(engine, tally)


def write(engine: Engine, template: str, rng: random.Random) -> None:
    for statement in tolerated([written(template, rng)]):
        execute(engine, statement)


def tolerated(statements: list[str]) -> list[str]:
    """The statements, such that one that violates a constraint by now does nothing."""
    return [
        f"DO $do$ BEGIN {each}; EXCEPTION WHEN integrity_constraint_violation THEN NULL; END $do$"
        for each in statements
    ]


def falsify(engine: Engine, tally: Tally, rng: random.Random) -> bool:
    """Delete a random row of the derived table, or move it to a key of its own, unseen."""
    name = f"{tally.table.schema}.{tally.table.name}"
    count = scalar(engine, f"SELECT count(*) FROM {name}")
    if not count:
        return False
    row = f"ctid = (SELECT ctid FROM {name} ORDER BY ctid OFFSET {rng.randrange(count)} LIMIT 1)"
    column = rng.choice([c for c in tally.key if c != getattr(tally.time_key, "column", None)])
    moved = f"UPDATE {name} SET {column} = coalesce({column}, 0) + 1000000 WHERE {row}"
    change = rng.choice([f"DELETE FROM {name} WHERE {row}", moved])
    execute(engine, CLAIM_WRITING, change)
    return True


def test_a_junction_is_compared_along_its_items_and_repaired_by_key(engine: Engine) -> None:
    create(engine, gallery)
    execute(
        engine,
        "INSERT INTO gallery.tags (id, name) SELECT md5(n::text)::uuid, 't' || n"
        " FROM generate_series(1, 5) AS n",
        "INSERT INTO gallery.users (id, username) SELECT md5(n::text)::uuid, 'u' || n"
        " FROM generate_series(1, 30) AS n",
        "INSERT INTO gallery.content_items (id, creator_id, tags) OVERRIDING SYSTEM VALUE"
        " SELECT n, md5(n::text)::uuid, ARRAY(SELECT id FROM gallery.tags)"
        " FROM generate_series(1, 20) AS n",
        "INSERT INTO gallery.content_items_auto (id, creator_id, tags) OVERRIDING SYSTEM VALUE"
        " SELECT n, md5(n::text)::uuid, ARRAY(SELECT id FROM gallery.tags)"
        " FROM generate_series(15, 30) AS n",
        "ANALYZE",
    )
    for tally in gallery.tallies:
        refresh(engine, tally)
    pass_hours(engine, 24)
    junction = next(t for t in gallery.tallies if t.table.name == "content_tags")
    execute(
        engine,
        CLAIM_WRITING,
        "DELETE FROM gallery.content_tags WHERE content_id = 17",
        "INSERT INTO gallery.content_tags SELECT 99, 'elsewhere', id FROM gallery.tags",
    )
    done = turns(engine, junction)
    assert done[1].stretches[0].startswith("content_id ")
    wrong = differing(done)
    assert sum(found.differing for found in wrong) == 15
    keys = [difference.key for found in wrong for difference in found.differences]
    rebuild_keys(engine, junction, keys)
    assert verify(engine, junction, "touched").ok
    assert verify(engine, junction).ok


def words() -> System:
    """Words counted, one of which may be none."""
    metadata = MetaData(schema="words")
    said = Table(
        "said",
        metadata,
        Column("id", BigInteger, Identity(), primary_key=True),
        Column("word", Text),
    )
    counts = Table(
        "word_counts",
        metadata,
        Column("id", BigInteger, Identity(), primary_key=True),
        Column("word", Text),
        Column("count", Integer, nullable=False),
        Index("word_counts_word", "word", unique=True, postgresql_nulls_not_distinct=True),
    )
    of_words = select(said.c.word, cast(func.count(), Integer).label("count"))
    counted = SelectTally("words.word_counts", select=of_words.group_by(said.c.word), table=counts)
    return System("words", metadata, [counted])


def test_any_words_and_no_word_are_compared(engine: Engine) -> None:
    system = words()
    create(engine, system)
    (tally,) = system.tallies
    odd = ["", "a", "B", "b", "Z", "z", "ä", "Ä", "it''s", "%", ":x", "\\", "ß", "0", " "]
    values = ", ".join(f"('{word}')" for word in odd)
    execute(engine, f"INSERT INTO words.said (word) VALUES {values}, (NULL)", "ANALYZE")
    refresh(engine, tally)
    done = turns(engine, tally)
    assert compared(done) == len(odd) + 1
    assert differing(done) == []
    assert sum(len(turn.stretches) for turn in done) >= 4
    for wrong in ("word IS NULL", "word = ''", "word = 'ß'"):
        execute(
            engine,
            CLAIM_WRITING,
            f"UPDATE words.word_counts SET count = 5 WHERE {wrong}",
        )
        pass_hours(engine, 24)
        assert sum(found.differing for found in differing(turns(engine, tally))) == 1
        rebuild(engine, tally)
        assert verify(engine, tally, "touched").ok

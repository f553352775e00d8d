"""A derived table that somebody empties or edits: every tally, every kind of statement, every read.

Invariants: from that statement on, in its own transaction and after its commit, every
read answers from the sources; the next refresh writes the table anew; and an incident says who it
was, and how many rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg.errors import SerializationFailure
from sqlalchemy import BigInteger, Connection, Engine, Integer

from assets.classroom import reads as classroom
from assets.fediverse.questions import series, summaries, trends
from assets.gallery import reads as gallery
from assets.media import reads as media
from assets.media.tallies import daily_contributions
from tallykeeper import Tally, refresh, status, verify
from tallykeeper.database.connections import open_engine
from tallykeeper.database.sql import CLAIM_WRITING, name_of
from tallykeeper.discovery import all_systems
from tallykeeper.faults import incidents, manual_writes
from tallykeeper.http.app import create_app
from tallykeeper.installation.migrate import migrate
from tallykeeper.maintain.verify import Seen
from tests.integration.serving_client import Client
from tests.integration.support import create_anew, execute, rows, scalar
from tests.servers import VERSIONS, Servers
from tests.small_world import END, START, fill

TALLIES = [tally for system in all_systems() for tally in system.tallies]
READS: tuple[Callable[[Connection], Any], ...] = (
    media.daily_counts,
    lambda c: media.hourly_counts(c, START),
    gallery.unified_content_stats,
    gallery.tag_counts,
    lambda c: series.hourly_series(c, 1, START, END),
    lambda c: series.hashtag_series(c, 1, "sea", START, END),
    lambda c: series.domain_series(c, 1, "m.social", START, END),
    lambda c: series.top_domains(c, 1, START, END),
    lambda c: trends.trending_hashtags(c, 1, END, minimum_posts=1, minimum_accounts=1),
    lambda c: summaries.summaries(c, 1, START, END),
    lambda c: classroom.submission_counts(c, [1, 2]),
    lambda c: classroom.assignment_counts(c, 1),
    lambda c: classroom.assignment_group_counts(c, 1),
    lambda c: classroom.course_counts(c, 1),
    lambda c: classroom.user_counts(c, 1),
)
ADDRESSES = (
    "/api/media/daily-counts",
    "/api/media/hourly-counts?day=2026-01-01",
    "/api/v1/content/stats/unified",
    "/api/v1/tags",
    "/api/stats/hourly?instance=1&start=2026-01-01&end=2026-01-03",
    "/api/hashtags/sea/hourly?instance=1&start=2026-01-01&end=2026-01-03",
    "/api/summaries?instance=1&start=2026-01-01&end=2026-01-03",
    "/api/submissions/1/counts",
    "/api/assignments/counts?ids=1,2",
    "/api/assignment-groups/1/counts",
    "/api/courses/1/counts",
    "/api/users/1/counts",
    "/api/courses",
)


@pytest.fixture(scope="module")
def built(postgres_servers: Servers) -> Iterator[Engine]:
    """Every system with a few rows, refreshed."""
    with postgres_servers.fresh_database(VERSIONS[0]) as url:
        engine = open_engine(url)
        fill(engine)
        yield engine
        engine.dispose()


def refresh_all(engine: Engine, of: Tally | None = None) -> None:
    """All tallies, or that one and those over it."""
    for tally in TALLIES if of is None else [of, *(t for t in TALLIES if of in t.upstream)]:
        refresh(engine, tally)
        assert verify(engine, tally, "touched").ok, tally


def live(connection: Connection, tally: Tally) -> list[str]:
    found = connection.exec_driver_sql(f"SELECT to_jsonb(v)::text FROM {tally.live_name} AS v")
    return sorted(row[0] for row in found)


def answers(connection: Connection) -> list[Any]:
    return [read(connection) for read in READS]


@pytest.fixture(scope="module")
def client(built: Engine) -> Client:
    return Client(create_app(built, [system.name for system in all_systems()]))


def served(client: Client) -> list[Any]:
    bodies = [client.get(address).json() for address in ADDRESSES]
    return [{name: value for name, value in b.items() if name != "as_of"} for b in bodies]


@pytest.fixture(scope="module")
def right(built: Engine, client: Client) -> tuple[list[Any], list[Any]]:
    """What all reads answer, and all addresses, before anything is edited."""
    with built.connect() as connection:
        return answers(connection), served(client)


def edits(tally: Tally) -> dict[str, tuple[str, ...]]:
    """A statement of each kind, and what has to be done by the engine before."""
    table, columns = name_of(tally.table), ", ".join(f'"{n}"' for n in tally.columns)
    numbers = [n for n in tally.measures if isinstance(tally.table.c[n].type, Integer | BigInteger)]
    changed = f'"{numbers[0]}" = "{numbers[0]}" + 1' if numbers else "{0} = {0}"
    one = f"(SELECT ctid FROM {table} LIMIT 1)"
    return {
        "UPDATE": (f"UPDATE {table} SET {changed.format(tally.key[0])}",),
        "DELETE": (f"DELETE FROM {table} WHERE ctid = {one}",),
        "TRUNCATE": (f"TRUNCATE {table}",),
        "INSERT": (
            CLAIM_WRITING,
            f"CREATE TEMPORARY TABLE kept ON COMMIT DROP AS SELECT * FROM {table}",
            f"DELETE FROM {table}",
            "SET LOCAL tallykeeper.transaction = ''",
            f"INSERT INTO {table} ({columns}) SELECT {columns} FROM kept LIMIT 1",
        ),
    }


@pytest.mark.parametrize("tally", TALLIES, ids=lambda tally: tally.name)
def test_reads_are_right_from_the_statement_on_and_the_next_refresh_writes_it_anew(
    built: Engine, client: Client, tally: Tally, right: tuple[list[Any], list[Any]]
) -> None:
    with built.connect() as connection:
        expected = live(connection, tally)
        assert expected
        for kind, statements in edits(tally).items():
            savepoint = connection.begin_nested()
            for statement in statements:
                connection.exec_driver_sql(statement)
            assert live(connection, tally) == expected, kind
            if kind == "UPDATE":
                assert answers(connection) == right[0], kind
            savepoint.rollback()
    execute(built, *edits(tally)["TRUNCATE"])
    with built.connect() as connection:
        assert live(connection, tally) == expected
        assert answers(connection) == right[0]
        assert manual_writes.look(connection, [tally.name])
        (found,) = incidents.listed(connection, open_only=True)
        connection.commit()
    assert served(client) == right[1]
    assert (found.subject, found.kind) == (tally.name, "edited")
    assert f"edited by hand: TRUNCATE of {len(expected)} row" in found.what
    refresh_all(built, tally)
    with built.connect() as connection:
        assert live(connection, tally) == expected
        assert incidents.listed(connection, open_only=True) == []
    assert scalar(built, f"SELECT count(*) FROM {name_of(tally.table)}") == len(expected)


def by_hand(engine: Engine, *statements: str, copied: str | None = None) -> None:
    """Run the statements in one transaction of a session of their own; the last may be a COPY."""
    url = engine.url.render_as_string(False).replace("+psycopg", "")
    with psycopg.connect(url, application_name="psql") as session:
        for statement in statements:
            if copied is not None and statement is statements[-1]:
                with session.cursor().copy(statement.encode()) as copy:
                    copy.write(copied)
            else:
                session.execute(statement.encode())


def shown(engine: Engine, tally: Tally) -> str:
    with engine.begin() as connection:
        manual_writes.look(connection, [tally.name])
        (found,) = incidents.listed(connection, open_only=True)
    return found.what.replace(f" by {engine.url.username} ", " by them ")


CONTRIBUTIONS = "media.daily_contributions"
TWO_MORE = "('2020-01-01Z', 1), ('2020-01-02Z', 2)"


def test_an_incident_says_who_wrote_how_many_rows_by_which_statement(built: Engine) -> None:
    cases = (
        ((f"UPDATE {CONTRIBUTIONS} SET count = 9",), None, "UPDATE of up to 2 rows"),
        (
            (f"DELETE FROM {CONTRIBUTIONS} WHERE date < '2026-01-02Z'",),
            None,
            "DELETE of up to 1 row",
        ),
        (
            (f"INSERT INTO {CONTRIBUTIONS} (date, count) VALUES {TWO_MORE}",),
            None,
            "INSERT of up to 2 rows",
        ),
        (
            (f"COPY {CONTRIBUTIONS} (date, count) FROM STDIN",),
            "2020-01-01Z\t5\n",
            "COPY of up to 1 row",
        ),
        ((f"TRUNCATE {CONTRIBUTIONS}",), None, "TRUNCATE of 2 rows"),
        # What one transaction does in several statements is one note.
        (
            tuple(f"UPDATE {CONTRIBUTIONS} SET count = {n}" for n in range(7, 10)),
            None,
            "UPDATE of up to 6 rows",
        ),
        # So is what it took back, so that there may be fewer.
        (
            (
                "SAVEPOINT a",
                f"DELETE FROM {CONTRIBUTIONS}",
                "ROLLBACK TO a",
                f"DELETE FROM {CONTRIBUTIONS} WHERE date < '2026-01-02Z'",
            ),
            None,
            "DELETE of up to 3 rows",
        ),
        # Nothing counts them.
        (("SET track_counts = off", f"DELETE FROM {CONTRIBUTIONS}"), None, "DELETE"),
        (
            (f"DELETE FROM {daily_contributions.log_name}",),
            None,
            "DELETE of its change log of 0 rows",
        ),
    )
    for statements, copied, expected in cases:
        by_hand(built, *statements, copied=copied)
        assert shown(built, daily_contributions).startswith(
            f"edited by hand: {expected} by them through psql at 2"
        ), statements
        refresh(built, daily_contributions)
        assert verify(built, daily_contributions).ok
        with built.begin() as connection:
            assert incidents.listed(connection, open_only=True) == []
            latest = incidents.listed(connection)[0]
        assert (latest.kind, latest.resolved_by, latest.times) == ("edited", "rebuilt", 1)


def test_each_transaction_of_a_session_counts_the_rows_that_it_wrote_itself(built: Engine) -> None:
    url = built.url.render_as_string(False).replace("+psycopg", "")
    with psycopg.connect(url, application_name="psql", autocommit=True) as session:
        for n in range(5):
            insert = f"INSERT INTO {CONTRIBUTIONS} (date, count) VALUES ('200{n}-01-01Z', 1)"
            session.execute(insert.encode())
    assert shown(built, daily_contributions).startswith(
        "edited by hand: INSERT of up to 5 rows by them through psql, in 5 transactions, the last"
    )
    refresh_all(built, daily_contributions)


def test_an_incident_is_counted_where_there_is_more_to_say_and_only_then(built: Engine) -> None:
    by_hand(built, f"DELETE FROM {CONTRIBUTIONS} WHERE date < '2026-01-02Z'")
    by_hand(built, f"DELETE FROM {CONTRIBUTIONS}")
    assert shown(built, daily_contributions).startswith(
        "edited by hand: DELETE of up to 2 rows by them through psql, in 2 transactions, the last"
    )
    by_hand(built, f"INSERT INTO {CONTRIBUTIONS} (date, count) VALUES {TWO_MORE}")
    assert shown(built, daily_contributions).count("; ") == 1
    with built.begin() as connection:
        assert manual_writes.look(connection, [daily_contributions.name]) == set()
        (found,) = incidents.listed(connection, open_only=True)
    assert found.times == 2
    refresh_all(built, daily_contributions)
    with built.begin() as connection:
        # Notes that went without it being said so, as with a look that was late.
        incidents.report(connection, daily_contributions.name, incidents.EDITED, "x")
        assert manual_writes.look(connection, [daily_contributions.name]) == set()
        assert incidents.listed(connection, open_only=True) == []


def test_an_incident_that_is_found_while_a_refresh_waits_is_resolved_by_it(built: Engine) -> None:
    by_hand(built, f"DELETE FROM {CONTRIBUTIONS}")
    with built.connect().execution_options(isolation_level="REPEATABLE READ") as waits:
        # Its time is that of its beginning, its snapshot that of what comes after the locks.
        waits.exec_driver_sql("LOCK TABLE media.media_files IN ACCESS SHARE MODE")
        assert "DELETE" in shown(built, daily_contributions)
        resolved = manual_writes.resolve(waits, daily_contributions, "rebuilt")
        waits.commit()
    assert resolved is not None
    assert resolved.resolved_at is not None
    assert resolved.found_at <= resolved.last_found_at <= resolved.resolved_at
    with built.connect() as connection:
        assert incidents.listed(connection, open_only=True) == []
    refresh_all(built, daily_contributions)


def test_an_incident_stays_open_for_what_was_written_after_a_comparison_began(
    built: Engine,
) -> None:
    by_hand(built, f"UPDATE {CONTRIBUTIONS} SET count = 9")
    seen = Seen()
    with built.begin() as connection:
        seen.look(connection, daily_contributions)
    by_hand(built, f"DELETE FROM {CONTRIBUTIONS}")
    assert shown(built, daily_contributions).count("; ") == 1
    with built.begin() as connection:
        seen.forget(connection, daily_contributions)
        left, resolved = incidents.listed(connection)[:2]
        assert manual_writes.look(connection, [daily_contributions.name]) == set()
        seen.look(connection, daily_contributions)
        seen.forget(connection, daily_contributions)
        after = incidents.listed(connection)[0]
    assert left.is_open
    assert left.what.startswith("edited by hand: DELETE of up to 2 rows by ")
    assert resolved.what.startswith("edited by hand: UPDATE of up to 2 rows by ")
    assert not {";"} & {*left.what, *resolved.what}
    assert {resolved.resolved_by, after.resolved_by} == {"compared: all is right"}
    assert (after.id, after.what, after.is_open) == (left.id, left.what, False)
    refresh_all(built, daily_contributions)


def test_keys_of_a_table_that_is_built_in_batches_are_written_anew_and_reported(
    built: Engine,
) -> None:
    junction = next(tally for tally in TALLIES if tally.name == "gallery.content_tags")
    links = scalar(built, "SELECT count(*) FROM gallery.content_tags")
    by_hand(built, "DELETE FROM gallery.content_tags")
    assert status(built, junction).stale == ()
    assert shown(built, junction).startswith(
        f"edited by hand: DELETE of up to {links} rows by them"
    )
    refresh_all(built, junction)
    with built.begin() as connection:
        assert incidents.listed(connection, open_only=True) == []
        latest = incidents.listed(connection)[0]
    assert (latest.subject, latest.resolved_by) == (junction.name, "refreshed")
    assert scalar(built, "SELECT count(*) FROM gallery.content_tags") == links
    # One that is compared before, and found right with what is pending.
    by_hand(built, "DELETE FROM gallery.content_tags")
    assert verify(built, junction).ok
    with built.begin() as connection:
        latest = incidents.listed(connection)[0]
    assert latest.resolved_by == "compared: all is right"
    assert f"DELETE of up to {links} rows" in latest.what
    refresh_all(built, junction)


@pytest.mark.parametrize(
    ("read", "table"),
    [
        ("SELECT sum(count) FROM media.daily_contributions_live", "media.daily_contributions"),
        ("SELECT * FROM classroom.submission_counts_of(ARRAY[1])", "classroom.submission_counts"),
        ("SELECT * FROM gallery.tag_cardinality_stats_live", "gallery.content_tags"),
        ("SELECT * FROM classroom.course_counts_of(ARRAY[1])", "classroom.course_counts"),
    ],
)
def test_a_snapshot_that_is_older_than_a_truncate_is_refused_an_answer(
    built: Engine, read: str, table: str
) -> None:
    url = built.url.render_as_string(False).replace("+psycopg", "")
    with psycopg.connect(url) as session:
        session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        session.execute("SELECT count(*) FROM media.media_files")
        by_hand(built, f"TRUNCATE {table}")
        with pytest.raises(SerializationFailure, match="truncated or rewritten"):
            session.execute(read.encode())
        session.rollback()
        assert session.execute(read.encode()).fetchall()
    refresh_all(built, next(tally for tally in TALLIES if tally.name == table))


def test_what_an_earlier_release_noted_has_no_number_of_rows(engine: Engine) -> None:
    create_anew(engine, next(s for s in all_systems() if s.name == "media"))
    execute(engine, "ALTER TABLE tallykeeper.hand_edits DROP COLUMN rows")
    execute(
        engine,
        "INSERT INTO tallykeeper.hand_edits (tally, operation, role, application, at)"
        " VALUES ('media.daily_contributions', 'UPDATE', 'app', '', '2026-01-01Z')",
    )
    what = "edited by hand: UPDATE by app at 2026-01-01 00:00:00 UTC"
    assert shown(engine, daily_contributions) == what
    migrated_again = [s for s in all_systems() if s.name == "media"]
    migrate(engine, migrated_again)
    execute(engine, f"TRUNCATE {CONTRIBUTIONS}")
    assert what in shown(engine, daily_contributions)
    refresh(engine, daily_contributions)
    assert rows(engine, "SELECT * FROM tallykeeper.hand_edits") == []

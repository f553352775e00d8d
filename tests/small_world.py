"""Every system with a few rows, refreshed: for tests of what all tallies have in common."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Engine

from tallykeeper import refresh
from tallykeeper.discovery import all_systems
from tests.fediverse_posts import add_instance, add_post
from tests.integration.support import execute
from tests.templates import migrated

START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 3, tzinfo=UTC)
ROWS = (
    "INSERT INTO media.media_files (path, original_created_at) VALUES ('a', '2026-01-01 10:00Z'),"
    " ('b', '2026-01-01 11:00Z'), ('c', '2026-01-02Z')",
    "INSERT INTO gallery.users (username) VALUES ('ann')",
    "INSERT INTO gallery.tags (name) VALUES ('sea'), ('sky')",
    "INSERT INTO gallery.content_items (creator_id, tags) SELECT u.id, ARRAY(SELECT id FROM"
    " gallery.tags) || gen_random_uuid() FROM gallery.users AS u, generate_series(1, 3)",
    "INSERT INTO classroom.users (id) VALUES (1)",
    "INSERT INTO classroom.courses (id) VALUES (1)",
    "INSERT INTO classroom.roles (user_id, course_id, name) VALUES (1, 1, 'student')",
    "INSERT INTO classroom.reports (user_id, date_created) VALUES (1, '2025-12-31Z')",
    "INSERT INTO classroom.assignments (id, course_id) VALUES (1, 1), (2, 1)",
    "INSERT INTO classroom.assignment_groups (id, course_id) VALUES (1, 1)",
    "INSERT INTO classroom.assignment_group_memberships (assignment_group_id, assignment_id)"
    " VALUES (1, 1)",
    "INSERT INTO classroom.submissions (id, assignment_id, course_id, user_id)"
    " VALUES (1, 1, 1, 1), (2, 2, 1, 1)",
    "INSERT INTO classroom.submission_log (submission_id, course_id, subject_id, event_type,"
    " date_created) SELECT 1, 1, 1, (ARRAY['run', 'edit', 'Submit'])[1 + n % 3],"
    " timestamptz '2026-01-01 10:00Z' + n * interval '3 hours' FROM generate_series(1, 9) AS n",
)


def fill(engine: Engine) -> None:
    """Put it into an empty database."""
    migrated(engine, *all_systems())
    execute(engine, *ROWS)
    instance = add_instance(engine)
    for hour in (10, 11, 34):
        at = START.replace(day=1 + hour // 24, hour=hour % 24)
        add_post(engine, instance, at, tags=["sea"] if hour == 34 else ["sea", "sky"])
    for system in all_systems():
        for tally in system.tallies:
            refresh(engine, tally)

"""The classroom's oracles: what each table must hold, in SQL by hand.

Nothing here shares an expression with the declarations. An event's forerunner is looked up for each
event by itself, a percentile is counted off by its place, and what an event means is said in
regular expressions.
"""

from __future__ import annotations

from tests.oracle import DAY_OF, Oracle

LOG = "tallykeeper.classroom_{}_log"

MEANINGS = """
  e.event_type ~ '^(Run|X-run|Run[.]Program|run)$' AS is_run,
  e.event_type ~ '^(File[.]Edit|edit)$' AS is_edit,
  e.event_type ~ '^(Submit|submit|X-submit|X-Submission[.]LMS)$' AS is_attempt,
  e.event_type = 'Compile.Error' OR e.event_type ~ '^(feedback|Intervention)$'
    AND concat_ws('|', e.category, e.label) ~* 'syntax' AS is_syntax,
  e.event_type ~ '^(feedback|Intervention)$'
    AND concat_ws('|', e.category, e.label) ~* 'runtime'
    OR e.event_type ~ '^(Run|X-run|Run[.]Program|run)$'
    AND concat('|', e.category, '|', e.label, '|') ~* '[|](Error|Timeout|ProgramErrorOutput)[|]'
    AS is_runtime,
  e.event_type ~ '^(feedback|Intervention)$'
    AND concat_ws('|', e.category, e.label) ~* 'instructor|test'
    OR e.event_type ~ '^(Run|X-run|Run[.]Program|run)$'
    AND concat('|', e.category, '|', e.label, '|') ~* '[|]TestFailed[|]' AS is_failed_test"""

# Milliseconds from the event before, of those that have finite times.
GAP = """(
  SELECT CASE WHEN isfinite(b.date_created) AND isfinite(e.date_created) THEN
    1000 * (extract(epoch FROM date_trunc('milliseconds', e.date_created))
      - extract(epoch FROM date_trunc('milliseconds', b.date_created))) END::bigint
  FROM classroom.submission_log AS b
  WHERE b.submission_id = e.submission_id AND (b.date_created, b.id) < (e.date_created, e.id)
  ORDER BY b.date_created DESC, b.id DESC LIMIT 1)"""

# The same from the latest event of a kind before it.
SINCE = GAP.replace("ORDER BY", "AND b.event_type ~ '{}' ORDER BY")
SINCE_EDIT = SINCE.format("^(File[.]Edit|edit)$")
SINCE_ATTEMPT = SINCE.format("^(Submit|submit|X-submit|X-Submission[.]LMS)$")

EVENTS = f"""SELECT e.*, {MEANINGS}, {GAP} AS gap, {SINCE_EDIT} AS since_edit,
  {SINCE_ATTEMPT} AS since_attempt FROM classroom.submission_log AS e"""

COUNTED = """
  count(*) FILTER (WHERE is_run) AS runs,
  count(*) FILTER (WHERE is_edit) AS edits,
  count(*) FILTER (WHERE is_attempt) AS attempts,
  count(*) FILTER (WHERE is_syntax) AS syntax_errors,
  count(*) FILTER (WHERE is_runtime) AS runtime_errors,
  count(*) FILTER (WHERE is_failed_test) AS failed_instructor_tests"""

SUBMISSIONS = f"""
SELECT s.id AS submission_id, s.assignment_id, s.course_id, s.user_id, runs, edits, attempts,
  syntax_errors, runtime_errors, failed_instructor_tests,
  coalesce(cardinality(edit_gaps), 0) AS edit_gaps,
  coalesce((SELECT sum(g) FROM unnest(edit_gaps) AS g), 0) AS edit_ms,
  coalesce((SELECT sum(g::numeric ^ 2) FROM unnest(edit_gaps) AS g), 0) AS edit_ms_squared,
  coalesce(edit_gaps[(cardinality(edit_gaps) + 1) / 2], 0) AS median_edit_ms,
  coalesce(edit_gaps[(9 * cardinality(edit_gaps) + 9) / 10], 0) AS p90_edit_ms,
  coalesce(cardinality(attempt_gaps), 0) AS attempt_gaps,
  coalesce((SELECT sum(g) FROM unnest(attempt_gaps) AS g), 0) AS attempt_ms,
  coalesce((SELECT sum(CASE WHEN g > 300000 THEN 300000 ELSE g END)
            FROM unnest(gaps) AS g), 0) AS time_spent_ms,
  coalesce(cardinality(before_edits), 0) AS before_edit_gaps,
  coalesce((SELECT sum(g) FROM unnest(before_edits) AS g), 0) AS before_edit_ms,
  coalesce(cardinality(before_attempts), 0) AS before_attempt_gaps,
  coalesce((SELECT sum(g) FROM unnest(before_attempts) AS g), 0) AS before_attempt_ms
FROM classroom.submissions AS s CROSS JOIN LATERAL (
  SELECT {COUNTED},
    array_agg(gap) FILTER (WHERE gap IS NOT NULL) AS gaps,
    array_agg(since_edit ORDER BY since_edit)
      FILTER (WHERE is_edit AND since_edit IS NOT NULL) AS edit_gaps,
    array_agg(since_attempt)
      FILTER (WHERE is_attempt AND since_attempt IS NOT NULL) AS attempt_gaps,
    array_agg(gap) FILTER (WHERE is_edit AND gap IS NOT NULL) AS before_edits,
    array_agg(gap) FILTER (WHERE is_attempt AND gap IS NOT NULL) AS before_attempts
  FROM ({EVENTS} WHERE e.submission_id = s.id) AS e
) AS t"""

SUBMISSION_COUNTS = Oracle(
    tally="classroom.submission_counts",
    key=("submission_id",),
    measures=(
        *("assignment_id", "course_id", "user_id", "runs", "edits", "attempts"),
        *("syntax_errors", "runtime_errors", "failed_instructor_tests"),
        *("edit_gaps", "edit_ms", "edit_ms_squared", "median_edit_ms", "p90_edit_ms"),
        *("attempt_gaps", "attempt_ms", "time_spent_ms", "before_edit_gaps", "before_edit_ms"),
        *("before_attempt_gaps", "before_attempt_ms"),
    ),
    derived="classroom.submission_counts",
    truth=SUBMISSIONS,
    pending=f"""SELECT coalesce("1.id", "2.submission_id") AS submission_id
FROM {LOG.format("submission_counts")}""",
)

ASSIGNMENT_COUNTS = Oracle(
    tally="classroom.assignment_counts",
    key=("assignment_id",),
    measures=("total_submissions", "date_last_submission"),
    derived="classroom.assignment_counts",
    truth="""
SELECT a.id AS assignment_id, count(s.id) AS total_submissions,
       max(s.date_created) AS date_last_submission
FROM classroom.assignments AS a LEFT JOIN classroom.submissions AS s ON s.assignment_id = a.id
GROUP BY 1""",
    pending=f"""SELECT coalesce("1.id", "2.assignment_id") AS assignment_id
FROM {LOG.format("assignment_counts")}""",
)

# A group is pending if the log has it, or an assignment that is in it now.
ASSIGNMENT_GROUP_COUNTS = Oracle(
    tally="classroom.assignment_group_counts",
    key=("assignment_group_id",),
    measures=("total_assignments", "total_submissions"),
    derived="classroom.assignment_group_counts",
    truth="""
SELECT g.id AS assignment_group_id, count(DISTINCT m.assignment_id) AS total_assignments,
       count(DISTINCT s.id) AS total_submissions
FROM classroom.assignment_groups AS g
LEFT JOIN classroom.assignment_group_memberships AS m ON m.assignment_group_id = g.id
LEFT JOIN classroom.submissions AS s ON s.assignment_id = m.assignment_id GROUP BY 1""",
    pending=f"""
SELECT coalesce("1.id", "2.assignment_group_id") AS assignment_group_id
FROM {LOG.format("assignment_group_counts")}
UNION SELECT m.assignment_group_id FROM classroom.assignment_group_memberships AS m
JOIN {LOG.format("assignment_group_counts")} AS l ON l."3.assignment_id" = m.assignment_id""",
)

COURSE_COUNTS = Oracle(
    tally="classroom.course_counts",
    key=("course_id",),
    measures=(
        *("total_submissions", "total_assignments", "total_assignment_groups", "total_users"),
        *("total_students", "total_instructors", "date_last_user", "date_last_submission"),
        "date_last_assignment",
    ),
    derived="classroom.course_counts",
    truth="""
SELECT c.id AS course_id, s.n AS total_submissions, a.n AS total_assignments,
  (SELECT count(*) FROM classroom.assignment_groups WHERE course_id = c.id)
    AS total_assignment_groups,
  (SELECT count(DISTINCT user_id) FROM classroom.roles WHERE course_id = c.id) AS total_users,
  (SELECT count(DISTINCT user_id) FROM classroom.roles
   WHERE course_id = c.id AND name ~* '^(student|learner)$') AS total_students,
  (SELECT count(DISTINCT user_id) FROM classroom.roles
   WHERE course_id = c.id AND name ~* '^instructor$') AS total_instructors,
  (SELECT r.date_created FROM classroom.roles AS r WHERE r.course_id = c.id AND NOT EXISTS (
     SELECT FROM classroom.roles AS o WHERE o.course_id = c.id AND o.user_id = r.user_id
     AND o.date_created < r.date_created) ORDER BY r.date_created DESC LIMIT 1) AS date_last_user,
  s.last AS date_last_submission, a.last AS date_last_assignment
FROM classroom.courses AS c
CROSS JOIN LATERAL (SELECT count(*) AS n, max(date_created) AS last
                    FROM classroom.submissions WHERE course_id = c.id) AS s
CROSS JOIN LATERAL (SELECT count(*) AS n, max(date_created) AS last
                    FROM classroom.assignments WHERE course_id = c.id) AS a""",
    pending=f"""SELECT coalesce("1.id", "2.course_id", "3.course_id", "4.course_id", "5.course_id")
AS course_id FROM {LOG.format("course_counts")}""",
)

# A user is pending if the log has the user, or a course in which the user has a role now.
USER_COUNTS = Oracle(
    tally="classroom.user_counts",
    key=("user_id",),
    measures=(
        *("total_courses_in", "total_assignments", "total_assignment_groups"),
        *("total_submissions", "total_reports", "last_logged_in", "last_edited"),
    ),
    derived="classroom.user_counts",
    truth=f"""
SELECT u.id AS user_id,
  (SELECT count(DISTINCT course_id) FROM classroom.roles WHERE user_id = u.id)
    AS total_courses_in,
  (SELECT count(*) FROM classroom.assignments AS a WHERE EXISTS (
     SELECT FROM classroom.roles WHERE user_id = u.id AND course_id = a.course_id))
    AS total_assignments,
  (SELECT count(*) FROM classroom.assignment_groups AS a WHERE EXISTS (
     SELECT FROM classroom.roles WHERE user_id = u.id AND course_id = a.course_id))
    AS total_assignment_groups,
  (SELECT count(*) FROM classroom.submissions WHERE user_id = u.id) AS total_submissions,
  (SELECT count(*) FROM classroom.reports WHERE user_id = u.id) AS total_reports,
  (SELECT max(at) FROM classroom.login_events WHERE user_id = u.id) AS last_logged_in,
  (SELECT max(e.date_created) FROM (SELECT e.*, {MEANINGS} FROM classroom.submission_log AS e)
   AS e WHERE e.subject_id = u.id AND e.is_edit) AS last_edited
FROM classroom.users AS u""",
    pending=f"""
SELECT coalesce("1.id", "2.user_id", "5.user_id", "6.user_id", "7.user_id", "8.subject_id")
AS user_id FROM {LOG.format("user_counts")}
UNION SELECT r.user_id FROM classroom.roles AS r JOIN {LOG.format("user_counts")} AS l
ON coalesce(l."3.course_id", l."4.course_id") = r.course_id""",
)

USER_TIME_SPENT = Oracle(
    tally="classroom.user_time_spent",
    key=("user_id",),
    measures=("submissions", "time_spent_ms"),
    derived="classroom.user_time_spent",
    truth=f"""
SELECT user_id, count(*) AS submissions, sum(time_spent_ms) AS time_spent_ms
FROM ({SUBMISSIONS}) AS s GROUP BY 1""",
    followed="""
SELECT user_id, count(*) AS submissions, sum(time_spent_ms) AS time_spent_ms
FROM classroom.submission_counts GROUP BY 1""",
    pending=f"SELECT user_id FROM {LOG.format('user_time_spent')}",
)

SUBMISSION_DAILY_ACTIVITY = Oracle(
    tally="classroom.submission_daily_activity",
    key=("course_id", "day"),
    measures=(
        *("events", "runs", "edits", "attempts"),
        *("syntax_errors", "runtime_errors", "failed_instructor_tests"),
    ),
    derived="classroom.submission_daily_activity",
    truth=f"""
SELECT course_id, {DAY_OF.format("date_created")} AS day, count(*) AS events, {COUNTED}
FROM (SELECT e.*, {MEANINGS} FROM classroom.submission_log AS e) AS e GROUP BY 1, 2""",
    pending=f"SELECT course_id, day FROM {LOG.format('submission_daily_activity')}",
)

REPORT_DAILY_COUNTS = Oracle(
    tally="classroom.report_daily_counts",
    key=("user_id", "day"),
    measures=("reports",),
    derived="classroom.report_daily_counts",
    truth=f"""
SELECT user_id, {DAY_OF.format("date_created")} AS day, count(*) AS reports
FROM classroom.reports GROUP BY 1, 2""",
    pending=f"SELECT user_id, day FROM {LOG.format('report_daily_counts')}",
)

KEPT_BY_0_1_0 = (
    SUBMISSION_COUNTS,
    ASSIGNMENT_COUNTS,
    ASSIGNMENT_GROUP_COUNTS,
    COURSE_COUNTS,
    USER_COUNTS,
    USER_TIME_SPENT,
    SUBMISSION_DAILY_ACTIVITY,
)

CLASSROOM = (*KEPT_BY_0_1_0, REPORT_DAILY_COUNTS)

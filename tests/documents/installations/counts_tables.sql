-- The four tables of counters as the application kept them, with seconds in floating point.

CREATE TABLE submission_counts (
  submission_id integer PRIMARY KEY REFERENCES submissions,
  runs integer DEFAULT 0,
  average_edit_time double precision DEFAULT 0,
  average_attempt_time double precision DEFAULT 0,
  estimated_time_spent double precision DEFAULT 0,
  syntax_errors integer DEFAULT 0,
  runtime_errors integer DEFAULT 0,
  failed_instructor_tests integer DEFAULT 0
);
CREATE TABLE assignment_counts (
  assignment_id integer PRIMARY KEY REFERENCES assignments,
  total_submissions integer DEFAULT 0,
  date_last_submission timestamp
);
CREATE TABLE course_counts (
  course_id integer PRIMARY KEY REFERENCES courses,
  total_submissions integer DEFAULT 0,
  total_assignments integer DEFAULT 0,
  total_assignment_groups integer DEFAULT 0,
  total_users integer DEFAULT 0,
  total_students integer DEFAULT 0,
  total_instructors integer DEFAULT 0,
  date_last_user timestamp,
  date_last_submission timestamp,
  date_last_assignment timestamp
);
CREATE TABLE user_counts (
  user_id integer PRIMARY KEY REFERENCES users,
  total_courses_in integer DEFAULT 0,
  total_assignments integer DEFAULT 0,
  total_assignment_groups integer DEFAULT 0,
  total_submissions integer DEFAULT 0,
  total_reports integer DEFAULT 0,
  estimated_time_spent double precision DEFAULT 0,
  last_logged_in timestamp,
  last_edited timestamp
);

INSERT INTO submission_counts (submission_id, runs, average_edit_time) VALUES (1, 2, 12), (2, 7, 3);
INSERT INTO assignment_counts VALUES (1, 3, '2025-09-04 12:00');
INSERT INTO course_counts (course_id, total_submissions, total_users) VALUES (1, 3, 4);
INSERT INTO user_counts (user_id, total_submissions) VALUES (2, 1);

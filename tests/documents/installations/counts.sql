-- A course server with its four tables of counters: their columns are the document's fields.

CREATE TABLE users (id serial PRIMARY KEY, name varchar(255), date_created timestamp);
CREATE TABLE courses (id serial PRIMARY KEY, name varchar(255), date_created timestamp);
CREATE TABLE roles (
  id serial PRIMARY KEY,
  user_id integer REFERENCES users,
  course_id integer REFERENCES courses,
  name varchar(80),
  date_created timestamp
);
CREATE TABLE assignments (
  id serial PRIMARY KEY,
  course_id integer REFERENCES courses,
  name varchar(255),
  date_created timestamp
);
CREATE TABLE assignment_groups (
  id serial PRIMARY KEY,
  course_id integer REFERENCES courses,
  name varchar(255),
  date_created timestamp
);
CREATE TABLE assignment_group_memberships (
  id serial PRIMARY KEY,
  assignment_group_id integer REFERENCES assignment_groups,
  assignment_id integer REFERENCES assignments
);
CREATE TABLE submissions (
  id serial PRIMARY KEY,
  assignment_id integer REFERENCES assignments,
  course_id integer REFERENCES courses,
  user_id integer REFERENCES users,
  date_created timestamp
);
CREATE TABLE reports (
  id serial PRIMARY KEY, user_id integer REFERENCES users, date_created timestamp
);
CREATE TABLE login_events (
  id serial PRIMARY KEY, user_id integer REFERENCES users, at timestamp
);
CREATE TABLE submission_log (
  id serial PRIMARY KEY,
  submission_id integer REFERENCES submissions,
  assignment_id integer,
  course_id integer,
  subject_id integer,
  event_type varchar(255),
  category varchar(255),
  label varchar(255),
  message text,
  file_path varchar(255),
  client_timestamp timestamp,
  date_created timestamp
);

INSERT INTO users (name, date_created) SELECT name, '2025-09-01'
FROM unnest(ARRAY['teacher', 'ann', 'bob']) AS name;
INSERT INTO courses (name, date_created) VALUES ('Programming', '2025-09-01');
INSERT INTO roles (user_id, course_id, name, date_created)
SELECT id, 1, CASE name WHEN 'teacher' THEN 'instructor' ELSE 'learner' END,
  timestamp '2025-09-01 08:00' + id * interval '1 hour' FROM users;
INSERT INTO assignments (course_id, name, date_created)
VALUES (1, 'Loops', '2025-09-02'), (1, 'Lists', '2025-09-03');
INSERT INTO assignment_groups (course_id, name, date_created) VALUES (1, 'Week 1', '2025-09-02');
INSERT INTO assignment_group_memberships (assignment_group_id, assignment_id) VALUES (1, 1), (1, 2);
INSERT INTO submissions (assignment_id, course_id, user_id, date_created)
VALUES (1, 1, 2, '2025-09-04 10:00'), (1, 1, 3, '2025-09-04 11:00');
INSERT INTO reports (user_id, date_created) VALUES (1, '2025-09-05');
INSERT INTO login_events (user_id, at) SELECT id, '2025-09-04 09:59' FROM users;
INSERT INTO submission_log
  (submission_id, assignment_id, course_id, subject_id, event_type, category, date_created)
VALUES
  (1, 1, 1, 2, 'File.Edit', NULL, '2025-09-04 10:00:00'),
  (1, 1, 1, 2, 'Run.Program', NULL, '2025-09-04 10:00:05'),
  (1, 1, 1, 2, 'Intervention', 'syntax', '2025-09-04 10:00:06'),
  (1, 1, 1, 2, 'File.Edit', NULL, '2025-09-04 10:00:30'),
  (1, 1, 1, 2, 'Run.Program', NULL, '2025-09-04 10:00:33'),
  (1, 1, 1, 2, 'Submit', NULL, '2025-09-04 10:01:00'),
  (2, 1, 1, 3, 'File.Edit', NULL, '2025-09-04 11:00:00'),
  (2, 1, 1, 3, 'Run.Program', 'Error', '2025-09-04 11:00:20');

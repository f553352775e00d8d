"""The classroom: counts of submissions, assignments, courses and users, from the event log."""

"""The PostgreSQL that comes along: one server per home, shared by every process."""

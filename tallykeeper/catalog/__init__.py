"""The schema `tallykeeper`, and what is asked of PostgreSQL's own catalog. It computes nothing."""

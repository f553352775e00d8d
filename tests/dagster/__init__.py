"""The Dagster layer against a real instance whose storage is PostgreSQL."""

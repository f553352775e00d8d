"""The Dagster resources of the reference project."""

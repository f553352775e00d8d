"""Alembic, for the shop that only the catalogue has."""

"""Keeping derived tables right: refresh, rebuild, verify, audit, status, backfill."""

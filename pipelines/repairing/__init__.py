"""Repair: what a failed check names is rebuilt, and compared again."""

"""The classroom: counts of submissions, assignments, courses and users, from the event log."""

from assets.classroom.tallies import system

__all__ = ["system"]

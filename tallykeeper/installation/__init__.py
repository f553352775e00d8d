"""Putting tallies into a database, and keeping what is installed in line with declarations."""

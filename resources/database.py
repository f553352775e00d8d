"""The resource `tally_database`: where sources and tallies are, by default as settings name it."""

from tallykeeper.dagster.project_database import ProjectDatabase

database = ProjectDatabase()

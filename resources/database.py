"""The resource of the reference project, `tally_database`: where sources and tallies are, by default as the settings name it."""

from tallykeeper.dagster.project_database import ProjectDatabase

database = ProjectDatabase()

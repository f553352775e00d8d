"""The Dagster code location of the reference project: its four systems on its database."""

from resources.database import database
from tallykeeper.dagster import definitions

defs = definitions(database=database)

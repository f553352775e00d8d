"""The code location of a project that has no module of its own for it: all of its systems."""

from tallykeeper.dagster.code_location import definitions

defs = definitions()

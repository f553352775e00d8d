"""The code location of the reference project."""

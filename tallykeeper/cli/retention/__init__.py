"""The command that deletes old rows of sources."""

"""The statements that the engine makes of three small tallies, kept in files for reviewers."""

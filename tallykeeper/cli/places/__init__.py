"""Commands over tallies at several places."""

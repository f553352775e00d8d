"""Taking a tally out of a database."""

"""Building a big tally in batches, which can be killed at any moment and resumed."""

"""What a tally is: its table, its sources, and what its declaration may say."""

"""What each tally depends on, and what it means when that has changed."""

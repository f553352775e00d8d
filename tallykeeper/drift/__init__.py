"""What each tally stands on, and what it means when that has changed."""

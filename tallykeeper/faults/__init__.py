"""What was found wrong: incidents, manual writes, and rows that a derived table cannot hold."""

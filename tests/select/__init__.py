"""From one SELECT to the statements that maintain its result."""

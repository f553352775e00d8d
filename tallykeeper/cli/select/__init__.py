"""Commands about tallies that are declared by a SELECT."""

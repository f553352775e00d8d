"""The raw log as it is stored: its partitions, what is redacted, thinned and archived of it."""

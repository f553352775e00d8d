"""Events of a classroom as files have them, and how they come into the log."""

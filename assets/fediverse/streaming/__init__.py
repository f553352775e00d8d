"""From a server's stream, or lines of a file, to events of the raw log."""

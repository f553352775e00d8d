"""Media files as a folder or a list has them, and when they were made."""

"""Items of a gallery as files have them, and the ids of what they name."""

"""Tallies in other query engines: what is translated, what is refused, and that it is equal."""

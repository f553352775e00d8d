"""The gallery system: loading, reads and what it does beyond its tallies."""

"""How a tally is maintained: by adding up changes, or by recomputing what they touched."""

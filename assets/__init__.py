"""The systems: one folder each, saying what is counted and nothing else."""

"""The `tally` command line, and what its commands say and start."""

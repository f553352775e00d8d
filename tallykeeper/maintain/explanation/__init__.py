"""What `tally explain` says of a tally that is declared by a SELECT."""

"""The command that has other query engines compute tallies."""
